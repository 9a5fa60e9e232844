"""Workers: what they run first, when they are replaced, how many there are, and what they share."""

from __future__ import annotations

import multiprocessing
import os
import re
from collections import Counter
from concurrent.futures import BrokenExecutor
from contextlib import suppress

import backend_tasks as tasks
import half_import
import pytest
from backend_tasks import SECONDS
from half_import import half_imported

from parapluie import CapabilityError, Executor, RemoteTraceback, TaskPicklingError, WorkerInitError

requires, lacks = pytest.mark.requires, pytest.mark.lacks


# ---- initializer ------------------------------------------------------------------------------------------------


@pytest.mark.every_start
@requires("initializer")
@lacks("runs_in_caller")
def test_initializer_runs_once_in_each_worker(make_executor, notes, gate):
    executor = make_executor(initializer=tasks.prepare, initargs=(notes.path, "ready"))
    held = [executor.submit(tasks.wait_at, gate.port) for _ in range(2)]
    gate.arrivals(2)
    gate.open()
    assert [future.result(SECONDS) for future in held] == ["", ""]
    futures = [executor.submit(tasks.prepared) for _ in range(20)]
    assert {future.result(SECONDS) for future in futures} == {"ready"}
    assert list(executor.map(lambda _: tasks.prepared(), range(100), chunksize=10)) == ["ready"] * 100
    assert len(notes.lines()) == len(set(notes.lines())) == 2


@requires("initializer", "runs_in_caller")
def test_initializer_runs_once_where_the_caller_is_the_worker(make_executor, notes):
    for run in (1, 2):  # for each executor, though they are given the same
        executor = make_executor(initializer=tasks.prepare, initargs=(notes.path, "ready"))
        assert [executor.submit(tasks.prepared).result(SECONDS) for _ in range(3)] == ["ready"] * 3
        assert list(executor.map(tasks.same, range(3))) == [0, 1, 2]
        assert len(notes.lines()) == run


@requires("initializer")
def test_initializer_is_each_executors_own(make_executor, notes):
    first = make_executor(max_workers=1, initializer=tasks.prepare, initargs=(notes.path, "first"))
    second = make_executor(max_workers=1, initializer=tasks.prepare, initargs=(notes.path, "second"))
    if first.submit(os.getpid).result(SECONDS) == second.submit(os.getpid).result(SECONDS):
        assert len(notes.lines()) == 2  # they share the memory of this process
    else:
        assert first.submit(tasks.prepared).result(SECONDS) == "first"
        assert second.submit(tasks.prepared).result(SECONDS) == "second"


@requires("initializer")
def test_initializer_may_be_a_lambda(make_executor, notes):
    path = notes.path
    executor = make_executor(initializer=lambda value: tasks.prepare(path, value), initargs=("by value",))
    assert executor.submit(tasks.prepared).result(SECONDS) == "by value"


@requires("initializer", "isolated_memory")
def test_initializer_that_cannot_be_sent_is_refused_at_once(backend):
    if backend.options.get("start_method") == "fork":  # there, everything is inherited
        with backend.make(initializer=tasks.prepare, initargs=(os.devnull, tasks.Holder())) as executor:
            assert executor.submit(tasks.square, 3).result(SECONDS) == 9
        return
    with pytest.raises(TaskPicklingError, match=r"initializer cannot be sent.*args\[0\].client._lock"):
        backend.make(initializer=tasks.prepare, initargs=(tasks.Holder(), 1))


def submit_until_refused(executor, count):
    """Submit tasks whose workers cannot start; after the first, `submit` may know that already."""
    futures = [executor.submit(tasks.square, 0)]
    with suppress(WorkerInitError):
        futures.extend(executor.submit(tasks.square, number) for number in range(1, count))
    return futures


@pytest.mark.every_start
@requires("initializer")
def test_failing_initializer_ends_everything_with_its_error(make_executor, backend):
    executor = make_executor(initializer=tasks.fail_to_prepare, initargs=("no disk",))
    futures = submit_until_refused(executor, 5)
    for future in futures:
        error = future.exception(SECONDS)
        assert isinstance(error, WorkerInitError) and isinstance(error, BrokenExecutor)
        assert "the initializer raised OSError: no disk" in str(error)
    cause = futures[0].exception().__cause__
    assert isinstance(cause, OSError)
    if backend.capabilities.isolated_memory:
        assert isinstance(cause.__cause__, RemoteTraceback) and "in fail_to_prepare" in cause.__cause__.tb
    with pytest.raises(WorkerInitError, match="no disk"):
        executor.submit(tasks.square, 1)
    with pytest.raises(WorkerInitError, match="no disk"):
        executor.map(tasks.square, [1])
    executor.shutdown()


@requires("initializer")
def test_failing_initializer_ends_a_map(make_executor):
    executor = make_executor(initializer=tasks.fail_to_prepare, initargs=("no disk",))
    with pytest.raises(WorkerInitError, match="no disk"):
        list(executor.map(tasks.square, range(5000)))


@requires("initializer", "survives_dead_worker")
@pytest.mark.parametrize("how", ["_exit", pytest.param("exit", id="sys.exit")])
def test_initializer_that_ends_the_worker_ends_everything(make_executor, how):
    executor = make_executor(initializer=tasks.die_preparing, initargs=(how,))
    futures = submit_until_refused(executor, 3)
    for future in futures:
        assert isinstance(future.exception(SECONDS), WorkerInitError)
    with pytest.raises(WorkerInitError):
        executor.submit(tasks.square, 1)


