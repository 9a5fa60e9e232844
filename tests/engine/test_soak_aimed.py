"""Kills that land on purpose: at every line of a worker's loop, in the middle of a frame, in a full batch, and while a
task is being withdrawn. Exactly the task that ran is lost; every other one is answered; nothing runs twice.

What brings them there is real: a task that ends its own process, in a place that it has watched for; a callback that
holds the collector, so that a pipe stays full; a worker that is stopped. One worker, so that all calls are its own.
"""

from __future__ import annotations

import itertools
import os
import select
import signal
import threading
import time
from concurrent.futures import CancelledError
from contextlib import contextmanager
from functools import partial

import pytest
import soak_tasks as tasks
from soak_tasks import KINDS, SECONDS
from soak_watch import (
    Defects,
    Door,
    Journal,
    Leftovers,
    await_death,
    describe,
    kill,
    living,
    outcomes_of,
    state_of,
    until,
)

from parapluie import Executor, ResultPicklingError, Retry, WorkerLostError

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="the kills of these tests are made for Linux"),
    pytest.mark.parametrize("backend", ["process"]),
]

LARGE = 8 << 20  # more than a pipe takes


class Bench:
    """An executor with one worker, a door, and the log; numbers for tasks."""

    def __init__(self, backend, folder, **settings):
        self.journal, self.door = Journal(folder), Door()
        settings = {"start_method": "fork", "max_workers": 1, **settings}
        self.executor = Executor(backend, initializer=tasks.open_log, initargs=(str(folder),), **settings)
        self.submit = self.executor.submit
        self.lent = 0
        self._numbers = iter(range(1, 1_000_000))
        self._held = []

    def number(self):
        return next(self._numbers)

    def warm(self):
        """Let the engine learn that tasks are short, so that it gives many ahead."""
        assert outcomes_of([self.submit(abs, -number) for number in range(40)]) == list(range(40))

    def some(self, count, padding=None):
        """Submit ordinary tasks; return their futures by number."""
        numbers = [self.number() for _ in range(count)]
        return {number: self.submit(tasks.work, number * KINDS, padding) for number in numbers}

    def hold(self):
        """Submit a task that waits at the door; return it by number, and the visitor."""
        number = self.number()
        future = self.submit(tasks.wait_at, self.door.port, number)
        return {number: future}, self.door.arrival()

    @contextmanager
    def giving_ahead(self):
        """Have all that is submitted meanwhile given to the one worker there is, and not taken back when it is quiet.

        By itself the engine lets tiny calls wait for a busy worker's next reply, and takes back what one holds up.
        """
        engine = self.executor._dispatcher.engine
        (handle,) = engine._handles.values()
        engine._relief._holds_up = lambda *_: False
        engine._choose = lambda waiting: (handle, waiting)
        try:
            yield
        finally:
            del engine._choose

    def hold_collector(self, submit=lambda: None):
        """Keep the thread that reads replies, by a future's callback, until the event that is returned is set.

        Args: submit: called while the worker waits at the door, so that what it submits is given ahead.
        Returns: the worker's process id, and the event.
        """
        inside, release = threading.Event(), threading.Event()
        held, visitor = self.hold()
        (future,) = held.values()

        def callback(_):
            inside.set()
            release.wait(SECONDS)

        future.add_done_callback(callback)
        self._held.append(release)
        with self.giving_ahead():
            submit()
        visitor.release()
        assert inside.wait(SECONDS)
        return visitor.pid, release

    def check(self, answered, lost=(), cancelled=(), *, once=True):
        """Check that each of the futures came to what it should; return the losses.

        Args: answered, lost, cancelled: futures by number. once: what is answered has run exactly once.
        """
        for number, outcome in zip(answered, outcomes_of(answered.values()), strict=True):
            assert outcome == tasks.value_of(number * KINDS), f"task {number} came to {describe(outcome)}"
        errors = dict(zip(lost, outcomes_of(dict(lost).values()), strict=True))
        for number, error in errors.items():
            assert isinstance(error, WorkerLostError), f"task {number} is not lost, but {describe(error)}"
        for number, outcome in zip(cancelled, outcomes_of(dict(cancelled).values()), strict=True):
            assert isinstance(outcome, CancelledError), f"task {number} is not cancelled, but {describe(outcome)}"
        attempts = self.journal.attempts()
        assert [number for number in answered if once and attempts[number] != 1] == []
        assert [number for number in lost if attempts[number] > 1] == []
        assert [number for number in cancelled if attempts[number]] == []
        return errors

    def close(self):
        for event in self._held:
            event.set()
        for pid in living(self.executor):
            if state_of(pid) == "T":
                kill(pid)
        self.door.close()
        ending = threading.Thread(target=self.executor.shutdown, kwargs={"cancel_futures": True}, daemon=True)
        ending.start()
        ending.join(SECONDS)
        assert not ending.is_alive(), "the executor does not shut down"


