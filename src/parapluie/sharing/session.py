"""Sessions: a worker of one's own, and a conversation with it.

    Session (what users hold) ─▶ Side ─┬─ session_process.py: a process, and the wire to it ─▶ session_worker.py
          └── dropped? it ends         └─ session_local.py: a thread of this process

What both ends of a session can do is in connection.py.
"""

from __future__ import annotations

import weakref

from parapluie.backend import Stop
from parapluie.sharing.connection import Connection, until
from parapluie.sharing.session_side import end_sessions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any, Self

    from parapluie.dispatch import Dispatcher
    from parapluie.pickling import Serializer
    from parapluie.sharing.session_side import Side


class Session(Connection):
    """A function that runs in a worker of its own, and this side of the connection to it. See `Executor.session`.

    `recv` gives what the function has sent. When there is no more of it, and the function has ended, it raises
    EOFError if that has returned, or else why it has not: what it raised, with the worker's traceback, or
    WorkerLostError, at once, also in a thread that waits. So do `for message in session`, which ends where it would
    raise EOFError, `send` and `result`.

    The end of a `with` block closes the session, waits for the function to return within the executor's grace period
    (`Shutdown.grace`), and ends its worker by force if it has not. It raises why the function failed, unless that was
    raised before, the block has raised something itself, or `kill` was called. A session that nobody holds any more
    ends as well.
    """

    def __init__(self, side: Side, lease: object, grace: float) -> None:
        self._side, self._grace = side, grace
        self._lease = lease  # the executor stays open for those who hold a session of it
        weakref.finalize(self, side.abandon).atexit = False  # at exit, ending.py ends what is open

    @property
    def worker(self) -> str:
        """The worker's name, as in log records and in what observers are told."""
        return self._side.worker

    @property
    def pid(self) -> int | None:
        """The id of the process that the function runs in; this process's where it runs in a thread."""
        return self._side.pid

    def send(self, message: Any, *, timeout: float | None = None) -> None:
        self._side.send(message, until(timeout))

    def _take(self, timeout: float | None) -> Any:
        return self._side.take(until(timeout))

    def poll(self, timeout: float | None = 0.0) -> bool:
        return self._side.arrives(until(timeout))

    def close(self) -> None:
        """Send no more: the function's `for message in connection` ends, its `recv` raises EOFError.

        What was sent before arrives first. The function may go on, and what it sends can be received. May be called
        again. Blocking: no.
        """
        self._side.close()

    def result(self, timeout: float | None = None) -> Any:
        """Return what the function returned. Does not close: a function that waits for messages is waited for.

        Args:
            timeout: seconds to wait; None waits for ever.

        Raises:
            TimeoutError: if it has not ended by then.
            Exception: what it raised; WorkerLostError if its worker died; ResultPicklingError if what it returned
                cannot be sent.

        What it sends meanwhile is kept for `recv`, up to 64 MB of it; behind that the function waits in `send`.
        """
        if not self._side.await_end(until(timeout)):
            raise TimeoutError(f"the function of {self._side.name} has not ended in time")
        self._side.raise_end()
        return self._side.outcome()[1]

    def kill(self) -> bool:
        """End the worker at once, whatever it is at; True if that was done, or it has ended.

        Whoever waits for it gets WorkerLostError. A thread cannot be killed: the function's `recv` and `send` raise
        from now on, and the answer is False as long as it runs. Blocking: no.
        """
        side = self._side
        side.by_user = side.by_user or not side.await_end(0.0)
        return side.force("kill", "killed by Session.kill()")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        side = self._side
        try:
            end_sessions([side], Stop(self._grace, kill=side.by_user), "at the end of its block")
        except BaseException:  # Ctrl-C while it waits
            end_sessions([side], Stop(kill=True), "by an interrupt")
            raise
        if kind is None and not (side.by_user or side.seen) and side.gone.is_set():
            side.raise_end()

    def __reduce__(self) -> Any:
        raise TypeError("a session cannot be pickled: its other end is the connection that its function has")

    def __repr__(self) -> str:
        state = "ended" if self._side.gone.is_set() else "open"
        return f"<parapluie.Session {self._side.number} worker={self.worker!r} {state}>"


def open_session(
    dispatcher: Dispatcher,
    dumps: Serializer,
    lease: object,
    where: Callable[[], str | None],
    call: tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]],
) -> Session:
    """Do what `Executor.session` says; where: says from where it was called."""
    from parapluie.settings import need

    function, args, kwargs = call
    settings = dispatcher.settings
    need(settings.info, settings.capabilities, "sessions", "session()", "it has no workers for a conversation")
    if dispatcher.closing or dispatcher.error is not None:
        dispatcher.refuse()
    if not callable(function):
        raise TypeError(f"session: {function!r} is a {type(function).__name__}, which cannot be called")
    side = _side_of(dispatcher, dumps, where)
    dispatcher.sessions[side.number] = side
    try:
        if dispatcher.closing:  # since
            side.is_gone()
            dispatcher.refuse()
        side.open(function, args, kwargs)
    except BaseException:
        side.by_user = True  # nobody is to be told of its end but who gets the error
        end_sessions([side], Stop(kill=True), "since it could not be opened")
        raise
    return Session(side, lease, dispatcher.shutdown.grace)


def _side_of(dispatcher: Dispatcher, dumps: Serializer, where: Callable[[], str | None]) -> Side:
    number = next(dispatcher.session_numbers)
    if dispatcher.isolated and not dispatcher.settings.capabilities.runs_in_caller:
        from parapluie.sharing.session_process import ProcessSide

        return ProcessSide(dispatcher, number, dumps, where)
    from parapluie.sharing.session_local import LocalSide

    return LocalSide(dispatcher, number, dumps if dispatcher.isolated else None, where)
