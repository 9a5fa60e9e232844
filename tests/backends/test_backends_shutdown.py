"""Shutdown: what was submitted is done or cancelled, and nothing is left behind."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import threading
from concurrent.futures import CancelledError
from functools import partial
from multiprocessing.synchronize import SemLock

import backend_tasks as tasks
import processes
import pytest
from backend_tasks import SECONDS

from parapluie import ExecutorShutdownError, Shutdown, WorkerLostError

requires, lacks = pytest.mark.requires, pytest.mark.lacks


def test_submit_after_shutdown_raises(make_executor):
    executor = make_executor()
    assert executor.submit(tasks.add, 1, 2).result(SECONDS) == 3
    executor.shutdown()
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown") as caught:
        executor.submit(tasks.add, 1, 2)
    assert isinstance(caught.value, ExecutorShutdownError)
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.map(tasks.square, [1])
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.with_options(name="view").submit(tasks.add, 1, 2)


def test_shutdown_can_be_repeated(make_executor):
    executor = make_executor()
    executor.submit(tasks.add, 1, 2)
    for kwargs in ({}, {"wait": False}, {"cancel_futures": True}, {}):
        executor.shutdown(**kwargs)


def test_executor_that_was_never_used_shuts_down(make_executor):
    make_executor().shutdown()


@pytest.mark.every_start
def test_shutdown_waits_for_everything(make_executor, notes):
    executor = make_executor()
    futures = [executor.submit(tasks.note_line, notes.path, str(number)) for number in range(50)]
    executor.shutdown()
    assert all(future.done() for future in futures)
    assert len(notes.lines()) == 50


@lacks("runs_in_caller")
def test_shutdown_that_does_not_wait_lets_work_finish(make_executor, gate):
    executor = make_executor()
    futures = [executor.submit(tasks.wait_at, gate.port, str(number)) for number in range(5)]
    gate.arrivals(2)
    executor.shutdown(wait=False)
    assert not any(future.done() for future in futures)
    with pytest.raises(RuntimeError):
        executor.submit(tasks.add, 1, 2)
    gate.open()
    assert [future.result(SECONDS) for future in futures] == ["0", "1", "2", "3", "4"]


@lacks("runs_in_caller")
def test_shutdown_can_cancel_what_has_not_begun(make_executor, gate, results_of):
    executor = make_executor()
    futures = [executor.submit(tasks.wait_at, gate.port, str(number)) for number in range(6)]
    gate.arrivals(2)
    executor.shutdown(wait=False, cancel_futures=True)
    gate.open()
    executor.shutdown()
    outcomes = results_of(futures)
    assert outcomes[:2] == ["0", "1"]
    assert [type(outcome) for outcome in outcomes[2:]] == [CancelledError] * 4
    stats = executor.stats()
    assert (stats.done, stats.cancelled, stats.workers) == (2, 4, 0)


@lacks("runs_in_caller")
def test_shutdown_that_cancels_ends_maps_too(make_executor, gate, counting):
    executor = make_executor()
    source = counting(range(1000))
    results = executor.map(partial(tasks.wait_at_if, gate.port, {0, 1}), source, chunksize=1, buffersize=10)
    gate.arrivals(2)
    executor.shutdown(wait=False, cancel_futures=True)
    gate.open()
    executor.shutdown()
    assert source.read == 10
    assert next(results) == 0 and next(results) == 1
    with pytest.raises(CancelledError):
        next(results)


def test_block_with_an_exception_still_does_its_work(make_executor, notes):
    with pytest.raises(LookupError, match="the block's own"), make_executor() as executor:  # noqa: PT012 - the block
        futures = [executor.submit(tasks.note_line, notes.path, str(number)) for number in range(20)]
        raise LookupError("the block's own")
    assert all(future.done() for future in futures) and len(notes.lines()) == 20


@lacks("runs_in_caller")
def test_shutting_down_a_view_shuts_down_all(make_executor):
    executor = make_executor()
    executor.with_options(name="view").shutdown()
    with pytest.raises(RuntimeError):
        executor.submit(tasks.add, 1, 2)


# ---- grace ------------------------------------------------------------------------------------------------------


@pytest.mark.every_start
@requires("survives_dead_worker")
def test_task_that_never_ends_is_ended_after_the_grace_period(make_executor, gate, caplog):
    executor = make_executor(shutdown=Shutdown(drain=False, grace=0.2))
    running = executor.submit(tasks.wait_for_ever, gate.port)
    gate.arrival()
    queued = [executor.submit(tasks.wait_for_ever, gate.port) for _ in range(3)]
    gate.arrival()  # one of these has the other worker
    with caplog.at_level(logging.WARNING, "parapluie"):
        executor.shutdown()
    error = running.exception(0)
    assert isinstance(error, WorkerLostError) and "shutdown" in str(error)
    assert all(future.done() for future in queued) and [future.cancelled() for future in queued] == [False, True, True]
    assert "did not" in caplog.text and "0.2 seconds" in caplog.text
    assert executor.stats().workers == 0


@lacks("runs_in_caller")
def test_task_that_ends_within_the_grace_period_is_awaited(make_executor, gate, results_of):
    executor = make_executor(shutdown=Shutdown(drain=False, grace=SECONDS))
    futures = [executor.submit(tasks.wait_at, gate.port, str(number)) for number in range(4)]
    gate.arrivals(2)
    executor.shutdown(wait=False)
    gate.open()
    executor.shutdown()
    outcomes = results_of(futures)
    assert outcomes[:2] == ["0", "1"] and [type(outcome) for outcome in outcomes[2:]] == [CancelledError] * 2


def test_draining_takes_as_long_as_it_takes(make_executor, notes):
    with make_executor(shutdown=Shutdown(drain=True, grace=0.0)) as executor:
        futures = [executor.submit(tasks.note_line, notes.path, str(number)) for number in range(100)]
    assert [future.result(0) for future in futures] == [str(number) for number in range(100)]


# ---- nothing is left --------------------------------------------------------------------------------------------


def semaphores():
    return sum(isinstance(thing, SemLock) for thing in gc.get_objects())


def use(make_executor):
    with make_executor() as executor:
        assert executor.submit(tasks.add, 1, 2).result(SECONDS) == 3
        assert list(executor.map(tasks.square, range(100))) == [number * number for number in range(100)]
        error = executor.submit(tasks.give_bomb).exception(SECONDS)
        return error, {future.result(SECONDS) for future in [executor.submit(tasks.pid) for _ in range(10)]}


@pytest.mark.every_start
def test_shutdown_leaves_no_process_no_thread_no_descriptor_and_no_semaphore(make_executor):
    use(make_executor)  # what the standard library starts once and keeps: forkserver, resource tracker
    gc.collect()
    threads, children = set(threading.enumerate()), multiprocessing.active_children()
    before, locks = processes.open_things(), semaphores()
    kept, pids = use(make_executor)  # an error that is kept, with its traceback, keeps nothing of the engine's
    for thread in set(threading.enumerate()) - threads:
        thread.join(5)  # the last of them says that all has ended, and ends itself right after
    assert set(threading.enumerate()) <= threads
    assert len(multiprocessing.active_children()) <= len(children)
    assert semaphores() <= locks  # and not only when the garbage collector has been
    gc.collect()
    assert processes.open_things() <= before
    del kept
    assert not [pid for pid in pids - {os.getpid()} if processes.lives(pid)]


@pytest.mark.every_start
def test_executor_that_is_dropped_ends(make_executor, backend, gate):
    threads = set(threading.enumerate())
    executor = backend.make()
    future = executor.submit(tasks.add, 1, 2)
    del executor
    gc.collect()
    assert future.result(SECONDS) == 3
    for thread in set(threading.enumerate()) - threads:
        thread.join(SECONDS)
        assert not thread.is_alive()


# ---- figures ----------------------------------------------------------------------------------------------------


def test_stats_count_what_became_of_tasks(make_executor, at_once, backend):
    executor = make_executor(retry=at_once(2))
    with executor:
        good = [executor.submit(tasks.square, number) for number in range(5)]
        bad = executor.submit(tasks.fail)
        assert list(executor.map(tasks.square, range(10), chunksize=3)) == [number * number for number in range(10)]
        assert [future.result(SECONDS) for future in good] == [0, 1, 4, 9, 16]
        assert bad.exception(SECONDS) is not None
        stats = executor.stats()
        assert (stats.done, stats.failed, stats.retried, stats.lost, stats.cancelled) == (15, 1, 1, 0, 0)
        assert (stats.queued, stats.running) == (0, 0)
        assert stats.workers <= 2
    assert executor.stats().workers == 0


@requires("knows_begun")
@lacks("runs_in_caller")
def test_stats_tell_what_runs_from_what_waits(make_executor, gate):
    executor = make_executor()
    futures = [executor.submit(tasks.wait_at, gate.port, str(number)) for number in range(5)]
    gate.arrivals(2)
    stats = executor.stats()
    assert (stats.workers, stats.running, stats.queued, stats.done) == (2, 2, 3, 0)
    gate.open()
    assert [future.result(SECONDS) for future in futures] == ["0", "1", "2", "3", "4"]
