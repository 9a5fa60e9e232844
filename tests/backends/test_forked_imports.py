"""A worker that is forked in the middle of an import of another thread, and imports the same."""

from __future__ import annotations

import importlib
import multiprocessing

import half_import
import pytest
from half_import import half_imported

from parapluie import Executor
from parapluie.testing.helpers import SECONDS


def import_value(module):
    return importlib.import_module(module).VALUE


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this platform cannot fork")
@pytest.mark.parametrize("name", ["process", "manager", "pool", "futures"])
def test_worker_that_is_forked_in_the_middle_of_an_import_imports_the_same(name, tmp_path, monkeypatch):
    """The lock of the importing thread is in the worker too, and nobody there lets go of it."""
    with Executor(name, 1, start_method="fork") as executor, half_imported(tmp_path, monkeypatch):
        assert executor.submit(import_value, half_import.NAME).result(SECONDS) == 7
