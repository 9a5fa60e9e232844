"""The programs of these tests: how they are written and run, and what is asked of how they ended."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import NamedTuple

import parapluie

SECONDS = 40  # that a program may take: less than the deadline of a test, so that its output is shown
METHODS = [method for method in ("spawn", "forkserver", "fork") if method in multiprocessing.get_all_start_methods()]
BACKENDS = ("process", "manager", "pool", "futures")
GUARD = "starts workers whenever it is imported"
TRACEBACK = "Traceback (most recent call last)"


class Row(NamedTuple):
    """One backend, one start method."""

    backend: str
    method: str

    def make(self, max_workers=2, **kwargs):
        return parapluie.Executor(self.backend, max_workers, start_method=self.method, **kwargs)


class Done(NamedTuple):
    """A program that has ended."""

    stdout: str
    stderr: str
    exit_code: int
    runs: list[str]  # of the lines that say `note_run()`: as what the file was run, in which process

    def assert_worked(self, *words):
        assert (self.exit_code, self.stderr) == (0, ""), self.stderr
        assert self.stdout.split() == list(words)

    def assert_guard_missing(self, file, line, statement, *, tracebacks=1, exit_code=1, workers=2):
        """Check that all that is said is one error, and that nobody did the program's work again."""
        assert self.stderr.count(GUARD) == 1, self.stderr
        assert self.stderr.count("MissingMainGuardError") == 1, self.stderr
        assert self.stderr.count(TRACEBACK) == tracebacks, self.stderr
        assert f"{file}, line {line}, {GUARD}" in self.stderr
        assert f'    if __name__ == "__main__":\n        {statement}\n' in self.stderr
        assert self.exit_code == exit_code
        assert 1 < len(self.runs) <= 1 + workers  # the program's own, and the first workers


# What every program can import.
HELP = """
import os
import sys

from parapluie import Executor

backend, method = os.environ["FIRST_DAY_BACKEND"], os.environ["FIRST_DAY_METHOD"]


def note_run():
    with open(os.environ["FIRST_DAY_RUNS"], "a") as file:
        file.write(f"{sys._getframe(1).f_globals['__name__']}:{os.getpid()}\\n")


def make(max_workers=2, **options):
    return Executor(backend, max_workers, start_method=method, **options)


def square(n):
    return n * n
"""


class Folder:
    """A folder with programs."""

    def __init__(self, path, row):
        self.path = path
        (path / "first_day_help.py").write_text(HELP)
        source = str(Path(parapluie.__file__).parents[1])
        self._environment = {
            **{name: value for name, value in os.environ.items() if name != "PYTHONFAULTHANDLER"},
            "PYTHONPATH": os.pathsep.join(filter(None, [source, str(path), os.environ.get("PYTHONPATH")])),
            "PYTHONIOENCODING": "utf-8",
            "PARAPLUIE_SHUTDOWN": "{ grace = 30 }",  # to end, a worker has to have started, which may take long
            "FIRST_DAY_RUNS": str(path / "runs"),
            "FIRST_DAY_BACKEND": row.backend,
            "FIRST_DAY_METHOD": row.method,
        }

    def write(self, name, text):
        """Write a file and return its path."""
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(dedent(text), encoding="utf-8")
        return file

    def run(self, *arguments, text="", stdin=None, cwd=None, **environment):
        """Run Python with arguments, and a text or a file on standard input, to its end."""
        (self.path / "runs").write_text("")
        done = subprocess.run(
            [sys.executable, *map(str, arguments)],
            **({"input": dedent(text)} if stdin is None else {"stdin": stdin}),
            capture_output=True,
            text=True,
            encoding=environment.get("PYTHONIOENCODING", "utf-8"),
            timeout=SECONDS,
            env={**self._environment, **environment},
            cwd=cwd or self.path,
            check=False,
        )
        runs = (self.path / "runs").read_text().split()
        return Done(done.stdout, done.stderr, done.returncode, runs)
