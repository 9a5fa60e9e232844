"""The rows of the tests of the first day.

A test that asks for `row` runs on every backend that starts processes, with every start method that imports the main
module again; one that asks for `any_row`, with `fork` as well. On Windows there is `spawn` alone.
"""

from __future__ import annotations

import pytest
from first_day_programs import BACKENDS, METHODS, Folder, Row


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
    for item in items:
        params = item.callspec.params if hasattr(item, "callspec") else {}
        row = params.get("row") or params.get("any_row")
        if isinstance(row, Row) and row.method == "spawn":
            item.add_marker(pytest.mark.windows)


@pytest.fixture
def folder(tmp_path, request):
    """A folder whose programs use the test's row."""
    params = request.node.callspec.params
    return Folder(tmp_path, params.get("row") or params["any_row"])
