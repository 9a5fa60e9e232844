"""Hostile objects: whatever they do, and wherever, costs their own task, and every future ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from parapluie import (
    ResultPicklingError,
    ResultUnpicklingError,
    TaskPicklingError,
    TaskUnpicklingError,
    WorkerLostError,
)
from parapluie.testing import hostile, tasks
from parapluie.testing.claims import requires
from parapluie.testing.helpers import SECONDS, results_of

if TYPE_CHECKING:
    from parapluie import Executor, Future
    from parapluie.testing.fixtures import MakeExecutor

# Workers try whether an exception can be read back before they send it, and send its type and arguments if it cannot.
# What it is, when it does harm, the harm, and what its future ends with. The process that it is pickled or read in
# pays for a crash: where that is the caller's own, nobody could tell the tale.
IN_THE_CALLER = [
    ("task", "pickled", "error", TaskPicklingError),
    ("task", "pickled", "exit", SystemExit),
    ("argument", "pickled", "error", TaskPicklingError),
    ("argument", "pickled", "exit", SystemExit),
    ("result", "read back", "error", ResultUnpicklingError),
    ("result", "read back", "exit", ResultUnpicklingError),
]
IN_THE_WORKER = [
    ("task", "read back", "error", TaskUnpicklingError),
    ("task", "read back", "exit", TaskUnpicklingError),
    ("argument", "read back", "error", TaskUnpicklingError),
    ("argument", "read back", "exit", TaskUnpicklingError),
    ("result", "pickled", "error", ResultPicklingError),
    ("result", "pickled", "exit", SystemExit),
    ("exception", "pickled", "error", hostile.HostileError),
    ("exception", "pickled", "exit", hostile.HostileError),
    ("exception", "read back", "error", hostile.HostileError),
    ("exception", "read back", "exit", hostile.HostileError),
]
CRASHES = [
    ("task", "read back"),
    ("argument", "read back"),
    ("result", "pickled"),
    ("exception", "pickled"),
    ("exception", "read back"),
]


def submit(executor: Executor, what: str, when: str, harm: str) -> Future[Any]:
    """Submit a task with something hostile about it."""
    if what == "task":
        return executor.submit(hostile.Hostile(when, harm))
    if what == "argument":
        return executor.submit(tasks.same, hostile.Hostile(when, harm))
    give = hostile.return_hostile if what == "result" else hostile.raise_hostile
    return executor.submit(give, when, harm)


def error_of(executor: Executor, what: str, when: str, harm: str) -> BaseException | None:
    """Return what such a task ends with, or what `submit` raises: SystemExit in a `__reduce__` is the caller's."""
    try:
        return submit(executor, what, when, harm).exception(SECONDS)
    except SystemExit as leaving:
        return leaving


class HostilityTests:
    """Whatever hostile objects do, and wherever, costs their own task."""

    @requires("isolated_memory")
    @pytest.mark.parametrize(("what", "when", "harm", "kind"), IN_THE_CALLER + IN_THE_WORKER)
    def test_hostile_object_costs_its_own_task(
        self, executor: Executor, what: str, when: str, harm: str, kind: type[BaseException]
    ) -> None:
        good = [executor.submit(tasks.square, number) for number in range(5)]
        error = error_of(executor, what, when, harm)
        good += [executor.submit(tasks.square, number) for number in range(5, 10)]
        assert isinstance(error, kind), error
        assert results_of(good) == [number * number for number in range(10)]

    @requires("isolated_memory")
    @pytest.mark.parametrize(("what", "when", "harm", "kind"), [row for row in IN_THE_WORKER if row[0] != "task"])
    def test_hostile_item_costs_itself(
        self, executor: Executor, what: str, when: str, harm: str, kind: type[BaseException]
    ) -> None:
        quiet = tasks.same if what == "argument" else tasks.call_with
        items: list[Any] = [(tasks.square, number) for number in range(6)]
        items[3] = hostile_item(what, when, harm)
        outcomes = list(executor.map(quiet, items, chunksize=3, on_error="collect"))
        assert [outcome.index for outcome in outcomes if outcome.error] == [3]
        assert isinstance(outcomes[3].error, kind)

    @requires("isolated_memory", "survives_dead_worker")
    @pytest.mark.parametrize(("what", "when"), CRASHES)
    def test_hostile_object_that_crashes_costs_its_own_task(
        self, make_executor: MakeExecutor, what: str, when: str
    ) -> None:
        executor = make_executor()
        good = [executor.submit(tasks.square, number) for number in range(5)]
        error = error_of(executor, what, when, "crash")
        good += [executor.submit(tasks.square, number) for number in range(5, 10)]
        assert isinstance(error, WorkerLostError), error
        assert results_of(good) == [number * number for number in range(10)]


def hostile_item(what: str, when: str, harm: str) -> Any:
    """Return an item of a map that is hostile, or whose result or exception is."""
    if what == "argument":
        return hostile.Hostile(when, harm)
    return (hostile.return_hostile if what == "result" else hostile.raise_hostile), when, harm
