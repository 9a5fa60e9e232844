"""Rows that take turns: where all of them would take too long, each test runs on some, and another test on others.

With `--by-turns`, as CI has it where it runs several versions of Python. On Windows, where workers start slowly, the
engines take turns, and 3.11 and 3.13 have all of them together; elsewhere the start methods, of which each version has
another one.
"""

from __future__ import annotations

import re
import sys
import zlib
from collections import defaultdict

METHOD = re.compile(r"\b(spawn|forkserver|fork)\b")
ENGINE = re.compile(r"\b(process|manager|pool|futures)\b")


def leave_out_by_turns(config, items):
    """Leave out rows of each test, but for those of what is private to the standard library."""
    turn = engines if sys.platform == "win32" else start_methods
    chosen, left_out = set(), set()
    for (_, name), rows in turn([item for item in items if item.path.parent.name != "unit"]).items():
        left_out.update(rows)
        chosen.update(some(rows, zlib.crc32(name.encode())))
    left_out -= chosen
    config.hook.pytest_deselected(items=list(left_out))
    items[:] = [item for item in items if item not in left_out]


def engines(items):
    """Return the rows of each test that differ by their engine; each has a class of the kit of its own."""
    tests = defaultdict(list)
    for item in items:
        if row := ENGINE.search(item.name):
            tests[item.path, item.name.replace(row[0], "")].append(item)
    return tests


def start_methods(items):
    """Return the rows of each test that differ by their start method."""
    tests = defaultdict(list)
    for item in items:
        if row := METHOD.search(item.name):
            tests[(item.path, item.cls), item.name.replace(row[0], "")].append(item)
    return tests


def some(rows, offset):
    """Return one of the rows of start methods, or half of those of engines."""
    count, turn = 1, sys.version_info.minor
    if sys.platform == "win32":
        count = (len(rows) + 1) // 2
        turn = turn // 2 * count  # 3.11 and 3.13 differ by one step
    return [rows[(offset + turn + index) % len(rows)] for index in range(count)]
