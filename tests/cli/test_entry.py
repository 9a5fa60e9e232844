"""The command as a process: its streams, its exit status, what it imports, and consoles that are old or no consoles."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

from parapluie import registry

HEAVY = ("dask", "distributed", "loky", "ray", "numpy", "pytest", "cloudpickle", "tenacity", "asyncio")
ENGINE = """
import sys
from parapluie.backend import BackendInfo, Capabilities
from parapluie.hookspecs import hookimpl

@hookimpl
def parapluie_backends():
    return [BackendInfo("far", "on other machines", "far_engine:Far", lambda _: Capabilities(distributed=True))]
"""
LIST = """
import sys
from parapluie.cli import main
sys.argv = ["parapluie", "backends", "--json"]
try:
    main()
finally:
    print(*sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
"""


@pytest.mark.windows
def test_list_of_backends_imports_no_engine(tmp_path):
    info = tmp_path / "parapluie_far-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: parapluie-far\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[parapluie]\nfar = far_plugin\n", encoding="utf-8")
    (tmp_path / "far_plugin.py").write_text(ENGINE, encoding="utf-8")
    (tmp_path / "far_engine.py").write_text("raise SystemExit('it was imported')", encoding="utf-8")
    (tmp_path / "program.py").write_text(LIST, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(tmp_path / "program.py")], capture_output=True, text=True, check=True, timeout=50
    )
    (far,) = (one for one in json.loads(done.stdout) if one["name"] == "far")
    assert (far["distribution"], far["available"], far["capabilities"]["distributed"]) == ("parapluie-far", True, True)
    imported = set(done.stderr.split())
    assert "far_plugin" in imported
    assert not imported & {"far_engine", *HEAVY}


@pytest.mark.windows
def test_output_that_is_no_terminal_is_plain_and_whole(run_command):
    done = run_command("backends", COLUMNS="40", NO_COLOR="1")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    assert "worker processes beside a multiprocessing Manager, whose server holds their shared state\n" in done.stdout


@pytest.mark.windows
def test_errors_go_to_standard_error_with_status_2(run_command):
    done = run_command("doctor", "gone.py")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("parapluie: 'gone.py' cannot be read: ")


@pytest.mark.windows
@pytest.mark.parametrize("module", ["click", "rich"])
def test_missing_extra_is_named(module):
    program = (
        f"import sys; sys.modules[{module!r}] = None; sys.argv[1:] = ['backends']; import parapluie.cli as c; c.main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=50)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"parapluie: the command needs {module}, which is not installed; install parapluie[cli]\n"


def letters(text):
    return sorted("".join(text.split()))


@pytest.mark.skipif(os.name == "nt", reason="consoles there are coloured by calls, not by what is printed")
def test_terminal_gets_colours_and_lines_that_fit(run_command, invoke):
    done = run_command("backends", FORCE_COLOR="1", COLUMNS="60")  # which rich takes for a terminal of that width
    assert "\x1b[1m" in done.stdout and "\x1b[36m" in done.stdout
    lines = re.sub(r"\x1b\[[\d;]*m", "", done.stdout).splitlines()
    assert max(map(len, lines)) <= 60
    assert letters("".join(lines)) == letters(invoke("backends").stdout)  # none is cut
    plain = run_command("backends", FORCE_COLOR="1", NO_COLOR="1", COLUMNS="60")
    assert not re.search(r"\x1b\[3\d", plain.stdout)


def test_interrupt_has_a_status_of_its_own(invoke, monkeypatch):
    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr(registry, "explain", interrupt)
    assert invoke("backends").exit_code == 130


TASK = """
import threading

def naïve_日本(n): ...

class Client:
    def __init__(self):
        self.日本 = threading.Lock()

    def fetch(self): ...

client = Client()
"""


@pytest.mark.windows
def test_console_of_an_old_code_page_shows_what_it_can(run_command, tmp_path):
    (tmp_path / "tasks.py").write_text(TASK, encoding="utf-8")
    old = {"PYTHONIOENCODING": "cp1252"}
    done = run_command("check", "tasks:client.fetch", **old)
    assert (done.returncode, done.stderr) == (1, "")
    assert r"function.__self__.\u65e5\u672c is a '_thread.lock'" in done.stdout
    done = run_command("check", "tasks:naïve_日本", "--json", **old)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.isascii() and json.loads(done.stdout)["target"] == "tasks:naïve_日本"
    done = run_command("check", "tasks:naïve_日", **old)
    assert (done.returncode, done.stdout) == (2, "")
    assert r"has no function 'naïve_\u65e5'. Did you mean 'naïve_\u65e5\u672c'?" in done.stderr


SCRIPT = """
from parapluie import Executor
größe = list(Executor("process").map(abs, [1]))
"""


@pytest.mark.windows
def test_console_of_an_old_code_page_shows_paths_and_settings(run_command, tmp_path):
    (tmp_path / "skript größe 日.py").write_text(SCRIPT, encoding="utf-8")
    (tmp_path / "parapluie.toml").write_text('[profiles."日"]\nmax_workers = 0\n', encoding="utf-8-sig")
    old = {"PYTHONIOENCODING": "cp1252"}
    done = run_command("doctor", "skript größe 日.py", **old)
    assert done.returncode == 1
    assert r"skript größe \u65e5.py" in done.stdout + done.stderr
    done = run_command("config", "show", **old)
    assert done.returncode == 2
    assert r"profiles.\u65e5.max_workers: found 0" in done.stdout + done.stderr


@pytest.mark.windows
def test_results_are_utf_8_on_every_console(run_command, tmp_path):
    """A file of results is the same wherever it was made; so is the input, with the mark that editors put there."""
    (tmp_path / "tasks.py").write_text("def same(value):\n    return value\n", encoding="utf-8")
    (tmp_path / "größe 日.jsonl").write_bytes('\ufeff"größe"\r\n"日本"\r\n'.encode())
    done = run_command("map", "tasks:same", "größe 日.jsonl", PYTHONIOENCODING="cp1252")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.encode("cp1252").decode().splitlines()
    assert [json.loads(line)["value"] for line in lines] == ["größe", "日本"]
