"""The parent's side of the soak test and of the state machine: the log, the door, and what is left at the end."""

from __future__ import annotations

import concurrent.futures
import gc
import logging
import select
import socket
import threading
import time
from collections import Counter
from contextlib import suppress
from multiprocessing.synchronize import SemLock
from pathlib import Path
from typing import NamedTuple

import soak_tasks as tasks
from soak_tasks import SECONDS

from parapluie.shared_memory import SharedBytes, SharedLock
from parapluie.testing import processes


def living(executor):
    """Return the process ids of the workers that the engine knows."""
    return {int(name.rpartition("-")[2]) for name in executor._dispatcher.engine.workers()}


def outcome_of(future):
    """Return a resolved future's value, or its exception, `CancelledError` included; TimeoutError if it is pending."""
    try:
        return future.exception(0) or future.result(0)
    except concurrent.futures.CancelledError as error:
        return error


def outcomes_of(futures):
    """Wait for futures, in bounded time, and return what they came to."""
    _, pending = concurrent.futures.wait(futures, SECONDS)
    assert not pending, f"{len(pending)} futures of {len(futures)} do not resolve, tasks {[f.task_id for f in pending]}"
    return [outcome_of(future) for future in futures]


def describe(outcome):
    """Return an outcome in a few words."""
    text = f"{type(outcome).__name__}: {outcome}" if isinstance(outcome, BaseException) else repr(outcome)
    return text if len(text) < 300 else f"{text[:300]}… ({len(text)} characters)"


def await_death(pid):
    """Return when a process has ended, whoever's child it is."""
    assert processes.await_end(pid), f"process {pid} does not end"


def kill(pid):
    """Kill a worker, and return when it has ended."""
    with suppress(ProcessLookupError):
        processes.end(pid)
    await_death(pid)


def until(condition, seconds=SECONDS):
    """Wait for a condition of which nothing tells; say whether it came."""
    deadline = time.monotonic() + seconds
    while not (held := condition()) and time.monotonic() < deadline:
        time.sleep(0.001)
    return held


def state_of(pid):
    """Return the kernel's letter for what a process does: T is stopped, Z is dead; X if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


class Journal:
    """What tasks have noted: read as far as it goes, at any time."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self._path = self.folder / "log"
        self._path.touch()
        self._read = 0
        self.records = []  # (number, process id), in the order in which they were begun

    def update(self):
        """Read what is new, and return it."""
        with self._path.open("rb") as file:
            file.seek(self._read)
            data = file.read()
        data = data[: len(data) - len(data) % tasks.RECORD.size]
        self._read += len(data)
        new = list(tasks.RECORD.iter_unpack(data))
        self.records += new
        return new

    def attempts(self):
        """Return, by task, how often it was begun."""
        self.update()
        return Counter(number for number, _ in self.records)

    def workers_of(self):
        """Return, by task, the processes that have begun it."""
        self.update()
        found = {}
        for number, pid in self.records:
            found.setdefault(number, []).append(pid)
        return found


class Visitor(NamedTuple):
    """A task that has come to the door."""

    pid: int
    number: int
    connection: socket.socket

    def release(self):
        with suppress(OSError):
            self.connection.sendall(b"!")  # closing would not do: a worker that was forked meanwhile holds it too
        self.connection.close()


class Door:
    """Where tasks wait until their test lets them through. It has no thread: the test asks who is there."""

    def __init__(self):
        self._server = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self._server.getsockname()[1]
        self._visitors = []

    def arrival(self, seconds=SECONDS):
        """Wait for the next task to come; None if there is none in time."""
        if not select.select([self._server], [], [], seconds)[0]:
            return None
        connection, _ = self._server.accept()
        with connection.makefile() as stream:
            pid, _, number = stream.readline().rstrip("\n").partition(" ")
        if not pid:  # it was killed on the threshold
            connection.close()
            return self.arrival(seconds)
        visitor = Visitor(int(pid), int(number), connection)
        self._visitors.append(visitor)
        return visitor

    def close(self):
        """Let everybody through."""
        for visitor in self._visitors:
            visitor.release()
        self._server.close()


class Leftovers:
    """Compares what there is with what there was: threads, descriptors, and the workers that were seen."""

    def __init__(self):
        gc.collect()
        self._threads = set(threading.enumerate())
        self._descriptors, self._shared = self._open(), self._count()

    @staticmethod
    def _open():
        """Return the open descriptors, each with what it is."""
        found = set()
        for path in processes.proc("self/fd/*"):
            with suppress(FileNotFoundError):
                target = str(path.readlink())
                found.add(f"descriptor {path.name} ({target})")
        return found

    @staticmethod
    def _count():
        """Count semaphores and blocks of shared memory."""
        counted = SemLock | SharedLock | SharedBytes
        return Counter(type(thing).__name__ for thing in gc.get_objects() if isinstance(thing, counted))

    def check(self, pids=()):
        """Return what is left, in words."""
        for thread in set(threading.enumerate()) - self._threads:
            thread.join(5)  # the last one says that all has ended, and ends itself right after
        left = [f"thread {thread.name}" for thread in threading.enumerate() if thread not in self._threads]
        gc.collect()
        left += sorted(self._open() - self._descriptors)
        left += [f"{count} × {name}" for name, count in (self._count() - self._shared).items()]
        return left + [f"process {pid}" for pid in pids if processes.lives(pid)]


class Defects(logging.Handler):
    """Keeps what parapluie logs as an error: a second answer, a thread of ours that failed."""

    def __init__(self):
        super().__init__(logging.ERROR)
        self.found = []

    def emit(self, record):
        self.found.append(record.getMessage())

    def __enter__(self):
        logging.getLogger("parapluie").addHandler(self)
        return self

    def __exit__(self, *_):
        logging.getLogger("parapluie").removeHandler(self)
