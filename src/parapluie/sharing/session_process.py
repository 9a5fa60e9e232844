"""A session in a process of its own, as the program has it.

    thread in send, recv, result ──── wire ────▶ process: session_worker.py
    keeper, a thread for each session ◀── the process's death, and its log records

The keeper only waits: it sees the death at once, takes what had come by then, finds out why, and lets go of all that
the session held. Whoever waits at the wire sees the death as well, and then waits for the keeper and its exit code.
"""

from __future__ import annotations

import pickle
import threading
from contextlib import suppress
from multiprocessing.connection import wait
from time import monotonic

from parapluie import call_format, logs
from parapluie.evidence import early_end, evidence_of
from parapluie.main_guard import check_main_guard, told_by_worker
from parapluie.replies import open_error
from parapluie.sharing import session_worker
from parapluie.sharing.connection import END
from parapluie.sharing.session_frames import BEGUN, CALL, ENDED, MESSAGE, READY, REFUSES
from parapluie.sharing.session_side import FORCED, Side, log
from parapluie.sharing.session_start import could_not_start, start_process
from parapluie.sharing.session_wire import Wire
from parapluie.starting import start_lock, wait_for_exit_code
from parapluie.words import describe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from parapluie.dispatch import Dispatcher
    from parapluie.dumps import DumpFile
    from parapluie.logs import LogPipe
    from parapluie.pickling import Serializer
    from parapluie.sharing.session_port import Port

_DYING_SECONDS = 1.0  # in which a process that has closed its end of the pipe, or was reset, has to be dead


