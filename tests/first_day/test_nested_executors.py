"""An executor that a task makes: it works, and has the share of the CPUs that is left to its worker."""

from __future__ import annotations

import os

import pytest
from first_day_tasks import most_workers, nested, nested_twice, pretend

from parapluie import Executor, cpus

SECONDS = 50
RESULTS = [0, 1, 4, 9, 16, 25]
BACKENDS = ("process", "manager", "pool", "futures")
HERE = "fork" if hasattr(os, "fork") else "spawn"  # what starts quickest


def test_executor_in_a_worker_works_with_its_share(any_row):
    with any_row.make(2) as executor:
        assert executor.submit(nested, any_row.backend, any_row.method, 8).result(SECONDS) == (4, RESULTS)


@pytest.mark.parametrize("outer", BACKENDS)
@pytest.mark.parametrize("inner", BACKENDS)
def test_any_backend_works_in_a_worker_of_any(outer, inner):
    with Executor(outer, 2, start_method=HERE) as executor:
        assert executor.submit(nested, inner, HERE, 8).result(SECONDS) == (4, RESULTS)


def test_share_is_one_at_least_and_a_number_that_is_given_counts(any_row):
    with any_row.make(3) as executor:
        assert executor.submit(nested, any_row.backend, any_row.method, 2).result(SECONDS) == (1, RESULTS)
        chosen = executor.submit(nested, any_row.backend, any_row.method, 2, max_workers=2).result(SECONDS)
        assert chosen == (2, RESULTS)


def test_shares_of_shares(any_row):
    with any_row.make(2) as executor:
        answer = executor.submit(nested_twice, any_row.backend, any_row.method, 12, 3).result(SECONDS)
        assert answer == (2, RESULTS)


def test_only_worker_has_all(any_row):
    with any_row.make(1) as executor:
        assert executor.submit(nested, any_row.backend, any_row.method, 3).result(SECONDS)[0] == 3


def test_platforms_start_method_in_a_forked_worker(any_row):
    # Whose parent has a server that forks, which is not the worker's.
    with any_row.make(1) as executor:
        assert executor.submit(nested, "process", None, 1).result(SECONDS) == (1, RESULTS)


def test_threads_share_and_the_process_beside_them_does_not(monkeypatch):
    monkeypatch.setattr(cpus, "usable_cpus", lambda: 8)
    with Executor("thread", 2) as threads:
        assert threads.submit(nested, "process", HERE, 8).result(SECONDS) == (4, RESULTS)
        with Executor("thread") as others:
            assert most_workers(others) == 8
    with Executor("serial") as serial:
        assert serial.submit(nested, "process", HERE, 8).result(SECONDS) == (8, RESULTS)


def test_first_process_is_no_worker(monkeypatch):
    monkeypatch.setattr(cpus, "usable_cpus", cpus.usable_cpus)  # restored at the end
    pretend(6)
    with Executor("thread") as executor:
        assert most_workers(executor) == 6
