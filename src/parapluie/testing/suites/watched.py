"""Maps that are watched: limits of failures, progress, and a journal with which a map goes on where it was."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from parapluie import (
    ConfigError,
    Executor,
    Journal,
    JournalError,
    JournalMismatchError,
    Progress,
    RemoteTraceback,
    Shutdown,
    TooManyFailuresError,
)
from parapluie.testing import tasks
from parapluie.testing.claims import lacks, requires
from parapluie.testing.helpers import SECONDS, CountingInput, at_once

if TYPE_CHECKING:
    from pathlib import Path

    from parapluie.testing.fixtures import Gate, MakeExecutor, Notes


def recorded(journal: str) -> dict[int, Any]:
    """Return what a journal holds: values, and errors as they are."""
    return {outcome.index: outcome.error or outcome.value for outcome in Journal(journal).outcomes()}


class WatchedMapTests:
    """Maps that are watched: limits of failures, progress, and a journal with which a map goes on where it was."""

    @pytest.fixture
    def journal(self, tmp_path: Path) -> str:
        """Return the path of a journal that is not there yet."""
        return str(tmp_path / "journal")

    # ---- failures ---------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("on_error", ["collect", "skip"])
    def test_too_many_failures_end_a_map_behind_what_is_done(self, executor: Executor, on_error: str) -> None:
        source = CountingInput(itertools.count())
        results = executor.map(tasks.fail_if_odd, source, on_error=on_error, max_failures=10)
        seen = []
        with pytest.raises(TooManyFailuresError, match="max_failures=10 allows") as caught:
            seen.extend(results)
        assert caught.value.failed > 10 and caught.value.answered >= caught.value.failed
        assert isinstance(caught.value.__cause__, ValueError)
        if on_error == "collect":
            assert sum(outcome.error is not None for outcome in seen) > 10
            assert [outcome.index for outcome in seen] == sorted({outcome.index for outcome in seen})
        else:
            assert seen == sorted(set(seen)) and not any(number % 2 for number in seen)
        read = source.read
        assert executor.submit(tasks.add, 1, 1).result(SECONDS) == 2
        assert source.read == read
        with pytest.raises(StopIteration):
            next(results)

    @lacks("runs_in_caller")
    def test_what_runs_when_too_many_have_failed_is_given_too(self, executor: Executor, gate: Gate) -> None:
        function = partial(tasks.wait_at_if, gate.port, {0, "a"})  # "a" has no square
        results = executor.map(function, [0, "a", 2], on_error="collect", max_failures=0, chunksize=1)
        gate.arrivals(2)
        gate.open()
        outcomes = []
        with pytest.raises(TooManyFailuresError):
            outcomes.extend(results)
        assert [(outcome.index, outcome.value) for outcome in outcomes][:2] == [(0, 0), (1, None)]

    def test_as_many_failures_as_are_allowed_end_nothing(self, executor: Executor) -> None:
        results = executor.map(tasks.fail_if_odd, range(20), on_error="skip", max_failures=10)
        assert list(results) == list(range(0, 20, 2))

    @pytest.mark.parametrize(("share", "ends"), [("50%", False), ("49.9%", True)])
    @pytest.mark.parametrize("known", [True, False])
    def test_share_is_of_the_input(self, executor: Executor, share: str, ends: Any, known: Any) -> None:
        items = range(20) if known else iter(range(20))  # else the length is known in the end
        results = executor.map(tasks.fail_if_odd, items, on_error="skip", max_failures=share)
        if ends:
            with pytest.raises(TooManyFailuresError):
                list(results)
        else:
            assert len(list(results)) == 10

    def test_share_of_endless_input_is_of_what_is_answered(self, executor: Executor) -> None:
        results = executor.map(tasks.fail_if_odd, itertools.count(), on_error="skip", max_failures="40%")
        with pytest.raises(TooManyFailuresError) as caught:
            list(results)
        assert caught.value.answered >= 100

    @pytest.mark.parametrize("limit", [-1, True, 2.5, "5", "many", "101%", "-1%"])
    def test_limit_that_is_none_is_refused(self, executor: Executor, limit: Any) -> None:
        with pytest.raises(ConfigError, match="max_failures="):
            executor.map(tasks.square, [1], on_error="skip", max_failures=limit)

    def test_limit_goes_with_errors_that_are_not_raised(self, executor: Executor) -> None:
        with pytest.raises(ConfigError, match="needs on_error="):
            executor.map(tasks.square, [1], max_failures=1)

    # ---- progress ---------------------------------------------------------------------------------------------------

    def test_progress_counts_items_and_not_attempts(self, executor: Executor, tmp_path: Path) -> None:
        view = executor.with_options(retry=at_once(3))
        told: list[Progress] = []
        function = partial(tasks.flaky, str(tmp_path))
        list(view.map(function, [0, 0, 1, 2, 3, 0], range(6), on_error="skip", progress=told.append, chunksize=4))
        assert told[-1][:5] == (6, 1, 5, 0, 6) and told[-1].seconds > 0
        assert [progress.done for progress in told] == sorted(progress.done for progress in told)
        assert all(type(progress) is Progress for progress in told)

    def test_length_of_the_input_is_told_when_it_is_known(self, executor: Executor) -> None:
        told: list[Progress] = []
        list(executor.map(tasks.square, (number for number in range(300)), progress=told.append, chunksize=10))
        assert told[-1].total == told[-1].done == 300

    def test_error_of_the_progress_function_is_the_consumers(self, executor: Executor) -> None:
        def tell(progress: Progress) -> None:
            if progress.done == 50:
                raise LookupError("of the display")

        with pytest.raises(LookupError, match="of the display"):
            list(executor.map(tasks.square, range(50), progress=tell))
        assert executor.submit(tasks.add, 1, 1).result(SECONDS) == 2

    @lacks("runs_in_caller")
    def test_progress_is_told_while_a_result_is_awaited(self, executor: Executor, gate: Gate) -> None:
        told = threading.Event()

        def tell(progress: Progress) -> None:
            if progress.done == 9:  # all but the first, which nobody can have taken
                told.set()
                gate.open()

        results = executor.map(partial(tasks.wait_at_if, gate.port, {0}), range(10), progress=tell, chunksize=1)
        assert next(results) == 0
        assert told.is_set()
        assert len(list(results)) == 9

    # ---- the journal ------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("ordered", [True, False])
    def test_what_is_recorded_does_not_run_again(
        self, executor: Executor, notes: Notes, journal: str, ordered: Any
    ) -> None:
        function = partial(tasks.note_item, notes.path)
        told: list[Progress] = []
        for _ in range(2):
            results = list(executor.map(function, range(200), journal=journal, ordered=ordered, progress=told.append))
            assert (results if ordered else sorted(results)) == list(range(200))
            assert notes.size() == 200
        assert told[-1][:5] == (200, 0, 0, 200, 200)
        assert recorded(journal) == {number: number for number in range(200)}

    def test_map_goes_on_where_it_was(self, make_executor: MakeExecutor, notes: Notes, journal: str) -> None:
        def line(number: int) -> str:
            return f"{number}"

        function = partial(tasks.note_line, notes.path)
        with make_executor() as executor:
            results = executor.map(function, map(line, itertools.count()), journal=journal)
            given = [next(results) for _ in range(300)]
            results.close()
        before = recorded(journal)
        assert [before[number] for number in range(300)] == given  # what was given is recorded
        with make_executor() as executor:
            results = executor.map(function, [*map(line, range(max(before) + 200))], journal=journal)
            assert len(list(results)) == max(before) + 200
        runs = Counter(notes.lines())
        assert all(runs[line(number)] == 1 for number in before)
        assert set(runs) >= set(map(line, range(max(before) + 200)))

    def test_several_inputs_are_recorded(self, executor: Executor, journal: str) -> None:
        for _ in range(2):
            assert list(executor.map(tasks.add, [1, 2, 3, 4], (10, 20, 30), journal=journal)) == [11, 22, 33]
        with pytest.raises(JournalMismatchError, match="item 1 is not what it was"):
            list(executor.map(tasks.add, [1, 2, 3], (10, 21, 30), journal=journal))

    def test_failures_are_recorded_and_run_again_if_asked(
        self, executor: Executor, tmp_path: Path, journal: str
    ) -> None:
        function = partial(tasks.flaky, str(tmp_path))
        inputs = [0, 1, 0, 1], range(4)
        first = list(executor.map(function, *inputs, on_error="collect", journal=journal))
        again = list(executor.map(function, *inputs, on_error="collect", journal=journal))
        for outcomes in (first, again):
            assert [outcome.value for outcome in outcomes] == [0, None, 4, None]
            assert [type(outcome.error) for outcome in outcomes] == [type(None), ValueError] * 2
        assert [outcome[3:] for outcome in again] == [outcome[3:] for outcome in first]
        assert isinstance(again[1].error.__cause__, RemoteTraceback) and "flaky" in str(again[1].error.__cause__)
        assert again[1].error.__notes__ == first[1].error.__notes__
        last = executor.map(function, *inputs, on_error="collect", journal=Journal(journal, retry_failed=True))
        assert [outcome.value for outcome in last] == [0, 1, 4, 9]
        assert [(tmp_path / f"item-{number}").stat().st_size for number in range(4)] == [1, 2, 1, 2]

    def test_error_that_is_raised_is_raised_again(self, executor: Executor, journal: str) -> None:
        for _ in range(2):
            results = executor.map(partial(tasks.fail_at, 3), range(6), journal=journal, buffersize=1)
            assert [next(results) for _ in range(3)] == [0, 1, 4]
            with pytest.raises(ValueError, match="item 3"):
                next(results)

    def test_failures_of_earlier_runs_count(self, executor: Executor, journal: str) -> None:
        assert len(list(executor.map(tasks.fail_if_odd, range(20), on_error="skip", journal=journal))) == 10
        results = executor.map(tasks.fail_if_odd, range(30), on_error="skip", journal=journal, max_failures=10)
        with pytest.raises(TooManyFailuresError):
            list(results)

    def test_journal_of_another_function_is_refused(self, executor: Executor, notes: Notes, journal: str) -> None:
        list(executor.map(tasks.square, range(3), journal=journal))
        with pytest.raises(JournalMismatchError, match=r"made by parapluie.testing.tasks.square, not by .*note_item"):
            executor.map(partial(tasks.note_item, notes.path), range(3), journal=journal)
        assert notes.size() == 0
        list(
            executor.map(partial(tasks.note_item, notes.path), range(3), journal=Journal(journal, accept_changed=True))
        )
        assert notes.size() == 0  # it was asked to take them for the same

    @pytest.mark.parametrize(
        ("items", "problem"), [([0, 1, 7, 3], "item 2 is not what it was"), ([0, 1], "holds item 2")]
    )
    def test_journal_of_other_input_is_refused(
        self, executor: Executor, notes: Notes, journal: str, items: list[int], problem: str
    ) -> None:
        function = partial(tasks.note_item, notes.path)
        list(executor.map(function, range(4), journal=journal))
        with pytest.raises(JournalMismatchError, match=problem) as caught:
            list(executor.map(function, items, journal=journal))
        assert caught.value.path == journal
        assert notes.size() == 4
        accepting = Journal(journal, accept_changed=True)
        assert list(executor.map(function, items, journal=accepting)) == items
        assert notes.size() == 4 + (7 in items)
        assert list(recorded(journal).values()) == items

    def test_item_may_have_a_key_of_its_own(self, executor: Executor, notes: Notes, journal: str) -> None:
        function = partial(tasks.note_item, notes.path)
        by_parity = Journal(journal, key=lambda number: number % 2)
        assert list(executor.map(function, [1, 2], journal=by_parity)) == [1, 2]
        assert list(executor.map(function, [3, 4], journal=by_parity)) == [1, 2]
        assert notes.size() == 2

    def test_map_that_nobody_advances_is_recorded(self, make_executor: MakeExecutor, journal: str) -> None:
        with make_executor() as executor:
            executor.map(tasks.square, range(3000), journal=journal)
        assert recorded(journal) == {number: number * number for number in range(3000)}

    @lacks("runs_in_caller")
    def test_results_are_recorded_before_anybody_takes_them(
        self, make_executor: MakeExecutor, gate: Gate, journal: str
    ) -> None:
        with make_executor() as executor:
            results = executor.map(partial(tasks.wait_at_if, gate.port, {5}), range(6), journal=journal, chunksize=1)
            gate.arrival()
            gate.open()
            executor.shutdown()
            del results  # nobody has asked it for anything
        assert recorded(journal) == {number: number * number for number in range(6)}

    @lacks("runs_in_caller")
    def test_item_that_fails_when_its_map_was_given_up_runs_again(
        self, make_executor: MakeExecutor, gate: Gate, journal: str
    ) -> None:
        with make_executor() as executor:
            items = [partial(tasks.square, 3), partial(tasks.fail_at_gate, gate.port)]
            results = executor.map(tasks.call, items, journal=journal, on_error="collect", chunksize=1)
            gate.arrival()
            assert next(results).value == 9
            results.close()  # as Ctrl-C does, which at a terminal may be why the item fails
            gate.open()
        assert recorded(journal) == {0: 9}

    @requires("isolated_memory")
    @lacks("runs_in_caller")
    def test_item_that_is_killed_with_its_executor_runs_again(
        self, make_executor: MakeExecutor, gate: Gate, journal: str
    ) -> None:
        function = partial(tasks.wait_at_if, gate.port, {1})
        executor = make_executor(shutdown=Shutdown(drain=False, grace=0.0))
        results = executor.map(function, range(2), journal=journal, chunksize=1)
        gate.arrival()
        assert next(results) == 0
        executor.shutdown()
        results.close()
        assert recorded(journal) == {0: 0}
        gate.open()
        assert list(make_executor().map(function, range(2), journal=journal)) == [0, 1]

    @lacks("isolated_memory")
    def test_value_that_cannot_be_recorded_is_an_error_of_its_item(self, executor: Executor, journal: str) -> None:
        lock = threading.Lock()
        for _ in range(2):
            outcomes = list(executor.map(tasks.same, [1, lock, 3], on_error="collect", journal=journal))
            assert [outcome.value for outcome in outcomes] == [1, None, 3]
            assert isinstance(outcomes[1].error, JournalError)
            assert "cannot record the result of item 1: result is a '_thread.lock'" in str(outcomes[1].error)

    def test_journal_that_is_none_is_refused(self, executor: Executor, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="neither a path nor a Journal"):
            executor.map(tasks.square, [1], journal=5)
        (tmp_path / "text").write_text("no database, and long enough to be seen as none" * 100)
        with pytest.raises(JournalError, match="is not a journal"):
            executor.map(tasks.square, [1], journal=tmp_path / "text")
        with pytest.raises(TypeError):
            executor.map(tasks.square, 5, journal=tmp_path / "journal")
        assert list(executor.map(tasks.square, [5], journal=tmp_path / "journal")) == [25]
