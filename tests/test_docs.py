"""What README and docs show is run: each program prints what its page says, and the tutorial ends with a green kit."""

from __future__ import annotations

import re
import tomllib

import pytest
from pages import ROOT, Page, prints, run, run_console

PAGES = [Page("README.md"), *(Page(f"docs/{path.name}") for path in sorted((ROOT / "docs").glob("*.md")))]
README = PAGES[0]
TUTORIAL = next(page for page in PAGES if page.path == "docs/backends.md")


def marks(page):
    return [pytest.mark.windows] if page.path == "docs/windows.md" else []


def all_programs():
    return [
        pytest.param(page, block, printed, id=f"{page.path} line {block.line}", marks=marks(page))
        for page in PAGES
        for block, printed in page.programs()
    ]


def install(page, folder):
    """Do what pip does for a distribution of modules: its entry points are found where its files are."""
    page.write_files(folder)
    project = folder / "pyproject.toml"
    if project.exists():
        described = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
        info = folder / f"{described['name'].replace('-', '_')}-{described['version']}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {described['name']}\nVersion: {described['version']}\n", encoding="utf-8"
        )
        points = described["entry-points"]["parapluie"].items()
        lines = ["[parapluie]", *(f"{name} = {path}" for name, path in points)]
        (info / "entry_points.txt").write_text("\n".join(lines), encoding="utf-8")


@pytest.mark.parametrize(("page", "block", "printed"), all_programs())
def test_program_prints_what_its_page_says(page, block, printed, tmp_path):
    install(page, tmp_path)
    (tmp_path / "program.py").write_text(block.text, encoding="utf-8")
    done = run(tmp_path, "program.py")
    assert (done.returncode, done.stderr) == (0, "")
    if printed is not None:
        assert prints(done, printed), done.stdout


@pytest.mark.parametrize(
    ("page", "block"),
    [
        pytest.param(page, block, id=f"{page.path} line {block.line}", marks=marks(page))
        for page in PAGES
        for block in page.consoles()
    ],
)
def test_command_prints_what_its_page_says(page, block, tmp_path):
    page.write_files(tmp_path)
    run_console(tmp_path, block)


@pytest.mark.deadline(150)
def test_tutorial_ends_with_a_green_kit(tmp_path):
    install(TUTORIAL, tmp_path)
    done = run(tmp_path, "-m", "pytest", "-q", "test_mine.py", seconds=140)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\b\d{3} passed", done.stdout) and "skipped" not in done.stdout
    own = run(tmp_path, "-m", "pytest", "-q", "test_more.py", "-k", "of_our_own or must_be_claimed")
    assert own.returncode == 0 and "2 passed" in own.stdout, own.stdout + own.stderr


def test_tutorial_is_a_backend_in_some_thirty_lines():
    (backend,) = (block for block in TUTORIAL.blocks if block.file == "parapluie_mine.py")
    assert len([line for line in backend.text.splitlines() if line.strip()]) <= 30


def test_readme_says_in_ten_lines_what_it_is_for():
    assert "concurrent.futures" in "\n".join(README.text.splitlines()[:10])


@pytest.mark.parametrize("marker", ["example-command", "test-command"])
def test_commands_do_their_own_setting_up(marker):
    line = README.text[: README.text.index(f"<!-- {marker} -->")].count("\n") + 1
    command = next(block for block in README.blocks if block.line > line)
    assert command.text.startswith("python3 -m venv .venv &&")
    assert "\n" not in command.text.strip()
