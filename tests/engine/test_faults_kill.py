"""Tasks that have to be killed: whatever they are at they end in time, and nobody pays with them."""

from __future__ import annotations

import concurrent.futures

import fault_help
import fault_tasks as tasks
import pytest
from fault_help import both_backends, linux, params, posix, process_only
from fault_tasks import SECONDS

from parapluie import BackendBrokenError, Shutdown, TaskTimeoutError, WorkerLostError
from parapluie.testing.processes import SLOWER

faults = fault_help.faults

# What a task is at that has to be killed: in C code on every row, and all the rest on one.
WAYS = [(row, "in C") for row in params(*fault_help.ALL)]
WAYS += [(row, how) for row in params("process-quick") for how in ("waiting", "catching everything", "stopped")]
on_rows_in_ways = pytest.mark.parametrize(
    ("row", "how"),
    [
        pytest.param(*row.values, how, id=f"{row.id}-{how}", marks=[*row.marks, *([posix] if how == "stopped" else [])])
        for row, how in WAYS
    ],
)
LIMIT = 0.2 * SLOWER  # in which a task gets as far as to the gate
BATCH = 300


def warm_up(executor):
    """Let the engine learn that tasks are quick, so that it gives a worker many ahead."""
    futures = [executor.submit(tasks.square, number) for number in range(300)]
    assert [future.result(SECONDS) for future in futures] == [number * number for number in range(300)]


def behind_a_gate(faults, executor, submit):
    """Submit a task that gets stuck and a batch behind it, all while the one worker is held; return their futures."""
    warm_up(executor)
    held = executor.submit(tasks.wait_at, faults.port)
    visitor = faults.gate.arrival()
    stuck = submit()
    batch = [executor.submit(tasks.note_pid, faults.notes, number) for number in range(BATCH)]
    visitor.release()
    assert held.result(SECONDS) == ""
    return stuck, batch


def assert_batch_is_whole(faults, batch, killed):
    """Each of them ran once, and elsewhere; it did not even spend an attempt."""
    pids = {future.result(SECONDS) for future in batch}
    assert killed not in pids and len(pids) == 1
    assert sorted(map(int, faults.lines())) == list(range(BATCH))
    assert {future.attempts for future in batch} == {1}


@on_rows_in_ways
def test_overrun_is_killed_whatever_it_does_and_its_batch_runs_elsewhere(faults, row, how):
    executor = faults.make(row, max_workers=1)
    limited = executor.with_options(task_timeout=LIMIT)
    stuck, batch = behind_a_gate(faults, executor, lambda: limited.submit(tasks.get_stuck, faults.port, how))
    visitor = faults.gate.arrival()
    error = stuck.exception(SECONDS)
    assert isinstance(error, TaskTimeoutError) and error.limit == LIMIT
    assert visitor.ends()
    assert_batch_is_whole(faults, batch, visitor.pid)
    stats = executor.stats()
    assert (stats.workers, stats.lost, stats.failed, stats.retried) == (1, 1, 1, 0)


@on_rows_in_ways
def test_cancelling_ends_a_task_whatever_it_does_and_its_batch_runs_elsewhere(faults, row, how):
    executor = faults.make(row, max_workers=1)
    stuck, batch = behind_a_gate(faults, executor, lambda: executor.submit(tasks.get_stuck, faults.port, how))
    visitor = faults.gate.arrival()
    assert stuck.cancel(running=True) and stuck.cancelled()
    assert visitor.ends()
    assert_batch_is_whole(faults, batch, visitor.pid)
    stats = executor.stats()
    assert (stats.workers, stats.lost, stats.failed, stats.cancelled) == (1, 0, 0, 1)


@both_backends
@pytest.mark.parametrize("how", ["overruns", "is cancelled"])
def test_task_killed_as_soon_as_it_begins_leaves_its_batch_whole(faults, row, how):
    """Before the worker's quiet is noticed, and what is behind taken back: here that dies with it."""
    executor = faults.make(row, max_workers=1)
    view = executor.with_options(task_timeout=0.001) if how == "overruns" else executor
    warm_up(executor)
    before = [executor.submit(tasks.note_pid, faults.notes, number) for number in range(BATCH)]
    stuck = view.submit(tasks.stay)
    behind = [executor.submit(tasks.note_pid, faults.notes, number) for number in range(BATCH, 2 * BATCH)]
    if how == "is cancelled":
        while not stuck.running():
            """At once."""
        assert stuck.cancel(running=True)
    else:
        assert isinstance(stuck.exception(SECONDS), TaskTimeoutError)
    killed = {future.result(SECONDS) for future in before}
    assert len(killed) == 1 and not {future.result(SECONDS) for future in behind} & killed
    assert sorted(map(int, faults.lines())) == list(range(2 * BATCH))
    assert {future.attempts for future in before + behind} == {1}


@process_only
def test_every_worker_can_be_stuck_at_once(faults, row):
    """Two that overrun and two that are cancelled, with work behind them all."""
    executor = faults.make(row, max_workers=4)
    limited = executor.with_options(task_timeout=LIMIT)
    overrun = [limited.submit(tasks.get_stuck, faults.port, how, "overrun") for how in ("in C", "waiting")]
    cancelled = [executor.submit(tasks.get_stuck, faults.port, how, "cancelled") for how in ("in C", "waiting")]
    batch = [executor.submit(tasks.square, number) for number in range(BATCH)]
    visitors = faults.gate.arrivals(4)
    assert [future.cancel(running=True) for future in cancelled] == [True, True]
    done, _ = concurrent.futures.wait(overrun, SECONDS)
    assert {type(future.exception(0)) for future in done} == {TaskTimeoutError} and len(done) == 2
    assert all(visitor.ends() for visitor in visitors)
    assert [future.result(SECONDS) for future in batch] == [number * number for number in range(BATCH)]


@process_only
@pytest.mark.parametrize(
    "how", ["in C", "catching everything", "ignoring termination", pytest.param("stopped", marks=linux)]
)
def test_shutdown_ends_a_task_whatever_it_does(faults, row, how):
    executor = faults.make(row, shutdown=Shutdown(drain=False, grace=0.1))
    stuck = [executor.submit(tasks.get_stuck, faults.port, how) for _ in range(2)]
    visitors = faults.gate.arrivals(2)
    executor.shutdown()
    assert all(visitor.ends() for visitor in visitors)
    assert [type(future.exception(0)) for future in stuck] == [WorkerLostError] * 2
    assert executor.stats().workers == 0


@process_only
def test_what_is_logged_of_a_kill_without_delay_does_not_claim_a_delay(faults, row, caplog):
    executor = faults.make(row, 1)
    future = executor.submit(tasks.wait_at, faults.port)
    visitor = faults.gate.arrival()
    executor._dispatcher.ending.broken(OSError("no engine"))
    assert isinstance(future.exception(SECONDS), BackendBrokenError)
    executor.shutdown()
    assert visitor.ends()
    assert "was told not to wait" in caplog.text and "seconds" not in caplog.text