@pytest.fixture
def bench(backend, tmp_path):
    before = Leftovers()
    with Defects() as defects:
        bench = Bench(backend, tmp_path)
        yield bench
        bench.close()
        pids = {pid for _, pid in bench.journal.records}
    assert defects.found == []
    assert before.check(pids) == []


# ---- between a mark and its reply -------------------------------------------------------------------------------


def test_death_while_the_arguments_are_read_back_costs_that_task(bench):
    bench.warm()
    held, visitor = bench.hold()
    before = bench.some(5)
    number = bench.number()
    deadly = bench.submit(tasks.work, number * KINDS, tasks.DiesRead())
    behind = bench.some(20)
    visitor.release()
    bench.check({**held, **before, **behind}, {number: deadly})
    assert bench.journal.attempts()[number] == 0  # it was marked, and never got to run


def test_death_while_the_result_is_sealed_costs_that_task(bench):
    bench.warm()
    held, visitor = bench.hold()
    before = bench.some(5)
    number = bench.number()
    deadly = bench.submit(tasks.note_and_give_deadly, number)
    behind = bench.some(20)
    visitor.release()
    errors = bench.check({**held, **before, **behind}, {number: deadly})
    assert bench.journal.workers_of()[number] == [errors[number].pid]


def points(config, stride):
    """Return numbers of lines to fail at: all of them in a long run, else every so many, which by the seed."""
    if config.getoption("soak_seconds") is not None:
        stride = 1
    return itertools.count(1 + config.getoption("soak_seed") % stride, stride)


def test_death_at_every_line_of_the_loop_costs_at_most_the_task_that_ran(bench, pytestconfig):
    """The worker counts lines of the engine's own code from within a task on, and ends itself at the given one."""
    survived, hit = 0, set()
    for point in points(pytestconfig, 2):
        if survived == 3:
            break
        bench.warm()
        number = bench.number()
        armed = {number: bench.submit(tasks.arm, bench.door.port, number, point, signal.SIGKILL)}
        visitor = bench.door.arrival()
        given = {**armed, **bench.some(2)}
        disarmed = bench.submit(tasks.disarm)
        visitor.release()
        outcomes = dict(zip([*given, "disarm"], outcomes_of([*given.values(), disarmed]), strict=True))
        lost = [name for name, outcome in outcomes.items() if isinstance(outcome, WorkerLostError)]
        assert len(lost) <= 1, f"point {point}: {lost} are lost"
        rest = {name: future for name, future in given.items() if name not in lost}
        bench.check(rest, {name: given[name] for name in lost if name in given})
        workers = bench.journal.workers_of()
        begun = [name for name in given if visitor.pid in workers.get(name, ())]
        order = [*given, "disarm"]
        if lost:  # it is the last that had begun there, or the one after it: marked, and not yet at its first line
            assert order.index(lost[0]) in {len(begun) - 1, len(begun)}, f"point {point}: {lost} of {begun} begun"
            hit.add(order.index(lost[0]))  # how many lines come before a task depends on what was there to be read
        survived = 0 if lost or visitor.pid not in living(bench.executor) else survived + 1
    assert point > 50 and hit >= {0, 1, 2}  # it did find the engine's lines


def _stopped(pid, futures):
    """Wait until a worker has stopped itself; False if it went on to the end."""
    return until(lambda: state_of(pid) == "T" or all(future.done() for future in futures)) and state_of(pid) == "T"


def _stop_at(bench, point):
    """Have the worker stop itself at a line of its loop, with three calls behind; return its pid, all, and whether."""
    bench.warm()
    number = bench.number()
    armed = {number: bench.submit(tasks.arm, bench.door.port, number, point, signal.SIGSTOP)}
    visitor = bench.door.arrival()
    with bench.giving_ahead():
        given = {**armed, **bench.some(3)}
    visitor.release()
    return visitor.pid, given, _stopped(visitor.pid, given.values())


