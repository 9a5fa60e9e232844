"""What the dispatcher moves: `Work`, and its common kind, the `Task` behind one future."""

from __future__ import annotations

import concurrent.futures
import pickle
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import InvalidStateError
from time import monotonic, time

from parapluie import call_format
from parapluie.backend import NO_OPTIONS, Begun, Call, CallOptions, Loss
from parapluie.errors import TaskTimeoutError
from parapluie.exits import may_be_the_programs
from parapluie.future import Future
from parapluie.replies import Failure, annotate, open_failure, open_value
from parapluie.words import describe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from parapluie.dispatch import Dispatcher
    from parapluie.observers import Observers
    from parapluie.policies.retry import Attempts, Retry
    from parapluie.sharing.inside import InsideTask

_BODY = call_format.SINGLE.size


class Work:
    """One thing to dispatch: a task, or a part of a chunk. It waits, is in flight, rests between attempts, or is over.

    Attributes:
        id: unique in the dispatcher, for as long as the work lives.
        call_id: of the call that is in flight or was last; 0 before the first.
        sent: set once the backend has taken that call.
        options: the call's.
        mark: set where a backend says itself when a call began.
        overrun: the item and limit for which the call's worker is being killed.
        withdrawn: cancelled while it ran: what is still said of it is dropped.
        inside: where the executor has channels or named objects: its function, that knows them.
    """

    # On the class: there is one of these for each task, and most never differ from this.
    call_id = 0
    sent = False
    withdrawn = False
    mark: Begun | None = None
    overrun: tuple[int, float] | None = None
    inside: InsideTask | None = None

    def __init__(self, dispatcher: Dispatcher, options: CallOptions) -> None:
        self.dispatcher = dispatcher
        self.id = next(dispatcher.numbers)
        self.options = options

    def call(self, call_id: int) -> Call:
        """Make the message of the next attempt."""
        raise NotImplementedError

    def unsent(self) -> None:
        """Take back that an attempt was counted by `call`: the backend did not take it."""

    def belongs_to(self, run: object) -> bool:
        """Say whether the work is part of a `map`'s run."""
        del run
        return False

    def tell_submitted(self, observers: Observers) -> None:
        """Tell observers that it was submitted."""

    def tell_cancelled(self) -> None:
        """Tell observers that it will not run."""

    def named(self, item: int) -> tuple[int | str, int]:
        """Return the id of the task that an item of the call is, and the number of the attempt that runs."""
        raise NotImplementedError

    def open_items(self) -> int:
        """Return how many items are not answered."""
        return 1

    def replied(self, payload: bytes | memoryview, buffers: Sequence[Any]) -> bool:
        """Take a reply; True once every item of the call is answered."""
        raise NotImplementedError

    def replied_here(self, payload: bytes | memoryview) -> bool:
        """Take a reply in the thread that waits for it, if it is of the simplest kind. See `Host.replied_here`."""
        del payload
        return False

    def lost(self, loss: Loss) -> None:
        """Take the news that the call's unanswered items get no reply."""
        raise NotImplementedError

    def returned(self, item: int) -> None:
        """Take back the items from one on, which the call does not run any more."""
        raise NotImplementedError

    def failed(self, error: BaseException) -> None:
        """End with an error that is not the work's own: the executor is broken."""
        raise NotImplementedError

    def cancel(self, *, running: bool = False) -> bool:
        """Withdraw what can be withdrawn; True if nothing of it will run again."""
        raise NotImplementedError

    def running(self) -> bool:
        """Say whether a worker has begun the call."""
        return self.dispatcher.begun(self.call_id) is not None

    def lost_worker(self, loss: Loss) -> str | None:
        """Return the name of a worker that was lost, as `Future.worker` would say it."""
        return loss.worker if loss.pid is None else f"{self.dispatcher.backend}-{loss.pid}"

    def loss_error(self, task_id: int | str | None, loss: Loss, attempt: int) -> BaseException:
        """Make the error that a lost call, or an item of it, ends with."""
        if self.overrun is not None and loss.culprit:
            return TaskTimeoutError(task_id, limit=self.overrun[1], attempt=attempt, backend=self.dispatcher.backend)
        self.dispatcher.ending.prepare_for_failure()
        from parapluie.pool_errors import WorkerLostError

        return WorkerLostError(
            task_id,
            attempt=attempt,
            backend=self.dispatcher.backend,
            worker=loss.worker,
            pid=loss.pid,
            exit_code=loss.exit_code,
            began=loss.began,
            why=loss.why,
            peak_memory=loss.peak_memory,
            dump=loss.dump,
            oom=loss.oom,
        )


