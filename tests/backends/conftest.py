"""Which of the kit's tests run on Windows: all of those in this process; of the engines, each on one, by turns."""

from __future__ import annotations

import sys

import pytest
from turns import mark_one_of_each

from parapluie.testing.fixtures import Row

IN_PROCESS = ("thread", "serial")
ENGINES = ("process-spawn", "manager-spawn", "pool-spawn", "futures-spawn")
# Where Windows is Wine, today's NumPy crashes when it is imported. The suite of buffers does without.
collect_ignore = ["test_arrays.py"] if sys.platform == "win32" else []


@pytest.hookimpl(tryfirst=True)  # before `-m` selects
def pytest_collection_modifyitems(items):
    by_turns = []
    for item in items:
        row = item.callspec.params.get("backend") if hasattr(item, "callspec") else None
        if not isinstance(row, Row):
            continue
        if row.id in IN_PROCESS:
            item.add_marker(pytest.mark.windows)
        elif row.id in ENGINES:
            by_turns.append((item, row.id))
    mark_one_of_each(by_turns)
