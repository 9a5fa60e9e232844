"""Rounds of measurements. What a machine does beside them hits all contenders alike, since they take turns."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, NamedTuple

from parapluie.bench import isolate
from parapluie.bench.isolate import ABSENT, MEASURED, Outcome
from parapluie.bench.sizes import ADDRESS_SPACE, FULL, QUICK
from parapluie.bench.workloads.stage import Request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from parapluie.bench.contenders import Contender
    from parapluie.bench.sizes import Sizes
    from parapluie.bench.workloads import Workload


class Settings(NamedTuple):
    """What a run was asked to do.

    Attributes:
        workloads, contenders: those to be measured, or said to be not installed.
        workers, start_method, rounds: as on the command line.
        quick: take the small sizes.
        time_limit: seconds for one measurement.
    """

    workloads: Sequence[Workload]
    contenders: Sequence[Contender]
    workers: int
    start_method: str
    rounds: int
    quick: bool
    time_limit: float

    @property
    def sizes(self) -> Sizes:
        """How much each workload does."""
        return QUICK if self.quick else FULL


class Record:
    """All measurements of one contender in one workload."""

    def __init__(self, workload: Workload, contender: Contender) -> None:
        self.workload = workload
        self.contender = contender
        self.outcomes: list[Outcome] = []

    @property
    def status(self) -> str:
        """What happened: MEASURED if it was so in any round; empty if its turn has not come."""
        found = [outcome.status for outcome in self.outcomes]
        return MEASURED if MEASURED in found else next(iter(found), "")

    @property
    def notes(self) -> list[str]:
        """What a reader has to know: remarks, and what went wrong."""
        notes = [note for outcome in self.outcomes for note in outcome.notes]
        for outcome in self.outcomes:
            if outcome.status == ABSENT:
                notes.append(outcome.why)
            elif outcome.status != MEASURED:
                notes.append(f"{outcome.status}: {outcome.why}")
        if self.status == MEASURED:
            notes += [text for prefix, text in self.contender.remarks if self.workload.name.startswith(prefix)]
        return list(dict.fromkeys(notes))

    def median(self, figure: str) -> float | None:
        """Return the median over the rounds, or None if there is no such figure."""
        values = [outcome.figures.get(figure) for outcome in self.outcomes]
        known = [value for value in values if value is not None]
        return statistics.median(known) if known else None


class Results:
    """What has been measured so far; complete unless the run was interrupted."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.complete = False
        self._records = {
            (workload.name, contender.name): Record(workload, contender)
            for workload in settings.workloads
            for contender in settings.contenders
            if not contender.why_not
        }

    def of(self, workload: Workload) -> list[Record]:
        """Return the records of a workload, of all contenders that are installed."""
        return [record for record in self._records.values() if record.workload is workload]

    def record(self, workload: str, contender: str) -> Record | None:
        """Return one record, or None if it was not asked for, or is not installed."""
        return self._records.get((workload, contender))

    def value(self, workload: str, contender: str, figure: str) -> float | None:
        """Return a median, or None if it is not known."""
        record = self.record(workload, contender)
        return record.median(figure) if record else None

    @property
    def any(self) -> bool:
        """Whether anything was measured."""
        return any(record.status == MEASURED for record in self._records.values())


def run(results: Results, tell: Callable[[str], object]) -> None:
    """Measure everything, round by round, into `results`; an interrupt leaves there what was measured before.

    Args:
        tell: called with a line of text as the run proceeds.
    """
    settings = results.settings
    for number in range(settings.rounds):
        for workload in settings.workloads:
            tell(f"round {number + 1} of {settings.rounds}: {workload.name}")
            for record in _in_turn(results.of(workload), number):
                if not record.outcomes or record.outcomes[-1].status == MEASURED:  # who failed would fail again
                    record.outcomes.append(_outcome(settings, record))
    results.complete = True


def _in_turn(records: list[Record], number: int) -> Iterator[Record]:
    """Yield the records, each round beginning with another one: nobody always comes first, or behind the same one."""
    start = number * 2 % len(records) if records else 0
    order = records[start:] + records[:start]
    yield from reversed(order) if number % 2 else order


def _outcome(settings: Settings, record: Record) -> Outcome:
    workload, contender = record.workload, record.contender
    why_not = _why_not(workload, contender)
    if why_not:
        return Outcome(ABSENT, why=why_not)
    method = workload.start_method or settings.start_method
    request = Request(
        workload.function,
        contender.name,
        sorted(contender.abilities),
        contender.needs_chunks,
        contender.parallel,
        settings.workers,
        method if method in contender.start_methods else None,
        settings.quick,
        ADDRESS_SPACE,
    )
    return isolate.measure(request, settings.time_limit)


def _why_not(workload: Workload, contender: Contender) -> str:
    """Say why there is nothing to measure; empty if there is."""
    if workload.needs and contender.lacks(workload.needs):
        return contender.lacks(workload.needs)
    if workload.start_method and contender.cannot_start_by(workload.start_method):
        return contender.cannot_start_by(workload.start_method)
    reasons = [contender.lacks(figure.needs) for figure in workload.figures]
    return reasons[0] if all(reasons) else ""
