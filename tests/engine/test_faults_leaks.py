"""A thousand executors, opened and closed: nothing is left of them."""

from __future__ import annotations

import fault_help
import pytest
from fault_help import rows

faults = fault_help.faults

COUNTS = {  # a thousand together
    ("process", "fork"): 780,
    ("process", "forkserver"): 60,
    ("process", "spawn"): 20,
    ("manager", "fork"): 120,
    ("manager", "forkserver"): 15,
    ("manager", "spawn"): 5,
}


def test_they_are_a_thousand():
    assert sum(COUNTS.values()) == 1000


@rows(*(f"{backend}-{method}" for backend, method in COUNTS))
@pytest.mark.deadline(200)
def test_many_executors_leave_nothing(faults, row):
    """The resource tracker would tell at the end of the program of semaphores and segments that were not let go."""
    program = faults.run(
        "open_and_close", backend=row.backend, method=row.method, notes=faults.notes, count=COUNTS[row]
    )
    assert program.wait(150) == 0, program.stderr
    assert program.stderr == ""
    first, last = program.answer()
    assert last == first
    assert program.leaves_nothing()
    assert program.shared_memory() == []
