"""Submitting: what goes in and what comes back, and that the futures are the standard ones."""

from __future__ import annotations

import asyncio
import concurrent.futures
import math
import os
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

import parapluie
from parapluie import Executor
from parapluie.testing import tasks
from parapluie.testing.claims import lacks, proves, requires
from parapluie.testing.helpers import SECONDS, results_of

if TYPE_CHECKING:
    from parapluie.testing.fixtures import Gate, MakeExecutor, Row


class SubmitTests:
    """Submitting: what goes in and what comes back, and that the futures are the standard ones."""

    def test_result_comes_back(self, executor: Executor) -> None:
        assert executor.submit(tasks.add, 2, 3).result(SECONDS) == 5

    def test_keyword_arguments_may_have_any_name(self, executor: Executor) -> None:
        names = {"self": 1, "fn": 2, "function": 3, "args": 4, "kwargs": 5, "timeout": 6, "future": 7}
        assert executor.submit(tasks.echo, 0, **names).result(SECONDS) == ((0,), names)

    @pytest.mark.parametrize(
        ("function", "args", "result"),
        [
            (math.factorial, (5,), 120),
            (tasks.Account(10).plus, (5,), 15),
            (tasks.Account.opened, (7,), 7),
            (partial(tasks.add, 1), (2,), 3),
            (str.upper, ("abc",), "ABC"),
            (complex, (1, 2), 1 + 2j),
            ("a,b".split, (",",), ["a", "b"]),
        ],
        ids=["built-in", "method", "class method", "partial", "method of a built-in type", "type", "bound built-in"],
    )
    def test_whatever_can_be_called_can_be_submitted(
        self, executor: Executor, function: Callable[..., Any], args: tuple[Any, ...], result: object
    ) -> None:
        assert executor.submit(function, *args).result(SECONDS) == result

    def test_tasks_run_where_the_backend_says(self, executor: Executor, backend: Row) -> None:
        process, thread = executor.submit(tasks.where).result(SECONDS)
        if backend.capabilities.runs_in_caller:
            assert (process, thread) == tasks.where()
        elif backend.capabilities.isolated_memory:
            assert process != os.getpid()
        else:
            assert process == os.getpid() and thread != threading.get_ident()

    @lacks("runs_in_caller")
    def test_as_many_tasks_run_at_a_time_as_there_are_workers(self, executor: Executor, gate: Gate) -> None:
        """One comes for each that leaves, and what is one too many has come by the time of a later look."""
        futures = [executor.submit(tasks.wait_at, gate.port, str(number)) for number in range(10)]
        inside = gate.arrivals(2)
        for _ in range(8):
            assert gate.nobody()
            inside.pop(0).release()
            inside.append(gate.arrival())
        gate.open()
        assert results_of(futures) == [str(number) for number in range(10)]

    @pytest.mark.parametrize("name", tasks.SPECIAL_VALUES)
    def test_any_value_is_a_value(self, executor: Executor, name: str) -> None:
        """None is taken for the sentinel, for "no result" or for an error: not one that equals everything either."""
        value = tasks.SPECIAL_VALUES[name]()
        (echoed,), named = executor.submit(tasks.echo, value, key=value).result(SECONDS)
        given = executor.submit(tasks.give, name).result(SECONDS)
        (mapped,) = executor.map(tasks.same, [value])
        for back in (echoed, named["key"], given, mapped):
            assert type(back) is type(value)
            if not isinstance(value, tasks.AlwaysEqual):
                assert repr(back) == repr(value)

    def test_an_executor_works_on_after_every_special_value_in_a_row(self, executor: Executor) -> None:
        values = [make() for make in tasks.SPECIAL_VALUES.values()]
        futures = [executor.submit(tasks.same, value) for value in values * 3]
        back = [type(future.result(SECONDS)) for future in futures]
        assert back == [type(value) for value in values] * 3
        mapped = executor.map(tasks.same, values * 3, chunksize=5)
        assert [type(value) for value in mapped] == back
        outcomes = executor.map(tasks.same, values * 3, chunksize=5, on_error="collect")
        assert [(type(outcome.value), outcome.error) for outcome in outcomes] == [(kind, None) for kind in back]
        mixed = [partial(tasks.same, value) for value in values] + [tasks.fail]
        skipped = executor.map(tasks.call, mixed, chunksize=len(mixed), on_error="skip")
        assert [type(value) for value in skipped] == back[: len(values)]

    @pytest.mark.parametrize("size", [0, 1, 100_000, 3_000_000])
    def test_large_values_travel_both_ways(self, executor: Executor, size: int) -> None:
        data = os.urandom(min(size, 1000)) * (size // 1000 or 1) if size else b""
        assert executor.submit(tasks.same, data).result(SECONDS) == data

    @pytest.mark.parametrize("size", [0, 1, 2_000_000])
    def test_buffers_travel_out_of_band_both_ways(self, executor: Executor, size: int) -> None:
        data = bytearray(os.urandom(1000) * (size // 1000)) if size > 1 else bytearray(size)
        block = executor.submit(tasks.flip, tasks.Block(data)).result(SECONDS)
        assert block.same_as(data[::-1])
        blocks = list(executor.map(tasks.flip, [tasks.Block(data), tasks.Block(bytearray(b"ab"))], chunksize=2))
        assert blocks[0].same_as(data[::-1]) and blocks[1].same_as(b"ba")

    @lacks("runs_in_caller")
    def test_many_large_tasks_at_once_do_not_block_each_other(self, executor: Executor) -> None:
        data = bytes(1_000_000)
        futures = [executor.submit(tasks.same, data) for _ in range(20)]
        assert [len(future.result(SECONDS)) for future in futures] == [len(data)] * 20

    @requires("isolated_memory")
    def test_arguments_are_taken_as_they_are_when_submitted(self, executor: Executor, gate: Gate, backend: Row) -> None:
        held = (
            [] if backend.capabilities.runs_in_caller else [executor.submit(tasks.wait_at, gate.port) for _ in range(2)]
        )
        gate.arrivals(len(held))
        numbers = [1, 2]
        future = executor.submit(tasks.same, numbers)
        numbers.append(3)
        gate.open()
        assert future.result(SECONDS) == [1, 2]
        assert [future.result(SECONDS) for future in held] == [""] * len(held)

    # ---- futures ----------------------------------------------------------------------------------------------------

    def test_executor_and_futures_are_the_standard_ones(self, executor: Executor) -> None:
        future = executor.submit(tasks.add, 1, 1)
        assert isinstance(executor, concurrent.futures.Executor)
        assert isinstance(future, concurrent.futures.Future) and isinstance(future, parapluie.Future)
        assert future.result(SECONDS) == 2
        assert future.done() and not future.running() and not future.cancelled() and future.exception() is None

    def test_future_knows_its_task(self, executor: Executor, backend: Row) -> None:
        first, second = executor.submit(tasks.pid), executor.submit(tasks.pid)
        process = first.result(SECONDS)
        assert second.result(SECONDS)
        assert first.task_id is not None and first.task_id != second.task_id
        assert first.attempts == second.attempts == 1
        if backend.capabilities.isolated_memory:
            assert first.worker == f"{backend.name}-{process}"
        else:
            assert first.worker

    def test_wait_and_as_completed_take_the_futures(self, executor: Executor) -> None:
        futures = {executor.submit(tasks.square, number): number for number in range(20)}
        done, not_done = concurrent.futures.wait(futures, SECONDS)
        assert done == set(futures) and not not_done
        finished = list(concurrent.futures.as_completed(futures, SECONDS))
        assert {future.result() for future in finished} == {number * number for number in range(20)}

    @lacks("runs_in_caller")
    def test_wait_returns_with_the_first(self, executor: Executor, gate: Gate) -> None:
        held = executor.submit(tasks.wait_at, gate.port, "held")
        gate.arrival()
        quick = executor.submit(tasks.add, 1, 2)
        done, not_done = concurrent.futures.wait([held, quick], SECONDS, concurrent.futures.FIRST_COMPLETED)
        assert done == {quick} and not_done == {held}
        gate.open()
        assert held.result(SECONDS) == "held"

    @lacks("runs_in_caller")
    def test_result_waits_no_longer_than_it_is_told(self, executor: Executor, gate: Gate) -> None:
        future = executor.submit(tasks.wait_at, gate.port, "held")
        gate.arrival()
        with pytest.raises(TimeoutError):
            future.result(0.01)
        with pytest.raises(TimeoutError):
            future.exception(0.01)
        gate.open()
        assert future.result(SECONDS) == "held"

    @proves("knows_begun")
    @lacks("runs_in_caller")
    def test_future_says_when_its_task_runs(self, executor: Executor, gate: Gate) -> None:
        futures = [executor.submit(tasks.wait_at, gate.port, str(number)) for number in range(3)]
        gate.arrivals(2)
        assert [future.running() for future in futures] == [True, True, False]
        assert not any(future.done() for future in futures)
        gate.open()
        assert [future.result(SECONDS) for future in futures] == ["0", "1", "2"]
        assert not any(future.running() for future in futures)

    def test_callbacks_run_once_and_may_submit(self, executor: Executor) -> None:
        ended = threading.Semaphore(0)
        seen = []

        def submit_another(future: Any) -> None:
            seen.append(future.result())
            executor.submit(tasks.add, 10, future.result()).add_done_callback(finish)

        def finish(future: Any) -> None:
            seen.append(future.result())
            ended.release()

        executor.submit(tasks.add, 1, 2).add_done_callback(submit_another)
        assert ended.acquire(timeout=SECONDS)
        assert seen == [3, 13]

    def test_callback_that_raises_harms_nobody(self, executor: Executor, caplog: pytest.LogCaptureFixture) -> None:
        future = executor.submit(tasks.add, 1, 2)
        called = threading.Event()

        def complain(_future: Any) -> None:
            called.set()
            raise ValueError("a callback's own")

        future.add_done_callback(complain)
        assert called.wait(SECONDS)
        assert executor.submit(tasks.add, 3, 4).result(SECONDS) == 7

    @lacks("runs_in_caller")
    def test_callback_that_exits_harms_nobody(
        self, executor: Executor, gate: Gate, caplog: pytest.LogCaptureFixture
    ) -> None:
        """In a thread of the engine's, it would take that with it."""
        future = executor.submit(tasks.wait_at, gate.port, "called back", 25)
        visitor = gate.arrival()
        future.add_done_callback(lambda _future: sys.exit("a callback's own"))
        visitor.release()
        assert future.result(SECONDS) == 25
        assert executor.submit(tasks.add, 3, 4).result(SECONDS) == 7

    def test_asyncio_takes_the_executor(self, executor: Executor) -> None:
        async def main() -> list[int]:
            loop = asyncio.get_running_loop()
            results = await asyncio.gather(
                *(loop.run_in_executor(executor, tasks.square, number) for number in range(10))
            )
            with pytest.raises(ValueError, match="for the loop"):
                await loop.run_in_executor(executor, tasks.fail, "for the loop")
            return results

        assert asyncio.run(asyncio.wait_for(main(), SECONDS)) == [number * number for number in range(10)]

    def test_any_thread_may_submit(self, executor: Executor) -> None:
        results = {}

        def submit_some(base: Any) -> None:
            futures = [executor.submit(tasks.add, base, number) for number in range(50)]
            results[base] = [future.result(SECONDS) for future in futures]

        threads = [threading.Thread(target=submit_some, args=(base,)) for base in (0, 100, 200, 300)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SECONDS)
        assert results == {base: [base + number for number in range(50)] for base in (0, 100, 200, 300)}

    def test_thousands_of_tasks_all_end(self, executor: Executor) -> None:
        futures = [executor.submit(tasks.square, number) for number in range(2000)]
        assert [future.result(SECONDS) for future in futures] == [number * number for number in range(2000)]

    @requires("isolated_memory")
    def test_executor_cannot_be_sent_into_a_task(self, executor: Executor) -> None:
        with pytest.raises(parapluie.TaskPicklingError, match=r"args\[0\].*make one there"):
            executor.submit(tasks.same, executor).result(SECONDS)

    # ---- views ------------------------------------------------------------------------------------------------------

    def test_view_has_a_name_and_the_same_workers(self, make_executor: MakeExecutor) -> None:
        executor = make_executor(max_workers=1)
        view = executor.with_options(name="letters")
        future, other = view.submit(tasks.where), executor.submit(tasks.where)
        assert future.result(SECONDS) == other.result(SECONDS)
        assert str(future.task_id).startswith("letters-") and isinstance(other.task_id, int)
        assert view.stats() == executor.stats()

    def test_name_of_a_view_is_in_the_messages(self, executor: Executor) -> None:
        future = executor.with_options(name="letters").submit(tasks.fail)
        assert any("task letters-" in note for note in future.exception(SECONDS).__notes__)