def _lost_of(futures):
    """Wait for futures by number; return those whose worker was lost."""
    outcomes = dict(zip(futures, outcomes_of(futures.values()), strict=True))
    return {name: futures[name] for name, outcome in outcomes.items() if isinstance(outcome, WorkerLostError)}


@pytest.mark.parametrize("end", ["continued", "killed"])
def test_withdrawal_from_a_worker_stopped_at_any_line_is_exact(bench, end, pytestconfig):
    """What is cancelled never runs, what is not cancelled is answered, wherever the worker was: its lock held, too."""
    survived, withdrawn = 0, 0
    for point in points(pytestconfig, 4):
        if survived == 2:
            break
        pid, given, stopped = _stop_at(bench, point)
        first, second = list(given)[1:3]
        cancelled = {name: given[name] for name in (second, first) if stopped and given[name].cancel()}
        withdrawn += len(cancelled)
        if stopped and end == "killed":
            kill(pid)
        elif stopped:
            os.kill(pid, signal.SIGCONT)
        survived += not stopped
        rest = {name: future for name, future in given.items() if name not in cancelled}
        lost = _lost_of(rest)
        assert len(lost) <= (end == "killed" and stopped), f"point {point}: {list(lost)} are lost"
        bench.check({name: future for name, future in rest.items() if name not in lost}, lost, cancelled)
        kill(pid)  # it still counts lines
    assert withdrawn > 20


def test_ending_a_worker_stopped_at_any_line_is_exact(bench, pytestconfig):
    """`cancel(running=True)` for a task: True means that it will never run again, False that it is answered."""
    survived, ended = 0, 0
    for point in points(pytestconfig, 5):
        if survived == 2:
            break
        pid, given, stopped = _stop_at(bench, point)
        first = list(given)[1]
        before = bench.journal.attempts()[first]
        cancelled = stopped and given[first].cancel(running=True)
        ended += cancelled
        killed = stopped and state_of(pid) != "T"
        survived += not stopped
        if stopped:
            kill(pid)
        rest = {name: future for name, future in given.items() if name != first or not cancelled}
        lost = _lost_of(rest)
        assert len(lost) <= (stopped and not killed), f"point {point}: {list(lost)} are lost"
        bench.check({name: future for name, future in rest.items() if name not in lost}, lost)
        if cancelled:
            assert given[first].cancelled()
            assert bench.journal.attempts()[first] == before, f"point {point}: it has run after it was ended"
        kill(pid)
    assert ended > 10


@pytest.mark.parametrize("end", ["continued", "killed"])
@pytest.mark.parametrize("how", ["cut", "cancelled"])
def test_cutting_the_chunk_of_a_worker_stopped_at_any_line_is_exact(bench, how, end, pytestconfig):
    """What is taken back runs once and elsewhere, or never; what is not is answered, wherever the worker was."""
    survived, cut = 0, 0
    engine = bench.executor._dispatcher.engine
    # While the first item waits at the door: it is cut here, and by nobody else.
    engine._relief._holds_up = lambda *_: False
    for point in points(pytestconfig, 5):
        if survived == 2:
            break
        bench.warm()
        numbers = [bench.number() for _ in range(8)]
        function = partial(tasks.arm_first, bench.door.port, point, signal.SIGSTOP, numbers[0])
        results = bench.executor.map(function, numbers, chunksize=8, on_error="collect")
        visitor = bench.door.arrival()
        (chunk,) = results._run.chunks
        (part,) = bench.executor._dispatcher.works_of(results._run)
        visitor.release()
        until(lambda pid=visitor.pid, chunk=chunk: state_of(pid) == "T" or not chunk.left)
        stopped = state_of(visitor.pid) == "T"
        (handle,) = engine._handles.values()
        if stopped and how == "cut":
            with engine._lock:
                engine._relief._cut_short(handle)
        elif stopped:
            results._run.cancel()
        cut += handle.last_cut == part.call_id
        if stopped and end == "killed":
            kill(visitor.pid)
        elif stopped:
            os.kill(visitor.pid, signal.SIGCONT)
        survived += not stopped
        outcomes = _outcomes_of_map(results, point)
        attempts = bench.journal.attempts()
        for number, outcome in zip(numbers, outcomes, strict=True):
            begun = attempts[number]
            if outcome.error is None:
                assert (begun, outcome.value) == (1, tasks.value_of(number * KINDS)), f"point {point}: {begun} times"
            elif how == "cancelled" and isinstance(outcome.error, CancelledError):
                assert not begun, f"point {point}: cancelled, and has run"
            else:
                assert end == "killed" and isinstance(outcome.error, WorkerLostError) and begun <= 1
        kill(visitor.pid)  # it still counts lines
    assert cut > 5


