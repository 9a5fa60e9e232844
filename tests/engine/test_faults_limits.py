"""The limits of the machine: no more threads, processes or descriptors. It is said, it leaks nothing, and it passes."""

from __future__ import annotations

import errno
import multiprocessing
import threading
from concurrent.futures import BrokenExecutor

import fault_help
import fault_tasks as tasks
import pytest
from fault_help import Left, both_backends, linux, outcome, process_methods, process_only, rows, until
from fault_tasks import SECONDS

from parapluie import Executor, WorkerInitError, WorkerLostError
from parapluie.testing import processes

faults = fault_help.faults

MANY = 66  # workers; Windows waits for 63 things in one call


# ---- threads ----------------------------------------------------------------------------------------------------


def make_with_threads(row, monkeypatch, most):
    """Make an executor where only so many threads of its own can be started; return it, or why that failed."""
    start, left = threading.Thread.start, [most]

    def start_some(thread):
        if thread.name.startswith("parapluie"):
            left[0] -= 1
            if left[0] < 0:
                raise RuntimeError("can't start new thread")
        start(thread)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start_some)
        try:
            return row.make()
        except RuntimeError as error:
            return str(error)


@both_backends
def test_executor_whose_threads_cannot_start_is_refused_and_leaves_nothing(faults, row, monkeypatch):
    use(row)  # for what is started once and kept
    before = Left.now()
    most = 0
    while made := make_with_threads(row, monkeypatch, most):
        if isinstance(made, Executor):
            break
        assert made == "can't start new thread"
        assert until(before.is_all, 5), f"{Left.now()} where there was {before}"
        most += 1
    assert 1 <= most < 10
    with made as executor:
        assert executor.submit(tasks.square, 3).result(SECONDS) == 9
    assert until(before.is_all, 5)


def use(row):
    with row.make() as executor:
        assert executor.submit(tasks.square, 3).result(SECONDS) == 9


# ---- processes --------------------------------------------------------------------------------------------------


class Limited:
    """Wraps a multiprocessing context that refuses to start processes at times, as a system does at its limit.

    Attributes:
        refuses: how many of the next ones. refused: how many were.
    """

    def __init__(self, method, refuses):
        self.context = type(multiprocessing.get_context(method))()
        self.context.Process = self._make
        self._method = method
        self.refuses, self.refused = refuses, 0

    def _make(self, *args, **kwargs):
        process = multiprocessing.get_context(self._method).Process(*args, **kwargs)
        if self.refuses > 0:
            self.refuses -= 1
            process.start = self._refuse
        return process

    def _refuse(self):
        self.refused += 1
        raise BlockingIOError(errno.EAGAIN, "no more processes")


@process_methods
def test_executor_that_can_start_no_worker_says_so_and_leaves_nothing(faults, row):
    use(row)
    before = Left.now()
    limited = Limited(row.method, float("inf"))
    with Executor(row.backend, 2, mp_context=limited.context) as executor:
        error = executor.submit(tasks.square, 3).exception(SECONDS)
        assert isinstance(error, WorkerInitError) and isinstance(error, BrokenExecutor)
        assert "a process could not be started: BlockingIOError" in str(error) and "no more processes" in str(error)
        assert isinstance(error.__cause__, BlockingIOError)
        with pytest.raises(WorkerInitError):
            executor.submit(tasks.square, 3)
    assert 2 <= limited.refused <= 8
    assert until(before.is_all, 5), f"{Left.now()} where there was {before}"
    use(row)


@process_methods
def test_worker_that_can_be_started_a_little_later_costs_nothing(faults, row):
    limited = Limited(row.method, 2)
    with Executor(row.backend, 1, mp_context=limited.context) as executor:
        futures = [executor.submit(tasks.square, number) for number in range(20)]
        assert [outcome(future) for future in futures] == [number * number for number in range(20)]
        assert executor.stats().lost == 0
    assert limited.refused == 2


@process_methods
def test_workers_that_live_go_on_where_no_more_can_be_started(faults, row):
    """And when the limit is gone, there are as many as there are to be."""
    limited = Limited(row.method, 0)
    with Executor(row.backend, 2, mp_context=limited.context) as executor:
        held = executor.submit(tasks.wait_at, faults.port)
        visitor = faults.gate.arrival()
        limited.refuses = float("inf")
        futures = [executor.submit(tasks.square, number) for number in range(20)]
        assert until(lambda: limited.refused >= 5 or all(future.done() for future in futures))
        visitor.release()
        assert outcome(held) == ""
        assert [outcome(future) for future in futures] == [number * number for number in range(20)]
        limited.refuses = 0
        both = [executor.submit(tasks.wait_at, faults.port) for _ in range(2)]
        for visitor in faults.gate.arrivals(2):
            visitor.release()
        assert [outcome(future) for future in both] == ["", ""]


@process_only
@pytest.mark.deadline(120)
def test_more_workers_than_windows_waits_for_in_one_call(faults, row):
    """All of them at work at once; and it is seen when some of them die."""
    executor = faults.make(row, MANY)
    held = [executor.submit(tasks.wait_at, faults.port, str(number)) for number in range(MANY)]
    visitors = faults.gate.arrivals(MANY)
    assert len({visitor.pid for visitor in visitors}) == MANY
    killed = visitors[::13]
    for visitor in killed:
        processes.end(visitor.pid)
    assert {type(held[int(visitor.label)].exception(SECONDS)) for visitor in killed} == {WorkerLostError}
    faults.gate.open()
    alive = set(range(MANY)) - {int(visitor.label) for visitor in killed}
    assert [held[number].result(SECONDS) for number in alive] == [str(number) for number in alive]


# ---- descriptors ------------------------------------------------------------------------------------------------


@linux
@rows("process-fork", "process-forkserver")
def test_executor_short_of_descriptors_says_so_leaves_nothing_and_works_again(faults, row):
    program = faults.run("run_short_of_descriptors", method=row.method)
    assert program.wait() == 0, program.stderr
    *failures, (result, _, _) = program.answer()
    assert result == 9 and len(failures) >= 2
    for how, before, after in failures:
        assert "Too many open files" in how
        assert after == before, how
    assert program.leaves_nothing()
