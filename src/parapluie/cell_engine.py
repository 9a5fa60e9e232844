"""An engine of one worker: what the cells ask of one, and what all of them do alike."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import BrokenExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from parapluie.cell_process import READY, CellProcess, OneWorkerContext
from parapluie.cpu_peers import cpu_peers
from parapluie.words import describe

if TYPE_CHECKING:
    from parapluie.backend import Host
    from parapluie.cell_mark import Marked
    from parapluie.logs import LogPipe

Reply = tuple[bytes, tuple[bytes, ...], bool]  # of `parapluie.worker.run`, and whether something was logged


class Job:
    """One call in a cell."""

    __slots__ = ("call_id", "doomed", "payload", "settled")

    def __init__(self, call_id: int, payload: bytes | None) -> None:
        self.call_id, self.payload = call_id, payload
        self.doomed = False  # its worker is being killed for it; the backend's lock guards this, too
        self.settled = False  # whether somebody has taken it upon him to answer; the backend's lock guards it


class Engine(ABC):
    """One engine with one worker. It is opened once, and its first call starts the worker if opening did not."""

    def __init__(self, name: str, host: Host, logs: LogPipe, *, answer: Callable[[Engine, Job, Reply], None]) -> None:
        self.name = name
        self.context = OneWorkerContext(host.context, host.bootstrap, logs, cpu_peers() * host.max_workers)
        self.job: Job | None = None  # what the worker was sent and has not answered
        self.calls = 0  # answered
        self.ready = False  # the worker has come as far as its loop
        self.initialised = False  # and its initializer went well
        self.refused = False  # the engine did not take the call
        self.told = False  # it is to end
        self.why = ""  # what is known of its end, besides the exit code
        self.ended = False  # the worker is dead, and `exit_code` is set
        self.exit_code: int | None = None
        self.pid: int | None = None
        self.deadline = time.monotonic() + host.start_timeout  # to be ready
        self._start_timeout = host.start_timeout
        self._answer = answer
        self._abandoned = False

    @abstractmethod
    def open(self) -> None:
        """Make the engine."""

    @abstractmethod
    def submit(self, job: Job, args: tuple[Any, ...]) -> None:
        """Have the worker call `parapluie.worker.run(*args)`, and `answered` or `fail` called with what comes of it."""

    @abstractmethod
    def close(self) -> None:
        """Tell the worker to end when it has nothing to do. Waits for nothing; may be called again."""

    @abstractmethod
    def wait_drained(self, seconds: float) -> bool:
        """Wait until every reply that the dead worker sent has been read."""

    @abstractmethod
    def end_threads(self, seconds: float) -> bool:
        """End the engine's threads, whose worker is dead; False if that takes longer. May be called again."""

    @abstractmethod
    def abandon(self) -> None:
        """Give up an engine that does not end."""

    @property
    def process(self) -> CellProcess:
        process = self.context.process
        assert process is not None
        return process

    def send(self, job: Job, args: tuple[Any, ...]) -> None:
        """Send a call to the worker."""
        self.job = job
        self.submit(job, args)
        self.note_pid()

    def note_pid(self) -> None:
        """Note that there is a worker now."""
        self.pid = self.process.pid

    def answered(self, job: Job, reply: Reply) -> None:
        """Take a reply, in a thread of the engine."""
        self._answer(self, job, reply)

    def fail(self, job: Job, error: BaseException) -> None:
        """Take an error of the engine's own, in any thread: the worker has to end, and its end is the answer.

        Where the engine says that it is broken, the worker is dead already, or the engine ends it.
        """
        if job.settled:
            return
        if not isinstance(error, BrokenExecutor | EOFError):
            self.why = self.why or f"the engine failed: {describe(error)}"
            self.kill()

    def begun(self, job: Job) -> Marked | None:
        """Read the worker's mark; None if it has not begun the call."""
        mark = self.context.mark
        marked = None if mark is None else mark.read()
        return marked if marked is not None and marked.call_id == job.call_id else None

    def is_answering(self) -> bool:
        """Say whether a reply is being handed over, which lasts as long as the callbacks of users do."""
        job = self.job
        return self._abandoned or (job is not None and job.settled)

    def is_alive(self) -> bool:
        with suppress(ValueError):  # buried a moment ago, by the watcher
            return not self.ended and self.process.is_alive()
        return False

    def terminate(self) -> None:
        with suppress(ValueError):
            if self.is_alive():
                self.process.terminate()

    def kill(self) -> None:
        with suppress(ValueError):
            if self.is_alive():
                self.process.kill()

    def note_ready(self) -> bool:
        """Read the worker's message that it is ready, if there is one; True if it has just become so."""
        pipe = self.context.ready
        if pipe is None:
            return False
        with suppress(EOFError, OSError):  # it ended instead, which on Windows `poll` tells already
            if not pipe.poll():
                return False
            self.initialised = pipe.recv_bytes() == READY
            self.ready = True
        pipe.close()
        self.context.ready = None
        return self.ready

    def kill_if_late(self, now: float) -> None:
        """Kill a worker that is not ready in time."""
        if self.context.ready is not None and not self.ended and now >= self.deadline:
            self.why = self.why or f"it was not ready within start_timeout={self._start_timeout:g} seconds; killed"
            self.kill()

    def reap(self) -> None:
        """Take the exit code of the worker, which is dead."""
        self.process.join()
        self.exit_code = self.process.exitcode
        self.ended = True

    def bury(self, seconds: float) -> bool:
        """Remove all that is left of an engine whose worker is dead; False if its threads need more time."""
        if not self._abandoned and not self.end_threads(seconds):
            return False
        self.context.close()
        return True

    def discard(self) -> None:
        """Remove an engine that could not be opened as a whole."""
        process = self.context.process
        if process is not None and process.pid is not None:
            process.kill()
            process.join()
        self.context.close()


def joined(thread: threading.Thread | None, deadline: float) -> bool:
    """Wait for a thread to end; True if it has."""
    if thread is None:
        return True
    if thread is not threading.current_thread():
        thread.join(max(0.0, deadline - time.monotonic()))
    return not thread.is_alive()
