"""The rows of the tests of the first day.

A test that asks for `row` runs on every backend that starts processes, with every start method that imports the main
module again; one that asks for `any_row`, with `fork` as well. On Windows it is one of them by turns.
"""

from __future__ import annotations

import pytest
from first_day_programs import BACKENDS, METHODS, Folder, Row
from turns import mark_one_of_each


def rows(methods):
    for backend in BACKENDS:
        for method in methods:
            yield pytest.param(Row(backend, method), id=f"{backend}-{method}")


def pytest_generate_tests(metafunc):
    for name, methods in (("row", [method for method in METHODS if method != "fork"]), ("any_row", METHODS)):
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, list(rows(methods)))


@pytest.hookimpl(tryfirst=True)  # before `-m` selects
def pytest_collection_modifyitems(items):
    by_turns = []
    for item in items:
        params = item.callspec.params if hasattr(item, "callspec") else {}
        row = params.get("row") or params.get("any_row")
        if isinstance(row, Row) and row.method == "spawn":
            by_turns.append((item, f"{row.backend}-spawn"))
    mark_one_of_each(by_turns)


@pytest.fixture
def folder(tmp_path, request):
    """A folder whose programs use the test's row."""
    params = request.node.callspec.params
    return Folder(tmp_path, params.get("row") or params["any_row"])
