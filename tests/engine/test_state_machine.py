"""A state machine that drives an executor in any order and checks the promises: hypothesis invents the orders.

Submit, map, cancel, end, kill, bursts and lulls, await, shut down; then, whatever has happened: every future resolves
in bounded time, to the right value or to an error with a stated reason; what `cancel` answered True for has not run
again; a dead worker has cost one task; nothing has run twice; and nothing is left behind.

What is invented is always the same, unless `--soak-seed N` is given; `--soak-seconds N` makes about as much of it.
When it fails, hypothesis shows the steps.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from concurrent.futures import CancelledError
from typing import Any, NamedTuple

import pytest
import soak_tasks as tasks
from hypothesis import HealthCheck, Phase, configuration, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from soak_tasks import KINDS, NAMES, SECONDS
from soak_watch import Defects, Door, Journal, Leftovers, describe, kill, living, outcome_of, outcomes_of

from parapluie import (
    Executor,
    ExecutorShutdownError,
    ResultPicklingError,
    ResultUnpicklingError,
    Retry,
    TaskPicklingError,
    TaskTimeoutError,
    WorkerLostError,
    registry,
)

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="the kills of these tests are made for Linux")

BACKENDS = {"process": 40, "manager": 8, "thread": 25, "pool": 10, "futures": 10}  # and how many orders are tried
STEPS = 25
CLAIMS = {info.name: info.capabilities(None) for info in registry.infos(scan=False) if info.name in BACKENDS}
LIMIT = 0.05
WHICH = st.integers(0, 999)  # of those that there are then
WORKERS = 2

# What a kind comes to where nothing interferes: an error, or else its value.
ERRORS = {
    tasks.FAIL: ValueError,
    tasks.LOCK: ResultPicklingError,
    tasks.BOMB: ResultUnpicklingError,
    tasks.CRASH: WorkerLostError,
    tasks.HANG: TaskTimeoutError,
}
ORDINARY = [tasks.PLAIN, tasks.PLAIN, tasks.PLAIN, tasks.SLEEP, tasks.BUSY, tasks.FAIL]
ISOLATED = [tasks.LARGE, tasks.LOCK, tasks.BOMB]


class Job(NamedTuple):
    """A task, and what is known of it.

    Attributes: gated (it waits at the door), policy ("", "retry" or "timed"), sendable, map (its number, 0 for none).
    """

    number: int
    kind: int
    future: Any
    gated: bool = False
    policy: str = ""
    sendable: bool = True

    def __repr__(self):
        gated = ", at the door" * self.gated
        return f"task {self.number} ({NAMES[self.kind]}{gated}, {self.policy or 'no policy'})"


class Machine(RuleBasedStateMachine):
    """An executor and all that is done to it. Made for one backend by `machine_for`."""

    backend = "process"
    claims = CLAIMS["process"]

    def __init__(self):
        super().__init__()
        self.left = Leftovers()
        self.folder = tempfile.mkdtemp()
        self.journal, self.door = Journal(self.folder), Door()
        self.defects = Defects()
        self.defects.__enter__()
        self.jobs, self.maps = {}, []  # by number; (codes, iterator, results)
        self.visitors, self.killed, self.seen = {}, set(), set()
        self.withdrawn = {}  # number -> how often it had begun when it was cancelled
        self.numbers = iter(range(1, 1_000_000))
        self.executor = None
        self.closed = False

    # ---- beginning --------------------------------------------------------------------------------------------

    @initialize(limit=st.sampled_from([None, None, 3, 10]))
    def open(self, limit):
        options = {}
        if self.claims.isolated_memory:
            options = {"initializer": tasks.open_log, "initargs": (self.folder,)}
        else:
            tasks.open_log(self.folder)
        if self.claims.start_methods:
            options["start_method"] = "fork"
        if self.claims.max_tasks_per_child and limit:
            options["max_tasks_per_child"] = limit
        self.executor = Executor(self.backend, WORKERS, **options)
        self.views = {"": self.executor, "retry": self.executor.with_options(retry=Retry(3, wait=0, lost=50))}
        if self.claims.kills_running_task:
            self.views["timed"] = self.executor.with_options(task_timeout=LIMIT)

    # ---- work -------------------------------------------------------------------------------------------------

    def _submit(self, function, *args, kind=tasks.PLAIN, number=None, policy="", **facts):
        number = number or next(self.numbers)
        try:
            future = self.views[policy].submit(function, *args)
        except ExecutorShutdownError:
            assert self.closed, "an open executor refuses a task"
            return
        assert not self.closed, "an executor that was shut down takes a task"
        self.jobs[number] = Job(number, kind, future, policy=policy, **facts)

    def _work(self, kind, policy=""):
        number = next(self.numbers)
        self._submit(tasks.work, number * KINDS + kind, kind=kind, number=number, policy=policy)

    @rule(kinds=st.lists(st.sampled_from(ORDINARY), min_size=1, max_size=3), policy=st.sampled_from(["", "", "retry"]))
    def submit_ordinary(self, kinds, policy):
        for kind in kinds:
            self._work(kind, policy)

    @rule(count=st.sampled_from([10, 60, 200]))
    def submit_burst(self, count):
        for _ in range(count):
            self._work(tasks.PLAIN)

    @rule()
    def submit_gated(self):
        number = next(self.numbers)
        self._submit(tasks.wait_at, self.door.port, number, number=number, gated=True)

    @precondition(lambda self: self.claims.isolated_memory)
    @rule(kind=st.sampled_from(ISOLATED), policy=st.sampled_from(["", "retry"]))
    def submit_hostile(self, kind, policy):
        self._work(kind, policy)

    @precondition(lambda self: self.claims.isolated_memory)
    @rule()
    def submit_unsendable(self):
        number = next(self.numbers)
        self._submit(tasks.work, number * KINDS, tasks.Unsendable(), number=number, sendable=False)

    @precondition(lambda self: self.claims.survives_dead_worker)
    @rule(once=st.booleans())
    def submit_crash(self, once):
        self._work(tasks.CRASH_ONCE, "retry") if once else self._work(tasks.CRASH)

    @precondition(lambda self: self.claims.kills_running_task)
    @rule()
    def submit_hanging(self):
        self._work(tasks.HANG, "timed")

    @rule(count=st.sampled_from([1, 30, 300]), size=st.sampled_from([None, 1, 20]), ahead=st.integers(0, 3))
    def begin_map(self, count, size, ahead):
        codes = [next(self.numbers) * KINDS for _ in range(count)]
        try:
            results = self.executor.map(tasks.work, codes, chunksize=size, on_error="collect", timeout=SECONDS)
        except ExecutorShutdownError:
            assert self.closed
            return
        assert not self.closed
        taken = []
        self.maps.append((codes, results, taken))
        if not self._gated():  # else all workers may be held
            self._advance(self.maps[-1], ahead)

    def _advance(self, entry, count):
        """Take so many of a map's results; it has one for each item, unless it says why not."""
        codes, results, taken = entry
        for _ in range(count):
            try:
                outcome = next(results, None)
            except (CancelledError, ExecutorShutdownError):
                assert self.closed, "a map is cut short while the executor is open"
                return
            if outcome is None:
                assert len(taken) == len(codes), f"a map of {len(codes)} items ends silently after {len(taken)}"
                return
            taken.append(outcome)

    # ---- the door ---------------------------------------------------------------------------------------------

    def _look(self, seconds=0.0):
        while (visitor := self.door.arrival(seconds)) is not None:
            self.visitors[visitor.number] = visitor

    @rule()
    def look_who_is_there(self):
        self._look()

    def _one_at_the_door(self, which):
        """Return a visitor, or None. Who is there is a matter of time, so nothing that is invented depends on it."""
        self._look(0.02 if self._gated() and not self.visitors else 0.0)
        if not self.visitors:
            return None
        return self.visitors.pop(sorted(self.visitors)[which % len(self.visitors)])

    @rule(which=WHICH)
    def let_one_through(self, which):
        visitor = self._one_at_the_door(which)
        if visitor is not None:
            visitor.release()

    def _gated(self):
        """Say whether there are tasks that wait at the door, or will."""
        return any(job.gated and not job.future.done() for job in self.jobs.values())

    def _open_door(self):
        """Let everybody through who is to come, until all is answered."""
        deadline = time.monotonic() + SECONDS
        while self._gated():
            assert time.monotonic() < deadline, f"tasks do not come to the door: {list(self.jobs.values())}"
            self._look(0.002)
            for visitor in self.visitors.values():
                visitor.release()
            self.visitors.clear()

    # ---- cancelling, killing, awaiting ------------------------------------------------------------------------

    @precondition(lambda self: self.jobs)
    @rule(which=WHICH, running=st.booleans(), count=st.sampled_from([1, 1, 20]))
    def cancel(self, which, running, count):
        last = which % len(self.jobs)
        for number in list(self.jobs)[max(0, last + 1 - count) : last + 1][::-1]:
            future = self.jobs[number].future
            was_cancelled = future.cancelled()
            if future.cancel(running=running):
                assert future.cancelled() and future.done()
                if not was_cancelled:
                    self.withdrawn[number] = running, self.journal.attempts()[number]
            else:
                assert not future.cancelled()
                assert not running or not self.claims.kills_running_task or until_done(future)

    @precondition(lambda self: self.claims.survives_dead_worker and self.claims.isolated_memory)
    @rule(which=WHICH)
    def kill_worker(self, which):
        """Kill a worker that is known to be at work, so that it is no failed start."""
        visitor = self._one_at_the_door(which)
        if visitor is None:
            return
        job = self.jobs[visitor.number]
        alive = not job.future.done()
        self.killed.add(visitor.pid)
        kill(visitor.pid)
        visitor.release()
        if alive and job.policy != "retry":
            outcomes_of([job.future])
            assert isinstance(outcome_of(job.future), WorkerLostError | CancelledError)

    @precondition(lambda self: self.jobs)
    @rule(which=WHICH)
    def await_one(self, which):
        job = list(self.jobs.values())[which % len(self.jobs)]
        self._look()
        if self._gated():
            try:  # it may have to wait for the door
                job.future.exception(0.001)
            except (TimeoutError, CancelledError):
                return
        outcomes_of([job.future])

    @rule()
    def await_all(self):
        self._open_door()
        outcomes_of([job.future for job in self.jobs.values()])

    @rule()
    def look_at_it(self):
        stats = self.executor.stats()
        assert all(figure >= 0 for figure in stats)
        if self.backend in {"process", "manager"} and not self.closed:  # the names of whose workers hold their pids
            self.seen |= living(self.executor)

    # ---- the end ----------------------------------------------------------------------------------------------

    @rule(wait=st.booleans(), cancel=st.booleans(), rare=st.integers(0, 3))
    def shut_down(self, wait, cancel, rare):
        if rare:  # most of the steps are for the time before
            return
        self.closed = True
        if wait:
            self.executor.shutdown(wait=False, cancel_futures=cancel)
            self._open_door()
        self.executor.shutdown(wait=wait, cancel_futures=cancel)

    def teardown(self):
        try:
            if self.executor is not None:
                self._finish()
        finally:
            self.defects.__exit__()
            self.door.close()
            tasks.close_log()
            if self.executor is not None:
                self.executor.shutdown(wait=False, cancel_futures=True)
            shutil.rmtree(self.folder, ignore_errors=True)

    def _finish(self):
        self._open_door()
        for entry in self.maps:
            self._advance(entry, len(entry[0]) + 1)
        outcomes_of([job.future for job in self.jobs.values()])
        self.executor.shutdown()
        with pytest.raises(ExecutorShutdownError):
            self.executor.submit(abs, -1)
        self._judge()
        assert self.defects.found == []
        pids = {pid for _, pid in self.journal.records} - {os.getpid()} | self.seen
        self.jobs.clear()
        self.maps.clear()
        self.views.clear()
        self.door.close()
        tasks.close_log()
        assert self.left.check(pids) == []

    def _judge(self):
        workers = self.journal.workers_of()
        deadly = {workers[job.number][0] for job in self.jobs.values()
                  if job.kind in {tasks.CRASH, tasks.CRASH_ONCE} and job.number in workers}  # fmt: skip
        losses = {}
        for job in self.jobs.values():
            outcome, pids = outcome_of(job.future), workers.get(job.number, [])
            wrong = self._wrong(job, outcome, pids)
            assert not wrong, f"{job}: {wrong}; begun by {pids}; came to {describe(outcome)}"
            if isinstance(outcome, WorkerLostError):
                losses.setdefault(outcome.pid, []).append(job)
        for position, (codes, _, taken) in enumerate(self.maps):
            for outcome in taken:
                number = codes[outcome.index] // KINDS
                pids = workers.get(number, [])
                assert len(pids) <= 1, f"item {outcome.index} of map {position} ran {len(pids)} times"
                if isinstance(outcome.error, WorkerLostError):
                    losses.setdefault(outcome.error.pid, []).append(f"map {position}")
                elif outcome.error is None:
                    assert outcome.value == tasks.value_of(codes[outcome.index])
                    assert len(pids) == 1
                else:
                    assert isinstance(outcome.error, CancelledError) and self.closed, describe(outcome.error)
            assert [outcome.index for outcome in taken] == list(range(len(taken)))
        if self.claims.knows_begun:
            for pid, lost in losses.items():
                assert len(set(map(str, lost))) == 1, f"the death of worker {pid} has cost {lost}"
                assert pid in self.killed | deadly, f"worker {pid}, whom nobody has killed, has lost {lost}"

    def _wrong(self, job, outcome, pids):  # noqa: C901, PLR0911 - one line for each promise
        """Say what is wrong with what a task came to, given the workers that have begun it."""
        if len(pids) > (job.future.attempts if job.policy == "retry" else 1):
            return f"it ran more often than is allowed ({job.future.attempts})"
        if not job.sendable:
            return "" if isinstance(outcome, TaskPicklingError | CancelledError) and not pids else "it was not sendable"
        if job.number in self.withdrawn:
            running, before = self.withdrawn[job.number]
            if not isinstance(outcome, CancelledError):
                return "cancel() was True, and it is not cancelled"
            if not running and job.policy != "retry":
                return "it was withdrawn, and ran" if pids else ""
            return "it was ended, and ran again" if len(pids) > max(1, before) else ""
        if isinstance(outcome, CancelledError):
            rested = job.policy == "retry"  # between two attempts it waits like any other
            return "" if self.closed and (rested or not pids) else "it is cancelled, and nobody has cancelled it"
        if isinstance(outcome, TaskTimeoutError):
            return "" if job.policy == "timed" else "it has no time limit"
        if isinstance(outcome, WorkerLostError):
            if job.policy == "retry":
                return "it is lost, though it may be repeated"
            return "another worker has run it" if pids and pids != [outcome.pid] else ""
        expected = ERRORS.get(job.kind)
        if not pids:
            return "it is answered, and never ran"
        if expected is not None:
            return "" if type(outcome) is expected else f"it should be a {expected.__name__}"
        return "" if outcome == tasks.value_of(job.number * KINDS + job.kind) else "its result is wrong"