def test_chunk_that_was_cut_and_has_ended_before_anybody_was_told(bench):
    """The collector finds the cut and the replies that came after it at the same time."""
    bench.warm()
    made = []

    def submit():
        numbers = [bench.number() for _ in range(8)]
        function = partial(tasks.wait_at, bench.door.port)
        made.extend((numbers, bench.executor.map(function, numbers, chunksize=8, on_error="collect")))

    _, release = bench.hold_collector(submit)
    numbers, results = made
    (handle,) = bench.executor._dispatcher.engine._handles.values()
    visitor = bench.door.arrival()
    results._run.cancel()
    visitor.release()
    assert select.select([handle.wire.fd], [], [], SECONDS)[0]  # the last reply is there
    release.set()
    first, *others = _outcomes_of_map(results, 0)
    assert first.value == tasks.value_of(numbers[0] * KINDS)
    assert {type(outcome.error) for outcome in others} == {CancelledError}
    assert [bench.journal.attempts()[number] for number in numbers] == [1] + [0] * 7


def _outcomes_of_map(results, point):
    """Take a map's outcomes in bounded time."""
    taken = []
    taking = threading.Thread(target=lambda: taken.extend(results), daemon=True)
    taking.start()
    taking.join(SECONDS)
    assert not taking.is_alive(), f"point {point}: not all items are answered"
    return taken


# ---- in the middle of a frame -----------------------------------------------------------------------------------


def test_death_in_the_middle_of_a_large_reply_costs_that_task(bench):
    """Nobody reads, so the worker is stuck with half of its reply in the pipe, and then it dies."""
    answered, lost = {}, {}

    def submit():
        answered.update(bench.some(5))  # their replies are in the pipe, ahead of the torn one
        number = bench.number()
        lost[number] = bench.submit(tasks.large_result_then_die, number, LARGE)
        answered.update(bench.some(5))

    bench.warm()
    worker, release = bench.hold_collector(submit)
    await_death(worker)
    release.set()
    (error,) = bench.check(answered, lost).values()
    assert error.pid == worker


def test_death_in_the_middle_of_a_large_reply_is_repeated_under_retry(bench):
    bench.warm()
    worker, release = bench.hold_collector()
    number = bench.number()
    again = bench.executor.with_options(retry=Retry(2, wait=0))
    torn = again.submit(tasks.large_result_then_die, number, LARGE)
    await_death(worker)
    release.set()
    assert isinstance(torn.exception(SECONDS), WorkerLostError | None)
    assert torn.attempts == 2 == bench.journal.attempts()[number]


def test_death_in_the_middle_of_a_large_call_costs_nothing(bench):
    """The rest of the call waits for the collector, so the worker has got a part of it, and then it dies."""
    bench.warm()
    worker, release = bench.hold_collector()
    large = bench.some(1, bytes(LARGE))
    with bench.giving_ahead():
        behind = bench.some(10)
    assert until(lambda: state_of(worker) == "S")  # it has read what there was
    kill(worker)
    release.set()
    bench.check({**large, **behind})
    assert bench.executor.stats().lost == 0


def test_death_with_full_pipes_both_ways_costs_the_task_that_ran(bench):
    bench.warm()
    worker, release = bench.hold_collector()
    number = bench.number()
    torn = bench.submit(tasks.large_result_then_die, number, LARGE)
    with bench.giving_ahead():
        large = bench.some(3, bytes(LARGE))
    await_death(worker)
    release.set()
    bench.check(large, {number: torn})