class ProcessSide(Side):
    """A session in a process of its own."""

    def __init__(self, dispatcher: Dispatcher, number: int, dumps: Serializer, where: Callable[[], str | None]) -> None:
        super().__init__(dispatcher, number, where)
        self._dumps = dumps
        self._process: Any = None
        self._wire: _ProgramWire  # from when there is a process
        self._logs: LogPipe
        self._dump: DumpFile
        self._killed = ""  # by us, and why
        self._lost: BaseException | None = None  # set by the keeper before `gone`
        self._began = False

    # ---- the start --------------------------------------------------------------------------------------------

    def open(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        try:
            check_main_guard()
            call = self._pickled_call(function, args, kwargs)
            self._start()
        finally:
            if self._process is None:
                self.is_gone()
        self._await_ready()
        with suppress(OSError):  # it is gone, and then it does not begin
            self._wire.send(CALL, call)
        self._await_frame(BEGUN, None)
        self._began = True

    def _pickled_call(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        try:
            return self._dumps(session_worker.call_of(function, args, kwargs), None)
        except Exception as error:
            raise self.unsendable(function, args, kwargs, error) from error

    def _start(self) -> None:
        started = start_process(self._dispatcher, self.name, self.number, self)
        self._logs, self._dump = started.logs, started.dump
        self.pid = started.process.pid
        self.worker = f"session-{self.pid}"
        self._wire = _ProgramWire(started.port, self, started.logs)
        self._process = started.process
        try:
            threading.Thread(target=self._keep, name=f"parapluie-session-{self.number}", daemon=True).start()
        except RuntimeError as error:  # too many threads, or the interpreter is ending
            self._process.kill()
            self._keep()
            raise could_not_start(self._dispatcher.backend, error) from error

    def _await_ready(self) -> None:
        dispatcher = self._dispatcher
        limit = dispatcher.start_timeout
        if dispatcher.closing:  # since, and `close` found no process
            self.close()
        try:
            self._await_frame(READY, monotonic() + limit)
        except TimeoutError:
            self.force("kill", f"a worker was not ready after start_timeout={limit:g} seconds")
            self._await_frame(READY, None)
        dispatcher.worker_started(self.worker, self.pid)

    def _await_frame(self, kind: int, until: float | None) -> None:
        """Wait for a frame of the start; raise why it does not come."""
        wire = self._wire
        while not (kind in wire.frames or REFUSES in wire.frames or wire.over):
            if not wire.step(until, message=False):
                raise TimeoutError
        if kind in wire.frames:
            return
        if REFUSES in wire.frames:
            from parapluie.pool_errors import WorkerInitError

            cause = open_error(pickle.loads(wire.frames[REFUSES]))
            raise WorkerInitError(self._dispatcher.backend, f"the initializer raised {describe(cause)}") from cause
        if wire.closed:
            self._dispatcher.refuse()
        self.raise_end()

    # ---- messages ---------------------------------------------------------------------------------------------

    def send(self, message: Any, until: float | None) -> None:
        data = self._pickled(message)
        try:
            if self._wire.send(MESSAGE, data, until):
                return
            closed = True
        except TimeoutError:
            raise TimeoutError(f"a message in {self.name} found no room in time") from None
        except OSError:
            closed = False
        self.refuse_to_send(closed=closed)

    def _pickled(self, message: Any) -> bytes:
        if type(message) in call_format.PLAIN:
            return pickle.dumps(message, 5)
        try:
            return self._dumps(message, None)
        except Exception as error:
            raise self.unsendable_message(message, error) from error

    def take(self, until: float | None) -> Any:
        try:
            data = self._wire.receive(until)
        except TimeoutError:
            raise TimeoutError(f"no message has come in {self.name} in time") from None
        if data is not None:
            return session_worker.opened(data, self.name)
        self.raise_end()
        return END

    def arrives(self, until: float | None) -> bool:
        return self._wire.arrives(until)

    def close(self) -> None:
        if self._process is None:
            return  # `open` looks whether the executor is closed
        if not self._began:
            self.force("kill", "killed, since its executor was shut down")
        self._wire.close()

    # ---- the end ----------------------------------------------------------------------------------------------

    def await_end(self, until: float | None) -> bool:
        wire = self._wire
        while not wire.over:
            if not wire.step(until, message=False):
                return False
        return True

    def step_to_end(self, until: float) -> None:
        if self._process is None:
            self.gone.wait(until)
        else:
            super().step_to_end(until)

    def outcome(self) -> tuple[BaseException | None, Any]:
        if self._ended is not None:
            return self._ended
        if ENDED not in self._wire.frames:
            self.await_end(monotonic() + _DYING_SECONDS)
        if ENDED not in self._wire.frames:
            if not self.gone.wait(monotonic() + _DYING_SECONDS):
                self.force("kill", "killed, since it had closed its connection")
                self.gone.wait()
            return self._lost, None
        return self.opened(*pickle.loads(self._wire.frames[ENDED]))

    def force(self, how: str, why: str) -> bool:
        if self._process is not None and not self.gone.is_set():
            self._killed = self._killed or why
            with suppress(ValueError):  # it was closed in this moment
                getattr(self._process, how)()
        return True

    def abandon(self) -> None:
        clock = self._dispatcher.clock
        if clock is not None and not self.gone.is_set():
            clock.post(self._end_slowly)

    def _end_slowly(self) -> None:
        """Have it end without waiting for it, in the clock's thread."""
        self.close()
        clock, grace, now = self._dispatcher.clock, self._dispatcher.shutdown.grace, monotonic()
        assert clock is not None
        for count, how in enumerate(("terminate", "kill"), start=1):
            clock.at(now + count * grace, self._force_late, how)

    def _force_late(self, how: str) -> None:
        if not self.gone.is_set():
            log.warning("parapluie: %s was dropped, and did not end in time; %s", self.name, FORCED[how])
            self.force(how, f"{FORCED[how]} after it was dropped")

    # ---- the keeper -------------------------------------------------------------------------------------------

    def _keep(self) -> None:
        """Wait for the death of the process, and for log records before; then let go of everything."""
        reader = self._logs.reader
        sentinel = self._wire.port.sentinel
        assert sentinel is not None
        things = [sentinel] if reader is None else [sentinel, reader]
        while True:
            ready = wait(things)
            if reader in ready:
                self._logs.drain()
            if sentinel in ready:
                break
        try:
            self._wire.end()
            self._logs.worker_died(self._process.pid)
            self._logs.close()
            with start_lock():  # see `Handle.reap` of the process engine
                self._process.join()
            wait_for_exit_code(self._process)
            self._lost = self._why_lost(self._process.exitcode)
            self._dump.close()
            with suppress(ValueError):  # somebody else has taken its exit code, so it is believed to be alive
                self._process.close()
        finally:
            self.is_gone()

    def _why_lost(self, exit_code: int | None) -> BaseException | None:
        """Say why the function has no outcome, and tell observers of the end of the worker."""
        from parapluie.pool_errors import WorkerInitError, WorkerLostError

        backend, frames = self._dispatcher.backend, self._wire.frames
        lost = ENDED not in frames and REFUSES not in frames
        self._dispatcher.worker_ended(self.worker, self.pid, exit_code=exit_code, lost=lost, why=self._killed)
        if not lost:
            return None
        found = evidence_of(exit_code, self._dump)
        if READY not in frames:
            return told_by_worker(self._dump) or WorkerInitError(
                backend, early_end(f"the worker of {self.name}", exit_code, found, self._killed)
            )
        return WorkerLostError(
            self.name,
            backend=backend,
            worker=self.worker,
            pid=self.pid,
            exit_code=exit_code,
            why=self._killed,
            dump=found.dump,
        )

    def logged(self, _call_id: int, _item: int, pid: int, record: bytes) -> None:
        """Handle a log record of the worker, or of what it has forked: the part of `Host` that a log pipe needs."""
        logs.handle(record, task=self.name, attempt=None, worker=f"session-{pid}")


class _ProgramWire(Wire):
    """The wire as the program has it.

    Attributes: frames: those that came and are no messages, by kind.
    """

    def __init__(self, port: Port, side: ProcessSide, log_pipe: LogPipe) -> None:
        super().__init__(port)
        self.frames: dict[int, bytes | memoryview] = {}
        self._side = side
        self.drain_logs = log_pipe.drain  # type: ignore[method-assign]
        self._is_told = False

    def take(self, kind: int, body: bytes | memoryview) -> None:
        self.frames[kind] = body
        if kind == ENDED:
            self.over = self.deaf = True

    def torn(self) -> None:
        self._side.force("kill", "killed, since an interrupt came in the middle of a message")

    def note_full(self) -> None:
        if not self._is_told:
            self._is_told = True
            log.warning(
                "parapluie: %s waits for somebody to receive: 64 MB of what its function has sent are unread, and it "
                "goes on when there is room",
                self._side.name,
            )
