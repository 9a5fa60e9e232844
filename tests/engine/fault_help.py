"""What the tests of faults share: rows of backends and start methods, gates, programs that are watched from outside.

A test module takes the one fixture by `faults = fault_help.faults`.
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest
from fault_tasks import SECONDS

import parapluie
from parapluie import Executor
from parapluie.testing import processes
from parapluie.testing.gates import Gate
from parapluie.testing.helpers import defects, shut_down

METHODS = multiprocessing.get_all_start_methods()
QUICK = "fork" if "fork" in METHODS else "spawn"
ENDED = 5.0  # seconds after which nothing of a program that was killed may be left
TRACEBACK = "Traceback (most recent call last)"

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


class Row(NamedTuple):
    """One backend, one start method."""

    backend: str
    method: str

    def make(self, max_workers=2, **kwargs):
        return Executor(self.backend, max_workers, start_method=self.method, **kwargs)


def params(*names):
    """Make parameters of rows; "quick" stands for the start method that is quickest here."""
    for name in names:
        backend, method = name.split("-")
        method = QUICK if method == "quick" else method
        marks = [] if method in METHODS else [pytest.mark.skip(reason=f"no start method {method!r} here")]
        yield pytest.param(Row(backend, method), id=f"{backend}-{method}", marks=marks)


def rows(*names):
    """Run a test on rows."""
    return pytest.mark.parametrize("row", list(params(*names)))


ALL = [f"{backend}-{method}" for backend in ("process", "manager") for method in METHODS]
every_row = rows(*ALL)
every_method = rows("manager-quick", *(f"process-{method}" for method in METHODS))
process_methods = rows(*(f"process-{method}" for method in METHODS))
both_backends = rows("process-quick", "manager-quick")
process_only = rows("process-quick")


def until(condition, seconds=SECONDS):
    """Wait for a condition of which nothing tells; say whether it came."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def outcome(future):
    """Return a future's value, or the exception that it ended with, in bounded time."""
    return future.exception(SECONDS) or future.result()


# ---- programs ---------------------------------------------------------------------------------------------------


class Program:
    """A function of fault_programs.py that runs as a program, in a process group of its own as in a terminal.

    Args: file: another one that it is in.
    """

    def __init__(self, folder, file, name, arguments, environment):
        self._token = uuid.uuid4().hex
        sources = str(Path(parapluie.__file__).parents[1]), str(Path(processes.__file__).parent)
        path = os.pathsep.join(filter(None, [*sources, os.environ.get("PYTHONPATH")]))
        self._stdout, self._stderr = folder / f"{self._token}.out", folder / f"{self._token}.err"
        # Files, and not pipes: one that a worker has inherited would not end.
        with self._stdout.open("wb") as stdout, self._stderr.open("wb") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, Path(__file__).with_name(file), name, json.dumps(arguments)],
                stdin=subprocess.PIPE,  # whose end is this process's
                stdout=stdout,
                stderr=stderr,
                env={**os.environ, "PYTHONPATH": path, "FAULT_TOKEN": self._token, **environment},
                start_new_session=True,
            )

    def interrupt(self):
        """Press Ctrl-C: every process of the group hears of it."""
        os.killpg(self._process.pid, signal.SIGINT)

    def kill(self):
        self._process.kill()
        self._process.wait(SECONDS)

    def wait(self, seconds=SECONDS):
        """Wait for the program's end; return its exit code."""
        return self._process.wait(seconds)

    @property
    def stderr(self):
        return self._stderr.read_text()

    def answer(self):
        """Return what the program printed."""
        return json.loads(self._stdout.read_text())

    def processes(self):
        """Return the ids of all processes that descend from it: they have its environment."""
        found = []
        for folder in processes.proc("[0-9]*"):
            with suppress(OSError):
                if self._token.encode() in (folder / "environ").read_bytes():
                    found.append(int(folder.name))
        return found

    def shared_memory(self):
        """Return the names of its semaphores and segments that are still there."""
        marks = self._token, f"-{self._process.pid}-"
        folder = Path("/dev/shm")  # noqa: S108 - it is looked at only
        names = [path.name for path in folder.glob("*")]
        return [name for name in names if any(mark in name for mark in marks)]

    def leaves_nothing(self):
        """Say whether no process is left in time."""
        return until(lambda: not self.processes(), ENDED)

    def end(self):
        """Kill whatever is left."""
        for process in self.processes():
            with suppress(OSError):
                processes.end(process)
        self.kill()
        self._process.stdin.close()


# ---- the fixture ------------------------------------------------------------------------------------------------


class Faults:
    """What a test of faults works with.

    Attributes:
        gate: where its tasks wait. notes: a file to which they append.
    """

    def __init__(self, folder):
        self._folder = folder
        self.gate = Gate()
        self.port = self.gate.port
        self.notes = str(folder / "notes")
        self._made = []
        self._programs = []

    def make(self, row, max_workers=2, **kwargs):
        """Make an executor that is shut down behind the test."""
        executor = row.make(max_workers, **kwargs)
        self._made.append(executor)
        return executor

    def lines(self):
        """Return what was noted."""
        path = Path(self.notes)
        return path.read_text().split() if path.exists() else []

    def run(self, name, environment=None, *, file="fault_programs.py", **arguments):
        """Start a program; whatever is left of it is killed behind the test."""
        program = Program(self._folder, file, name, arguments, environment or {})
        self._programs.append(program)
        return program

    def close(self):
        for program in self._programs:
            program.end()
        self.gate.open()
        try:
            shut_down(self._made)
        finally:
            self.gate.close()


@pytest.fixture
def faults(tmp_path, caplog):
    """Also fails a test in which parapluie reports a defect: a second answer, a function that failed in a thread."""
    faults = Faults(tmp_path)
    yield faults
    faults.close()
    assert defects(caplog) == []


# ---- what is left behind ----------------------------------------------------------------------------------------


class Left(NamedTuple):
    """What this process holds."""

    descriptors: int
    threads: frozenset[threading.Thread]
    children: int

    @classmethod
    def now(cls):
        gc.collect()
        return cls(processes.open_things(), frozenset(threading.enumerate()), len(multiprocessing.active_children()))

    def is_all(self):
        """Say whether nothing has come to it since; the last thread to end may be about to."""
        now = Left.now()
        return now.descriptors <= self.descriptors and now.threads <= self.threads and now.children <= self.children
