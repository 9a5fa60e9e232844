"""Every built-in backend, on every start method, passes the conformance kit."""

from __future__ import annotations

from types import MappingProxyType

import pytest

from parapluie import builtin
from parapluie.testing import BackendConformance

# What each of them has to claim, whatever else changes: none of these can be given up to turn a test green.
ALL = ("initializer", "shared_state", "sessions", "channels")
PROCESSES = (
    *ALL,
    "isolated_memory",
    "survives_dead_worker",
    "max_tasks_per_child",
    "start_methods",
    "kills_running_task",
    "knows_begun",
    "sends_logs",
)
OWN_ENGINE = (*PROCESSES, "takes_back_items")


class TestSerial(BackendConformance):
    backend = "serial"
    must_claim = ALL


class TestSerialWithPickling(BackendConformance):
    backend = "serial"
    options = MappingProxyType({"pickle_round_trip": True})
    must_claim = (*ALL, "isolated_memory")


class TestThread(BackendConformance):
    backend = "thread"
    must_claim = ALL


class TestProcess(BackendConformance):
    backend = "process"
    must_claim = OWN_ENGINE


class TestManager(BackendConformance):
    backend = "manager"
    must_claim = OWN_ENGINE


class TestPool(BackendConformance):
    backend = "pool"
    must_claim = PROCESSES


class TestFutures(BackendConformance):
    backend = "futures"
    must_claim = PROCESSES


def test_every_built_in_backend_is_here():
    classes = [value for value in globals().values() if isinstance(value, type)]
    tested = {cls.backend for cls in classes if issubclass(cls, BackendConformance)} - {""}
    assert tested == {info.name for info in builtin.BACKENDS}


@pytest.mark.parametrize("cls", [TestProcess, TestManager, TestPool, TestFutures])
def test_every_start_method_of_the_platform_is_tested(cls):
    import multiprocessing

    methods = {row.options["start_method"] for row in cls.rows()}
    assert methods == set(multiprocessing.get_all_start_methods())
