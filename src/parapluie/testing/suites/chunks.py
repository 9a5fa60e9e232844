"""Chunks of map that have begun: what is behind an item that turns out long is taken back, and nothing runs twice."""

from __future__ import annotations

import threading
from collections.abc import Callable, Container, Iterator
from concurrent.futures import CancelledError
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from parapluie import Shutdown, TaskPicklingError, TaskTimeoutError, TaskUnpicklingError, WorkerLostError
from parapluie.testing import hostile, processes, tasks
from parapluie.testing.claims import proves, requires
from parapluie.testing.helpers import SECONDS, at_once, until
from parapluie.testing.processes import LIMIT

if TYPE_CHECKING:
    from pathlib import Path

    from parapluie.testing.fixtures import Gate, MakeExecutor, Notes

    Begin = Callable[..., Iterator[Any]]
    Ran = Callable[..., list[int]]

ITEMS = 8

SQUARES = [number * number for number in range(ITEMS)]


class ChunkTests:
    """What is behind an item that turns out long is taken back, and nothing runs twice."""

    @pytest.fixture
    def begin(self, notes: Notes, gate: Gate) -> Begin:
        """Map numbers in one chunk, of which some wait at the gate; every one notes that it runs."""

        def begin(executor: Any, held: Container[int], *, items: Any = range(ITEMS), **options: Any) -> Any:
            function = partial(tasks.note_and_wait_if, notes.path, gate.port, held)
            return executor.map(function, items, chunksize=ITEMS, **options)

        return begin

    @pytest.fixture
    def ran(self, notes: Notes) -> Ran:
        """Wait until so many items have begun; return them, in order of their numbers."""

        def ran(count: int = ITEMS) -> Any:
            until(lambda: len(notes.lines()) >= count)
            return sorted(int(line) for line in notes.lines())

        return ran

    @proves("takes_back_items")
    def test_items_behind_a_long_one_run_while_it_does(
        self, make_executor: MakeExecutor, gate: Gate, begin: Begin, ran: Ran
    ) -> None:
        executor = make_executor()
        results = begin(executor, {0})
        visitor = gate.arrival()
        assert ran() == list(range(ITEMS))
        visitor.release()
        assert list(results) == SQUARES
        assert ran() == list(range(ITEMS))
        stats = executor.stats()
        assert (stats.queued, stats.running, stats.done, stats.lost, stats.retried) == (0, 0, ITEMS, 0, 0)

    @requires("takes_back_items")
    def test_items_that_were_taken_back_are_taken_back_again(
        self, make_executor: MakeExecutor, gate: Gate, begin: Begin, ran: Ran
    ) -> None:
        """The part that is dispatched again is a selection of its chunk, and its first item is long as well."""
        results = begin(make_executor(), {0, 1})
        first, second = sorted(gate.arrivals(2), key=lambda visitor: visitor.label)
        first.release()
        assert ran() == list(range(ITEMS))
        assert second.pid != first.pid
        second.release()
        assert list(results) == SQUARES
        assert ran() == list(range(ITEMS))

    @requires("takes_back_items")
    def test_item_that_turns_out_long_and_then_fails_in_a_block_hands_nothing_on(
        self, make_executor: MakeExecutor, gate: Gate, notes: Notes
    ) -> None:
        """The block that it ends early goes up to the cut, and so must the next one, which begins before that."""
        count, held = 64, 20  # the first items grow the blocks
        function = partial(tasks.note_and_fail_if, notes.path, gate.port, {held})
        results = make_executor().map(function, range(count), chunksize=count, on_error="collect")
        visitor = gate.arrival()
        until(lambda: str(count - 1) in notes.lines())  # the last ones were taken back, and run elsewhere
        visitor.release()
        outcomes = list(results)
        assert [outcome.value for outcome in outcomes] == [n * n if n != held else None for n in range(count)]
        assert isinstance(outcomes[held].error, ValueError)
        assert sorted(map(int, notes.lines())) == list(range(count))

    @requires("takes_back_items")
    @pytest.mark.parametrize("long", [0, 3, ITEMS - 1])
    def test_long_item_anywhere_in_a_selection_holds_nobody_up(
        self, make_executor: MakeExecutor, gate: Gate, notes: Notes, ran: Ran, long: int
    ) -> None:
        """Some items cannot be pickled, so that the chunk is sent with a selection of several ranges."""
        functions = [partial(tasks.note_and_wait_if, notes.path, gate.port, {long}, number) for number in range(ITEMS)]
        for bad in (1, 2, 5):
            functions[bad] = threading.Lock()
        results = make_executor().map(tasks.call, functions, chunksize=ITEMS, on_error="collect")
        visitor = gate.arrival()
        good = [0, 3, 4, 6, 7]
        assert ran(len(good)) == good
        visitor.release()
        outcomes = list(results)
        assert [outcome.value for outcome in outcomes if not outcome.error] == [number * number for number in good]
        assert {type(outcome.error) for outcome in outcomes if outcome.error} == {TaskPicklingError}
        assert ran(len(good)) == good

    @requires("takes_back_items")
    @pytest.mark.parametrize("long", [0, 4])
    def test_death_behind_a_cut_costs_the_long_item_alone(
        self, make_executor: MakeExecutor, gate: Gate, begin: Begin, ran: Ran, long: int
    ) -> None:
        executor = make_executor(task_timeout=SECONDS)  # so that quick items, too, are marked and sealed one by one
        results = begin(executor, {long}, on_error="collect")
        visitor = gate.arrival()
        assert ran() == list(range(ITEMS))
        processes.kill(visitor.pid)
        outcomes = list(results)
        assert isinstance(outcomes[long].error, WorkerLostError) and outcomes[long].error.pid == visitor.pid
        del outcomes[long]
        assert [outcome.value for outcome in outcomes] == [square for square in SQUARES if square != long * long]
        assert ran() == list(range(ITEMS))
        assert executor.stats().lost == 1

    @requires("takes_back_items")
    def test_death_behind_a_cut_is_repeated_under_retry(
        self, make_executor: MakeExecutor, gate: Gate, begin: Begin, ran: Ran
    ) -> None:
        executor = make_executor(retry=at_once(2))
        results = begin(executor, {0}, on_error="collect")
        visitor = gate.arrival()
        assert ran() == list(range(ITEMS))
        processes.kill(visitor.pid)
        gate.open()
        outcomes = list(results)
        assert [outcome.value for outcome in outcomes] == SQUARES
        assert [outcome.attempts for outcome in outcomes] == [2] + [1] * (ITEMS - 1)
        assert ran() == [0, *range(ITEMS)]

    @requires("takes_back_items")
    def test_items_that_were_taken_back_are_repeated_as_others_are(
        self, make_executor: MakeExecutor, gate: Gate, tmp_path: Path
    ) -> None:
        functions = [partial(tasks.wait_at, gate.port, "0", 0)]
        functions += [partial(tasks.flaky, str(tmp_path), number % 2, number) for number in range(1, ITEMS)]
        results = make_executor(retry=at_once(2)).map(tasks.call, functions, chunksize=ITEMS, on_error="collect")
        visitor = gate.arrival()
        until(lambda: len(list(tmp_path.iterdir())) == ITEMS - 1)
        visitor.release()
        outcomes = list(results)
        assert [outcome.value for outcome in outcomes] == SQUARES
        assert [outcome.attempts for outcome in outcomes] == [1, *[1 + number % 2 for number in range(1, ITEMS)]]

    @requires("takes_back_items", "initializer")
    @pytest.mark.parametrize("long", [0, 3])
    def test_overrun_behind_a_cut_costs_the_long_item_alone(
        self, make_executor: MakeExecutor, gate: Gate, notes: Notes, ran: Ran, long: int
    ) -> None:
        executor = make_executor(task_timeout=LIMIT, initializer=tasks.import_tasks)
        function = partial(tasks.note_and_hang_at, notes.path, gate.port, long)
        outcomes = list(executor.map(function, range(ITEMS), on_error="collect", chunksize=ITEMS))
        assert isinstance(outcomes[long].error, TaskTimeoutError)
        del outcomes[long]
        assert [outcome.value for outcome in outcomes] == [square for square in SQUARES if square != long * long]
        # The limit holds for reading the function as well, so the long item may not have come to its note.
        assert [item for item in ran(ITEMS - 1) if item != long] == [item for item in range(ITEMS) if item != long]
        assert executor.stats().lost == 1

    @requires("takes_back_items")
    def test_function_that_waits_to_be_read_and_then_cannot_be_costs_one_item(
        self, make_executor: MakeExecutor, gate: Gate, notes: Notes, tmp_path: Path
    ) -> None:
        """The rest is taken back while it is being read, and read once more elsewhere.

        A worker that is not let run may come to its reading after the one that has the rest. It costs that one its
        first item then, and another reads the rest of the rest.
        """
        late_to_read = hostile.ReadsBackLate(str(tmp_path / "read"), gate.port)
        function = partial(tasks.note_and_add, notes.path, late_to_read)
        executor = make_executor()
        results = executor.map(function, range(ITEMS), on_error="collect", chunksize=ITEMS)
        visitor = gate.arrival()
        until(lambda: notes.size() == ITEMS - 1)
        visitor.release()
        outcomes = list(results)
        late = 0 if outcomes[0].error is not None else 1
        assert isinstance(outcomes.pop(late).error, TaskUnpicklingError)
        assert [outcome.value for outcome in outcomes] == [1 + number for number in range(ITEMS) if number != late]
        executor.shutdown()  # which drains: nothing of the map is still open

    # ---- cancelling, and the end ------------------------------------------------------------------------------------

    @requires("takes_back_items")
    def test_cancelled_map_begins_no_further_item_of_its_chunk(
        self, make_executor: MakeExecutor, gate: Gate, begin: Begin, notes: Notes
    ) -> None:
        executor = make_executor(max_workers=1)
        results = begin(executor, {0})
        gate.arrival()
        results.close()
        gate.open()
        executor.shutdown()
        assert notes.lines() == ["0"]
        stats = executor.stats()
        assert (stats.done, stats.cancelled, stats.queued, stats.running) == (1, ITEMS - 1, 0, 0)

    @requires("takes_back_items")
    def test_shutdown_that_cancels_begins_no_further_item_of_a_chunk(
        self, make_executor: MakeExecutor, gate: Gate, begin: Begin, notes: Notes
    ) -> None:
        executor = make_executor(max_workers=1)
        results = begin(executor, {0}, on_error="collect")
        gate.arrival()
        executor.shutdown(wait=False, cancel_futures=True)
        gate.open()
        executor.shutdown()
        assert [type(outcome.error) for outcome in results] == [type(None), *[CancelledError] * (ITEMS - 1)]
        assert notes.lines() == ["0"]

    @requires("takes_back_items")
    def test_shutdown_in_the_middle_waits_for_what_was_taken_back(
        self, make_executor: MakeExecutor, gate: Gate, begin: Begin, ran: Ran
    ) -> None:
        executor = make_executor()
        results = begin(executor, {0})
        gate.arrival()
        executor.shutdown(wait=False)
        assert ran() == list(range(ITEMS))
        gate.open()
        executor.shutdown()
        assert list(results) == SQUARES
        assert ran() == list(range(ITEMS))

    @requires("takes_back_items")
    def test_shutdown_that_kills_answers_every_item_once(
        self, make_executor: MakeExecutor, gate: Gate, begin: Begin, ran: Ran
    ) -> None:
        executor = make_executor(shutdown=Shutdown(drain=False, grace=0.1))
        results = begin(executor, {0}, on_error="collect")
        gate.arrival()
        assert ran() == list(range(ITEMS))
        executor.shutdown()
        outcomes = list(results)
        assert isinstance(outcomes[0].error, WorkerLostError)
        assert [outcome.value for outcome in outcomes[1:]] == SQUARES[1:]
        assert ran() == list(range(ITEMS))