# ---- in a full batch --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("padding", [None, bytes(2000)], ids=["small calls", "more than a pipe takes"])
def test_death_in_a_full_batch_costs_the_task_that_ran(bench, padding):
    bench.warm()
    held, visitor = bench.hold()
    with bench.giving_ahead():
        batch = bench.some(1000, padding)
    assert not any(future.done() for future in batch.values())
    kill(visitor.pid)
    errors = bench.check(batch, held)
    assert errors[next(iter(held))].pid == visitor.pid
    assert bench.executor.stats().lost == 1


def test_deaths_within_a_full_batch_cost_those_tasks_alone(bench):
    bench.warm()
    held, visitor = bench.hold()
    answered, lost = dict(held), {}
    with bench.giving_ahead():
        for _ in range(8):
            answered |= bench.some(40)
            number = bench.number()
            lost[number] = bench.submit(tasks.work, number * KINDS + tasks.CRASH)
        answered |= bench.some(40)
    visitor.release()
    errors = bench.check(answered, lost)
    assert len({error.pid for error in errors.values()}) == 8


def test_death_in_a_chunk_costs_what_was_not_sealed_and_no_other_chunk(bench):
    bench.warm()
    codes = [bench.number() * KINDS for _ in range(500)]
    codes[250] += tasks.CRASH
    outcomes = list(bench.executor.map(tasks.work, codes, chunksize=100, on_error="collect", timeout=SECONDS))
    lost = [outcome.index for outcome in outcomes if outcome.error is not None]
    assert 250 in lost and set(lost) <= set(range(200, 300)) and lost == list(range(lost[0], lost[-1] + 1))
    assert {outcome.error.pid for outcome in outcomes if outcome.error} == {outcomes[250].error.pid}
    assert [outcome.value for outcome in outcomes if not outcome.error] == [
        tasks.value_of(code) for index, code in enumerate(codes) if index not in lost
    ]
    assert max(bench.journal.attempts().values()) == 1


def test_death_in_a_chunk_of_slow_items_costs_one_item(bench):
    """Each of them is sealed before the next one begins, so the one that dies is the only one that had begun."""
    codes = [(4 * number + 3) * KINDS + tasks.SLEEP for number in range(30)]  # 1.5 ms
    codes[7] += tasks.CRASH - tasks.SLEEP
    outcomes = list(bench.executor.map(tasks.work, codes, chunksize=30, on_error="collect", timeout=SECONDS))
    assert [outcome.index for outcome in outcomes if outcome.error is not None] == [7]
    assert isinstance(outcomes[7].error, WorkerLostError)
    assert all(outcome.value == tasks.value_of(codes[outcome.index]) for outcome in outcomes if not outcome.error)
    assert set(bench.journal.attempts().values()) == {1}


def test_attempts_are_counted_where_the_last_failure_is_not_to_be_repeated(bench):
    """What the soak test found: its first attempt was lost, and the second's result cannot be sent."""
    view = bench.executor.with_options(retry=Retry(3, wait=0))
    (outcome,) = view.map(tasks.crash_once_then_give_lock, [bench.number()], on_error="collect", timeout=SECONDS)
    assert isinstance(outcome.error, ResultPicklingError)
    assert outcome.attempts == sum(bench.journal.attempts().values()) == 2
    future = view.submit(tasks.crash_once_then_give_lock, bench.number())
    assert isinstance(future.exception(SECONDS), ResultPicklingError) and future.attempts == 2


# ---- while another task is withdrawn ----------------------------------------------------------------------------


class DeadlyLock:
    """Stands for the lock of a worker's page: the worker dies while this thread holds it, the given time."""

    def __init__(self, lock, pid, time):
        self._lock, self._pid, self._left = lock, pid, time
        self._thread = threading.get_ident()
        self.release, self.close = lock.release, lock.close
        self.deadly = False

    def acquire(self, *args, **kwargs):
        taken = self._lock.acquire(*args, **kwargs)
        if taken and threading.get_ident() == self._thread:  # the collector takes it too, to look after the worker
            self._left -= 1
            if self._left == 0:
                self.deadly = True
                kill(self._pid)
        return taken


def deadly_lock(executor, pid, time=1):
    """Have a worker die when this thread looks into its page."""
    (handle,) = [one for one in executor._dispatcher.engine._handles.values() if one.pid == pid]
    handle.page.lock = lock = DeadlyLock(handle.page.lock, pid, time)
    return lock


