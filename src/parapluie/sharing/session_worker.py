"""A session's process: it runs the executor's initializer, and then the session's function, with a connection.

    program ── CALL ──▶ worker.execute ─▶ function(connection, …)    sends BEGUN when all of the call was read,
            ◀── messages, both ways ──▶        │                      and ENDED with what the function has returned
            ◀───────── ENDED ──────────────────┘                      or raised

How the call is sent is at the end, and the same for a session in a thread.
"""

from __future__ import annotations

import os
import pickle
import threading
from abc import abstractmethod

from parapluie import answers, log_ways, worker
from parapluie.sharing.connection import END as NO_MORE
from parapluie.sharing.connection import Connection, until
from parapluie.sharing.session_frames import BEGUN, CALL, ENDED, MESSAGE, READY, REFUSES
from parapluie.sharing.session_port import Port
from parapluie.sharing.session_wire import Wire
from parapluie.words import describe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from parapluie.dumps import DumpFile, LogEnd, LogSettings
    from parapluie.sharing.session_port import End

_running = threading.local()  # connection: of the session whose function runs in this thread
_ANYTHING = (Exception, SystemExit, GeneratorExit)  # what reading a message may raise; an interrupt is not its doing


def main(
    dump: DumpFile,
    end: End,
    bootstrap: bytes,
    inherited: Sequence[int],
    *,
    session: str,
    peers: int,
    logs: tuple[LogSettings, LogEnd],
) -> None:
    """Run a session.

    Args:
        dump: where the fault handler is to write.
        inherited: descriptors that a forked child must not hold.
        session: what it is called.
        peers: among how many workers the CPUs are divided.
        logs: what the parent logs, and where to send it.
    """
    worker.begin(dump, inherited, peers)
    wire = _WorkerWire(Port(end), session)
    log_ways.send_logs(*logs, wire.place_of_log)
    failure = worker.prepare(bootstrap)
    wire.tell(READY if failure is None else REFUSES, pickle.dumps(failure))
    if failure is None and (call := wire.next_call()) is not None:
        run(call, wire.send_outcome, WorkerConnection(wire))
    wire.port.finish()


class _WorkerWire(Wire):
    """The wire as the session's process has it."""

    def __init__(self, port: Port, session: str) -> None:
        super().__init__(port)
        self.session = session
        self._call: bytes | memoryview | None = None

    def take(self, kind: int, body: bytes | memoryview) -> None:
        if kind == CALL:
            self._call = body
        else:  # END
            self.over = True

    def torn(self) -> None:
        raise RuntimeError(f"{self.session} was interrupted in the middle of a message, and cannot go on")

    def next_call(self) -> bytes | memoryview | None:
        """Wait for what the session is to run; None if it was closed before."""
        while self._call is None and not self.over:
            self.step(None)
        call, self._call = self._call, None
        return call

    def place_of_log(self) -> tuple[int, int]:
        """Note that something is being logged; return the call that runs, and its item. Any thread, at any time."""
        self.logged = True
        return 0, 0

    def send_outcome(self, segment: bytes, buffers: Sequence[memoryview]) -> None:
        """Send how the session's function ended."""
        self.tell(ENDED, pickle.dumps((segment, [bytes(buffer) for buffer in buffers]), 5))

    def tell(self, kind: int, body: bytes = b"") -> None:
        """Send a frame that is no message."""
        try:
            self.send(kind, body)
        except OSError:
            os._exit(1)  # the parent is gone, or has done with this process


class RunningConnection(Connection):
    """A connection as the function's side has it."""

    @abstractmethod
    def begin(self) -> None:
        """Tell the other side that all of the call was read."""


class WorkerConnection(RunningConnection):
    """What a session's function is given in a process of its own."""

    def __init__(self, wire: _WorkerWire) -> None:
        self._wire = wire

    def begin(self) -> None:
        self._wire.tell(BEGUN)

    def send(self, message: Any, *, timeout: float | None = None) -> None:
        data = self._pickled(message)
        try:
            self._wire.send(MESSAGE, data, until(timeout))
        except TimeoutError:
            raise TimeoutError(f"a message in {self._wire.session} found no room in time") from None
        except OSError:
            from parapluie.errors import SessionClosedError

            raise SessionClosedError(self._wire.session, why="the other side is gone") from None

    def _pickled(self, message: Any) -> bytes:
        try:
            return answers.dumps(message, None)
        except Exception as error:
            from parapluie import pickling
            from parapluie.errors import MessagePicklingError

            problem, path, found = pickling.explain(message, "message", error)
            raise MessagePicklingError(self._wire.session, problem, path=path, found=found) from error

    def _take(self, timeout: float | None) -> Any:
        data = self._wire.receive(until(timeout))
        return NO_MORE if data is None else opened(data, self._wire.session)

    def poll(self, timeout: float | None = 0.0) -> bool:
        return self._wire.arrives(until(timeout))

    def __repr__(self) -> str:
        return f"<parapluie.Connection of {self._wire.session}>"


def opened(data: bytes | memoryview, session: str) -> Any:
    """Read a message back.

    Raises:
        MessageUnpicklingError: if that cannot be.
    """
    try:
        return pickle.loads(data)
    except _ANYTHING as error:
        from parapluie.errors import MessageUnpicklingError

        raise MessageUnpicklingError(session, describe(error)) from error


# ---- the call ---------------------------------------------------------------------------------------------------


def call_of(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Callable[..., Any], tuple[Any, ...], _Last]:
    """Return what is pickled for `run`."""
    return function, (_Here(), *args), _Last(kwargs)


def run(
    call: bytes | memoryview, emit: Callable[[bytes, Sequence[memoryview]], None], connection: RunningConnection
) -> None:
    """Run the function of a session in this thread; emit its outcome as `worker.execute` does."""
    _running.connection = connection
    worker.execute(call, (), None, emit)


class _Here:
    """Stands for the connection in what is pickled: read back, it is that of the thread that reads."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _here, ()


def _here() -> RunningConnection:
    connection: RunningConnection = _running.connection
    return connection


class _Last:
    """Stands for the keyword arguments, which come last in what is pickled: when they are read, all of it has been."""

    def __init__(self, kwargs: dict[str, Any]) -> None:
        self._kwargs = kwargs

    def __reduce__(self) -> tuple[Any, ...]:
        return _begun, (self._kwargs,)


def _begun(kwargs: dict[str, Any]) -> dict[str, Any]:
    _here().begin()
    return kwargs
