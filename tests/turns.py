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
    turn = engines if sys.platform == "win32" else start_methods
    left_out = set()
    for (_, name), rows in turn([item for item in items if item.path.parent.name != "unit"]).items():
        left_out.update(rows)
        left_out.remove(rows[(zlib.crc32(name.encode()) + step(len(rows))) % len(rows)])
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


def step(count):
    """Return how far to go on in so many rows for this version of Python. Of Windows CI has 3.11 and 3.13."""
    minor = sys.version_info.minor
    return minor // 2 * max(1, count // 2) if sys.platform == "win32" else minor
