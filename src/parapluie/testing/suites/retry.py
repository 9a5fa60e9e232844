"""Retry: what is repeated, how often, and that waiting costs nobody anything."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
import tenacity

from parapluie import Executor, Retry, WorkerLostError
from parapluie.testing import hostile, tasks
from parapluie.testing.claims import lacks, requires
from parapluie.testing.helpers import SECONDS, at_once

if TYPE_CHECKING:
    from pathlib import Path

    from parapluie.testing.fixtures import MakeExecutor, Notes, Row


class RetryTests:
    """Retry: what is repeated, how often, and that waiting costs nobody anything."""

    def test_task_is_repeated_until_it_succeeds(self, executor: Executor, notes: Notes) -> None:
        future = executor.with_options(retry=at_once(5)).submit(tasks.succeed_at, notes.path, 3)
        assert future.result(SECONDS) == 3
        assert future.attempts == 3 and notes.size() == 3

    def test_last_error_itself_is_raised_with_a_note(self, executor: Executor, notes: Notes) -> None:
        future = executor.with_options(retry=at_once(3)).submit(tasks.succeed_at, notes.path, 99)
        error = future.exception(SECONDS)
        assert type(error) is ValueError and error.args == ("attempt 3",)
        assert any("gave up after 3 attempts in" in note for note in error.__notes__)
        assert future.attempts == 3 and notes.size() == 3

    def test_notes_do_not_pile_up(self, executor: Executor) -> None:
        view = executor.with_options(retry=at_once(4))
        error = view.submit(tasks.fail).exception(SECONDS)
        assert len([note for note in error.__notes__ if "attempt" in note]) == 1

    def test_only_what_is_covered_is_repeated(self, executor: Executor, notes: Notes) -> None:
        view = executor.with_options(retry=at_once(5, on=OSError))
        future = view.submit(tasks.note_and_fail, notes.path)
        assert type(future.exception(SECONDS)) is ValueError
        assert future.attempts == 1 and notes.size() == 1

    def test_what_is_no_exception_is_not_repeated_unless_asked_for(self, executor: Executor, notes: Notes) -> None:
        error = SystemExit(3)
        future = executor.with_options(retry=at_once(3)).submit(tasks.note_and_fail, notes.path, error)
        assert type(future.exception(SECONDS)) is type(error) and notes.size() == 1
        view = executor.with_options(retry=at_once(3, on=type(error)))
        assert type(view.submit(tasks.note_and_fail, notes.path, error).exception(SECONDS)) is type(error)
        assert notes.size() == 4

    def test_several_types_may_be_covered(self, executor: Executor, notes: Notes) -> None:
        view = executor.with_options(retry=at_once(2, on=(OSError, ValueError)))
        assert view.submit(tasks.note_and_fail, notes.path).exception(SECONDS).__class__ is ValueError
        assert notes.size() == 2

    def test_function_decides_what_is_covered(self, executor: Executor, notes: Notes) -> None:
        seen = []

        def decide(error: Any) -> Any:
            seen.append(str(error))
            return "attempt 1" in str(error)

        view = executor.with_options(retry=at_once(5, on=decide))
        assert str(view.submit(tasks.succeed_at, notes.path, 99).exception(SECONDS)) == "attempt 2"
        assert seen == ["attempt 1", "attempt 2"]

    def test_function_that_raises_ends_the_task_with_its_own_error(self, executor: Executor, notes: Notes) -> None:
        def decide(error: Any) -> None:
            raise LookupError("the policy's own")

        error = (
            executor.with_options(retry=at_once(5, on=decide))
            .submit(tasks.note_and_fail, notes.path)
            .exception(SECONDS)
        )
        assert type(error) is ValueError and notes.size() == 1
        assert any("policy" in note for note in error.__notes__)

    @lacks("runs_in_caller")
    def test_function_that_exits_ends_the_task_with_its_own_error(self, executor: Executor, notes: Notes) -> None:
        def decide(error: Any) -> None:
            sys.exit("the policy's own")

        view = executor.with_options(retry=at_once(5, on=decide))
        assert isinstance(view.submit(tasks.note_and_fail, notes.path).exception(SECONDS), ValueError)
        with pytest.raises(ValueError):  # noqa: PT011 - which one it is does not matter
            list(view.map(tasks.note_and_fail, [notes.path]))
        assert notes.size() == 2 and executor.submit(tasks.square, 3).result(SECONDS) == 9

    def test_number_of_attempts_is_enough(self, make_executor: MakeExecutor, notes: Notes) -> None:
        executor = make_executor(retry=2)
        future = executor.submit(tasks.succeed_at, notes.path, 2)
        assert future.result(SECONDS) == 2 and future.attempts == 2

    def test_tenacity_objects_are_taken(self, executor: Executor, notes: Notes) -> None:
        retry = Retry(
            10,
            on=tenacity.retry_if_exception_type(ValueError),
            wait=tenacity.wait_none(),
            stop=tenacity.stop_after_attempt(2),
        )
        error = executor.with_options(retry=retry).submit(tasks.note_and_fail, notes.path).exception(SECONDS)
        assert type(error) is ValueError and notes.size() == 2

    def test_what_cannot_be_sent_is_not_repeated(self, executor: Executor, backend: Row) -> None:
        if not backend.capabilities.isolated_memory:
            return
        future = executor.with_options(retry=at_once(3)).submit(tasks.same, threading.Lock())
        assert future.exception(SECONDS) is not None and future.attempts <= 1

    @requires("isolated_memory")
    def test_result_that_cannot_be_sent_back_is_not_repeated(self, executor: Executor) -> None:
        future = executor.with_options(retry=at_once(3)).submit(hostile.give_lock)
        assert future.exception(SECONDS) is not None and future.attempts == 1

    def test_views_have_policies_of_their_own(self, executor: Executor, notes: Notes) -> None:
        view = executor.with_options(retry=at_once(2))
        again = view.with_options(name="again")
        plain = again.with_options(retry=None)
        assert executor.submit(tasks.fail).exception(SECONDS) is not None
        attempts = []
        for one in (executor, view, again, plain):
            future = one.submit(tasks.fail)
            future.exception(SECONDS)
            attempts.append(future.attempts)
        assert attempts == [1, 2, 2, 1]

    # ---- waiting ----------------------------------------------------------------------------------------------------

    @lacks("runs_in_caller")
    def test_waiting_holds_no_worker(self, make_executor: MakeExecutor, notes: Notes) -> None:
        executor = make_executor(max_workers=1)
        resting = executor.with_options(retry=Retry(2, wait=3600)).submit(tasks.note_and_fail, notes.path)
        assert executor.submit(tasks.add, 1, 2).result(SECONDS) == 3
        assert notes.size() == 1
        assert not resting.done() and not resting.running() and resting.attempts == 1
        assert resting.cancel()

    @lacks("runs_in_caller")
    def test_task_that_is_cancelled_while_it_rests_never_runs_again(
        self, make_executor: MakeExecutor, tmp_path: Path
    ) -> None:
        executor = make_executor(max_workers=1)
        view = executor.with_options(retry=Retry(2, wait=0.2))
        cancelled = view.submit(tasks.note_and_fail, str(tmp_path / "cancelled"))
        other = view.submit(tasks.succeed_at, str(tmp_path / "other"), 2)
        assert executor.submit(tasks.add, 1, 2).result(SECONDS) == 3  # both have failed once
        assert cancelled.cancel() and cancelled.cancelled()
        assert other.result(SECONDS) == 2  # it rested as long, from later on
        executor.shutdown()
        assert (tmp_path / "cancelled").stat().st_size == 1

    @lacks("runs_in_caller")
    def test_task_that_is_cancelled_while_its_retry_is_decided_never_runs_again(
        self, make_executor: MakeExecutor, notes: Notes
    ) -> None:
        deciding, decide = threading.Event(), threading.Event()

        def cover(error: Any) -> Any:
            deciding.set()
            return decide.wait(SECONDS)

        executor = make_executor(max_workers=1, retry=Retry(2, on=cover, wait=0))
        future = executor.submit(tasks.succeed_at, notes.path, 2)
        assert deciding.wait(SECONDS)
        cancelled = future.cancel()
        decide.set()
        executor.shutdown()
        assert future.done() and future.cancelled() is cancelled
        assert notes.size() == (1 if cancelled else 2)

    @lacks("runs_in_caller")
    def test_shutdown_waits_for_tasks_that_rest(self, make_executor: MakeExecutor, notes: Notes) -> None:
        with make_executor(retry=Retry(2, wait=0.1)) as executor:
            future = executor.submit(tasks.succeed_at, notes.path, 2)
        assert future.result(0) == 2

    @lacks("runs_in_caller")
    def test_shutdown_that_cancels_does_not_wait_for_tasks_that_rest(
        self, make_executor: MakeExecutor, notes: Notes
    ) -> None:
        executor = make_executor(max_workers=1, retry=Retry(2, wait=3600))
        future = executor.submit(tasks.note_and_fail, notes.path)
        assert executor.submit(tasks.add, 1, 2).result(SECONDS) == 3
        executor.shutdown(cancel_futures=True)
        assert future.cancelled() and notes.size() == 1

    # ---- lost workers -----------------------------------------------------------------------------------------------

    @requires("survives_dead_worker")
    def test_lost_attempt_is_repeated(self, make_executor: MakeExecutor, notes: Notes) -> None:
        executor = make_executor(retry=at_once(2))
        future = executor.submit(tasks.die_once, notes.path, "_exit")
        assert future.result(SECONDS) == "survived" and future.attempts == 2
        assert executor.stats().lost == 1

    @requires("survives_dead_worker")
    @pytest.mark.parametrize(("lost", "runs"), [(0, 1), (2, 3)])
    def test_task_that_kills_worker_after_worker_is_stopped(
        self, make_executor: MakeExecutor, notes: Notes, lost: int, runs: int
    ) -> None:
        executor = make_executor(retry=at_once(9, lost=lost))
        future = executor.submit(tasks.note_and_die, notes.path, "_exit")
        error = future.exception(SECONDS)
        assert isinstance(error, WorkerLostError)
        assert notes.size() == runs and future.attempts == runs and error.attempt == runs
        assert executor.submit(tasks.add, 1, 2).result(SECONDS) == 3

    @requires("survives_dead_worker")
    def test_lost_attempt_is_not_repeated_without_a_policy(self, make_executor: MakeExecutor, notes: Notes) -> None:
        executor = make_executor()
        error = executor.submit(tasks.note_and_die, notes.path, "_exit").exception(SECONDS)
        assert isinstance(error, WorkerLostError) and notes.size() == 1

    @requires("survives_dead_worker")
    def test_budgets_are_kept_apart(self, make_executor: MakeExecutor, notes: Notes) -> None:
        """A policy for what tasks raise says nothing of lost workers, and the other way round."""
        executor = make_executor(retry=at_once(1, lost=1))
        assert executor.submit(tasks.die_once, notes.path, "_exit").result(SECONDS) == "survived"
        future = executor.submit(tasks.fail)
        assert type(future.exception(SECONDS)) is ValueError and future.attempts == 1
