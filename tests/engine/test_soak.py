"""The soak test: very many tasks of every kind, while workers are killed all the time and at every place.

Without options it runs 100,000 tasks, some 20 s. `--soak-seconds N` goes on for so long, `--soak-seed N` repeats a
run's plan; when a kill lands is never the same twice. A failure says the seed, the round and the tasks concerned.

    submitters ── bursts, cancels ──┐                            ┌── log, one record for each attempt
    mapper ────── chunks ───────────┼──▶ executor ──▶ workers ───┘            │ whom it knows to be at work
    killer ◀────────────────────────┼─────────────────── SIGKILL ◀────────────┘
    judge ◀──── outcomes, log ──────┘
"""

from __future__ import annotations

import random
import sys
import threading
import time
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import Any, NamedTuple

import pytest
import soak_tasks as tasks
from soak_tasks import KINDS, NAMES, SECONDS
from soak_watch import Defects, Journal, Leftovers, describe, living, outcomes_of

from parapluie import (
    Executor,
    ResultPicklingError,
    ResultUnpicklingError,
    Retry,
    TaskPicklingError,
    TaskTimeoutError,
    WorkerLostError,
)
from parapluie.testing import processes
from parapluie.testing.processes import SLOWER

TASKS = 100_000
ROUND = 10_000 if SLOWER == 1 else 2_000
START_METHODS = ["spawn"] if sys.platform == "win32" else ["fork", "fork", "fork", "forkserver"]
LIMIT = 0.1  # seconds, where there is a time limit
ATTEMPTS = 3

PLANS = [  # for a view: weights of its kinds, its policies
    ("plain", {tasks.CRASH: 2, tasks.FAIL: 40, tasks.LOCK: 8, tasks.BOMB: 8, tasks.UNREADABLE: 4}, {}),
    ("timed", {tasks.HANG: 1, tasks.CRASH: 1, tasks.FAIL: 20}, {"task_timeout": LIMIT}),
    (
        "retry",
        {tasks.CRASH_ONCE: 2, tasks.FAIL_ONCE: 40, tasks.FAIL: 10, tasks.LOCK: 4},
        {"retry": Retry(ATTEMPTS, on=ValueError, wait=0, lost=1000)},
    ),
    (
        "retry and timed",
        {tasks.HANG_ONCE: 1, tasks.CRASH_ONCE: 1, tasks.FAIL_ONCE: 20},
        {"retry": Retry(ATTEMPTS, on=ValueError, wait=0.001, lost=1000), "task_timeout": LIMIT},
    ),
]
ORDINARY = {tasks.PLAIN: 2500, tasks.SLEEP: 250, tasks.BUSY: 250, tasks.LARGE: 10, tasks.BUFFER: 30}
UNSENDABLE = 0.003  # so many of the tasks have an argument that cannot be pickled

# What a task may come to where nobody kills, beside its value. Every kind that is not here answers its value.
ERRORS = {
    tasks.FAIL: ValueError,
    tasks.LOCK: ResultPicklingError,
    tasks.BOMB: ResultUnpicklingError,
    tasks.UNREADABLE: tasks.UnreadableError,  # made again from its parts
    tasks.CRASH: WorkerLostError,
    tasks.HANG: TaskTimeoutError,
}


class Fate(NamedTuple):
    """What was asked for, and what it came to.

    Attributes: code (of the task), view (its plan's name), sendable, withdrawn ("", "plain" or "running": a cancel
    that answered True), call ("" for a submitted task, else the map and its chunk), attempts, outcome.
    """

    code: int
    view: str
    sendable: bool
    withdrawn: str
    call: str
    attempts: int
    outcome: Any


