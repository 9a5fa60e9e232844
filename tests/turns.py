"""Rows that take turns: where all of them would take too long, each test runs on one, and another test on another one.

On Windows, where a worker takes long to start, the engines take turns. With `--by-turns`, by which CI keeps its second
and third version of Python short, the start methods do, and each version takes another one.
"""

from __future__ import annotations

import re
import sys
import zlib
from collections import defaultdict

import pytest

METHOD = re.compile(r"\b(spawn|forkserver|fork)\b")


def one_of_each(items_and_rows, offset=0):
    """Choose one of the items of each test, that is, of those that differ by their row's name alone."""
    tests = defaultdict(list)
    for item, row in items_and_rows:
        tests[item.path, item.name.replace(row, "")].append(item)
    return [items[(zlib.crc32(name.encode()) + offset) % len(items)] for (_, name), items in tests.items()]


def mark_one_of_each(items_and_rows):
    """Mark as `windows` one of the items of each test."""
    for item in one_of_each(items_and_rows):
        item.add_marker(pytest.mark.windows)


def leave_out_by_turns(config, items):
    """Leave out all but one start method of each test, but for those of what is private to the standard library."""
    classes = defaultdict(list)  # each has a backend of its own
    for item in items:
        method = METHOD.search(item.name)
        if method and item.path.parent.name != "unit":
            classes[item.cls].append((item, method[0]))
    chosen = {item for rows in classes.values() for item in one_of_each(rows, sys.version_info.minor)}
    left_out = {item for rows in classes.values() for item, _ in rows} - chosen
    config.hook.pytest_deselected(items=list(left_out))
    items[:] = [item for item in items if item not in left_out]
