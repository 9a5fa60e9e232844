"""Which tests of the rows with processes run on Windows.

A worker takes long to start there, and the Windows of our tests is slow besides: so what does not depend on the engine
is tested on one of them, each test on another in its turn.
"""

from __future__ import annotations

import zlib
from collections import defaultdict

import pytest


def mark_one_of_each(items_and_rows):
    """Mark as `windows` one of the items of each test, that is, of those that differ by their row's name alone."""
    tests = defaultdict(list)
    for item, row in items_and_rows:
        tests[item.path, item.name.replace(row, "")].append(item)
    for (_, name), items in tests.items():
        items[zlib.crc32(name.encode()) % len(items)].add_marker(pytest.mark.windows)
