"""Deadlines of the long tests, whose options are in ../conftest.py, and which tests of faults run on Windows."""

from __future__ import annotations

import pytest

LONG = {"test_soak.py", "test_soak_aimed.py", "test_state_machine.py"}
ON_WINDOWS = {
    f"test_faults_{name}.py" for name in ("exit", "kill", "limits", "parent", "pipes", "recycling", "starting")
}


@pytest.hookimpl(tryfirst=True)  # before `-m` selects
def pytest_collection_modifyitems(config, items):
    seconds = config.getoption("soak_seconds") or 20.0
    for item in items:
        if item.path.name in LONG and not item.get_closest_marker("deadline"):
            item.add_marker(pytest.mark.deadline(100.0 + 3 * seconds))
        elif item.path.name in ON_WINDOWS:
            item.add_marker(pytest.mark.windows)
