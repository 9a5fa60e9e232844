"""Ctrl-C in a terminal: what waits is cancelled, what runs has the grace period, and one traceback tells of it."""

from __future__ import annotations

import signal

import fault_help
import pytest
from fault_help import TRACEBACK, every_method, posix, process_only, rows

faults = fault_help.faults
pytestmark = posix

PLACES = ["result", "end_of_block", "shutdown"]
LONG = 100.0


def begin(faults, row, place, **kwargs):
    """Start a program and wait until it waits in that place, with two tasks at the gate; return these as well."""
    program = faults.run(
        "be_interrupted",
        backend=row.backend,
        method=row.method,
        port=faults.port,
        notes=faults.notes,
        place=place,
        **kwargs,
    )
    visitors = {visitor.label: visitor for visitor in faults.gate.arrivals(3)}
    assert set(visitors) == {"0", "1", "waiting"}
    return program, (visitors["0"], visitors["1"])


def assert_one_traceback(program):
    assert program.stderr.count(TRACEBACK) == 1 and "KeyboardInterrupt" in program.stderr, program.stderr
    assert "Process parapluie-" not in program.stderr and "initializer" not in program.stderr


def assert_ended(program, faults, running):
    """What ran was ended, what waited was cancelled, one traceback tells of it, and nothing is left."""
    assert program.answer() == [["WorkerLostError", "WorkerLostError"], ["cancelled"]]
    assert all(visitor.ends() for visitor in running) and faults.lines() == []
    assert_one_traceback(program)
    assert program.leaves_nothing()


@rows("process-quick", "process-forkserver", "process-spawn", "manager-quick")
@pytest.mark.parametrize("place", PLACES)
def test_what_runs_ends_well_and_what_waits_is_cancelled(faults, row, place):
    program, running = begin(faults, row, place, ends=True, grace=LONG)
    program.interrupt()
    assert faults.gate.arrival().label == "cancelled"  # the last of those that waited
    for visitor in running:
        visitor.release()
    assert program.wait() == -signal.SIGINT
    assert program.answer() == [["NoneType", "NoneType"], ["cancelled"]]
    assert faults.lines() == []
    assert_one_traceback(program)
    assert program.leaves_nothing()


@process_only
@pytest.mark.parametrize("place", PLACES)
def test_what_outstays_the_grace_period_is_ended(faults, row, place):
    program, running = begin(faults, row, place, ends=False, grace=0.2)
    program.interrupt()
    assert program.wait() == -signal.SIGINT
    assert_ended(program, faults, running)


@every_method
def test_map_is_cancelled(faults, row):
    program, running = begin(faults, row, "map", ends=False, grace=0.2)
    program.interrupt()
    assert program.wait() == -signal.SIGINT
    assert all(visitor.ends() for visitor in running) and faults.gate.nobody()
    assert_one_traceback(program)
    assert program.leaves_nothing()


@process_only
@pytest.mark.parametrize("again", ["while it waits", "while it cancels"])
@pytest.mark.parametrize("place", PLACES)
def test_second_interrupt_kills(faults, row, place, again):
    """While the running ones have their grace period, or in the middle of what the first one does."""
    program, running = begin(faults, row, place, ends=False, grace=LONG, again=again)
    program.interrupt()
    assert faults.gate.arrival().label == "cancelled"
    if again == "while it waits":
        assert faults.gate.arrival().label == "waiting again"
    program.interrupt()
    assert program.wait() == -signal.SIGINT
    assert_ended(program, faults, running)


@process_only
def test_interrupt_at_interpreter_exit(faults, row):
    """The program has ended, and waits for what it has submitted."""
    program, running = begin(faults, row, "exit", ends=False, grace=0.2)
    program.interrupt()
    program.wait()
    assert_ended(program, faults, running)


@rows("process-forkserver", "process-spawn")
def test_worker_that_is_starting_takes_no_notice(faults, row):
    program = faults.run(
        "be_interrupted_while_a_worker_starts", backend=row.backend, method=row.method, port=faults.port
    )
    starting = faults.gate.arrival()
    program.interrupt()
    starting.release()
    assert program.wait() == -signal.SIGINT
    assert_one_traceback(program)
    assert program.leaves_nothing()