class Task(Work):
    """A function, its arguments, the policies that hold for it, and the future that answers it."""

    payload: bytes | None = None  # None where memory is shared: then there is a function
    buffers: Sequence[Any] = ()
    function: tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]] | None = None
    book: Attempts | None = None
    attempts = 0

    def __init__(
        self,
        dispatcher: Dispatcher,
        options: CallOptions = NO_OPTIONS,
        retry: Retry | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(dispatcher, options)
        self.retry = retry
        self.task_id: int | str = self.id if name is None else f"{name}-{self.id}"
        future: Future[Any] = Future()
        future.task_id = self.task_id
        future.belongs_to(self)
        self.future = future

    def call(self, call_id: int) -> Call:
        self.attempts = self.future.attempts = self.attempts + 1
        if self.retry is not None and self.book is None:
            self.book = self.retry.begin()
        self.call_id = call_id
        if self.payload is None:
            return Call(call_id, None, (), self.run_here, 1, None, self.options)
        return Call(call_id, self.payload, self.buffers, None, 1, None, self.options)

    def unsent(self) -> None:
        self.attempts -= 1

    def named(self, item: int) -> tuple[int | str, int]:
        del item
        return self.task_id, self.attempts

    def run_here(self) -> None:
        """Run in this thread, which shares the parent's memory, and answer."""
        call_id = self.call_id
        self.mark = Begun(0, monotonic())
        self.future.ran_in(threading.current_thread().name)
        assert self.function is not None
        function, args, kwargs = self.function
        outcome: Any
        try:
            outcome = function(*args, **kwargs)
        except BaseException as error:
            outcome = Failure(error, raised=True)
            if self.dispatcher.interrupts(error):
                self.dispatcher.answered_here(call_id, self, outcome)
                raise
        del function, args, kwargs
        self.mark = None
        self.dispatcher.answered_here(call_id, self, outcome)

    def captured_payload(self, payload: bytes) -> bytes:
        """Return the payload of a task whose output is captured."""
        self.future.output = ""
        return call_format.CAPTURED + payload

    def captured(self, *call: Any) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
        """Return, of a function, its arguments and keyword arguments, a call that is captured in this process."""
        self.future.output = ""
        return self._capture, call, {}

    def _capture(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a function in this process, and give the future what it prints."""
        from parapluie.output import captured

        with captured(alone=False) as output:
            try:
                return function(*args, **kwargs)
            finally:
                self.future.output = output.text()

    def replied(self, payload: bytes | memoryview, buffers: Sequence[Any]) -> bool:
        pid, _, _, kind, _, _, _, _, _ = call_format.SINGLE.unpack_from(payload)
        self.future.ran_in((self.dispatcher.backend, pid))
        if kind == call_format.VALUE:
            self.settle(open_value(memoryview(payload)[_BODY:], buffers, self.task_id))
        elif kind == call_format.INIT:
            self.attempts -= 1
            self.dispatcher.refused(self, memoryview(payload)[_BODY:])
        elif kind in {call_format.LOGS, call_format.OUTPUT}:
            first, rest = call_format.split_first(payload)
            if kind == call_format.LOGS:
                self.dispatcher.take_logs(self, pid, first)
            else:
                self.future.output = str(first, "utf-8")
            return self.replied(rest, buffers)
        else:
            self.settle(open_failure(kind, memoryview(payload)[_BODY:], self.task_id))
        return True

    def replied_here(self, payload: bytes | memoryview) -> bool:
        pid, _, _, kind, _, _, _, _, _ = call_format.SINGLE.unpack_from(payload)
        if kind != call_format.VALUE or (self.inside is not None and self.inside.holds):
            return False
        try:
            value = pickle.loads(memoryview(payload)[_BODY:])
        except Exception:  # noqa: BLE001 - `replied` tells of it
            return False
        except (SystemExit, GeneratorExit):  # of the result, which `replied` tells of; or of a signal handler
            if _cannot_be_read(payload):
                return False
            raise
        self.future.ran_in((self.dispatcher.backend, pid))
        if not self.future.end_alone(value):
            return False
        self._let_go()
        self.future.belongs_to(None)
        self.dispatcher.finished(self)
        return True

    def settle(self, outcome: Any) -> None:
        """Answer with a value or a `Failure`, or begin another attempt."""
        if type(outcome) is not Failure:
            self.finish(outcome)
            return
        error = outcome.error
        annotate(error, self._note())
        if self.book is not None and outcome.raised and not self.withdrawn:
            delay = self._delay(error)
            if delay is not None:
                self.again(error, delay)
                return
        self.finish_error(error)

    def _delay(self, error: BaseException, *, lost: bool = False, culprit: bool = True) -> float | None:
        """Ask the retry policy; a policy that raises ends the task with what it raised."""
        assert self.book is not None
        try:
            return self.book.failed(error, lost=lost, culprit=culprit)
        except BaseException as problem:  # a user's `on` function may raise anything
            if may_be_the_programs(problem):
                raise
            annotate(error, f"the retry policy itself failed: {describe(problem)}")
            return None

    def _note(self) -> str:
        where = f", worker {self.future.worker}" if self.future.worker else ""
        return f"task {self.task_id}, attempt {self.attempts}{where}"

    def lost(self, loss: Loss) -> None:
        if self.withdrawn:
            self.dispatcher.finished(self)
            return
        if loss.began is False:
            self.attempts -= 1
            self.dispatcher.again(self, None)
            return
        self.dispatcher.count("lost")
        error = self.loss_error(self.task_id, loss, self.attempts)
        self.overrun = None
        delay = None if self.book is None else self._delay(error, lost=True, culprit=loss.culprit)
        if delay is not None:
            self.again(error, delay)
        else:
            self.finish_error(error)

    def again(self, error: BaseException, delay: float) -> None:
        """Have another attempt after an error."""
        del error
        self.dispatcher.again(self, delay)

    def finish(self, value: Any) -> None:
        """Answer the future with a value."""
        future = self.future
        if self.inside is not None:
            self.inside.ended(None)
        self._let_go()
        try:
            future.set_result(value)
        except InvalidStateError:  # it was cancelled, or the executor broke, meanwhile
            return
        finally:
            future.belongs_to(None)
            del future, value
            self.dispatcher.finished(self)

    def finish_error(self, error: BaseException) -> None:
        """Answer the future with an error, and a note of how much was tried."""
        if self.attempts > 1:
            seconds = monotonic() - (self.book.started if self.book else monotonic())
            annotate(error, f"{self._note()}; gave up after {self.attempts} attempts in {seconds:.2f} seconds")
        self.dispatcher.count("failed")
        self.failed(error)

    def failed(self, error: BaseException) -> None:
        future = self.future
        if self.inside is not None:
            self.inside.ended(error)
        self._let_go()
        try:
            future.set_exception(error)
        except InvalidStateError:
            return
        finally:
            future.belongs_to(None)
            del future, error
            self.dispatcher.finished(self)

    def _let_go(self) -> None:
        """Let go of the arguments, which the future's callbacks need not find alive.

        The future stays tied to its task until it has its result, or else it could be cancelled just before that.
        """
        self.function = self.payload = None
        self.buffers = ()

    def refused(self, error: BaseException) -> None:
        """Take note that it was not taken, so that its future is nobody's."""
        if self.inside is not None:
            self.inside.ended(error)

    def cancel(self, *, running: bool = False) -> bool:
        future = self.future
        if not self.dispatcher.withdrawal.withdraw(self, running=running):
            return False
        if not concurrent.futures.Future.cancel(future):
            return future.cancelled()
        if self.inside is not None:
            self.inside.ended(concurrent.futures.CancelledError("it was cancelled"))
        self._let_go()
        future.belongs_to(None)
        future.set_running_or_notify_cancel()  # tells those who `wait`
        self.dispatcher.count("cancelled")
        self.tell_cancelled()
        self.dispatcher.finished(self)
        return True


def since_epoch(at: float | None) -> float | None:
    """Turn a time of `time.monotonic` into seconds since the epoch."""
    return None if at is None else time() - (monotonic() - at)


# Where what is submitted is not made. The conformance kit is a user like others, and runs tasks of its own.
_NOT_CALLERS = ("parapluie.", "concurrent.futures")


def submitted_at() -> str | None:
    """Return the place, as `file:line`, of the nearest caller that is not part of this package or of the standard's."""
    frame = sys._getframe(1)  # noqa: SLF001 - public in all but name
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if not name.startswith(_NOT_CALLERS) or name.startswith("parapluie.testing."):
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        if frame.f_back is None:
            return None
        frame = frame.f_back
    return None


def _cannot_be_read(payload: bytes | memoryview) -> bool:
    try:
        pickle.loads(memoryview(payload)[_BODY:])
    except (Exception, SystemExit, GeneratorExit):  # noqa: BLE001 - it is read again, in a guard
        return True
    return False
