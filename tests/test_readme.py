"""Every program in README.md runs as it stands, and prints what README.md says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def programs():
    """Return each block of Python and what it prints: the block of text that follows it, or None."""
    found = []
    blocks = list(BLOCK.finditer(README))
    for block, following in zip(blocks, [*blocks[1:], None], strict=True):
        if block[1] == "python":
            printed = following[2] if following is not None and following[1] == "text" else None
            line = README.count("\n", 0, block.start()) + 1
            found.append(pytest.param(block[2], printed, id=f"line {line}"))
    return found


def pattern(printed):
    """Return a pattern for text: `...` stands for anything, and process ids and seconds are other ones each time."""
    parts = [re.escape(part) for part in printed.strip().split("...")]
    parts = [re.sub(r"\d{4,}", r"\\d+", part) for part in parts]
    return ".*".join(re.sub(r"\d+\\\.\d+\\ seconds", r"[\\d.]+ seconds", part) for part in parts)


@pytest.mark.parametrize(("program", "printed"), programs())
def test_program_runs_as_readme_says(program, printed, tmp_path):
    path = tmp_path / "program.py"
    path.write_text(program, encoding="utf-8")
    # As a user runs it: conftest.py has crashing workers dump their stacks, which nobody asked for here.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONFAULTHANDLER"}
    command = [sys.executable, str(path)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=50, cwd=tmp_path, env=environment
    )
    assert (done.returncode, done.stderr) == (0, "")
    if printed is not None:
        assert re.fullmatch(pattern(printed), done.stdout.strip(), re.DOTALL), done.stdout


def test_readme_says_in_ten_lines_what_it_is_for():
    assert "concurrent.futures" in "\n".join(README.splitlines()[:10])


@pytest.mark.parametrize("marker", ["example-command", "test-command"])
def test_commands_do_their_own_setting_up(marker):
    following = README.partition(f"<!-- {marker} -->")[2]
    command = BLOCK.search(following)
    assert command is not None
    assert command[2].startswith("python3 -m venv .venv &&")
    assert "\n" not in command[2].strip()
