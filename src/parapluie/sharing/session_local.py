"""A session in a thread of this process, where workers share our memory: two ends of the same behaviour.

    Session ─▶ LocalSide ── to_function ──▶ LocalConnection ─▶ function, in a thread
                         ◀── to_program ───

Messages are handed over as they are, unless what runs in the caller's process is to be pickled all the same.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from functools import partial
from time import monotonic

from parapluie.condition import Condition
from parapluie.cpu_peers import cpu_peers, share_cpus
from parapluie.errors import SessionClosedError
from parapluie.sharing import session_worker
from parapluie.sharing.connection import END, until
from parapluie.sharing.session_side import Side
from parapluie.sharing.turns import Flag
from parapluie.words import describe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from parapluie.dispatch import Dispatcher
    from parapluie.pickling import Serializer

_MOST_MESSAGES = 1 << 16  # on their way in one direction; then the sender waits


class Queue:
    """Messages in one direction. Thread safety: any thread; what closes it is re-entrant.

    Attributes: closed: no more come. refusing: nobody takes them, so that no more are put.
    """

    def __init__(self, session: str) -> None:
        self._session = session
        self._condition = Condition()  # guards all below
        self._messages: deque[Any] = deque()
        self.closed = self.refusing = False

    def put(self, message: Any, until: float | None) -> bool:
        """Put a message; False if it is closed, or refuses."""
        with self._condition:
            while len(self._messages) >= _MOST_MESSAGES and not (self.closed or self.refusing):
                if not self._wait(until):
                    raise TimeoutError(f"a message in {self._session} found no room in time")
            if self.closed or self.refusing:
                return False
            self._messages.append(message)
            self._condition.notify_all()
        return True

    def take(self, until: float | None) -> Any:
        """Take a message; END if there are no more."""
        with self._condition:
            while not self._messages:
                if self.closed:
                    return END
                if not self._wait(until):
                    raise TimeoutError(f"no message has come in {self._session} in time")
            if len(self._messages) >= _MOST_MESSAGES:
                self._condition.notify_all()
            return self._messages.popleft()

    def arrives(self, until: float | None) -> bool:
        """Wait for a message, or for the end; False if neither comes in time."""
        with self._condition:
            while not (self._messages or self.closed):
                if not self._wait(until):
                    return False
        return True

    def _wait(self, until: float | None) -> bool:
        """Wait for news; False if the time is up."""
        left = None if until is None else until - monotonic()
        if left is not None and left <= 0:
            return False
        self._condition.wait(left)
        return True

    def close(self, *, drop: bool = False) -> None:
        """Let no more come; with drop, what is there is gone."""
        with self._condition:
            self.closed = True
            if drop:
                self._messages.clear()
            self._condition.notify_all()

    def refuse(self) -> None:
        """Let no more be put."""
        with self._condition:
            self.refusing = True
            self._condition.notify_all()


class LocalSide(Side):
    """A session in a thread of this process.

    Args:
        dumps: pickles what is sent, both ways; None hands it over as it is.
    """

    def __init__(
        self, dispatcher: Dispatcher, number: int, dumps: Serializer | None, where: Callable[[], str | None]
    ) -> None:
        super().__init__(dispatcher, number, where)
        self.worker, self.pid = f"parapluie-worker-session-{number}", os.getpid()
        self.to_function, self.to_program = Queue(self.name), Queue(self.name)
        self._dumps = dumps
        self._begun = Flag()  # or it will not
        self._over = Flag()  # the function has ended
        self._refused: BaseException | None = None  # why it could not begin
        self._was_called = self._closed = False

    # ---- the start, and the thread ----------------------------------------------------------------------------

    def open(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        try:
            run = self._runner(function, args, kwargs)
            peers = cpu_peers() * self._dispatcher.max_workers
            threading.Thread(target=self._work, args=(run, peers), name=self.worker, daemon=True).start()
        except RuntimeError as error:  # too many threads, or the interpreter is ending
            self.is_gone()
            raise self._init_error(f"a thread could not be started: {error}") from error
        except BaseException:
            self.is_gone()
            raise
        del run, function, args, kwargs
        self._begun.wait()
        if self._refused is not None:
            raise self._refused
        if not self._was_called:
            self.raise_end()

    def _runner(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Callable[[LocalConnection], None]:
        """Return what runs the function, given its connection."""
        if self._dumps is None:
            return partial(self._run, function, args, kwargs)
        try:
            call = self._dumps(session_worker.call_of(function, args, kwargs), None)
        except Exception as error:
            raise self.unsendable(function, args, kwargs, error) from error
        return partial(session_worker.run, call, self._ended_with)

    def _work(self, run: Callable[[LocalConnection], None], peers: int) -> None:
        share_cpus(peers, thread=True)
        try:
            if self._prepare():
                self._dispatcher.worker_started(self.worker)
                run(LocalConnection(self))
        finally:
            del run
            self._over.set()
            self.to_program.close()
            self.to_function.refuse()
            self._begun.set()
            self._dispatcher.worker_ended(self.worker)
            self.is_gone()

    def _run(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        connection: LocalConnection,
    ) -> None:
        connection.begin()
        try:
            self._ended = None, function(connection, *args, **kwargs)
        except BaseException as error:  # noqa: BLE001 - its own failure is its end, SystemExit included
            self._ended = self.noted(error), None

    def _ended_with(self, segment: bytes, buffers: Sequence[memoryview]) -> None:
        self.opened(segment, [bytearray(buffer) for buffer in buffers])

    def _prepare(self) -> bool:
        """Run the initializer, as in each worker; False if it failed."""
        settings = self._dispatcher.settings
        if settings.initializer is None:
            return True
        try:
            settings.initializer(*settings.initargs)
        except BaseException as error:
            logging.getLogger("concurrent.futures").critical("Exception in initializer:", exc_info=True)
            self._refused = self._init_error(f"the initializer raised {describe(error)}")
            self._refused.__cause__ = error
            return False
        return True

    def _init_error(self, why: str) -> BaseException:
        from parapluie.pool_errors import WorkerInitError

        return WorkerInitError(self._dispatcher.backend, why)

    def begin(self) -> None:
        """Note that the function is about to be called."""
        self._was_called = True
        self._begun.set()

    # ---- messages ---------------------------------------------------------------------------------------------

    def send(self, message: Any, until: float | None) -> None:
        if not self.to_function.put(self.packed(message), until):
            self.refuse_to_send(closed=self._closed)

    def packed(self, message: Any) -> Any:
        """Return what is handed over for a message."""
        if self._dumps is None:
            return message
        try:
            return self._dumps(message, None)
        except Exception as error:
            raise self.unsendable_message(message, error) from error

    def unpacked(self, message: Any) -> Any:
        """Return the message for what was handed over; END stays END."""
        if self._dumps is None or message is END:
            return message
        return session_worker.opened(message, self.name)

    def take(self, until: float | None) -> Any:
        message = self.to_program.take(until)
        if message is END:
            self.raise_end()
        return self.unpacked(message)

    def arrives(self, until: float | None) -> bool:
        return self.to_program.arrives(until)

    def close(self) -> None:
        self._closed = True
        self.to_function.close()

    # ---- the end ----------------------------------------------------------------------------------------------

    def await_end(self, until: float | None) -> bool:
        return self._over.wait(until)

    def outcome(self) -> tuple[BaseException | None, Any]:
        self._over.wait()
        assert self._ended is not None
        return self._ended

    def force(self, how: str, why: str) -> bool:
        del why  # a thread cannot be killed
        if how == "kill":
            self.to_function.close(drop=True)
            self.to_program.refuse()
        return self._over.is_set()

    def abandon(self) -> None:
        self.to_function.close()
        self.to_program.refuse()


class LocalConnection(session_worker.RunningConnection):
    """What a session's function is given in a thread of this process."""

    def __init__(self, side: LocalSide) -> None:
        self._side = side

    def begin(self) -> None:
        self._side.begin()

    def send(self, message: Any, *, timeout: float | None = None) -> None:
        side = self._side
        if not side.to_program.put(side.packed(message), until(timeout)):
            raise SessionClosedError(side.name, why="the other side is gone")

    def _take(self, timeout: float | None) -> Any:
        return self._side.unpacked(self._side.to_function.take(until(timeout)))

    def poll(self, timeout: float | None = 0.0) -> bool:
        return self._side.to_function.arrives(until(timeout))

    def __repr__(self) -> str:
        return f"<parapluie.Connection of {self._side.name}>"
