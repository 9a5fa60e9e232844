"""Rows that take turns: where all of them would take too long, each test runs on some, and another test on others.

With `--by-turns`, as CI has it where it runs several versions of Python. On Windows, where workers start slowly, the
engines take turns, and elsewhere the start methods. Each version has others: 3.11 and 3.13 have all engines together.
"""

from __future__ import annotations

import re
import sys
import zlib
from collections import defaultdict

METHOD = re.compile(r"\b(spawn|forkserver|fork)\b")
ENGINE = re.compile(r"\b(process|manager|pool|futures)\b")


def leave_out_by_turns(config, items):
    """Leave out rows of each test, but for those of what is private to the standard library: it differs by version."""
    of_windows = sys.platform == "win32"
    chosen = half if of_windows else one
    tests = defaultdict(list)  # items that differ by their row alone
    for item in items:
        row = (ENGINE if of_windows else METHOD).search(item.name)
        if row and item.path.parent.name != "unit":
            # A suite's class has a backend of its own.
            tests[item.path, item.cls, item.name.replace(row[0], "")].append(item)
    left_out = set()
    for (_, _, name), rows in tests.items():
        left_out.update(set(rows) - set(chosen(rows, zlib.crc32(name.encode()))))
    config.hook.pytest_deselected(items=list(left_out))
    items[:] = [item for item in items if item not in left_out]


def one(rows, offset):
    return [rows[(offset + sys.version_info.minor) % len(rows)]]


def half(rows, offset):
    """Return the half of the rows that the version before the last one has not, or one more."""
    count = (len(rows) + 1) // 2
    begin = offset + sys.version_info.minor // 2 * count
    return [rows[(begin + index) % len(rows)] for index in range(count)]
