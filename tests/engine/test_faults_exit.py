"""An executor that nobody shuts down: its work is done, as the standard one's would be, and nothing is left."""

from __future__ import annotations

import gc
import threading
from functools import partial

import fault_help
import fault_tasks as tasks
import pytest
from fault_help import every_row, process_only
from fault_tasks import SECONDS

faults = fault_help.faults


def end(faults, row, how):
    """Run a program up to its end, where it waits for its tasks; let these go on then."""
    program = faults.run(
        "end_without_shutdown", backend=row.backend, method=row.method, port=faults.port, notes=faults.notes, how=how
    )
    visitors = faults.gate.arrivals(3)
    assert {visitor.label for visitor in visitors} == {"0", "1", "exit"}
    assert faults.lines() == []
    for visitor in visitors:
        visitor.release()
    return program, program.wait()


@every_row
def test_tasks_of_main_run_at_interpreter_exit(faults, row):
    program, exit_code = end(faults, row, "")
    assert (exit_code, program.stderr) == (0, "")
    assert sorted(map(int, faults.lines())) == list(range(40))
    assert program.leaves_nothing()


@process_only
def test_tasks_run_if_the_executor_was_collected_and_the_program_ends(faults, row):
    program, exit_code = end(faults, row, "collected")
    assert (exit_code, program.stderr) == (0, "")
    assert sorted(map(int, faults.lines())) == list(range(40))
    assert program.leaves_nothing()


@process_only
def test_tasks_run_if_the_program_ends_by_an_error(faults, row):
    program, exit_code = end(faults, row, "by an error")
    assert exit_code == 1 and program.stderr.count(fault_help.TRACEBACK) == 1
    assert "LookupError: the program's own" in program.stderr
    assert sorted(map(int, faults.lines())) == list(range(40))
    assert program.leaves_nothing()


@every_row
@pytest.mark.parametrize("cycle", [False, True], ids=["dropped", "in a cycle"])
def test_collected_executor_does_its_work_and_ends(faults, row, cycle):
    threads = set(threading.enumerate())
    executor = row.make()
    held = [executor.submit(tasks.wait_at, faults.port, str(number)) for number in range(2)]
    futures = [executor.submit(tasks.note, faults.notes, number) for number in range(20)]
    results = executor.map(partial(tasks.note, faults.notes), range(20, 40), chunksize=5)
    visitors = faults.gate.arrivals(2)
    if cycle:
        executor.myself = executor
    del executor, results
    gc.collect()
    assert faults.lines() == []
    for visitor in visitors:
        visitor.release()
    assert [future.result(SECONDS) for future in held] == ["0", "1"]
    assert all(future.result(SECONDS) for future in futures)
    assert all(visitor.ends() for visitor in visitors)
    for thread in set(threading.enumerate()) - threads:
        thread.join(SECONDS)
        assert not thread.is_alive()
    assert sorted(map(int, faults.lines())) == list(range(40))