def test_death_while_another_task_is_withdrawn_costs_the_one_that_ran(bench):
    bench.warm()
    held, visitor = bench.hold()
    with bench.giving_ahead():
        batch = bench.some(20)
    lock = deadly_lock(bench.executor, visitor.pid)
    chosen = list(batch)[5]
    assert batch[chosen].cancel()
    assert lock.deadly
    withdrawn = {chosen: batch.pop(chosen)}
    bench.check(batch, held, withdrawn)


@pytest.mark.parametrize("time", [1, 2], ids=["while it is looked at", "while it is killed"])
def test_death_while_the_task_that_ran_is_ended_costs_that_task(bench, time):
    bench.warm()
    held, visitor = bench.hold()
    with bench.giving_ahead():
        batch = bench.some(20)
    lock = deadly_lock(bench.executor, visitor.pid, time)
    (ended,) = held.values()
    cancelled = ended.cancel(running=True)
    assert lock.deadly
    assert cancelled or time == 1  # the first time, it may be lost before it is said to be cancelled
    assert ended.cancelled() if cancelled else isinstance(ended.exception(SECONDS), WorkerLostError)
    bench.check(batch)


def test_deaths_while_all_is_withdrawn_at_once(bench):
    """From both ends: one thread cancels all that was given ahead, while the worker is killed."""
    for turn in range(10):
        bench.warm()
        held, visitor = bench.hold()
        with bench.giving_ahead():
            batch = bench.some(100)
        killer = threading.Timer(turn / 5000, kill, (visitor.pid,))
        killer.start()
        cancelled = {number: future for number, future in reversed(batch.items()) if future.cancel()}
        killer.join()
        rest = {number: future for number, future in batch.items() if number not in cancelled}
        bench.check(rest, held, cancelled)


class HeldLock:
    """Stands for the lock of a worker that was stopped just where it holds it."""

    def __init__(self, lock):
        self.lock, self.asked = lock, 0

    def acquire(self, **_):
        self.asked += 1
        return False


def test_worker_that_was_stopped_with_its_lock_is_not_asked_again_and_again(bench):
    """Each time would keep the collector from all other workers for a while."""
    bench.warm()
    held, visitor = bench.hold()
    with bench.giving_ahead():
        behind = bench.some(5)
    (handle,) = bench.executor._dispatcher.engine._handles.values()
    handle.page.lock = lock = HeldLock(handle.page.lock)
    assert until(lambda: lock.asked)
    time.sleep(0.5)  # the longer, the more it would be asked
    assert lock.asked == 1
    handle.page.lock = lock.lock
    visitor.release()
    bench.check({**held, **behind})


def test_task_that_has_run_is_not_withdrawn_while_its_answer_is_on_its_way(bench):
    """Replies come many at a time; who is told of the first may ask for the next ones to be cancelled."""
    said = []

    def submit():
        batch.update(bench.some(20))
        first, *rest = batch.values()
        first.add_done_callback(lambda _: said.extend(future.cancel() for future in rest))

    batch = {}
    bench.warm()
    _, release = bench.hold_collector(submit)
    assert until(lambda: len(bench.journal.attempts()) == 21)  # all have run, and nobody has read their replies
    release.set()
    outcomes_of(batch.values())
    assert said == [False] * 19
    bench.check(batch)


@pytest.mark.parametrize("running", [False, True])
def test_task_that_is_dispatched_again_meanwhile_is_not_taken_for_withdrawn(bench, running):
    """Between looking for its call and revoking that, the worker dies, and the task begins on another one."""
    bench.warm()
    held, visitor = bench.hold()
    number = bench.number()
    with bench.giving_ahead():
        future = bench.submit(tasks.wait_at, bench.door.port, number)
    engine = bench.executor._dispatcher.engine
    revoke, again = engine.revoke, []

    def late(call_id, **options):
        if not again:
            kill(visitor.pid)
            again.append(bench.door.arrival())
        return revoke(call_id, **options)

    engine.revoke = late
    try:
        cancelled = future.cancel(running=running)
    finally:
        del engine.revoke
    assert again[0].number == number  # it has begun
    if cancelled:
        assert running and future.cancelled()
        await_death(again[0].pid)  # or else it would go on
        bench.check({}, held)
    else:
        again[0].release()
        bench.check({number: future}, held)
