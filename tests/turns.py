"""Rows that take turns: where all of them would take too long, each test runs on one, and another test on another one.

With `--by-turns`, as CI has it where it runs several versions of Python. On Windows, where workers start slowly, the
engines take turns, and elsewhere the start methods; each version has another one.
"""

from __future__ import annotations

import re
import sys
import zlib
from collections import defaultdict

METHOD = re.compile(r"\b(spawn|forkserver|fork)\b")
ENGINE = re.compile(r"\b(process|manager|pool|futures)\b")


def leave_out_by_turns(config, items):
    """Leave out all but one row of each test, but for those of what is private to the standard library."""
    of_windows, minor = sys.platform == "win32", sys.version_info.minor
    tests = defaultdict(list)  # items that differ by their row alone
    for item in items:
        row = (ENGINE if of_windows else METHOD).search(item.name)
        if row and item.path.parent.name != "unit":
            cls = None if of_windows else item.cls  # each engine has a class of the kit of its own
            tests[item.path, cls, item.name.replace(row[0], "")].append(item)
    left_out = set()
    for (_, _, name), rows in tests.items():
        turn = minor // 2 * (len(rows) // 2) if of_windows else minor  # of Windows, CI has 3.11 and 3.13
        left_out.update(rows)
        left_out.remove(rows[(zlib.crc32(name.encode()) + turn) % len(rows)])
    config.hook.pytest_deselected(items=list(left_out))
    items[:] = [item for item in items if item not in left_out]
