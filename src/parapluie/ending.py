"""The end of an executor, in whatever way it comes: it is closed, the interpreter exits, or its engine breaks.

    shutdown, last face gone, exit ─▶ close ─┬─ drain: what is open ends by itself ─┐
                                             ├─ cancel: so does what has begun ─────┤ when nothing is open
                                             └─ hurry: cancel, and at once ─────────┤
    engine gone, no worker starts ─▶ broken ─── what is open ends with the error ───┤
                                                                                    ▼
        closed ◀─ what is left ends with an error ◀─ Backend.stop ◀─ clock ─ _request_stop, once

However it ends, no future stays pending. An executor that nobody holds any more ends as well, and not before its work
does: `_live` keeps what is behind it.
"""

from __future__ import annotations

import atexit
import logging
import multiprocessing.util  # noqa: F401 - see the end of this file
import os
import sys
import threading
import time
from contextlib import suppress
from importlib import import_module

from parapluie import main_guard, stdlib_private
from parapluie.backend import Stop
from parapluie.condition import LOOK_SECONDS
from parapluie.errors import MissingMainGuardError
from parapluie.words import describe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from parapluie.dispatch import Dispatcher
    from parapluie.work import Work

_log = logging.getLogger("parapluie")
_START_TRIES = 3  # failed starts of workers in a row, until the executor is broken
_SETTLED_SECONDS = 0.5  # after which what only failures need is imported
_live: set[Ending] = set()  # until they are closed; keeps them alive when their executors are collected


