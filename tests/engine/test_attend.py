"""Answers that are taken in the thread that waits for them, whatever happens to that thread meanwhile."""

from __future__ import annotations

import random
import signal
import sys
import threading
import traceback
from contextlib import suppress

import fault_help
import fault_tasks as tasks
import pytest
from fault_help import outcome, posix, process_methods, process_only, until
from fault_tasks import SECONDS

from parapluie import ResultUnpicklingError, WorkerLostError
from parapluie.backends.process import attend
from parapluie.testing import hostile

faults = fault_help.faults
FILE = attend.__file__
chance = random.Random(3)  # noqa: S311 - it hides nothing


def attended(executor):
    """Have the engine let callers attend, as it does soon after the first of them would."""
    for number in range(200):
        assert executor.submit(tasks.square, number).result(SECONDS) == number * number
    return executor


class Alarm(KeyboardInterrupt):
    """Raised like Ctrl-C, by a timer."""


class Alarms:
    """A timer that interrupts the main thread: what is to be done then is called with the frame."""

    def __init__(self, action):
        self._action, self._left, self._pause = action, 0, 0.0

    def __enter__(self):
        self._tell_unraisable = sys.unraisablehook
        sys.unraisablehook = self._unraisable
        self._before = signal.signal(signal.SIGALRM, self._ring)
        return self

    def __exit__(self, *_):
        self.stop()
        signal.signal(signal.SIGALRM, self._before)
        sys.unraisablehook = self._tell_unraisable

    def _unraisable(self, what):
        """Pass over an alarm that came in a finalizer: Python itself swallows it, and says so.

        pytest would note it down, and not bear that the next alarm comes while it does.
        """
        if not isinstance(what.exc_value, Alarm):
            self._tell_unraisable(what)

    def after(self, seconds, *, again=None):
        """Ring once, after so many seconds; with again, once more, so many seconds after that.

        Never by a timer that goes on by itself: where its handler takes longer to begin, nothing else ever runs.
        """
        self._left, self._pause = 1 if again is None else 2, again or 0.0
        signal.setitimer(signal.ITIMER_REAL, seconds)

    def stop(self):
        self._left = 0  # the signal may be on its way, through another thread
        signal.setitimer(signal.ITIMER_REAL, 0)

    def _ring(self, _signum, frame):
        if self._left and frame.f_code.co_filename != __file__:  # here it would cut off what is to see to another one
            self._left -= 1
            if self._left:
                signal.setitimer(signal.ITIMER_REAL, self._pause)
            self._action(frame)


def raise_alarm(_frame):
    raise Alarm


def result_despite_alarms(future, alarms, seconds, again=None):
    """Wait for a result and be interrupted; return the alarms that came."""
    came = []
    try:
        try:
            alarms.after(seconds, again=again)
            future.result(SECONDS)
        finally:
            alarms.stop()
    except (Alarm, RuntimeError) as alarm:  # a second one may cut off what the first one left to be done
        came.append(alarm)
        while (alarm := alarm.__context__) is not None:
            came.append(alarm)
    return [alarm for alarm in came if isinstance(alarm, Alarm)]


def inside(alarm):
    """Say whether an alarm came while its thread attended."""
    return any(frame.f_code.co_filename == FILE for frame, _ in traceback.walk_tb(alarm.__traceback__))


@posix
@process_methods
def test_interrupted_caller_loses_no_answer(faults, row):
    """Ctrl-C may come at any instruction: the future has its value afterwards, and so have those that follow."""
    executor = attended(faults.make(row, 1))
    count, number = 0, 200
    with Alarms(raise_alarm) as alarms:
        while count < 150:
            future = executor.submit(tasks.square, number)
            count += any(map(inside, result_despite_alarms(future, alarms, chance.uniform(2e-6, 6e-5))))
            assert future.result(SECONDS) == number * number
            number += 1
    # The collector does again what the last alarm has cut off, the figures included, when the future has long ended.
    assert until(lambda: (executor.stats().done, executor.stats().running) == (number, 0))


@posix
@process_only
def test_second_interrupt_loses_no_answer_either(faults, row):
    """Two interrupts a moment apart, so that some second ones come where the first one is being seen to."""
    executor = attended(faults.make(row, 1))
    count = number = 0
    with Alarms(raise_alarm) as alarms:
        while count < 20:
            future = executor.submit(tasks.square, number)
            came = result_despite_alarms(future, alarms, chance.uniform(2e-6, 6e-5), again=chance.uniform(1e-6, 2e-5))
            count += len(came) == 2 and inside(came[0])
            assert future.result(SECONDS) == number * number
            number += 1


class InterruptedLock:
    """The lock of an attendance, in front of which two interrupts come where a caller ends to attend."""

    def __init__(self, attendance):
        self._attendance, self._lock, self.left = attendance, attendance._lock, 2

    def __enter__(self):
        attends = self._attendance._attended is not None  # who does not attend comes by there, too
        if self.left and attends and sys._getframe(1).f_code.co_name == "_end":
            self.left -= 1
            raise Alarm
        self._lock.acquire()

    def __exit__(self, *_):
        self._lock.release()


