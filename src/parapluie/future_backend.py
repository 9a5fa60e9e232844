"""The base of backends for engines that hand out futures; plugin authors import it from `parapluie.backend`.

    dispatch ── submit ──▶ engine ──▶ worker: parapluie.worker.run(payload, buffers, select, bootstrap)
    host ◀── answering thread ◀── queue ◀── callbacks of the engine's futures
    revoke ── cancel ──▶ engine

An engine calls back where it likes: in the thread that cancels, within `submit`, or under a lock of its own, as
ProcessPoolExecutor does when it breaks. So a callback only puts the call into a queue, and a thread of ours tells the
host, which may submit again, and runs the callbacks of users.

To answer a call, or to withdraw it, is to claim it first; so each gets one answer. It stays known until the host has
that, or else `revoke` would take it for one that never ran.
"""

from __future__ import annotations

import logging
import threading
from abc import abstractmethod
from functools import partial
from queue import SimpleQueue
from time import monotonic, sleep

from parapluie import call_format, worker
from parapluie.backend import Backend, Loss
from parapluie.main_guard import check_main_guard
from parapluie.words import describe, type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, ClassVar, Protocol, TypeGuard

    from parapluie.backend import Buffers, Call, Host, Stop

    class FutureLike(Protocol):
        """What `FutureBackend` needs of an engine's future."""

        def cancel(self) -> bool: ...
        def cancelled(self) -> bool: ...
        def exception(self) -> BaseException | None: ...
        def result(self) -> Any: ...
        def add_done_callback(self, fn: Callable[[Any], object], /) -> None: ...


_log = logging.getLogger("parapluie")
_LOOK_SECONDS = 0.005  # between looks at what is rarely met; Ctrl-C could leave a lock held
_AWAY_SECONDS = 0.5  # that the answering thread has to come back from the host


