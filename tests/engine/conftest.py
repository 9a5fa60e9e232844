"""Deadlines of the long tests, whose options, `--soak-seconds` and `--soak-seed`, are in ../conftest.py."""

from __future__ import annotations

import pytest

FILES = {"test_soak.py", "test_soak_aimed.py", "test_state_machine.py"}


def pytest_collection_modifyitems(config, items):
    seconds = config.getoption("soak_seconds") or 20.0
    for item in items:
        if item.path.name in FILES and not item.get_closest_marker("deadline"):
            item.add_marker(pytest.mark.deadline(100.0 + 3 * seconds))