class Ending:
    """Ends what a dispatcher has taken on, and its backend: once, whoever asks for it, and how often.

    Args:
        works, queued: the dispatcher's own containers, of all that is open and of what waits or rests.

    Thread safety: all methods, from any thread, which may be interrupted at any line.
    """

    def __init__(self, dispatcher: Dispatcher, works: dict[int, Work], queued: dict[int, Work]) -> None:
        self.stop_once = threading.Lock()  # taken, for ever, by who stops the engine
        self.engine_started = False
        self._dispatcher, self._backend, self._engine = dispatcher, dispatcher.backend, dispatcher.engine
        self._clock, self._grace = dispatcher.clock, dispatcher.shutdown.grace
        self._open, self._queued, self._maps = works, queued, dispatcher.maps
        self._kept: list[int] = []  # see `prepare_for_failure`
        self._closed = threading.Event()
        self._failed_starts = 0
        self._counting = threading.Lock()  # guards _failed_starts; held for one addition
        self._owner = os.getpid()
        _live.add(self)

    def expect(self) -> None:
        """Get ready for the end, before the engine is started: for the interpreter's exit, and for a failure."""
        stdlib_private.before_threads_end(_close_all)
        if "parapluie.pool_errors" not in sys.modules:
            self._kept.append(os.open(os.devnull, os.O_RDONLY))
            if self._clock is not None:
                self._clock.at(time.monotonic() + _SETTLED_SECONDS, self.prepare_for_failure)

    def engine_began(self) -> None:
        """Note that the engine has taken its first call.

        By now its library has registered what is to end it at exit, and that is not to come before ours.
        """
        stdlib_private.before_threads_end(_close_all)

    def over(self) -> bool:
        """Say whether everything has ended, so that no answer comes any more."""
        return self._closed.is_set()

    # ---- closing ----------------------------------------------------------------------------------------------

    def close(self, *, wait: bool = True, cancel: bool = False, hurry: bool = False) -> None:
        """Shut down: drain or cancel, then stop the engine.

        Args:
            wait: return when everything has ended.
            cancel: cancel what has not begun; what runs is awaited.
            hurry: what runs gets the grace period only.
        """
        if self._owner != os.getpid():
            return  # a forked child holds a copy: the workers are not its own
        try:
            self._begin_close(wait=wait, cancel=cancel, hurry=hurry)
            if wait:
                self._wait_closed()
        except BaseException:  # Ctrl-C while it closes
            kill = hurry or self.stop_once.locked()
            while not self._closed.is_set():
                try:
                    self._hurry_up(kill=kill)
                    self._wait_closed()
                    break
                except KeyboardInterrupt:  # the second one, wherever it came
                    kill = True
            raise

    def close_soon(self) -> None:
        """Shut down without waiting, from a finalizer: nothing here may run in it."""
        if self._clock is None:
            self.close(wait=False)
        else:
            self._clock.post(lambda: self.close(wait=False))

    def _begin_close(self, *, wait: bool, cancel: bool, hurry: bool) -> None:
        self._dispatcher.closing = True
        for side in list(self._dispatcher.sessions.values()):
            side.close()
        if cancel or hurry:
            self._cancel_all()
        for run in list(self._maps.values()):
            run.drain(wait=wait)
        self._dispatcher.last_call()
        if hurry:
            self._request_stop(Stop(self._grace))
        else:
            self.check_drained()

    def _hurry_up(self, *, kill: bool) -> None:
        """Cancel what waits and grant the grace period to what runs; with kill, not even that."""
        self._cancel_all()
        stop = Stop(0.0 if kill else self._grace, kill=kill)
        if not self._request_stop(stop) and kill:
            self._end_sessions(stop)
            self._engine.stop(stop)

    def _cancel_all(self) -> None:
        for run in list(self._maps.values()):
            run.cancel()
        for work in reversed(list(self._open.values())):
            work.cancel()

    def _wait_closed(self) -> None:
        if self._clock is None or threading.current_thread() is not self._clock.thread:
            while not self._closed.wait(LOOK_SECONDS):  # as `Condition` waits
                continue

    # ---- stopping the engine ----------------------------------------------------------------------------------

    def check_drained(self) -> None:
        """Have the engine stopped if nothing is open. Asked while it closes, whenever something ended."""
        if not self._open and not self._maps:
            self._request_stop(Stop(self._grace))

    def _request_stop(self, stop: Stop) -> bool:
        """Have the engine stopped; False if that was asked for already."""
        if not self.stop_once.acquire(blocking=False):
            return False
        self._dispatcher.closing = True
        if self._clock is None:
            self._stop(stop)
        else:
            self._clock.post(self._stop, stop)
        return True

    def _stop(self, stop: Stop) -> None:
        dispatcher = self._dispatcher
        self._end_sessions(stop)
        try:
            if self.engine_started:
                self._engine.stop(stop)
        except Exception as error:  # noqa: BLE001 - whatever it raises, what is pending must end now
            _log.exception("parapluie: backend %r failed to stop", self._backend)
            dispatcher.error = dispatcher.error or self.broke(f"could not stop: {error!r}")
        for work in list(self._open.values()):
            if dispatcher.error is None and work.id in self._queued and work.cancel():
                continue  # it came back while the engine was being stopped, as one that had not begun
            self._queued.pop(work.id, None)
            work.failed(dispatcher.error or self.broke("stopped before the task could run"))
        dispatcher.close_shared()
        self._let_go_of_kept()
        _live.discard(self)
        self._closed.set()
        if self._clock is not None:
            self._clock.stop()

    def _end_sessions(self, stop: Stop) -> None:
        sides = list(self._dispatcher.sessions.values())
        if sides:
            from parapluie.sharing.session_side import end_sessions

            end_sessions(sides, stop, "at shutdown")

    # ---- breaking ---------------------------------------------------------------------------------------------

    def broken(self, error: BaseException) -> None:
        """End everything with an error, since the engine is gone."""
        self.prepare_for_failure()
        from parapluie.pool_errors import BackendBrokenError, WorkerInitError

        # A missing guard stays as it is, since it says all that there is to know.
        if not isinstance(error, BackendBrokenError | WorkerInitError | MissingMainGuardError):
            cause, error = error, self.broke(f"backend {self._backend!r} broke: {describe(error)}")
            error.__cause__ = cause
        dispatcher = self._dispatcher
        if dispatcher.error is None:
            dispatcher.error = error
            if isinstance(error, MissingMainGuardError):
                main_guard.say_at_exit(error)
        for run in list(self._maps.values()):
            run.broken(dispatcher.error)
        for work in list(self._open.values()):
            self._queued.pop(work.id, None)
            work.failed(dispatcher.error)
        self._request_stop(Stop(self._grace, kill=True))

    def started(self) -> None:
        """Note that a worker is ready."""
        self._failed_starts = 0

    def start_failed(self, why: str, cause: BaseException | None) -> None:
        """Note that a worker ended before it was ready; too many in a row end everything.

        A missing main guard does so at once: every other worker would find it missing, too.
        """
        if isinstance(cause, MissingMainGuardError):
            self.broken(cause)
            return
        with self._counting:
            self._failed_starts += 1
            tries = self._failed_starts
        if tries >= _START_TRIES:
            self.cannot_start(why, cause, tries)

    def cannot_start(self, why: str, cause: BaseException | None, tries: int) -> None:
        """End everything, since no worker starts: so many tries in a row have failed."""
        self.prepare_for_failure()
        from parapluie.pool_errors import WorkerInitError

        error = WorkerInitError(self._backend, why, tries=tries)
        error.__cause__ = cause
        if getattr(sys, "frozen", False):
            from parapluie import frozen

            error.add_note(frozen.HINT)
        self.broken(error)

    def broke(self, what: str) -> BaseException:
        """Make the error that says that the engine broke."""
        self.prepare_for_failure()
        from parapluie.pool_errors import BackendBrokenError

        return BackendBrokenError(what, backend=self._backend)

    def prepare_for_failure(self) -> None:
        """Import pool_errors.py, for which a descriptor was kept: a failure may be that there are none left.

        It takes a fifth of the time until a small program has its first result. So it comes after that, or with the
        first failure, whichever is sooner.
        """
        self._let_go_of_kept()
        import_module("parapluie.pool_errors")

    def _let_go_of_kept(self) -> None:
        with suppress(IndexError):  # another thread may be at it
            os.close(self._kept.pop())


# ---- the interpreter's exit -----------------------------------------------------------------------------------


def _close_all() -> None:
    """Wait at interpreter exit for what was submitted, as the standard executors do."""
    for ending in list(_live):
        ending.close(wait=True)


atexit.register(_close_all)  # after that of multiprocessing.util, so that it runs before that ends what is left
