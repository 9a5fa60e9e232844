"""The command as its user runs it: in this process where that is enough, else in one of its own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from parapluie import registry
from parapluie.cli.program import program


@pytest.fixture
def invoke():
    """Run the command in this process: `invoke("backends", "--json")`; what it raises itself is the test's failure."""

    def invoke(*arguments):
        done = CliRunner().invoke(program, arguments, prog_name="parapluie")
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done

    return invoke


@pytest.fixture
def run_command(tmp_path):
    """Run the command in a process of its own, in an empty folder, and return what came of it."""

    def run_command(*arguments, seconds=50, **environment):
        plain = {
            name: value for name, value in os.environ.items() if name not in {"COLUMNS", "NO_COLOR", "FORCE_COLOR"}
        }
        return subprocess.run(
            [sys.executable, "-m", "parapluie", *arguments],
            capture_output=True, check=False, timeout=seconds, cwd=tmp_path, stdin=subprocess.DEVNULL,
            env=plain | environment, encoding=environment.get("PYTHONIOENCODING", "utf-8"),
        )  # fmt: skip

    return run_command


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a file in an empty folder, which is the working directory from then on; return its path."""
    monkeypatch.chdir(tmp_path)

    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def imports(monkeypatch):
    """Have what a test imports forgotten when it ends, and the path as it was."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.partition(".")[0].startswith("target_"):
            del sys.modules[name]


@pytest.fixture
def broken(tmp_path, monkeypatch):
    """Install a distribution whose plugin cannot be imported."""
    info = tmp_path / "parapluie_broken-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: parapluie-broken\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[parapluie]\nbroken = no_such_module_here\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    registry.reset()
    yield
    registry.reset()
