"""The parent is killed: no worker outlives it, whatever it is at."""

from __future__ import annotations

import fault_help
import pytest
from fault_help import ENDED, every_row, process_only

faults = fault_help.faults


def kill_parent(faults, row, how):
    """Kill a program with two workers; return these as visitors."""
    program = faults.run("be_killed", backend=row.backend, method=row.method, port=faults.port, how=how)
    workers = faults.gate.arrivals(2)
    if how == "idle":
        for worker in workers:
            worker.release()
        assert faults.gate.arrival().label == "idle"
    assert program.processes() == [] or {worker.pid for worker in workers} < set(program.processes())
    program.kill()
    return program, workers


@every_row
@pytest.mark.parametrize("how", ["idle", "in C"])
def test_no_process_outlives_a_killed_parent(faults, row, how):
    """Neither a worker nor what starts them or serves them."""
    program, workers = kill_parent(faults, row, how)
    assert [worker.ends(ENDED) for worker in workers] == [True, True]
    assert program.leaves_nothing()


@process_only
@pytest.mark.parametrize("how", ["computing", "waiting", "reading", "catching everything", "starting"])
def test_no_worker_outlives_a_killed_parent_whatever_it_is_at(faults, row, how):
    program, workers = kill_parent(faults, row, how)
    assert [worker.ends(ENDED) for worker in workers] == [True, True]
    assert program.leaves_nothing()