class Soak:
    """One round: an executor, those who use it, who kills its workers, and what comes of it all."""

    def __init__(self, backend, folder, seed, count):
        self.random = random.Random(seed)  # noqa: S311 - invents the plan
        self.journal = Journal(folder)
        self.count = count
        self.killed = []
        self.fates = []  # list.append is atomic
        self.problems = []
        self._numbers = iter(range(1, 10 * count))
        self._over = threading.Event()
        choose = self.random.choice
        self.settings = {
            "max_workers": choose([1, 2, 2, 3]),
            "start_method": choose(START_METHODS),
            "max_tasks_per_child": choose([None, None, 400]),
        }
        self.executor = Executor(backend, initializer=tasks.open_log, initargs=(str(folder),), **self.settings)
        self.views = {name: self.executor.with_options(**policies) for name, _, policies in PLANS}

    def run(self):
        """Run the round; return what is wrong."""
        half = self.count // 2
        users = [(self._submit, half // 2), (self._submit, half - half // 2), (self._map, self.count - half)]
        threads = [threading.Thread(target=self._guard, args=(use, self._chance(), share)) for use, share in users]
        killer = threading.Thread(target=self._guard, args=(self._kill, self._chance()))
        for thread in (*threads, killer):
            thread.start()
        for thread in threads:
            thread.join()
        self._over.set()
        killer.join()
        failed = bool(self.problems)
        self.executor.shutdown(wait=not failed, cancel_futures=failed)  # what hangs must not hide what is known
        self._judge()
        return self.problems

    def _chance(self):
        """Return a source of chance for one thread."""
        return random.Random(self.random.random())  # noqa: S311 - as above

    def _guard(self, use, *args):
        try:
            use(*args)
        except BaseException as error:
            self.problems.append(f"{use.__name__}: {type(error).__name__}: {error}")
            if not isinstance(error, AssertionError):
                raise

    def _invent(self, chance, count):
        """Make codes of tasks, for a view chosen by chance."""
        name, kinds, _ = chance.choice(PLANS)
        weights = {**ORDINARY, **kinds}
        chosen = chance.choices(list(weights), weights.values(), k=count)
        return name, [next(self._numbers) * KINDS + kind for kind in chosen]

    # ---- who uses it ------------------------------------------------------------------------------------------

    def _submit(self, chance, count):
        """Submit bursts, cancel some of each, await it."""
        while count > 0 and not self.problems:
            name, codes = self._invent(chance, min(count, chance.choice([1, 3, 20, 100, 600])))
            count -= len(codes)
            submit = self.views[name].submit
            bad = {code for code in codes if chance.random() < UNSENDABLE}
            futures = [
                submit(tasks.work, code, tasks.Unsendable() if code in bad else tasks.argument_of(code))
                for code in codes
            ]
            withdrawn = {}
            for index in chance.sample(range(len(codes)), len(codes) // 20):
                running = chance.random() < 0.1
                if futures[index].cancel(running=running):
                    withdrawn[index] = "running" if running else "plain"
            outcomes = outcomes_of(futures)
            self.fates += [
                Fate(code, name, code not in bad, withdrawn.get(index, ""), "", future.attempts, outcome)
                for index, (code, future, outcome) in enumerate(zip(codes, futures, outcomes, strict=True))
            ]

    def _map(self, chance, count):
        """Map over many, in chunks of every size."""
        runs = 0
        while count > 0 and not self.problems:
            name, codes = self._invent(chance, min(count, chance.choice([50, 500, 2000])))
            count -= len(codes)
            runs += 1
            size = chance.choice([None, None, 1, 10, 100, 400])
            columns = [codes]
            bad = set()
            if chance.random() < 0.5:  # a column of objects, some of which cannot be pickled
                bad = {code for code in codes if chance.random() < UNSENDABLE}
                columns.append([tasks.Unsendable() if code in bad else tasks.argument_of(code) for code in codes])
            view, ordered = self.views[name], chance.random() < 0.5
            results = view.map(
                tasks.work, *columns, chunksize=size, ordered=ordered, on_error="collect", timeout=SECONDS
            )
            seen = set()
            for outcome in results:
                if outcome.index in seen or (ordered and outcome.index != len(seen)):
                    self.problems.append(f"map {runs}: result {outcome.index} comes twice, or out of order")
                seen.add(outcome.index)
                code = codes[outcome.index]
                call = f"map {runs}, chunk {'?' if size is None else outcome.index // size}"
                came = outcome.value if outcome.error is None else outcome.error
                self.fates.append(Fate(code, name, code not in bad, "", call, outcome.attempts, came))
            if len(seen) != len(codes):
                self.problems.append(f"map {runs}: {len(seen)} results for {len(codes)} items")

    # ---- who kills --------------------------------------------------------------------------------------------

    def _kill(self, chance):
        """Kill a worker every 50 to 100 ms: one that was just seen at work, so that its death is no failed start."""
        while not self._over.wait(chance.uniform(0.05, 0.1) * SLOWER):
            here = living(self.executor)
            fresh = {pid for _, pid in self.journal.update()[-50:]}
            found = sorted(here & fresh)
            if found:
                pid = chance.choice(found)
                self.killed.append(pid)
                with suppress(OSError):  # it is gone
                    processes.end(pid)

    # ---- who judges -------------------------------------------------------------------------------------------

    def _judge(self):
        workers = self.journal.workers_of()
        deadly = {pid for fate in self.fates if fate.code % KINDS in {tasks.CRASH, tasks.CRASH_ONCE}
                  for pid in workers.get(fate.code // KINDS, ())}  # fmt: skip
        losses = {}  # process -> the calls that were lost with it
        for fate in self.fates:
            pids = workers.get(fate.code // KINDS, [])
            wrong = self._wrong(fate, pids)
            if wrong:
                self.problems.append(f"{self._name(fate)}: {wrong}; begun by {pids}; came to {describe(fate.outcome)}")
            if isinstance(fate.outcome, WorkerLostError):
                calls = losses.setdefault(fate.outcome.pid, [])
                calls.append(fate.call or f"task {fate.outcome.task_id}")
        for pid, calls in losses.items():
            if len(set(calls)) > 1:
                self.problems.append(f"the death of worker {pid} has cost more than one task: {calls}")
            if pid not in self.killed and pid not in deadly:
                self.problems.append(f"worker {pid}, whom nobody has killed, has lost {calls}")
        if len(losses) > len(self.killed) + len(deadly):
            self.problems.append(f"{len(losses)} losses, {len(self.killed)} kills, {len(deadly)} crashes")
        if len(self.fates) != len({fate.code for fate in self.fates}) or (
            not self.problems and len(self.fates) != self.count
        ):
            self.problems.append(f"{len(self.fates)} outcomes for {self.count} tasks")
        known = {fate.code // KINDS for fate in self.fates}
        strangers = set(workers) - known
        if strangers and not self.problems:
            self.problems.append(f"{len(strangers)} tasks ran that nobody has asked for")

    @staticmethod
    def _name(fate):
        number, kind = divmod(fate.code, KINDS)
        return f"task {number} ({NAMES[kind]}, {fate.view}, {fate.call or 'submitted'}, attempts {fate.attempts})"

    @staticmethod
    def _wrong(fate, pids):  # noqa: C901, PLR0911 - one line for each promise
        """Say what is wrong with what a task came to, given the processes that have begun it."""
        kind, outcome, retried = fate.code % KINDS, fate.outcome, "retry" in fate.view
        if len(pids) > (fate.attempts if retried else 1):
            return "it ran more often than is allowed"
        if not fate.sendable and not fate.withdrawn:
            return "" if isinstance(outcome, TaskPicklingError) and not pids else "it cannot have been sent"
        if fate.withdrawn or isinstance(outcome, CancelledError):
            if not (fate.withdrawn and isinstance(outcome, CancelledError)):
                return f"it is half cancelled ({fate.withdrawn!r})"
            return "it was withdrawn, and ran" if pids and fate.withdrawn == "plain" and not retried else ""
        if isinstance(outcome, TaskTimeoutError):
            if retried or "timed" not in fate.view:
                return "it has overrun where it should not"
            return ""
        if isinstance(outcome, WorkerLostError):
            if retried:
                return "it is lost, though it may be repeated a thousand times"
            return "another worker has run it" if pids and pids != [outcome.pid] else ""
        if not pids:
            return "it is answered, and never ran"
        expected = ERRORS.get(kind)
        if expected is not None:
            return "" if type(outcome) is expected else f"it should be a {expected.__name__}"
        return "" if outcome == tasks.value_of(fate.code) else "its result is wrong"


def soak(backend, folder, config, count, share=1.0):
    """Run rounds until the tasks, or the time, are used up."""
    seconds = config.getoption("soak_seconds")
    seed = config.getoption("soak_seed")
    deadline = None if seconds is None else time.monotonic() + seconds * share
    begun, rounds, total, kills = time.monotonic(), 0, 0, 0
    with Executor(backend, 1, start_method=START_METHODS[-1]) as first:  # for what is started once and kept
        assert first.submit(abs, -1).result(SECONDS) == 1
    before = Leftovers()
    while time.monotonic() < deadline if deadline is not None else total < count:
        rounds += 1
        place = folder / str(rounds)
        place.mkdir()
        with Defects() as defects:
            one = Soak(backend, place, f"{seed} {rounds}", min(ROUND, count))
            title = f"--soak-seed {seed}, round {rounds} of backend {backend!r} ({one.settings})"
            print(title)  # shown if the deadline ends the run  # noqa: T201
            problems = one.run()
        pids = {pid for _, pid in one.journal.records}
        total += one.count
        kills += len(one.killed)
        one = None
        problems += defects.found
        problems += [f"left behind: {what}" for what in before.check(pids)]
        assert not problems, f"{title}: {len(problems)} problems\n- " + "\n- ".join(map(str, problems[:20]))
    spent = time.monotonic() - begun
    print(f"{total} tasks, {kills} kills, {rounds} rounds, {spent:.1f} s", file=sys.stderr)  # noqa: T201


@pytest.mark.windows
def test_very_many_tasks_while_workers_are_killed(tmp_path, pytestconfig):
    soak("process", tmp_path, pytestconfig, TASKS, share=0.9)


def test_many_tasks_of_the_manager_while_workers_are_killed(tmp_path, pytestconfig):
    soak("manager", tmp_path, pytestconfig, 5_000, share=0.1)
