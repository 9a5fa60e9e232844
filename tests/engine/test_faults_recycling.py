"""`max_tasks_per_child`: workers are replaced between tasks, and the work goes on meanwhile."""

from __future__ import annotations

import multiprocessing
import os
import threading

import fault_help
import fault_tasks as tasks
from fault_help import both_backends, every_row, outcome, process_only, rows
from fault_tasks import SECONDS

from parapluie import WorkerLostError
from parapluie.testing.processes import SLOWER

faults = fault_help.faults

COUNTS = {"fork": 300, "forkserver": 24, "spawn": 12}
EACH = 60 if SLOWER == 1 else 6  # tasks of one of four executors, each with a process of its own


def recycle_one(faults, row, limit):
    """Have two workers, one of which has just done its last task; whoever replaces it is held at the gate.

    Return the executor and the other one's task, which is held too.
    """
    executor = faults.make(
        row, max_tasks_per_child=limit, initializer=tasks.wait_after, initargs=(faults.notes, faults.port, 2)
    )
    held = [executor.submit(tasks.wait_at, faults.port, str(number)) for number in range(2)]
    first, second = faults.gate.arrivals(2)
    retired = first
    first.release()
    assert held[int(first.label)].result(SECONDS) == first.label
    for _ in range(limit - 1):
        assert executor.submit(tasks.pid).result(SECONDS) == retired.pid
    return executor, held[int(second.label)], retired, second


@both_backends
def test_last_reply_of_a_worker_does_not_wait_for_its_replacement(faults, row):
    """And the worker itself ends at once."""
    executor, held, retired, other = recycle_one(faults, row, limit=3)
    assert retired.ends()
    future = executor.submit(tasks.pid)
    starting = faults.gate.arrival()
    assert starting.label == "starting" and not future.done()
    starting.release()
    assert future.result(SECONDS) == starting.pid
    other.release()
    assert held.result(SECONDS) == other.label


@both_backends
def test_others_go_on_while_a_replacement_starts(faults, row):
    executor, held, _, other = recycle_one(faults, row, limit=100)
    futures = [executor.submit(tasks.pid)]
    starting = faults.gate.arrival()
    futures += [executor.submit(tasks.pid) for _ in range(20)]
    other.release()
    assert held.result(SECONDS) == other.label
    assert {future.result(SECONDS) for future in futures} == {other.pid}
    assert starting.label == "starting"


@every_row
def test_worker_for_each_task_loses_and_doubles_nothing(faults, row):
    count = COUNTS[row.method]
    executor = faults.make(row, max_tasks_per_child=1)
    pids = [executor.submit(tasks.note_pid, faults.notes, number) for number in range(count)]
    assert len({future.result(SECONDS) for future in pids}) == count
    assert sorted(map(int, faults.lines())) == list(range(count))
    stats = executor.stats()
    assert (stats.done, stats.lost, stats.failed) == (count, 0, 0)


@both_backends
def test_worker_for_each_chunk_loses_and_doubles_nothing(faults, row):
    executor = faults.make(row, max_tasks_per_child=1)
    pids = list(executor.map(tasks.note_pid, [faults.notes] * 200, range(200), chunksize=4))
    assert sorted(map(int, faults.lines())) == list(range(200))
    # One that was not let run for a while may be relieved of a part of its chunk, which is then a task of its own.
    assert max(pids.count(pid) for pid in pids) <= 4 and len(set(pids)) >= 50


@rows("process-fork")
def test_exit_code_that_somebody_else_takes_is_told(faults, row, monkeypatch):
    """`active_children()` in any thread reaps all children: here it is first, and is slow to say what it found."""
    taken, missed, stop = threading.Event(), threading.Event(), threading.Event()
    waitpid = os.waitpid

    def wait_in_turn(pid, options):
        if not options:
            taken.wait(SECONDS)
        try:
            found = waitpid(pid, options)
        except ChildProcessError:
            missed.set()
            raise
        if options and found[0]:
            taken.set()
            missed.wait(SECONDS)
        return found

    def take():
        while not stop.wait(0.001):
            multiprocessing.active_children()

    executor = faults.make(row, max_workers=1)
    assert executor.submit(tasks.square, 3).result(SECONDS) == 9
    monkeypatch.setattr(os, "waitpid", wait_in_turn)
    other = threading.Thread(target=take, daemon=True)
    other.start()
    error = executor.submit(tasks.exit_if_odd, 1, 43).exception(SECONDS)
    stop.set()
    missed.set()
    other.join(SECONDS)
    assert isinstance(error, WorkerLostError) and error.exit_code == 43


@process_only
def test_exit_codes_are_right_while_four_executors_replace_their_workers(faults, row):
    """Each start of a process reaps the children of all: an exit code must not be lost in between."""
    executors = [faults.make(row, max_tasks_per_child=1) for _ in range(4)]
    outcomes = {}

    def run(code):
        executor = executors[code - 40]
        futures = [executor.submit(tasks.exit_if_odd, number, code) for number in range(EACH)]
        outcomes[code] = [outcome(future) for future in futures]

    threads = [threading.Thread(target=run, args=(code,), daemon=True) for code in range(40, 44)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
        assert not thread.is_alive()
    for code, values in outcomes.items():
        assert values[::2] == list(range(0, EACH, 2))
        assert [type(error) for error in values[1::2]] == [WorkerLostError] * (EACH // 2)
        assert {error.exit_code for error in values[1::2]} == {code}
    assert [executor.stats().lost for executor in executors] == [EACH // 2] * 4
