"""Errors: what a task raises comes back as it was; what cannot travel is explained, and costs its own task only."""

from __future__ import annotations

import inspect
import pickle
import threading
import traceback
from concurrent.futures import BrokenExecutor
from typing import TYPE_CHECKING

import pytest

from parapluie import (
    Executor,
    RemoteError,
    RemoteTraceback,
    ResultPicklingError,
    ResultUnpicklingError,
    TaskPicklingError,
    TaskUnpicklingError,
)
from parapluie.testing import hostile, tasks
from parapluie.testing.claims import lacks, requires
from parapluie.testing.helpers import SECONDS

if TYPE_CHECKING:
    from parapluie.testing.fixtures import MakeExecutor, Row


def here() -> int:
    """Return the number of the line that calls it."""
    return inspect.currentframe().f_back.f_lineno


class ErrorTests:
    """Errors: what a task raises comes back as it was; what cannot travel is explained, and costs its own task only."""

    # ---- what tasks raise -------------------------------------------------------------------------------------------

    def test_exception_keeps_its_type_and_arguments(self, executor: Executor) -> None:
        error = executor.submit(tasks.fail, "the text").exception(SECONDS)
        assert type(error) is ValueError and error.args == ("the text",)

    @requires("isolated_memory")
    def test_exception_brings_the_traceback_of_its_worker(self, executor: Executor) -> None:
        error = executor.submit(tasks.fail).exception(SECONDS)
        assert isinstance(error.__cause__, RemoteTraceback)
        assert "raise ValueError(text)  # the line that fails" in error.__cause__.tb
        assert "the line that fails" in "".join(traceback.format_exception(error))

    @lacks("isolated_memory")
    def test_exception_keeps_its_traceback(self, executor: Executor) -> None:
        error = executor.submit(tasks.fail).exception(SECONDS)
        assert "the line that fails" in "".join(traceback.format_exception(error))

    def test_exception_says_which_task_and_attempt_it_ended(self, executor: Executor) -> None:
        future = executor.submit(tasks.fail)
        notes = future.exception(SECONDS).__notes__
        assert any(f"task {future.task_id}, attempt 1" in note for note in notes)
        assert any(f"worker {future.worker}" in note for note in notes)

    def test_cause_of_an_exception_is_told(self, executor: Executor) -> None:
        error = executor.submit(tasks.fail_with_cause).exception(SECONDS)
        text = "".join(traceback.format_exception(error))
        assert type(error) is RuntimeError
        assert "KeyError: 'missing'" in text and "direct cause" in text

    @pytest.mark.parametrize(
        "error",
        [StopIteration("x"), GeneratorExit(), SystemExit(3), OSError(2, "No such file", "name")],
        ids=lambda error: type(error).__name__,
    )
    def test_any_exception_is_only_its_own_tasks(self, executor: Executor, error: BaseException) -> None:
        raised = executor.submit(tasks.raise_it, error).exception(SECONDS)
        assert type(raised) is type(error) and raised.args == error.args
        assert executor.submit(tasks.add, 1, 1).result(SECONDS) == 2

    @lacks("runs_in_caller")
    def test_interrupt_in_a_task_is_only_its_own_tasks(self, executor: Executor) -> None:
        assert type(executor.submit(tasks.raise_it, KeyboardInterrupt()).exception(SECONDS)) is KeyboardInterrupt
        assert executor.submit(tasks.add, 1, 1).result(SECONDS) == 2

    @requires("runs_in_caller")
    @lacks("isolated_memory")
    def test_interrupt_in_a_task_is_the_callers_where_the_caller_runs_it(self, executor: Executor) -> None:
        with pytest.raises(KeyboardInterrupt):
            executor.submit(tasks.raise_it, KeyboardInterrupt())
        assert executor.submit(tasks.add, 1, 1).result(SECONDS) == 2

    def test_exception_that_cannot_be_made_from_its_arguments_keeps_its_type(self, executor: Executor) -> None:
        error = executor.submit(hostile.fail_needing_two).exception(SECONDS)
        assert type(error) is hostile.NeedsTwo
        assert (error.name, error.place, str(error)) == ("pump", "cellar", "pump at cellar")

    def test_exception_leaves_behind_only_what_cannot_travel(self, executor: Executor) -> None:
        error = executor.submit(hostile.fail_holding_lock).exception(SECONDS)
        assert type(error) is hostile.HoldsLock and error.code == 17 and str(error) == "held"

    @requires("isolated_memory")
    def test_exception_that_cannot_travel_is_named(self, executor: Executor) -> None:
        error = executor.submit(hostile.fail_locally).exception(SECONDS)
        assert isinstance(error, RemoteError)
        assert error.type_name == "parapluie.testing.hostile.fail_locally.<locals>.LocalError"
        assert error.text == "nobody can import me" and "LocalError" in str(error)
        assert "raise LocalError" in error.__cause__.tb

    @requires("isolated_memory")
    def test_exception_that_cannot_be_read_back_is_named(self, executor: Executor) -> None:
        error = executor.submit(hostile.fail_unreadably).exception(SECONDS)
        assert "Unreadable" in repr(error) and "the text" in str(error)
        assert "raise Unreadable" in error.__cause__.tb

    def test_exception_that_cannot_say_what_it_is_keeps_its_type(self, executor: Executor) -> None:
        future = executor.submit(hostile.fail_speechless)
        assert type(future.exception(SECONDS)) is hostile.Speechless
        assert executor.submit(tasks.add, 1, 1).result(SECONDS) == 2

    # ---- what cannot be sent ----------------------------------------------------------------------------------------

    @requires("isolated_memory")
    def test_argument_that_cannot_be_sent_is_named_with_place_and_remedy(self, executor: Executor) -> None:
        line = here() + 1
        future = executor.submit(tasks.echo, 1, hostile.Holder())
        error = future.exception(SECONDS)
        assert isinstance(error, TaskPicklingError) and isinstance(error, pickle.PicklingError)
        assert error.path == "args[1].client._lock" and error.found == "_thread.lock"
        assert error.where == f"{__file__}:{line}" and error.task_id == future.task_id
        assert "args[1].client._lock is a '_thread.lock'" in str(error)
        assert "create it in the worker (initializer=) or leave it out in __getstate__" in str(error)
        assert f"submitted at {__file__}:{line}" in str(error)

    @requires("isolated_memory")
    def test_keyword_argument_that_cannot_be_sent_is_named(self, executor: Executor) -> None:
        error = executor.submit(tasks.echo, key={"deep": [threading.Lock()]}).exception(SECONDS)
        assert error.path == "kwargs['key']['deep'][0]"

    @requires("isolated_memory")
    def test_function_that_cannot_be_sent_is_named(self, executor: Executor) -> None:
        error = executor.submit(tasks.Account(threading.Lock()).plus, 1).exception(SECONDS)
        assert isinstance(error, TaskPicklingError) and error.path == "function.__self__.balance"

    @requires("isolated_memory")
    def test_task_that_cannot_be_sent_costs_no_other(self, executor: Executor, backend: Row) -> None:
        good = [executor.submit(tasks.square, number) for number in range(5)]
        bad = executor.submit(tasks.same, threading.Lock())
        good += [executor.submit(tasks.square, number) for number in range(5, 10)]
        assert bad.done() and isinstance(bad.exception(), TaskPicklingError)
        assert [future.result(SECONDS) for future in good] == [number * number for number in range(10)]

    @requires("isolated_memory")
    def test_pickle_check_raise_raises_from_submit(self, make_executor: MakeExecutor) -> None:
        executor = make_executor(pickle_check="raise")
        with pytest.raises(TaskPicklingError, match=r"args\[0\].client._lock"):
            executor.submit(tasks.same, hostile.Holder())
        assert executor.submit(tasks.add, 1, 1).result(SECONDS) == 2

    @lacks("isolated_memory")
    def test_where_memory_is_shared_anything_can_be_sent(self, executor: Executor) -> None:
        lock = threading.Lock()
        assert executor.submit(tasks.same, lock).result(SECONDS) is lock

    def test_lambda_is_sent_by_value(self, executor: Executor) -> None:
        base = 10
        assert executor.submit(lambda number: number + base, 5).result(SECONDS) == 15
        assert list(executor.map(lambda number: number * base, [1, 2, 3])) == [10, 20, 30]

    @requires("isolated_memory")
    def test_strict_serializer_refuses_a_lambda_in_clear_words(self, make_executor: MakeExecutor) -> None:
        executor = make_executor(serializer="pickle")
        error = executor.submit(lambda: 1).exception(SECONDS)
        assert isinstance(error, TaskPicklingError) and error.path == "function"
        assert "function is a lambda, which cannot be pickled" in str(error) and "serializer='auto'" in str(error)
        with pytest.raises(TaskPicklingError, match="function is a lambda"):
            next(executor.map(lambda number: number, [1]))
        assert executor.submit(tasks.add, 1, 1).result(SECONDS) == 2

    @requires("isolated_memory")
    def test_strict_serializer_is_strict_about_results_too(self, make_executor: MakeExecutor) -> None:
        executor = make_executor(serializer="pickle")
        error = executor.submit(hostile.give_lambda).exception(SECONDS)
        assert isinstance(error, ResultPicklingError)

    @requires("isolated_memory")
    def test_serializer_is_each_executors_own(self, make_executor: MakeExecutor) -> None:
        strict, free = make_executor(serializer="pickle"), make_executor()
        assert strict.submit(tasks.add, 1, 1).result(SECONDS) == 2
        assert free.submit(hostile.give_lambda).result(SECONDS)(1) == 2
        assert isinstance(strict.submit(hostile.give_lambda).exception(SECONDS), ResultPicklingError)
        assert free.submit(hostile.give_lambda).result(SECONDS)(1) == 2

    @requires("isolated_memory")
    def test_cloudpickle_sends_everything_by_value(self, make_executor: MakeExecutor) -> None:
        executor = make_executor(serializer="cloudpickle")
        assert executor.submit(lambda: 1).result(SECONDS) == 1
        assert list(executor.map(tasks.square, range(5), chunksize=2)) == [0, 1, 4, 9, 16]

    @requires("isolated_memory")
    def test_task_that_quits_while_it_is_pickled_is_answered(self, executor: Executor) -> None:
        """SystemExit from a `__reduce__` is the caller's, as from any code that it runs, or the future's; no more."""
        try:
            error = executor.submit(tasks.same, hostile.QuitsWhenPickled()).exception(SECONDS)
        except SystemExit as quitting:
            error = quitting
        assert isinstance(error, SystemExit | TaskPicklingError)
        assert executor.submit(tasks.add, 1, 1).result(SECONDS) == 2

    # ---- what cannot be read in the worker, sent back, or read here -------------------------------------------------

    @requires("isolated_memory")
    def test_task_that_cannot_be_read_in_the_worker_costs_itself(self, executor: Executor) -> None:
        good = executor.submit(tasks.add, 1, 1)
        future = executor.submit(tasks.same, hostile.Bomb())
        error = future.exception(SECONDS)
        assert isinstance(error, TaskUnpicklingError)
        assert isinstance(error, BrokenExecutor) and isinstance(error, pickle.UnpicklingError)
        assert error.task_id == future.task_id and "LookupError: a bomb" in str(error)
        assert "in explode" in error.__cause__.tb
        assert good.result(SECONDS) == 2 and executor.submit(tasks.add, 1, 2).result(SECONDS) == 3

    @requires("isolated_memory")
    def test_result_that_cannot_be_sent_back_is_named(self, executor: Executor) -> None:
        future = executor.submit(hostile.give_lock)
        error = future.exception(SECONDS)
        assert isinstance(error, ResultPicklingError) and isinstance(error, pickle.PicklingError)
        assert error.path == "result['rows'][1]" and error.found == "_thread.lock" and error.task_id == future.task_id
        assert "result['rows'][1] is a '_thread.lock'" in str(error)
        assert executor.submit(tasks.add, 1, 2).result(SECONDS) == 3

    @requires("isolated_memory")
    def test_result_that_cannot_be_read_here_costs_itself(self, executor: Executor) -> None:
        future = executor.submit(hostile.give_bomb)
        error = future.exception(SECONDS)
        assert isinstance(error, ResultUnpicklingError)
        assert isinstance(error, BrokenExecutor) and isinstance(error, pickle.UnpicklingError)
        assert error.task_id == future.task_id and isinstance(error.__cause__, LookupError)
        assert any("in explode" in note for note in error.__notes__)
        assert executor.submit(tasks.add, 1, 2).result(SECONDS) == 3

    @requires("isolated_memory")
    def test_result_that_quits_when_it_is_pickled_costs_itself(self, executor: Executor) -> None:
        error = executor.submit(hostile.QuitsWhenPickled).exception(SECONDS)
        assert isinstance(error, SystemExit)
        assert executor.submit(tasks.add, 1, 2).result(SECONDS) == 3

    @requires("isolated_memory")
    def test_function_can_be_a_result(self, executor: Executor) -> None:
        assert executor.submit(hostile.give_lambda).result(SECONDS)(1) == 2
