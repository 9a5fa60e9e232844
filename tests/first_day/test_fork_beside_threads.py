"""`fork` beside threads of the program: one warning for an executor, which names them."""

from __future__ import annotations

import os
import threading
import warnings
from contextlib import contextmanager

import pytest
from first_day_tasks import square

from parapluie import BackendBrokenError, Executor, ForkWithThreadsWarning

SECONDS = 30
pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning"),
]
backends = pytest.mark.parametrize("backend", ["process", "manager", "pool", "futures"])


@contextmanager
def thread(name):
    """A thread that does nothing until the end of the block."""
    ended = threading.Event()
    made = threading.Thread(target=ended.wait, name=name)
    made.start()
    try:
        yield made
    finally:
        ended.set()
        made.join()


@contextmanager
def caught(*expected):
    """Catch our warnings and check the names in them."""
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        yield record
    ours = [entry for entry in record if entry.category is ForkWithThreadsWarning]
    assert [set(entry.message.threads) for entry in ours] == list(map(set, expected))
    assert all(entry.filename == __file__ for entry in ours)


@pytest.fixture
def alone(monkeypatch):
    """Have the deadline's thread not count, nor what another test has left, so that a test may have none."""
    everybody, before = threading.enumerate, set(threading.enumerate()) - {threading.main_thread()}
    monkeypatch.setattr(threading, "enumerate", lambda: [made for made in everybody() if made not in before])


def use(executor):
    assert executor.submit(square, 3).result(SECONDS) == 9
    assert list(executor.map(square, range(20), chunksize=5)) == [n * n for n in range(20)]


@backends
def test_warning_names_the_threads_once(backend, alone):
    # New workers again and again, some of them forked by threads of ours.
    with (
        caught({"metrics", "uploads"}) as record,
        thread("metrics"),
        thread("uploads"),
        Executor(backend, 2, start_method="fork", max_tasks_per_child=1) as executor,
    ):
        use(executor)
    (message,) = (str(entry.message) for entry in record if entry.category is ForkWithThreadsWarning)
    assert message.startswith("workers are forked (start_method='fork') beside other threads: metrics, uploads. A lock")
    assert "use start_method='forkserver' or 'spawn'" in message


@backends
def test_each_executor_warns(backend, alone):
    with caught({"metrics"}, {"metrics"}), thread("metrics"):
        for _ in range(2):
            with Executor(backend, 1, start_method="fork") as executor:
                use(executor)


@backends
def test_program_without_threads_is_not_warned(backend, alone):
    with caught(), Executor(backend, 2, start_method="fork", max_tasks_per_child=1) as executor:
        use(executor)
        with Executor(backend, 2, start_method="fork") as other:
            use(other)
            use(executor)


@backends
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_other_start_methods_do_not_warn(backend, method):
    with caught(), thread("metrics"), Executor(backend, 1, start_method=method) as executor:
        use(executor)


@backends
def test_thread_that_came_after_the_workers_is_none_of_their_business(backend, alone):
    with caught(), Executor(backend, 1, start_method="fork") as executor:
        use(executor)
        with thread("metrics"):
            use(executor)


@backends
def test_workers_of_the_thread_backend_count(backend, alone):
    gate = threading.Event()
    with caught({"parapluie-worker-1_0"}) as record, Executor("thread", 1) as threads:
        waits = threads.submit(gate.wait)
        name = next(made.name for made in threading.enumerate() if made.name.startswith("parapluie-worker-"))
        with Executor(backend, 1, start_method="fork") as executor:
            use(executor)
        gate.set()
        waits.result(SECONDS)
        for entry in record:  # how many such executors there were before is not the subject
            if entry.category is ForkWithThreadsWarning:
                assert entry.message.threads == (name,)
                entry.message.threads = ("parapluie-worker-1_0",)


@backends
def test_main_thread_counts_for_another_one_of_the_program(backend, alone):
    def work():
        with Executor(backend, 1, start_method="fork") as executor:
            use(executor)

    with caught({"MainThread"}):
        other = threading.Thread(target=work)
        other.start()
        other.join(SECONDS)


def test_many_threads_are_counted(alone):
    with caught({"crowd-0", "crowd-1", "crowd-2", "crowd-3", "crowd-4", "3 more"}):
        crowd = [thread(f"crowd-{number}") for number in range(8)]
        for made in crowd:
            made.__enter__()
        with Executor("process", 1, start_method="fork") as executor:
            use(executor)
        for made in crowd:
            made.__exit__(None, None, None)


@backends
def test_where_warnings_are_errors_nothing_is_forked(backend):
    with warnings.catch_warnings(), thread("metrics"):
        warnings.simplefilter("error", ForkWithThreadsWarning)
        expected = pytest.raises((ForkWithThreadsWarning, BackendBrokenError), match="beside other threads: .*metrics")
        with expected, Executor(backend, 1, start_method="fork") as executor:
            executor.submit(square, 3).result(SECONDS)