def until_done(future):
    """Say whether a future is answered in bounded time: what cannot be ended is about to be."""
    return outcomes_of([future]) is not None


def machine_for(name):
    return type(f"{name.title()}Machine", (Machine,), {"backend": name, "claims": CLAIMS[name]})


@pytest.mark.parametrize("name", BACKENDS)
def test_promises_hold_in_any_order(name, pytestconfig, tmp_path):
    configuration.set_hypothesis_home_dir(tmp_path)
    seconds, number = pytestconfig.getoption("soak_seconds"), pytestconfig.getoption("soak_seed")
    machine = machine_for(name)
    if number:
        machine = seed(number)(machine)
    factor = 1.0 if seconds is None else max(1.0, seconds / 20)
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=int(BACKENDS[name] * factor),
            stateful_step_count=STEPS,
            derandomize=not number,
            deadline=None,
            database=None,
            print_blob=True,
            report_multiple_bugs=False,
            # No shrinking: of what goes wrong by chance, smaller examples do not, and each hang takes its time.
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.parametrize("name", BACKENDS)
def test_map_whose_input_is_not_read_any_further_says_so(name):
    """What the state machine found: the iterator must not end as if that were all."""
    executor = Executor(name, 1)
    results = executor.map(abs, range(1000), buffersize=10, timeout=SECONDS)
    assert next(results) == 0
    outcomes_of([executor.submit(abs, -1)])  # behind the items that were read: all of them are answered
    executor.shutdown(cancel_futures=True)
    with pytest.raises((CancelledError, ExecutorShutdownError)):
        list(results)
