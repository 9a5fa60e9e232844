"""Workers that fail, die or hang before they are ready: tried again, but not for ever, and explained."""

from __future__ import annotations

import fault_help
import fault_tasks as tasks
import pytest
from fault_help import both_backends, every_method, every_row, outcome, posix, process_only, rows, until
from fault_tasks import SECONDS

from parapluie import RemoteTraceback, WorkerInitError
from parapluie.testing import processes
from parapluie.testing.processes import SLOWER

faults = fault_help.faults

WAYS_TO_DIE = ["exits", "killed"]
LATE = 0.3 * SLOWER
MOST_TRIES = 8  # of an executor with two workers; each may be at its last one when the first gives up


def submit_some(executor, count=40):
    """Submit tasks until it is known that workers cannot start."""
    futures = []
    for number in range(count):
        try:
            futures.append(executor.submit(tasks.square, number))
        except WorkerInitError:
            break
    return futures


@every_row
def test_failing_initializer_is_tried_a_few_times_and_ends_every_task_with_its_traceback(faults, row):
    executor = faults.make(row, initializer=tasks.fail_to_prepare, initargs=(faults.notes,))
    futures = submit_some(executor)
    errors = [future.exception(SECONDS) for future in futures]
    assert {type(error) for error in errors} == {WorkerInitError}
    for error in errors:
        assert "the initializer raised OSError: no disk" in str(error) and error.tries <= MOST_TRIES
        assert isinstance(error.__cause__, OSError) and isinstance(error.__cause__.__cause__, RemoteTraceback)
        assert "in fail_to_prepare" in error.__cause__.__cause__.tb
    with pytest.raises(WorkerInitError, match="no disk"):
        executor.submit(tasks.square, 1)
    executor.shutdown()
    assert 2 <= len(faults.lines()) <= MOST_TRIES


@both_backends
def test_failing_initializer_is_tried_a_few_times_for_a_map(faults, row):
    executor = faults.make(row, initializer=tasks.fail_to_prepare, initargs=(faults.notes,), max_tasks_per_child=1)
    with pytest.raises(WorkerInitError, match="no disk"):
        list(executor.map(tasks.square, range(1000)))
    executor.shutdown()
    assert len(faults.lines()) <= MOST_TRIES


@every_method
def test_initializer_that_fails_twice_costs_nothing(faults, row):
    executor = faults.make(row, initializer=tasks.fail_to_prepare, initargs=(faults.notes, 2))
    futures = [executor.submit(tasks.square, number) for number in range(40)]
    assert [outcome(future) for future in futures] == [number * number for number in range(40)]
    stats = executor.stats()
    assert (stats.done, stats.lost, stats.retried, stats.failed) == (40, 0, 0, 0)
    assert {future.attempts for future in futures} == {1}


@every_method
@pytest.mark.parametrize("how", WAYS_TO_DIE)
def test_worker_that_dies_while_it_starts_costs_nothing(faults, row, how):
    executor = faults.make(row, initializer=tasks.die_preparing, initargs=(faults.notes, how, 2))
    futures = [executor.submit(tasks.square, number) for number in range(40)]
    assert [outcome(future) for future in futures] == [number * number for number in range(40)]
    stats = executor.stats()
    assert (stats.done, stats.lost, stats.retried, stats.failed) == (40, 0, 0, 0)


@every_method
@pytest.mark.parametrize("how", WAYS_TO_DIE)
def test_workers_that_all_die_while_they_start_are_a_few_and_end_every_task(faults, row, how):
    executor = faults.make(row, initializer=tasks.die_preparing, initargs=(faults.notes, how))
    errors = [future.exception(SECONDS) for future in submit_some(executor)]
    assert {type(error) for error in errors} == {WorkerInitError}
    words = processes.KILLED_WORDS if how == "killed" else "ended with exit code 7"
    assert all(f"a worker {words} before it was ready" in str(error) for error in errors)
    executor.shutdown()
    assert 2 <= len(faults.lines()) <= MOST_TRIES


@rows("process-spawn")
@pytest.mark.parametrize(("deaths", "exit_code"), [(2, 0), (1000, 1)])
def test_worker_that_dies_of_importing_main(faults, row, deaths, exit_code):
    """Before anything of ours runs in it."""
    environment = {"FAULT_DEATHS": str(deaths), "FAULT_NOTES": faults.notes}
    program = faults.run("square_in_main", environment, backend=row.backend, method=row.method)
    assert program.wait() == exit_code, program.stderr
    if exit_code:
        assert "WorkerInitError" in program.stderr and f"{processes.KILLED_WORDS} before it was ready" in program.stderr
        assert 2 <= len(faults.lines()) <= MOST_TRIES
    else:
        assert program.answer() == [number * number for number in range(20)] and program.stderr == ""


@process_only
@pytest.mark.parametrize("how", ["waiting", "in C", pytest.param("stopped", marks=posix)])
def test_initializer_that_hangs_once_costs_nothing(faults, row, how):
    once = faults.notes, faults.port, how, 1
    executor = faults.make(row, 1, start_timeout=0.7 * SLOWER, initializer=tasks.hang_preparing, initargs=once)
    futures = [executor.submit(tasks.square, number) for number in range(40)]
    assert faults.gate.arrival().ends()
    assert [outcome(future) for future in futures] == [number * number for number in range(40)]
    assert executor.stats().lost == 0


@every_method
def test_initializers_that_hang_are_a_few_and_end_every_task(faults, row):
    executor = faults.make(
        row, start_timeout=LATE, initializer=tasks.hang_preparing, initargs=(faults.notes, faults.port, "in C")
    )
    errors = [future.exception(SECONDS) for future in submit_some(executor)]
    assert {type(error) for error in errors} == {WorkerInitError}
    assert all(f"a worker was not ready after start_timeout={LATE:g} seconds" in str(error) for error in errors)
    executor.shutdown()
    assert len(faults.lines()) <= MOST_TRIES
    while not faults.gate.nobody():
        assert faults.gate.arrival().ends()


@process_only
def test_failures_to_start_do_not_add_up_over_the_years(faults, row):
    """Only those in a row count: here each second worker fails."""
    executor = faults.make(row, 1, max_tasks_per_child=1, initializer=tasks.fail_each_second, initargs=(faults.notes,))
    assert [executor.submit(tasks.square, number).result(SECONDS) for number in range(20)] == [n * n for n in range(20)]
    assert until(lambda: executor.stats().workers <= 1)
