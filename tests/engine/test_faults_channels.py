"""Channels under faults of the whole program: it is killed, or interrupted, and nothing is left of it."""

from __future__ import annotations

import fault_help
import pytest
from fault_help import ENDED, posix, process_methods, process_only
from fault_tasks import SECONDS

faults = fault_help.faults


def run(faults, row, name, **arguments):
    return faults.run(name, file="channel_programs.py", backend=row.backend, method=row.method, **arguments)


@pytest.mark.windows
@process_methods
@pytest.mark.parametrize("how", ["getting", "putting", "talking"])
def test_nothing_outlives_a_killed_parent(faults, row, how):
    program = run(faults, row, "be_killed", port=faults.port, how=how)
    workers = faults.gate.arrivals(2)
    program.kill()
    assert [worker.ends(ENDED) for worker in workers] == [True, True]
    assert program.leaves_nothing()


@posix
@process_only
def test_interrupt_ends_the_wait_in_a_channel(faults, row):
    program = run(faults, row, "be_interrupted", port=faults.port)
    assert {faults.gate.arrival().label for _ in range(2)} == {"0", "waiting"}
    program.interrupt()
    assert program.wait(SECONDS) == 0
    assert program.answer() == ["NoneType", "SharedStateLostError"]  # the consumer's result was there
    assert program.leaves_nothing()
