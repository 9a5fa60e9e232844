"""Shutdown: what was submitted is done or cancelled, and nothing is left behind."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing import resource_tracker
from multiprocessing.synchronize import SemLock
from typing import TYPE_CHECKING
from unittest.mock import patch

import pytest

from parapluie import ExecutorShutdownError, Shutdown, WorkerInitError, WorkerLostError
from parapluie.testing import hostile, processes, tasks
from parapluie.testing.claims import lacks, requires
from parapluie.testing.helpers import SECONDS, CountingInput, at_once, results_of, shut_down

if TYPE_CHECKING:
    from parapluie.testing.fixtures import Gate, MakeExecutor, Notes, Row


# ---- nothing is left --------------------------------------------------------------------------------------------
def semaphores() -> int:
    """Count those of multiprocessing in this process."""
    return sum(isinstance(thing, SemLock) for thing in gc.get_objects())


@contextmanager
def named_things() -> Iterator[set[str]]:
    """Note what is made in here that has a name in the system, semaphores and segments, and not unlinked again."""
    names: set[str] = set()
    register, unregister = resource_tracker.register, resource_tracker.unregister

    def made(name: str, kind: str) -> None:
        names.add(name)
        register(name, kind)

    def unlinked(name: str, kind: str) -> None:
        names.discard(name)
        unregister(name, kind)

    with patch.multiple(resource_tracker, register=made, unregister=unlinked):
        yield names


def use(make_executor: MakeExecutor) -> tuple[BaseException | None, set[int]]:
    """Do what executors do; return an error, and who ran tasks."""
    with make_executor() as executor:
        assert executor.submit(tasks.add, 1, 2).result(SECONDS) == 3
        assert list(executor.map(tasks.square, range(100))) == [number * number for number in range(100)]
        error = executor.submit(hostile.give_bomb).exception(SECONDS)
        return error, {future.result(SECONDS) for future in [executor.submit(tasks.pid) for _ in range(10)]}


class ShutdownTests:
    """Shutdown: what was submitted is done or cancelled, and nothing is left behind."""

    def test_submit_after_shutdown_raises(self, make_executor: MakeExecutor) -> None:
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

    def test_shutdown_returns(self, make_executor: MakeExecutor) -> None:
        executor = make_executor()
        assert executor.submit(tasks.add, 1, 2).result(SECONDS) == 3
        shut_down([executor])  # in bounded time

    def test_shutdown_can_be_repeated(self, make_executor: MakeExecutor) -> None:
        executor = make_executor()
        executor.submit(tasks.add, 1, 2)
        for kwargs in ({}, {"wait": False}, {"cancel_futures": True}, {}):
            executor.shutdown(**kwargs)

    def test_executor_that_was_never_used_shuts_down(self, make_executor: MakeExecutor) -> None:
        make_executor().shutdown()

    def test_shutdown_waits_for_everything(self, make_executor: MakeExecutor, notes: Notes) -> None:
        executor = make_executor()
        futures = [executor.submit(tasks.note_line, notes.path, str(number)) for number in range(50)]
        executor.shutdown()
        assert all(future.done() for future in futures)
        assert len(notes.lines()) == 50

    @lacks("runs_in_caller")
    def test_shutdown_that_does_not_wait_lets_work_finish(self, make_executor: MakeExecutor, gate: Gate) -> None:
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
    def test_shutdown_can_cancel_what_has_not_begun(self, make_executor: MakeExecutor, gate: Gate) -> None:
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
    def test_shutdown_that_cancels_ends_maps_too(self, make_executor: MakeExecutor, gate: Gate) -> None:
        executor = make_executor()
        source = CountingInput(range(1000))
        results = executor.map(partial(tasks.wait_at_if, gate.port, {0, 1}), source, chunksize=1, buffersize=10)
        gate.arrivals(2)
        executor.shutdown(wait=False, cancel_futures=True)
        gate.open()
        executor.shutdown()
        assert source.read == 10
        assert next(results) == 0 and next(results) == 1
        with pytest.raises(CancelledError):
            next(results)

    def test_block_with_an_exception_still_does_its_work(self, make_executor: MakeExecutor, notes: Notes) -> None:
        with pytest.raises(LookupError, match="the block's own"), make_executor() as executor:  # noqa: PT012 - the block
            futures = [executor.submit(tasks.note_line, notes.path, str(number)) for number in range(20)]
            raise LookupError("the block's own")
        assert all(future.done() for future in futures) and len(notes.lines()) == 20

    @lacks("runs_in_caller")
    def test_shutting_down_a_view_shuts_down_all(self, make_executor: MakeExecutor) -> None:
        executor = make_executor()
        executor.with_options(name="view").shutdown()
        with pytest.raises(RuntimeError):
            executor.submit(tasks.add, 1, 2)

    # ---- grace ------------------------------------------------------------------------------------------------------

    @requires("survives_dead_worker")
    def test_task_that_never_ends_is_ended_after_the_grace_period(
        self, make_executor: MakeExecutor, gate: Gate, caplog: pytest.LogCaptureFixture
    ) -> None:
        executor = make_executor(shutdown=Shutdown(drain=False, grace=0.2))
        running = executor.submit(tasks.wait_for_ever, gate.port)
        gate.arrival()
        queued = [executor.submit(tasks.wait_for_ever, gate.port) for _ in range(3)]
        gate.arrival()  # one of these has the other worker
        with caplog.at_level(logging.WARNING, "parapluie"):
            executor.shutdown()
        error = running.exception(0)
        assert isinstance(error, WorkerLostError) and "shutdown" in str(error)
        assert all(future.done() for future in queued) and [future.cancelled() for future in queued] == [
            False,
            True,
            True,
        ]
        assert "did not" in caplog.text and "0.2 seconds" in caplog.text
        assert executor.stats().workers == 0

    @lacks("runs_in_caller")
    def test_task_that_ends_within_the_grace_period_is_awaited(self, make_executor: MakeExecutor, gate: Gate) -> None:
        executor = make_executor(shutdown=Shutdown(drain=False, grace=SECONDS))
        futures = [executor.submit(tasks.wait_at, gate.port, str(number)) for number in range(4)]
        gate.arrivals(2)
        executor.shutdown(wait=False)
        gate.open()
        executor.shutdown()
        outcomes = results_of(futures)
        assert outcomes[:2] == ["0", "1"] and [type(outcome) for outcome in outcomes[2:]] == [CancelledError] * 2

    def test_draining_takes_as_long_as_it_takes(self, make_executor: MakeExecutor, notes: Notes) -> None:
        with make_executor(shutdown=Shutdown(drain=True, grace=0.0)) as executor:
            futures = [executor.submit(tasks.note_line, notes.path, str(number)) for number in range(100)]
        assert [future.result(0) for future in futures] == [str(number) for number in range(100)]

    # ---- in every state ---------------------------------------------------------------------------------------------

    def test_shutdown_right_after_a_task_was_submitted_runs_it(self, make_executor: MakeExecutor) -> None:
        """Its worker is being started at that time."""
        for _ in range(3):
            executor = make_executor()
            future = executor.submit(tasks.square, 3)
            executor.shutdown()
            assert future.result(0) == 9

    def test_shutdown_by_several_threads_at_once(self, make_executor: MakeExecutor, notes: Notes) -> None:
        executor = make_executor()
        futures = [executor.submit(tasks.note_line, notes.path, str(number)) for number in range(20)]
        threads = [threading.Thread(target=executor.shutdown) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SECONDS)
            assert not thread.is_alive()
        assert all(future.done() for future in futures) and len(notes.lines()) == 20

    def test_callback_may_shut_down(self, make_executor: MakeExecutor) -> None:
        executor = make_executor()
        told = threading.Event()

        def shut_down(_future: object) -> None:
            executor.shutdown(wait=False)
            told.set()

        executor.submit(tasks.square, 3).add_done_callback(shut_down)
        assert told.wait(SECONDS)
        executor.shutdown()
        assert executor.stats().workers == 0

    @requires("survives_dead_worker")
    def test_shutdown_while_workers_die(self, make_executor: MakeExecutor) -> None:
        executor = make_executor(retry=at_once(2))
        futures = [executor.submit(tasks.die_at, number - number % 2, "_exit", number) for number in range(10)]
        executor.shutdown()
        outcomes = results_of(futures)
        assert [type(outcome) for outcome in outcomes] == [WorkerLostError, int] * 5

    @requires("initializer")
    def test_shutdown_of_what_is_broken(self, make_executor: MakeExecutor) -> None:
        executor = make_executor(initializer=tasks.fail_to_prepare, initargs=("no disk",))
        with suppress(WorkerInitError):
            for _ in range(3):
                executor.submit(tasks.square, 1).exception(SECONDS)
        executor.shutdown()
        executor.shutdown(wait=False, cancel_futures=True)
        assert executor.stats().workers == 0

    # ---- nothing is left --------------------------------------------------------------------------------------------

    def test_shutdown_leaves_no_process_no_thread_no_descriptor_no_segment_and_no_semaphore(
        self, make_executor: MakeExecutor
    ) -> None:
        use(make_executor)  # what the standard library starts once and keeps: forkserver, resource tracker
        gc.collect()
        threads, children = set(threading.enumerate()), multiprocessing.active_children()
        before, locks = processes.open_things(), semaphores()
        with named_things() as named:
            kept, pids = use(make_executor)  # an error that is kept, with its traceback, keeps nothing of the engine's
        for thread in set(threading.enumerate()) - threads:
            thread.join(min(5, SECONDS))  # the last of them says that all has ended, and ends itself right after
        assert set(threading.enumerate()) <= threads
        assert len(multiprocessing.active_children()) <= len(children)
        assert semaphores() <= locks  # and not only when the garbage collector has been
        gc.collect()
        assert processes.open_things() <= before
        assert named == set()
        del kept
        assert not [pid for pid in pids - {os.getpid()} if processes.lives(pid)]

    def test_executor_that_is_dropped_ends(self, make_executor: MakeExecutor, backend: Row, gate: Gate) -> None:
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

    def test_stats_count_what_became_of_tasks(self, make_executor: MakeExecutor, backend: Row) -> None:
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
    def test_stats_tell_what_runs_from_what_waits(self, make_executor: MakeExecutor, gate: Gate) -> None:
        executor = make_executor()
        futures = [executor.submit(tasks.wait_at, gate.port, str(number)) for number in range(5)]
        gate.arrivals(2)
        stats = executor.stats()
        assert (stats.workers, stats.running, stats.queued, stats.done) == (2, 2, 3, 0)
        gate.open()
        assert [future.result(SECONDS) for future in futures] == ["0", "1", "2", "3", "4"]
