"""Which of the kit's tests run on Windows: those of the backends that we ship, with `spawn`."""

from __future__ import annotations

import sys

import pytest

from parapluie.testing.fixtures import Row

ON_WINDOWS = {"thread", "serial", "process-spawn", "manager-spawn", "pool-spawn", "futures-spawn"}
# Where Windows is Wine, today's NumPy crashes when it is imported. The suite of buffers does without.
collect_ignore = ["test_arrays.py"] if sys.platform == "win32" else []


@pytest.hookimpl(tryfirst=True)  # before `-m` selects
def pytest_collection_modifyitems(items):
    for item in items:
        row = item.callspec.params.get("backend") if hasattr(item, "callspec") else None
        if isinstance(row, Row) and row.id in ON_WINDOWS:
            item.add_marker(pytest.mark.windows)