@requires("initializer", "survives_dead_worker")
def test_initializer_that_takes_too_long_ends_everything(make_executor, gate):
    executor = make_executor(max_workers=1, start_timeout=0.25, initializer=tasks.wait_for_ever, initargs=(gate.port,))
    error = executor.submit(tasks.square, 1).exception(SECONDS)
    assert isinstance(error, WorkerInitError) and "start_timeout=0.25 seconds" in str(error)


# ---- replacing --------------------------------------------------------------------------------------------------


@requires("max_tasks_per_child")
@pytest.mark.every_start
def test_workers_are_replaced_after_so_many_tasks(make_executor):
    executor = make_executor(max_workers=1, max_tasks_per_child=3)
    futures = [executor.submit(tasks.pid) for _ in range(7)]
    pids = [future.result(SECONDS) for future in futures]
    assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [3, 3, 1]
    assert executor.stats().lost == 0


@requires("max_tasks_per_child")
def test_chunks_count_as_tasks_of_a_worker(make_executor):
    executor = make_executor(max_workers=2, max_tasks_per_child=2)
    pids = list(executor.map(tasks.pid, range(30), chunksize=5))
    assert len(pids) == 30 and len(set(pids)) >= 3
    assert max(Counter(pids).values()) <= 2 * 5  # and not just so many: some of a chunk may be run by another one


@lacks("max_tasks_per_child")
def test_replacing_is_refused_where_it_cannot_be(backend):
    with pytest.raises(CapabilityError, match="max_tasks_per_child=3.*process") as caught:
        backend.make(max_tasks_per_child=3)
    assert "process" in caught.value.able


# ---- numbers ----------------------------------------------------------------------------------------------------


def test_workers_start_as_they_are_needed(make_executor, backend):
    executor = make_executor(max_workers=10_000)
    assert executor.stats().workers == 0
    assert executor.submit(tasks.add, 1, 2).result(SECONDS) == 3
    assert executor.stats().workers <= 2


@lacks("runs_in_caller")
def test_no_more_workers_than_allowed(make_executor, backend):
    executor = make_executor(max_workers=2)
    wheres = [future.result(SECONDS) for future in [executor.submit(tasks.where) for _ in range(100)]]
    wheres += executor.map(lambda _: tasks.where(), range(200), chunksize=1)
    assert len(set(wheres)) <= 2 and executor.stats().workers <= 2


@lacks("runs_in_caller")
def test_one_worker_runs_tasks_in_order(make_executor, notes):
    with make_executor(max_workers=1) as executor:
        for number in range(200):
            executor.submit(tasks.note_line, notes.path, str(number))
    assert notes.lines() == [str(number) for number in range(200)]


# ---- shared state -----------------------------------------------------------------------------------------------


@pytest.mark.every_start
@requires("shared_state")
def test_shared_objects_are_seen_by_all_tasks(make_executor):
    executor = make_executor()
    squares, numbers = executor.shared.dict(known=True), executor.shared.list([-1])
    futures = [executor.submit(tasks.put_square, squares, number) for number in range(10)]
    assert [future.result(SECONDS) for future in futures] == [None] * 10
    assert list(executor.map(tasks.append_square, [numbers] * 10, range(10), chunksize=3)) == [None] * 10
    assert dict(squares.items()) == {"known": True, **{number: number * number for number in range(10)}}
    assert sorted(numbers[:]) == [-1, *(number * number for number in range(10))]


@requires("shared_state")
def test_shared_queue_carries_values_between_tasks(make_executor):
    executor = make_executor()
    first, second = executor.shared.queue(), executor.shared.queue(5)
    first.put(1)
    assert executor.submit(tasks.pass_on, first, second).result(SECONDS) is None
    assert second.get(timeout=SECONDS) == 2


@requires("shared_state")
def test_shared_lock_keeps_tasks_apart(make_executor):
    executor = make_executor()
    counts, lock = executor.shared.dict(n=0), executor.shared.lock()
    futures = [executor.submit(tasks.count_up, counts, lock, 20) for _ in range(4)]
    assert [future.result(SECONDS) for future in futures] == [None] * 4
    assert counts["n"] == 80


@requires("shared_state")
def test_shared_object_lives_on_when_only_tasks_hold_it(make_executor):
    executor = make_executor()
    futures = [executor.submit(tasks.append_square, executor.shared.list(), number) for number in range(5)]
    assert [future.result(SECONDS) for future in futures] == [None] * 5


# ---- text -------------------------------------------------------------------------------------------------------


def test_executor_says_what_it_is(make_executor, backend):
    executor = make_executor()
    assert re.fullmatch(f"<parapluie.Executor backend='{backend.name}' max_workers=2 open>", repr(executor))
    executor.shutdown()
    assert "shut down" in repr(executor)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this platform cannot fork")
@pytest.mark.parametrize("name", ["process", "manager", "pool", "futures"])
def test_worker_that_is_forked_in_the_middle_of_an_import_imports_the_same(name, tmp_path, monkeypatch):
    """The lock of the importing thread is in the worker too, and nobody there lets go of it."""
    with Executor(name, 1, start_method="fork") as executor, half_imported(tmp_path, monkeypatch):
        assert executor.submit(tasks.import_value, half_import.NAME).result(SECONDS) == 7
