"""A session as the program's side has it, behind what users hold: what processes and threads have in common.

It lives until its function's worker is gone, also when nobody holds the `Session` any more.
"""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from time import monotonic

from parapluie import call_format, pickling
from parapluie.errors import MessagePicklingError, SessionClosedError, TaskPicklingError
from parapluie.replies import Failure, annotate, open_failure, open_value
from parapluie.sharing.session_wire import LOOK_SECONDS
from parapluie.sharing.turns import Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from parapluie.backend import Stop
    from parapluie.dispatch import Dispatcher

log = logging.getLogger("parapluie")
FORCED = {"terminate": "terminated", "kill": "killed"}


class Side(ABC):
    """A session that is being opened, is open, or ends.

    Attributes:
        name: what messages call it. worker: as observers and log records have it. pid: of the process that it is in.
        gone: set when its worker has ended, and all that it held was let go of.
        by_user: it was ended by force, because somebody asked for it.
        seen: why it failed has been raised.

    Thread safety: any thread. All times are of `time.monotonic`; None is never.
    """

    worker = ""
    pid: int | None = None

    def __init__(self, dispatcher: Dispatcher, number: int, where: Callable[[], str | None]) -> None:
        self.name = f"session {number}"
        self.number = number
        self.gone = Flag()
        self.by_user = self.seen = False
        self._dispatcher = dispatcher
        self._where = where  # says from where the program calls
        self._ended: tuple[BaseException | None, Any] | None = None  # what the function raised, or returned
        self._ending = threading.RLock()  # guards the making of _ended

    # ---- messages ---------------------------------------------------------------------------------------------

    @abstractmethod
    def open(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Start the worker, and return when its function is about to be called. Raises if it will not be."""

    @abstractmethod
    def send(self, message: Any, until: float | None) -> None:
        """Send a message; raises what `Connection.send` does, or why the function has ended."""

    @abstractmethod
    def take(self, until: float | None) -> Any:
        """Return the next message, or END; raises what `Connection.recv` does, or why the function has ended."""

    @abstractmethod
    def arrives(self, until: float | None) -> bool:
        """Wait for a message, or for the end; False if neither comes in time."""

    @abstractmethod
    def close(self) -> None:
        """Tell the function that no more messages come. Waits for nothing."""

    def unsendable(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], error: Exception
    ) -> TaskPicklingError:
        """Make the error that says why the function or an argument cannot be pickled."""
        problem, path, found = pickling.explain_task(function, args, kwargs, error)
        return TaskPicklingError(
            self.name, self._dispatcher.backend, problem, path=path, found=found, where=self._where()
        )

    def unsendable_message(self, message: Any, error: Exception) -> MessagePicklingError:
        """Make the error that says why a message cannot be pickled."""
        problem, path, found = pickling.explain(message, "message", error)
        return MessagePicklingError(self.name, problem, path=path, found=found)

    # ---- the end ----------------------------------------------------------------------------------------------

    @abstractmethod
    def await_end(self, until: float | None) -> bool:
        """Wait until the function has ended, whatever it still sends; False if the time is up."""

    @abstractmethod
    def outcome(self) -> tuple[BaseException | None, Any]:
        """Return what the function raised, and what it returned. It has ended."""

    @abstractmethod
    def force(self, how: str, why: str) -> bool:
        """End the worker by force ("terminate" or "kill"); False if that cannot be. Waits for nothing."""

    @abstractmethod
    def abandon(self) -> None:
        """Have it end, since nobody holds it any more. From a finalizer: re-entrant, and waits for nothing."""

    def step_to_end(self, until: float) -> None:
        """Wait for a while until it is gone."""
        if self.await_end(until):
            self.gone.wait(until)

    def error(self) -> BaseException | None:
        """Return what the function raised, or why it was lost; None if it has returned. It has ended."""
        return self.outcome()[0]

    def raise_end(self) -> None:
        """Raise why the function ended, if that was an error."""
        error = self.error()
        if error is not None:
            self.seen = True
            try:
                raise error
            finally:
                del error  # its traceback has this frame

    def refuse_to_send(self, *, closed: bool) -> None:
        """Raise why a message was not sent: this side was closed, or the function has ended."""
        if not closed:
            self.raise_end()
        raise SessionClosedError(self.name, why="it was closed" if closed else "its function has returned")

    def opened(self, segment: bytes, buffers: Sequence[Any]) -> tuple[BaseException | None, Any]:
        """Open an outcome that `worker.execute` has sealed, once."""
        with self._ending:
            if self._ended is None:
                self._ended = self._open(segment, buffers)
            return self._ended

    def _open(self, segment: bytes, buffers: Sequence[Any]) -> tuple[BaseException | None, Any]:
        kind, *_ = call_format.SEGMENT.unpack_from(segment)
        body = memoryview(segment)[call_format.SEGMENT.size :]
        if kind == call_format.VALUE:
            value = open_value(body, buffers, self.name)
            if not isinstance(value, Failure):
                return None, value
            return self.noted(value.error), None
        return self.noted(open_failure(kind, body, self.name).error), None

    def noted(self, error: BaseException) -> BaseException:
        """Note in an error which session and worker it comes from."""
        annotate(error, f"{self.name}, worker {self.worker}")
        return error

    def is_gone(self) -> None:
        """Note that nothing is left of the worker."""
        self._dispatcher.sessions.pop(self.number, None)
        self.gone.set()


def end_sessions(sides: Sequence[Side], stop: Stop, why: str) -> None:
    """End sessions, and return when they are gone: close them, wait for the grace period, terminate, wait, kill.

    A thread is waited for no longer than the grace period.
    """
    left = list(sides)
    for how in ("kill",) if stop.kill else ("terminate", "kill"):
        if not stop.kill:
            for side in left:
                side.close()
            left = _await(left, stop.grace)
        left = [side for side in left if _force(side, how, stop, why)]
    while left:
        left = _await(left, LOOK_SECONDS)


def _await(sides: list[Side], seconds: float) -> list[Side]:
    """Wait for the end of sessions; return those that are left when the time is up."""
    until = monotonic() + seconds
    while True:
        sides = [side for side in sides if not side.gone.is_set()]
        if not sides or monotonic() >= until:
            return sides
        for side in sides:  # for a moment each, one after the other: each may have much to send before it ends
            side.step_to_end(min(until, monotonic() + LOOK_SECONDS / len(sides)))


def _force(side: Side, how: str, stop: Stop, why: str) -> bool:
    """End a session by force, and log it, unless it was asked for; False if that cannot be."""
    done = side.force(how, f"{FORCED[how]} {why}")
    if not side.by_user and side.worker:
        log.warning(
            "parapluie: %s %s: worker %s (pid %s) still running; %s",
            side.name,
            "was told not to wait" if stop.kill else f"did not end within {stop.grace:g} seconds",
            side.worker,
            side.pid,
            FORCED[how] if done else "threads cannot be killed",
        )
    return done