@process_only
def test_caller_who_does_not_come_to_the_end_of_it_is_relieved(faults, row):
    executor = attended(faults.make(row, 1))
    attendance = executor._dispatcher.engine._attendance
    attendance._lock = lock = InterruptedLock(attendance)
    number = 0
    while lock.left:  # not every caller attends
        future = executor.submit(tasks.square, number)
        with suppress(Alarm):
            future.result(SECONDS)
        assert future.result(SECONDS) == number * number
        number += 1
    assert executor.submit(tasks.square, 9).result(SECONDS) == 81


@posix
@process_only
def test_signal_handler_may_wait_for_a_task_while_its_thread_attends(faults, row):
    """It waits for the same worker, whose pipe the interrupted caller looks at."""
    executor = attended(faults.make(row, 1))
    waited = []

    def wait_for_another(frame):
        if frame.f_code.co_name == "arrives":
            assert executor.submit(tasks.square, 9).result(SECONDS) == 81
            waited.append(True)

    with Alarms(wait_for_another) as alarms:
        while len(waited) < 5:
            future = executor.submit(tasks.square, 7)
            alarms.after(chance.uniform(1e-6, 3e-5))
            assert future.result(SECONDS) == 49
            alarms.stop()


@posix
@process_only
def test_signal_handler_may_leave_the_program_while_its_thread_reads_an_answer(faults, row):
    """What a handler raises is the caller's, and not taken for something that the result does."""
    executor = attended(faults.make(row, 1))
    left = 0

    def leave(frame):
        raise SystemExit

    with Alarms(leave) as alarms:
        for number in range(100):
            future = executor.submit(tasks.square, number)
            try:
                alarms.after(chance.uniform(2e-6, 3e-5))
                future.result(SECONDS)
            except SystemExit:
                left += 1
            finally:
                alarms.stop()
            assert future.result(SECONDS) == number * number
    assert left > 10


@process_methods
def test_worker_that_dies_at_an_attended_task_is_told_of(faults, row):
    executor = attended(faults.make(row, 2))
    for number in range(5):
        error = outcome(executor.submit(tasks.end_process, "killed"))
        assert isinstance(error, WorkerLostError) and error.exit_code
        assert executor.submit(tasks.square, number).result(SECONDS) == number * number


@process_only
def test_answers_that_are_not_plain_values_are_told_as_ever(faults, row):
    executor = attended(faults.make(row, 1))
    with pytest.raises(ZeroDivisionError):
        executor.submit(tasks.divide, 1, 0).result(SECONDS)
    assert isinstance(executor.submit(tasks.divide, 1, 0).exception(SECONDS), ZeroDivisionError)
    for _ in range(5):
        attended(executor)
        future = executor.submit(hostile.return_hostile, "read back", "exit")
        assert isinstance(future.exception(SECONDS), ResultUnpicklingError)
    large = bytes(1_000_000)
    assert executor.submit(tasks.itself, large).result(SECONDS) == large
    assert executor.submit(tasks.itself, None).result(SECONDS) is None
    assert executor.submit(tasks.itself, 5).exception(SECONDS) is None


@process_only
def test_callbacks_and_other_waiters_hear_of_an_attended_answer(faults, row):
    executor = attended(faults.make(row, 1))
    for number in range(50):
        called, waited = threading.Event(), []
        future = executor.submit(tasks.square, number)
        thread = threading.Thread(target=lambda future=future, waited=waited: waited.append(future.result(SECONDS)))
        thread.start()
        future.add_done_callback(lambda _, called=called: called.set())
        assert future.result(SECONDS) == number * number
        assert called.wait(SECONDS)
        thread.join(SECONDS)
        assert waited == [number * number]


@process_only
def test_many_threads_wait_at_once(faults, row):
    executor = attended(faults.make(row, 2))
    wrong = []

    def ask(first):
        numbers = range(first, first + 300)
        wrong.extend(n for n in numbers if executor.submit(tasks.square, n).result(SECONDS) != n * n)

    threads = [threading.Thread(target=ask, args=(1000 * one,)) for one in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert wrong == [] and not any(thread.is_alive() for thread in threads)


@process_only
def test_waiting_tasks_are_dispatched_while_somebody_attends(faults, row):
    """What waits for room gets it although the answer that makes room was not taken by the engine's own thread."""
    executor = attended(faults.make(row, 1))
    for _ in range(20):
        first = executor.submit(tasks.square, 3)
        rest = [executor.submit(tasks.square, number) for number in range(20)]
        assert first.result(SECONDS) == 9
        assert [future.result(SECONDS) for future in rest] == [number * number for number in range(20)]
