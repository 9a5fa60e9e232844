"""Map: lazy in its input, streaming in its output, and every item has its own fate."""

from __future__ import annotations

import gc
import itertools
import sys
import threading
from concurrent.futures import BrokenExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from parapluie import (
    Executor,
    Outcome,
    ResultPicklingError,
    ResultUnpicklingError,
    TaskPicklingError,
    TaskUnpicklingError,
)
from parapluie.testing import hostile, tasks
from parapluie.testing.claims import lacks, requires
from parapluie.testing.helpers import SECONDS, CountingInput, at_once

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from parapluie.testing.fixtures import Gate, MakeExecutor, Notes

CHUNKSIZES = [None, 1, 7, 10_000]


class MapTests:
    """Map: lazy in its input, streaming in its output, and every item has its own fate."""

    # ---- results ----------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("chunksize", CHUNKSIZES)
    def test_results_come_in_order_whatever_the_chunks(self, executor: Executor, chunksize: int | None) -> None:
        results = list(executor.map(tasks.square, range(1000), chunksize=chunksize))
        assert results == [number * number for number in range(1000)]

    def test_several_inputs_end_with_the_shortest(self, executor: Executor) -> None:
        assert list(executor.map(tasks.add, [1, 2, 3, 4], (10, 20, 30))) == [11, 22, 33]
        assert list(executor.map(tasks.echo, "ab", itertools.count(), [None, True, 5])) == [
            (("a", 0, None), {}),
            (("b", 1, True), {}),
        ]

    @pytest.mark.parametrize("chunksize", CHUNKSIZES)
    @pytest.mark.parametrize("count", [0, 1])
    def test_few_items(self, executor: Executor, count: int, chunksize: int | None) -> None:
        assert list(executor.map(tasks.square, range(count), chunksize=chunksize)) == list(range(count))

    def test_iterator_ends_for_good(self, executor: Executor) -> None:
        results = executor.map(tasks.square, range(3))
        assert [next(results) for _ in range(3)] == [0, 1, 4]
        for _ in range(2):
            with pytest.raises(StopIteration):
                next(results)

    def test_unordered_gives_the_same_results(self, executor: Executor) -> None:
        results = list(executor.map(tasks.square, range(1000), ordered=False))
        assert sorted(results) == [number * number for number in range(1000)]

    @lacks("runs_in_caller")
    def test_unordered_does_not_wait_for_a_slow_item(self, executor: Executor, gate: Gate) -> None:
        results = executor.map(partial(tasks.wait_at_if, gate.port, {0}), range(50), ordered=False, chunksize=1)
        early = [next(results) for _ in range(49)]
        assert sorted(early) == [number * number for number in range(1, 50)]
        gate.open()
        assert list(results) == [0]

    @lacks("runs_in_caller")
    def test_results_stream_while_later_items_run(self, executor: Executor, gate: Gate) -> None:
        results = executor.map(partial(tasks.wait_at_if, gate.port, {3}), range(6), chunksize=1)
        assert [next(results) for _ in range(3)] == [0, 1, 4]
        gate.open()
        assert list(results) == [9, 16, 25]

    def test_two_maps_and_tasks_at_a_time(self, executor: Executor) -> None:
        first, second = executor.map(tasks.square, range(500)), executor.map(tasks.add, range(500), range(500))
        future = executor.submit(tasks.add, "a", "b")
        pairs = list(zip(first, second, strict=True))
        assert pairs == [(number * number, 2 * number) for number in range(500)]
        assert future.result(SECONDS) == "ab"

    # ---- the input --------------------------------------------------------------------------------------------------

    def test_endless_input_can_be_used_in_part(self, executor: Executor) -> None:
        results = executor.map(tasks.square, itertools.count())
        assert [next(results) for _ in range(200)] == [number * number for number in range(200)]
        results.close()

    def test_input_is_read_no_further_than_the_window(self, executor: Executor) -> None:
        source = CountingInput(itertools.count())
        results = executor.map(tasks.square, source, chunksize=5)
        for taken in range(300):
            assert source.read <= taken + 1024 + 5
            assert next(results) == taken * taken
            executor.submit(tasks.add, 1, 1).result(SECONDS)  # a slow consumer: what was read is done by now
        results.close()

    @pytest.mark.parametrize("ordered", [True, False])
    @pytest.mark.parametrize(("buffersize", "chunksize"), [(1, None), (7, None), (7, 3), (3, 10)])
    def test_buffersize_is_kept_exactly(
        self, executor: Executor, buffersize: int, chunksize: int | None, ordered: Any
    ) -> None:
        source = CountingInput(range(40))
        results = executor.map(tasks.square, source, buffersize=buffersize, chunksize=chunksize, ordered=ordered)
        assert source.read == buffersize
        seen = []
        for value in results:
            seen.append(value)
            assert source.read <= len(seen) + buffersize
        assert sorted(seen) == [number * number for number in range(40)] and source.read == 40

    def test_error_of_the_input_comes_after_the_results_before_it(self, executor: Executor) -> None:
        def numbers() -> None:
            yield from range(25)
            raise LookupError("the input's own")

        results = executor.map(tasks.square, numbers(), chunksize=10)
        assert [next(results) for _ in range(25)] == [number * number for number in range(25)]
        with pytest.raises(LookupError, match="the input's own"):
            next(results)
        with pytest.raises(StopIteration):
            next(results)
        assert executor.submit(tasks.add, 1, 1).result(SECONDS) == 2

    def test_input_may_submit_to_the_same_executor(self, executor: Executor) -> None:
        def numbers() -> None:
            for number in range(20):
                yield executor.submit(tasks.add, number, 1).result(SECONDS)

        assert list(executor.map(tasks.square, numbers())) == [number * number for number in range(1, 21)]

    # ---- errors -----------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("chunksize", [None, 1, 8])
    def test_error_is_raised_in_its_place_and_ends_the_map(self, executor: Executor, chunksize: int | None) -> None:
        source = CountingInput(itertools.count())
        results = executor.map(partial(tasks.fail_at, 30), source, chunksize=chunksize, buffersize=20)
        assert [next(results) for _ in range(30)] == [number * number for number in range(30)]
        with pytest.raises(ValueError, match="item 30") as caught:
            next(results)
        assert any("[30], attempt 1" in note for note in caught.value.__notes__)
        with pytest.raises(StopIteration):
            next(results)
        read = source.read
        assert read <= 31 + 20
        assert executor.submit(tasks.add, 1, 1).result(SECONDS) == 2
        assert source.read == read

    @lacks("runs_in_caller")
    def test_error_cancels_the_items_that_have_not_begun(
        self, make_executor: MakeExecutor, gate: Gate, notes: Notes
    ) -> None:
        executor = make_executor(max_workers=1)

        def items() -> None:
            yield partial(tasks.fail_at_gate, gate.port)
            yield partial(tasks.wait_at, gate.port)
            for _ in range(8):
                yield partial(tasks.note, notes.path)

        results = executor.map(tasks.call, items(), chunksize=1, buffersize=10)
        gate.arrival().release()
        gate.arrival()  # the second item holds the only worker
        with pytest.raises(ValueError, match="."):
            next(results)
        gate.open()
        executor.shutdown()
        assert notes.size() == 0

    def test_skip_leaves_failed_items_out(self, executor: Executor) -> None:
        results = executor.map(tasks.fail_if_odd, range(20), on_error="skip", chunksize=3)
        assert list(results) == list(range(0, 20, 2))

    @pytest.mark.parametrize("ordered", [True, False])
    def test_collect_gives_each_items_fate(self, executor: Executor, ordered: Any) -> None:
        outcomes = list(executor.map(tasks.fail_if_odd, range(20), on_error="collect", ordered=ordered, chunksize=6))
        assert all(type(outcome) is Outcome for outcome in outcomes)
        outcomes.sort(key=lambda outcome: outcome.index)
        assert [outcome.index for outcome in outcomes] == list(range(20))
        assert [outcome.value for outcome in outcomes] == [None if number % 2 else number for number in range(20)]
        assert [type(outcome.error) for outcome in outcomes] == [type(None), ValueError] * 10
        assert all(outcome.attempts == 1 and outcome.seconds >= 0 for outcome in outcomes)

    @lacks("runs_in_caller")
    def test_collect_says_how_long_an_item_ran(self, executor: Executor, gate: Gate) -> None:
        results = executor.map(partial(tasks.wait_at_if, gate.port, {1}), range(2), on_error="collect", chunksize=1)
        gate.arrival()
        quick = next(results)
        threading.Event().wait(0.05)  # what is measured is time
        gate.open()
        slow = next(results)
        assert slow.seconds >= 0.05 and quick.seconds >= 0
        assert (quick.index, slow.index) == (0, 1)

    @pytest.mark.parametrize("error", [StopIteration("x"), SystemExit(3)], ids=lambda e: type(e).__name__)
    def test_any_exception_is_only_its_own_items(self, executor: Executor, error: BaseException) -> None:
        functions = [
            partial(tasks.raise_it, error) if number == 5 else partial(tasks.square, number) for number in range(9)
        ]
        outcomes = list(executor.map(tasks.call, functions, on_error="collect", chunksize=9))
        assert type(outcomes[5].error) is type(error)
        del functions[5], outcomes[5]
        assert [outcome.value for outcome in outcomes] == [0, 1, 4, 9, 16, 36, 49, 64]

    @lacks("runs_in_caller")
    @pytest.mark.parametrize("ordered", [True, False])
    def test_timeout_is_how_long_the_caller_waits(self, executor: Executor, gate: Gate, ordered: Any) -> None:
        function = partial(tasks.wait_at_if, gate.port, {0, 1})
        results = executor.map(function, range(5), timeout=0.1, chunksize=1, ordered=ordered)
        with pytest.raises(TimeoutError):
            next(results)
        with pytest.raises(StopIteration):
            next(results)
        gate.open()
        assert executor.submit(tasks.add, 1, 1).result(SECONDS) == 2

    # ---- items that cannot travel -----------------------------------------------------------------------------------

    @requires("isolated_memory")
    @pytest.mark.parametrize("chunksize", [1, 4, 10])
    def test_item_that_cannot_be_sent_fails_alone(self, executor: Executor, chunksize: int | None) -> None:
        items = [threading.Lock() if number in {3, 4, 8} else [number] for number in range(10)]
        outcomes = list(executor.map(tasks.echo_type, items, on_error="collect", chunksize=chunksize))
        assert [outcome.index for outcome in outcomes if outcome.error] == [3, 4, 8]
        for outcome in outcomes:
            if outcome.error:
                assert isinstance(outcome.error, TaskPicklingError)
                assert outcome.error.path == "args[0]" and f"[{outcome.index}] cannot be sent" in str(outcome.error)
                assert __file__ in outcome.error.where
            else:
                assert outcome.value == "list"

    @requires("isolated_memory")
    def test_items_none_of_which_can_be_sent_all_fail(self, executor: Executor) -> None:
        items = [threading.Lock() for _ in range(5)]
        outcomes = list(executor.map(tasks.echo_type, items, on_error="collect", chunksize=5))
        assert [type(outcome.error) for outcome in outcomes] == [TaskPicklingError] * 5

    @requires("isolated_memory")
    def test_item_is_named_by_the_input_that_it_comes_from(self, executor: Executor) -> None:
        results = executor.map(tasks.echo, [1, 2], [3, hostile.Holder()], chunksize=2)
        assert next(results) == ((1, 3), {})
        with pytest.raises(TaskPicklingError, match=r"args\[1\].client._lock"):
            next(results)

    @requires("isolated_memory")
    def test_function_that_cannot_be_sent_fails_every_item(self, executor: Executor) -> None:
        function = tasks.Account(threading.Lock()).plus
        outcomes = list(executor.map(function, range(3), on_error="collect"))
        assert [type(outcome.error) for outcome in outcomes] == [TaskPicklingError] * 3
        assert "function.__self__.balance" in str(outcomes[0].error)

    @requires("isolated_memory")
    @pytest.mark.parametrize("chunksize", [1, 10])
    def test_item_that_cannot_be_read_in_the_worker_fails_alone(
        self, executor: Executor, chunksize: int | None
    ) -> None:
        items = [hostile.Bomb() if number in {3, 4} else [number] for number in range(10)]
        outcomes = list(executor.map(tasks.echo_type, items, on_error="collect", chunksize=chunksize))
        assert [outcome.index for outcome in outcomes if outcome.error] == [3, 4]
        assert all(type(outcomes[index].error) is TaskUnpicklingError for index in (3, 4))
        assert "[3] could not be read" in str(outcomes[3].error) and "[4] could not be read" in str(outcomes[4].error)
        assert "LookupError: a bomb" in str(outcomes[3].error) and "in explode" in outcomes[3].error.__cause__.tb

    @requires("isolated_memory")
    def test_function_that_cannot_be_read_in_the_worker_fails_every_item(self, executor: Executor) -> None:
        outcomes = list(executor.map(partial(tasks.add, hostile.Bomb()), range(4), on_error="collect", chunksize=2))
        assert [type(outcome.error) for outcome in outcomes] == [TaskUnpicklingError] * 4

    @requires("isolated_memory")
    @pytest.mark.parametrize("chunksize", [1, 10])
    def test_result_that_cannot_be_sent_back_fails_alone(self, executor: Executor, chunksize: int | None) -> None:
        outcomes = list(executor.map(hostile.lock_if_odd, range(10), on_error="collect", chunksize=chunksize))
        assert [outcome.value for outcome in outcomes] == [None if number % 2 else number for number in range(10)]
        assert all(type(outcome.error) is ResultPicklingError for outcome in outcomes if outcome.index % 2)
        assert all(f"[{outcome.index}] cannot be sent back" in str(outcome.error) for outcome in outcomes[1::2])

    @requires("isolated_memory")
    @pytest.mark.parametrize("chunksize", [1, 10])
    def test_result_that_cannot_be_read_here_fails_alone(self, executor: Executor, chunksize: int | None) -> None:
        outcomes = list(executor.map(hostile.bomb_if_odd, range(10), on_error="collect", chunksize=chunksize))
        assert [outcome.value for outcome in outcomes] == [None if number % 2 else number for number in range(10)]
        assert all(type(outcome.error) is ResultUnpicklingError for outcome in outcomes if outcome.index % 2)
        assert all(f"[{outcome.index}] arrived" in str(outcome.error) for outcome in outcomes[1::2])
        assert isinstance(outcomes[1].error, BrokenExecutor)

    # ---- all the work is done ---------------------------------------------------------------------------------------

    @pytest.mark.parametrize("chunksize", [None, 100])
    def test_map_that_nobody_advances_runs_everything(
        self, make_executor: MakeExecutor, notes: Notes, chunksize: int | None
    ) -> None:
        with make_executor() as executor:
            executor.map(partial(tasks.note_item, notes.path), range(10_000), chunksize=chunksize)
        assert notes.size() == 10_000

    def test_map_that_is_kept_and_not_advanced_runs_everything(self, make_executor: MakeExecutor, notes: Notes) -> None:
        with make_executor() as executor:
            kept = executor.map(partial(tasks.note_item, notes.path), range(5000), buffersize=10)
        assert notes.size() == 5000
        assert list(kept) == list(range(5000))

    def test_results_can_be_taken_after_the_end(self, make_executor: MakeExecutor) -> None:
        with make_executor() as executor:
            results = executor.map(tasks.square, range(5000))
        assert list(results) == [number * number for number in range(5000)]

    def test_results_can_be_taken_on_after_the_end(self, make_executor: MakeExecutor) -> None:
        with make_executor() as executor:
            results = executor.map(tasks.square, range(5000))
            first = [next(results) for _ in range(10)]
        assert first + list(results) == [number * number for number in range(5000)]

    def test_map_that_is_dropped_runs_everything_without_a_shutdown(
        self, executor: Executor, notes: Notes, gate: Gate
    ) -> None:
        # The gate is told by the last item. Longer than the window, so that somebody has to go on reading.
        executor.map(partial(tasks.knock_at_last, notes.path, gate.port, 4999), range(5000), chunksize=50)
        gc.collect()
        assert gate.arrival()
        executor.submit(tasks.add, 1, 1).result(SECONDS)

    @lacks("runs_in_caller")
    def test_input_that_exits_harms_nobody(self, executor: Executor, notes: Notes, gate: Gate) -> None:
        """A thread of ours reads it to its end, since nobody takes the results."""

        def source() -> Iterator[int]:
            yield from range(5000)  # longer than the window
            if threading.current_thread() is not threading.main_thread():
                sys.exit("the input's own")

        executor.map(partial(tasks.knock_at_last, notes.path, gate.port, 4999), source(), chunksize=50)
        assert gate.arrival()
        assert executor.submit(tasks.add, 1, 1).result(SECONDS) == 2

    def test_map_that_is_asked_for_an_iterator_only_runs_everything(
        self, make_executor: MakeExecutor, notes: Notes
    ) -> None:
        with make_executor() as executor:
            iter(executor.map(partial(tasks.note_item, notes.path), range(3000), chunksize=50))
        assert notes.size() == 3000

    def test_map_that_is_advanced_and_dropped_is_cancelled(self, make_executor: MakeExecutor) -> None:
        source = CountingInput(itertools.count())
        with make_executor() as executor:
            results = executor.map(tasks.square, source)
            assert next(results) == 0
            del results
            gc.collect()
        assert executor.stats().queued == executor.stats().running == 0
        read = source.read
        gc.collect()
        assert source.read == read

    def test_map_whose_loop_is_left_is_cancelled(self, make_executor: MakeExecutor) -> None:
        with make_executor() as executor:
            for value in executor.map(tasks.square, itertools.count()):
                if value > 100:
                    break
            del value
            gc.collect()
            assert executor.submit(tasks.add, 1, 1).result(SECONDS) == 2

    def test_errors_of_a_map_that_nobody_advances_do_not_stop_it(
        self, make_executor: MakeExecutor, notes: Notes
    ) -> None:
        def items() -> None:
            for number in range(2000):
                yield partial(tasks.note_and_fail if number % 100 == 0 else tasks.note, notes.path)

        with make_executor() as executor:
            executor.map(tasks.call, items(), chunksize=10)
        assert notes.size() == 2000
        assert executor.stats().failed == 20

    # ---- retries ----------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("chunksize", [1, 10])
    def test_items_are_repeated_one_by_one(self, executor: Executor, tmp_path: Path, chunksize: int | None) -> None:
        view = executor.with_options(retry=at_once(3))
        function = partial(tasks.flaky, str(tmp_path))
        outcomes = list(view.map(function, [0, 0, 1, 2, 3, 0], range(6), on_error="collect", chunksize=chunksize))
        assert [outcome.attempts for outcome in outcomes] == [1, 1, 2, 3, 3, 1]
        assert [outcome.value for outcome in outcomes] == [0, 1, 4, 9, None, 25]
        assert isinstance(outcomes[4].error, ValueError)
        assert any("gave up after 3 attempts" in note for note in outcomes[4].error.__notes__)
        runs = [(tmp_path / f"item-{number}").stat().st_size for number in range(6)]
        assert runs == [1, 1, 2, 3, 3, 1]

    def test_map_whose_items_are_repeated_keeps_their_order(self, executor: Executor, tmp_path: Path) -> None:
        view = executor.with_options(retry=at_once(2))
        results = view.map(partial(tasks.flaky, str(tmp_path)), itertools.cycle([0, 1]), range(40), chunksize=4)
        assert list(results) == [number * number for number in range(40)]

    def test_map_that_nobody_advances_repeats_its_items(self, make_executor: MakeExecutor, tmp_path: Path) -> None:
        with make_executor(retry=at_once(2)) as executor:
            executor.map(partial(tasks.flaky, str(tmp_path)), itertools.cycle([0, 1]), range(100), chunksize=7)
        runs = [(tmp_path / f"item-{number}").stat().st_size for number in range(100)]
        assert runs == [1, 2] * 50
        assert executor.stats().retried == 50
