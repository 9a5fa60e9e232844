"""Workers: what they run first, when they are replaced, and how many there are."""

from __future__ import annotations

import os
import re
from collections import Counter
from concurrent.futures import BrokenExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from parapluie import CapabilityError, RemoteTraceback, TaskPicklingError, WorkerInitError
from parapluie.testing import hostile, tasks
from parapluie.testing.claims import lacks, proves, requires
from parapluie.testing.helpers import SECONDS

if TYPE_CHECKING:
    from parapluie.testing.fixtures import Gate, MakeExecutor, Notes, Row


def submit_until_refused(executor: Any, count: int) -> Any:
    """Submit tasks whose workers cannot start; after the first, `submit` may know that already."""
    futures = [executor.submit(tasks.square, 0)]
    with suppress(WorkerInitError):
        futures.extend(executor.submit(tasks.square, number) for number in range(1, count))
    return futures


class WorkerTests:
    """Workers: what they run first, when they are replaced, and how many there are."""

    # ---- initializer ------------------------------------------------------------------------------------------------

    @proves("initializer")
    @lacks("runs_in_caller")
    def test_initializer_runs_once_in_each_worker(self, make_executor: MakeExecutor, notes: Notes, gate: Gate) -> None:
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
    def test_initializer_runs_once_where_the_caller_is_the_worker(
        self, make_executor: MakeExecutor, notes: Notes
    ) -> None:
        for run in (1, 2):  # for each executor, though they are given the same
            executor = make_executor(initializer=tasks.prepare, initargs=(notes.path, "ready"))
            assert [executor.submit(tasks.prepared).result(SECONDS) for _ in range(3)] == ["ready"] * 3
            assert list(executor.map(tasks.same, range(3))) == [0, 1, 2]
            assert len(notes.lines()) == run

    @proves("initializer")
    def test_initializer_is_each_executors_own(self, make_executor: MakeExecutor, notes: Notes) -> None:
        first = make_executor(max_workers=1, initializer=tasks.prepare, initargs=(notes.path, "first"))
        second = make_executor(max_workers=1, initializer=tasks.prepare, initargs=(notes.path, "second"))
        if first.submit(os.getpid).result(SECONDS) == second.submit(os.getpid).result(SECONDS):
            assert len(notes.lines()) == 2  # they share the memory of this process
        else:
            assert first.submit(tasks.prepared).result(SECONDS) == "first"
            assert second.submit(tasks.prepared).result(SECONDS) == "second"

    @requires("initializer")
    def test_initializer_may_be_a_lambda(self, make_executor: MakeExecutor, notes: Notes) -> None:
        path = notes.path
        executor = make_executor(initializer=lambda value: tasks.prepare(path, value), initargs=("by value",))
        assert executor.submit(tasks.prepared).result(SECONDS) == "by value"

    @requires("initializer", "isolated_memory")
    def test_initializer_that_cannot_be_sent_is_refused_at_once(self, backend: Row) -> None:
        if backend.options.get("start_method") == "fork":  # there, everything is inherited
            with backend.make(initializer=tasks.prepare, initargs=(os.devnull, hostile.Holder())) as executor:
                assert executor.submit(tasks.square, 3).result(SECONDS) == 9
            return
        with pytest.raises(TaskPicklingError, match=r"initializer cannot be sent.*args\[0\].client._lock"):
            backend.make(initializer=tasks.prepare, initargs=(hostile.Holder(), 1))

    @requires("initializer")
    def test_failing_initializer_ends_everything_with_its_error(
        self, make_executor: MakeExecutor, backend: Row
    ) -> None:
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
    def test_failing_initializer_ends_a_map(self, make_executor: MakeExecutor) -> None:
        executor = make_executor(initializer=tasks.fail_to_prepare, initargs=("no disk",))
        with pytest.raises(WorkerInitError, match="no disk"):
            list(executor.map(tasks.square, range(5000)))

    @requires("initializer", "survives_dead_worker")
    @pytest.mark.parametrize("how", ["_exit", pytest.param("exit", id="sys.exit")])
    def test_initializer_that_ends_the_worker_ends_everything(self, make_executor: MakeExecutor, how: str) -> None:
        executor = make_executor(initializer=tasks.die_preparing, initargs=(how,))
        futures = submit_until_refused(executor, 3)
        for future in futures:
            assert isinstance(future.exception(SECONDS), WorkerInitError)
        with pytest.raises(WorkerInitError):
            executor.submit(tasks.square, 1)

    @requires("initializer", "survives_dead_worker")
    def test_initializer_that_takes_too_long_ends_everything(self, make_executor: MakeExecutor, gate: Gate) -> None:
        executor = make_executor(
            max_workers=1, start_timeout=0.25, initializer=tasks.wait_for_ever, initargs=(gate.port,)
        )
        error = executor.submit(tasks.square, 1).exception(SECONDS)
        assert isinstance(error, WorkerInitError) and "start_timeout=0.25 seconds" in str(error)

    # ---- replacing --------------------------------------------------------------------------------------------------

    @proves("max_tasks_per_child")
    def test_workers_are_replaced_after_so_many_tasks(self, make_executor: MakeExecutor) -> None:
        executor = make_executor(max_workers=1, max_tasks_per_child=3)
        futures = [executor.submit(tasks.pid) for _ in range(7)]
        pids = [future.result(SECONDS) for future in futures]
        assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [3, 3, 1]
        assert executor.stats().lost == 0

    @requires("max_tasks_per_child")
    def test_chunks_count_as_tasks_of_a_worker(self, make_executor: MakeExecutor) -> None:
        executor = make_executor(max_workers=2, max_tasks_per_child=2)
        pids = list(executor.map(tasks.pid, range(30), chunksize=5))
        assert len(pids) == 30 and len(set(pids)) >= 3
        assert max(Counter(pids).values()) <= 2 * 5  # and not just so many: some of a chunk may be run by another one

    @lacks("max_tasks_per_child")
    def test_replacing_is_refused_where_it_cannot_be(self, backend: Row) -> None:
        with pytest.raises(CapabilityError, match="max_tasks_per_child=3.*process") as caught:
            backend.make(max_tasks_per_child=3)
        assert "process" in caught.value.able

    # ---- numbers ----------------------------------------------------------------------------------------------------

    @lacks("runs_in_caller")
    def test_no_more_workers_than_allowed(self, make_executor: MakeExecutor, backend: Row) -> None:
        executor = make_executor(max_workers=2)
        wheres = [future.result(SECONDS) for future in [executor.submit(tasks.where) for _ in range(100)]]
        wheres += executor.map(lambda _: tasks.where(), range(200), chunksize=1)
        assert len(set(wheres)) <= 2 and executor.stats().workers <= 2

    @lacks("runs_in_caller")
    def test_one_worker_runs_tasks_in_order(self, make_executor: MakeExecutor, notes: Notes) -> None:
        with make_executor(max_workers=1) as executor:
            for number in range(200):
                executor.submit(tasks.note_line, notes.path, str(number))
        assert notes.lines() == [str(number) for number in range(200)]

    # ---- text -------------------------------------------------------------------------------------------------------

    def test_executor_says_what_it_is(self, make_executor: MakeExecutor, backend: Row) -> None:
        executor = make_executor()
        assert re.fullmatch(f"<parapluie.Executor backend='{backend.name}' max_workers=2 open>", repr(executor))
        executor.shutdown()
        assert "shut down" in repr(executor)