class FutureBackend(Backend):
    """The base of backends for engines that hand out futures. Implement `submit`, `shut_down`, and `start` if needed.

        class LibraryBackend(FutureBackend):
            def start(self, host):
                super().start(host)
                self.engine = library.Executor(host.max_workers)

            def submit(self, function, /, *args):
                return self.engine.submit(function, *args)

            def shut_down(self, *, kill):
                self.engine.shutdown(kill_workers=kill)

    At most `ahead × max_workers` calls are with the engine at a time; the rest wait in the executor, where they can
    be cancelled for certain. More than one for each worker saves the time until the next call arrives, where the
    engine's futures can be cancelled until their calls begin; in a ProcessPoolExecutor they cannot.
    Workers have to have memory of their own, or be content with copies.
    """

    ahead: ClassVar[int] = 1

    def start(self, host: Host) -> None:
        check_main_guard()
        self.host = host
        self._room = self.ahead * host.max_workers
        self._flights: dict[int, _Flight] = {}  # by call id, until the host has the answer
        self._incidents = 0  # how often calls came back that had not begun, in a bunch or alone
        self._sending = False
        self._stopping = self._stopped = False
        self._answers: SimpleQueue[_Flight | None] = SimpleQueue()
        self._away = False  # the answering thread is with the host, and so perhaps in a callback of a user's
        self._thread: threading.Thread | None = None  # started with the first call

    # ---- what an engine's backend says ------------------------------------------------------------------------

    @abstractmethod
    def submit(self, function: Callable[..., Any], /, *args: Any) -> FutureLike:
        """Have the engine call function(*args) in a worker and return its future. Return at once.

        They are `parapluie.worker.run` and its arguments: payload, buffers, select and bootstrap; an engine with a
        store of its own may put large buffers there. Never called twice at a time, nor after `shut_down`.

        An engine that has broken may be replaced here. Raise if the engine does not take the call: then it waits for
        an answer to others, or is tried again, and after a bounded number of tries in a row the executor is broken.
        Where the engine may have taken it all the same, return a future that failed.
        """

    def shut_down(self, *, kill: bool) -> None:
        """End the engine's workers and return when they are gone. What it has not answered then is lost.

        Args:
            kill: end what runs as well, if the engine can. Otherwise nothing runs any more.

        Called by `stop`, perhaps again, and with kill while an earlier call still waits. Any thread.
        """
        raise NotImplementedError(f"{type(self).__name__} has no shut_down")

    def loss(self, error: BaseException) -> Loss:
        """Say what an exception of the engine's own means for the call; overridden by engines that know more."""
        return Loss(began=None, why=f"the engine answered {describe(error)}")

    # ---- calls on their way out -------------------------------------------------------------------------------

    def dispatch(self, calls: Sequence[Call], /) -> int:
        self._start_thread()
        taken = 0
        for call in calls:
            if self._stopping or len(self._flights) >= self._room or not self._send(call):
                break
            taken += 1
        return taken

    def _start_thread(self) -> None:
        if self._thread is None:
            name = f"parapluie-{self.host.backend}-answers"
            thread = threading.Thread(target=self._answer_all, name=name, daemon=True)
            thread.start()
            self._thread = thread

    def _send(self, call: Call) -> bool:
        flight = _Flight(call.id, self._incidents)
        self._sending = True
        try:
            self._flights[call.id] = flight
            future = self.submit(worker.run, call.payload, call.buffers, call.select, self.host.bootstrap)
            flight.future = future
            self._follow(flight, future)
        except Exception as error:  # noqa: BLE001 - an engine may raise anything
            return self._refused(flight, error)
        except BaseException as error:  # Ctrl-C in the midst of it
            self._interrupted(flight, error)
            raise
        finally:
            self._sending = False
        if self._stopped:  # meanwhile: nobody looks for it any more
            self._lose(flight)
        return True

    def _follow(self, flight: _Flight, future: FutureLike) -> None:
        try:
            future.add_done_callback(partial(self._done, flight))
        except Exception as error:  # noqa: BLE001 - its end will not be known; but the engine has the call
            why = f"the engine's future takes no callback: {describe(error)}"
            self._answer(flight, Loss(began=None, why=why))

    def _refused(self, flight: _Flight, error: Exception) -> bool:
        """Leave a call that the engine did not take to others, which are with it; without others the host decides."""
        if not flight.claim():
            return True  # it was lost by `stop`
        why = f"the engine took no call: {describe(error)}"
        if any(other is not flight for other in list(self._flights.values())):
            del self._flights[flight.call_id]
            return False  # room is announced when one of them is answered
        self._tell(flight, Loss(began=False, why=why), error)
        return True

    def _interrupted(self, flight: _Flight, error: BaseException) -> None:
        """Sort out a call whose sending was interrupted: the engine may have it."""
        if flight.future is not None:
            self._follow(flight, flight.future)
        else:
            why = f"{type(error).__name__} came while the engine was given the call"
            self._answer(flight, Loss(began=None, why=why))

    # ---- answers ----------------------------------------------------------------------------------------------

    def _done(self, flight: _Flight, future: FutureLike) -> None:
        """Note that a future has ended. Called by the engine, in any thread, under any lock, perhaps twice."""
        del future
        flight.done = True
        self._answers.put(flight)

    def _answer_all(self) -> None:
        while (flight := self._answers.get()) is not None:
            self._away = True
            try:
                self._settle(flight)
                self._make_room()
            except BaseException:  # noqa: BLE001 - a user's callback may even exit; this thread answers all others
                _log.exception("parapluie: the thread that answers for backend %r goes on after", self.host.backend)
            finally:
                self._away = False

    def _make_room(self) -> None:
        free = self._room - len(self._flights)
        if free > 0 and not self._stopping:
            self.host.room(free)

    def _settle(self, flight: _Flight) -> None:
        """Answer a call whose future has ended, unless that was done, or it is being withdrawn just now."""
        future = flight.future
        if future is not None and flight.claim():
            try:
                self._tell(flight, self._outcome(future))
            finally:
                flight.future = None  # a cycle, with the result in it

    def _lose(self, flight: _Flight) -> None:
        """Answer a call at the end: with what its future says, if it has ended."""
        if flight.done:
            self._settle(flight)
        else:
            self._answer(flight, Loss(began=None, why="the engine was stopped before it answered"))

    def _answer(self, flight: _Flight, outcome: Loss) -> None:
        if flight.claim():
            self._tell(flight, outcome)

    def _outcome(self, future: FutureLike) -> Loss | tuple[Any, Buffers]:
        """Read a future that has ended: what `run` returned, or what became of the call instead."""
        try:
            if future.cancelled():
                return Loss(began=False, why="the engine cancelled it")
            error = future.exception()
            if error is not None:
                return self.loss(error)
            result = future.result()
        except BaseException as problem:  # noqa: BLE001 - whatever an engine's future raises is about this call
            return Loss(began=None, why=f"the engine's future raised {describe(problem)}")
        if _is_reply(result):
            return result
        found = f"{type_name(result)} object"
        return Loss(began=None, why=f"the engine answered with a {found}, which is not what the call returns")

    def _tell(self, flight: _Flight, outcome: Loss | tuple[Any, Buffers], cause: BaseException | None = None) -> None:
        """Give the host the answer to a call that was claimed."""
        try:
            if not isinstance(outcome, Loss):
                payload, buffers = outcome
                if not call_format.refuses(payload):
                    self.host.started()
                self.host.replied(flight.call_id, payload, buffers)
                return
            if outcome.began is False and flight.incident == self._incidents and not self._stopping:
                self._incidents += 1  # those that the engine ended with it are not counted again
                self.host.start_failed(outcome.why, cause)
            self.host.lost(flight.call_id, outcome)
        finally:
            self._flights.pop(flight.call_id, None)

    # ---- the way back and the end -----------------------------------------------------------------------------

    def revoke(self, call_id: int, *, running: bool = False, item: int | None = None) -> bool:
        del running, item  # a future that runs cannot be cancelled
        flight = self._flights.get(call_id)
        if flight is None:
            return True
        future = flight.future
        if future is None or not flight.claim():
            return False  # it is on its way, out or back
        withdrawn = False
        try:
            withdrawn = bool(future.cancel())
        except Exception:  # noqa: BLE001 - whatever an engine raises: the call's answer is to be awaited
            _log.exception("parapluie: backend %r could not cancel call %d", self.host.backend, call_id)
        finally:
            if withdrawn:
                self._flights.pop(call_id, None)
                flight.future = None
            else:
                flight.release()
                if flight.done:  # it ended meanwhile, and was found claimed
                    self._answers.put(flight)
        return withdrawn

    def stop(self, stop: Stop) -> None:
        """End the engine, once what runs has ended, or the grace period has."""
        self._stopping = True
        deadline = monotonic() + stop.grace
        while self._sending and monotonic() < deadline:
            sleep(_LOOK_SECONDS)
        while not stop.kill and self._unanswered() and monotonic() < deadline:
            sleep(_LOOK_SECONDS)
        running = len(self._unanswered())
        if running and not stop.kill:
            _log.warning(
                "parapluie: backend %r did not stop within %g seconds: %d calls still running; ended",
                self.host.backend, stop.grace, running,
            )  # fmt: skip
        try:
            self.shut_down(kill=stop.kill or running > 0)
        finally:
            self._stopped = True
            for flight in list(self._flights.values()):
                self._lose(flight)
            self._end_thread()

    def _unanswered(self) -> list[_Flight]:
        # Not those whose answer is being told: a callback of a user's may be waiting for this very end.
        return [flight for flight in list(self._flights.values()) if not flight.claimed]

    def _end_thread(self) -> None:
        """End the answering thread, but do not wait for a user's callback, which may be waiting for this very end."""
        thread = self._thread
        if thread is None:
            return
        self._answers.put(None)
        deadline = monotonic() + _AWAY_SECONDS
        while thread.is_alive() and not (self._away and monotonic() >= deadline):
            if thread is threading.current_thread():
                return
            thread.join(_LOOK_SECONDS)


def _is_reply(result: object) -> TypeGuard[tuple[Any, Buffers]]:
    match result:
        case (bytes() | bytearray() | memoryview(), tuple() | list()):
            return True
    return False


class _Flight:
    """A call that is with the engine.

    Attributes:
        future: the engine's; None while it is being submitted, and again when it is answered.
        incident: the number of the incident that the call would be a part of, if it came back.
        done: the future has ended.
    """

    __slots__ = ("_free", "call_id", "done", "future", "incident")

    def __init__(self, call_id: int, incident: int) -> None:
        self.call_id, self.incident = call_id, incident
        self.future: FutureLike | None = None
        self.done = False
        self._free: list[None] = [None]  # a list, since to pop from it is atomic, and waits for nobody

    def claim(self) -> bool:
        """Return True to the one caller that may answer or withdraw the call."""
        try:
            self._free.pop()
        except IndexError:
            return False
        return True

    def release(self) -> None:
        """Give back the claim: the call could not be withdrawn."""
        self._free.append(None)

    @property
    def claimed(self) -> bool:
        return not self._free
