"""Cancelling: True means that it will never run again."""

from __future__ import annotations

import concurrent.futures
import sys
from typing import TYPE_CHECKING, Any

import pytest

from parapluie.testing import tasks
from parapluie.testing.claims import lacks, proves, requires
from parapluie.testing.helpers import SECONDS, at_once

if TYPE_CHECKING:
    from parapluie import Executor, Future
    from parapluie.testing.fixtures import Gate, MakeExecutor, Notes


class CancelTests:
    """Cancelling: True means that it will never run again."""

    @pytest.fixture
    def held(self, executor: Executor, gate: Gate) -> Any:
        """Two tasks that hold both workers."""
        futures = [executor.submit(tasks.wait_at, gate.port, str(number)) for number in range(2)]
        gate.arrivals(2)
        return futures

    @lacks("runs_in_caller")
    def test_waiting_task_that_is_cancelled_never_runs(
        self, executor: Executor, held: list[Future[Any]], gate: Gate, notes: Notes
    ) -> None:
        waiting = [executor.submit(tasks.note, notes.path) for _ in range(5)]
        assert [future.cancel() for future in waiting] == [True] * 5
        assert all(future.cancelled() and future.done() and not future.running() for future in waiting)
        gate.open()
        assert [future.result(SECONDS) for future in held] == ["0", "1"]
        assert [executor.submit(tasks.square, number).result(SECONDS) for number in range(3)] == [0, 1, 4]
        assert notes.size() == 0
        for future in waiting:
            with pytest.raises(concurrent.futures.CancelledError):
                future.result(0)

    @lacks("runs_in_caller")
    def test_cancelling_one_of_many_leaves_the_others_in_order(
        self, executor: Executor, held: list[Future[Any]], gate: Gate, notes: Notes
    ) -> None:
        waiting = [executor.submit(tasks.note_line, notes.path, str(number)) for number in range(9)]
        assert waiting[4].cancel() and waiting[7].cancel()
        gate.open()
        done = [number for number, future in enumerate(waiting) if not future.cancelled()]
        assert [waiting[number].result(SECONDS) for number in done] == [str(number) for number in done]
        assert sorted(notes.lines()) == [str(number) for number in done] == ["0", "1", "2", "3", "5", "6", "8"]

    @lacks("runs_in_caller")
    def test_running_task_cannot_be_cancelled(self, executor: Executor, held: list[Future[Any]], gate: Gate) -> None:
        assert [future.cancel() for future in held] == [False, False]
        assert not any(future.cancelled() for future in held)
        gate.open()
        assert [future.result(SECONDS) for future in held] == ["0", "1"]

    @lacks("runs_in_caller")
    def test_refused_cancelling_loses_none_of_those_sent_ahead(self, executor: Executor, gate: Gate) -> None:
        """Asking for a task that has begun takes back what its worker was given behind it; all of that is to run."""
        assert [executor.submit(tasks.square, number).result(SECONDS) for number in range(300)][-1] == 299 * 299
        for _ in range(10):
            held = [executor.submit(tasks.wait_at, gate.port) for _ in range(2)]
            quick = [executor.submit(tasks.square, number) for number in range(20)]
            visitors = gate.arrivals(2)
            assert [future.cancel() for future in held] == [False, False]
            for visitor in visitors:
                visitor.release()
            assert [future.result(SECONDS) for future in quick] == [number * number for number in range(20)]
            assert [future.result(SECONDS) for future in held] == ["", ""]

    @lacks("runs_in_caller")
    def test_ending_a_task_that_has_not_begun_harms_nobody(self, executor: Executor, gate: Gate) -> None:
        """Its worker is at another one: `running=True` kills for the task that was meant, and for no other."""
        assert [executor.submit(tasks.square, number).result(SECONDS) for number in range(300)][-1] == 299 * 299
        for _ in range(10):
            held = [executor.submit(tasks.wait_at, gate.port, str(number)) for number in range(2)]
            waiting = [executor.submit(tasks.square, number) for number in range(20)]
            visitors = gate.arrivals(2)
            assert [future.cancel(running=True) for future in waiting] == [True] * 20
            for visitor in visitors:
                visitor.release()
            assert [future.result(SECONDS) for future in held] == ["0", "1"]
            assert [future.attempts for future in held] == [1, 1]

    @lacks("runs_in_caller", "kills_running_task")
    def test_running_task_cannot_be_cancelled_where_nothing_can_be_killed(
        self, executor: Executor, held: list[Future[Any]], gate: Gate
    ) -> None:
        assert [future.cancel(running=True) for future in held] == [False, False]
        gate.open()
        assert [future.result(SECONDS) for future in held] == ["0", "1"]

    def test_finished_task_cannot_be_cancelled(self, executor: Executor) -> None:
        future = executor.submit(tasks.add, 1, 2)
        assert future.result(SECONDS) == 3
        assert not future.cancel() and not future.cancel(running=True)
        assert future.result(0) == 3

    @lacks("runs_in_caller")
    def test_those_who_wait_see_what_is_cancelled(
        self, executor: Executor, held: list[Future[Any]], gate: Gate
    ) -> None:
        waiting = executor.submit(tasks.add, 1, 2)
        called = []
        waiting.add_done_callback(called.append)
        assert waiting.cancel() and waiting.cancel()
        assert called == [waiting]
        done, not_done = concurrent.futures.wait([waiting, *held], SECONDS, concurrent.futures.FIRST_COMPLETED)
        assert done == {waiting} and not_done == set(held)
        assert next(concurrent.futures.as_completed([waiting], SECONDS)) is waiting
        gate.open()
        assert {future.result(SECONDS) for future in held} == {"0", "1"}

    @proves("kills_running_task")
    def test_running_task_is_ended_where_the_backend_can_kill(self, make_executor: MakeExecutor, gate: Gate) -> None:
        executor = make_executor()
        ended, neighbour = [executor.submit(tasks.wait_at, gate.port, str(number)) for number in range(2)]
        pids = {visitor.label: visitor.pid for visitor in gate.arrivals(2)}
        waiting = executor.submit(tasks.pid)
        assert ended.cancel(running=True)
        assert ended.cancelled() and not ended.running()
        assert waiting.result(SECONDS) not in pids.values()
        assert not neighbour.done()
        gate.open()
        assert neighbour.result(SECONDS) == "1"
        stats = executor.stats()
        assert (stats.cancelled, stats.failed, stats.queued, stats.running) == (1, 0, 0, 0)

    @requires("kills_running_task")
    def test_task_that_is_ended_is_not_repeated(self, make_executor: MakeExecutor, gate: Gate) -> None:
        executor = make_executor(retry=at_once(5))
        future = executor.submit(tasks.wait_for_ever, gate.port)
        gate.arrival()
        assert future.cancel(running=True)
        assert executor.submit(tasks.add, 1, 2).result(SECONDS) == 3
        executor.shutdown()
        assert gate.nobody() and future.cancelled() and future.attempts == 1

    def test_task_that_is_cancelled_while_it_ends_has_not_run(self, make_executor: MakeExecutor, notes: Notes) -> None:
        """Threads take turns all the time, so that cancelling falls between a task's end and its answer."""
        executor = make_executor()
        before = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            cancelled = set()
            for number in range(300):
                future = executor.submit(tasks.note_line, notes.path, str(number))
                while not future.done():
                    if future.cancel():
                        cancelled.add(str(number))
        finally:
            sys.setswitchinterval(before)
        executor.shutdown()
        ran = notes.lines()
        assert len(ran) == len(set(ran)) and set(ran) | cancelled == {str(number) for number in range(300)}
        assert not set(ran) & cancelled

    def test_cancelling_at_any_time_loses_nothing(self, make_executor: MakeExecutor, notes: Notes) -> None:
        """What is cancelled has not run; what has run is not cancelled."""
        executor = make_executor()
        futures = [executor.submit(tasks.note_line, notes.path, str(number)) for number in range(400)]
        cancelled = {str(number) for number in reversed(range(400)) if futures[number].cancel()}
        executor.shutdown()
        assert all(future.done() for future in futures)
        ran = notes.lines()
        assert len(ran) == len(set(ran)) and set(ran) | cancelled == {str(number) for number in range(400)}
        assert not set(ran) & cancelled
        stats = executor.stats()
        assert (stats.done, stats.cancelled) == (len(ran), len(cancelled))
