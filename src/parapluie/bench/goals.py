"""The goals of the process engine, and whether they held in a run: what the project steers by."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from parapluie.bench.adapters import OURS
from parapluie.bench.figures import ratio, with_unit
from parapluie.bench.isolate import ABSENT, MEASURED
from parapluie.bench.workloads import LOWER, MANAGER, PIPE, POOL, PPE, QUEUE, WORKLOADS

if TYPE_CHECKING:
    from parapluie.bench.run import Results
    from parapluie.bench.workloads import Figure, Workload

SUBJECT = OURS + "process"
PEERS = "the best peer"
_EITHER = f"the better of {PPE} and {POOL}"


class Goal(NamedTuple):
    """What a figure of the process engine is to reach; whether at most or at least, the figure knows.

    Attributes:
        workload, figure: their names.
        limit: the figure itself, or its ratio to that of `against`.
        against: a contender's name, PEERS, or None.
        aim: what would be better still.
    """

    workload: str
    figure: str
    limit: float
    against: str | None = None
    aim: float | None = None


class Verdict(NamedTuple):
    """A goal, what was reached, in words, and whether it held (None: this run does not tell)."""

    goal: str
    reached: str
    held: bool | None


GOALS = (
    Goal("latency", "round_trip", 0.35, PPE),
    Goal("latency", "round_trip", 0.8, POOL),
    Goal("latency", "round_trip", 2.5, PIPE),
    Goal("submit", "tasks_per_second", 1.3, POOL),
    Goal("submit", "tasks_per_second", 6, PPE, aim=8),
    Goal("map", "items_per_second", 0.8, POOL, aim=1),
    Goal("map-chunked", "items_per_second", 1, PEERS),
    *(
        Goal(f"tasks-1ms-{kind}", f"{way}_efficiency", 1, PEERS)
        for kind in ("sleep", "busy")
        for way in ("submit", "map")
    ),
    *(
        goal
        for place in ("first", "middle")
        for way in ("submit", "map")
        for goal in (
            # Within 3 % of the ideal makespan.
            Goal(f"skew-{place}", f"{way}_efficiency", 100 / 1.03),
            Goal(f"skew-{place}", f"{way}_held", 0),
        )
    ),
    Goal("surprise", "unanswered", 8),
    *(
        Goal(f"startup-{method}", figure, 1, _EITHER)
        for method in ("spawn", "forkserver")
        for figure in ("first", "busy")
    ),
    Goal("stream", "growth", 10),
    # "Constant" and "as for 200,000", with what the clock and the allocator leave open.
    Goal("long-map", "growth", 10),
    Goal("long-map", "versus_short", 90),
    Goal("state", "operation", 1, MANAGER),
    Goal("state", "safe", 3, MANAGER),
    Goal("state", "batched", 50, MANAGER),
    Goal("channel", "single", 0.5, QUEUE),
    Goal("channel", "batched", 1, QUEUE),
    *(Goal(name, way, 1, PEERS) for name in ("array", "array-large") for way in ("sent", "fetched")),
)


def verdicts(results: Results) -> list[Verdict]:
    """Judge all goals whose workloads are part of the run; none where the process engine is not."""
    if all(contender.name != SUBJECT for contender in results.settings.contenders):
        return []
    workloads = {workload.name: workload for workload in WORKLOADS}
    asked = {workload.name for workload in results.settings.workloads}
    return [_judge(goal, workloads[goal.workload], results) for goal in GOALS if goal.workload in asked]


def _judge(goal: Goal, workload: Workload, results: Results) -> Verdict:
    figure = workload.figure(goal.figure)
    text = _text(goal, figure)
    record = results.record(goal.workload, SUBJECT)
    found = results.value(goal.workload, SUBJECT, goal.figure)
    if record is not None and record.status not in {MEASURED, ABSENT, ""}:
        return Verdict(text, f"{SUBJECT}: {record.notes[0]}", held=False)
    if found is None:
        return Verdict(text, f"{SUBJECT} was not measured", held=None)
    if goal.against is None:
        return Verdict(text, with_unit(found, figure), _reaches(found, goal.limit, figure))
    name, other = _other(goal, figure, results)
    if other is None:
        return Verdict(text, f"{with_unit(found, figure)}, but {name} was not measured", held=None)
    factor = found / other if other else float("inf")
    reached = f"{ratio(factor)} × ({with_unit(found, figure)}; {name}: {with_unit(other, figure)})"
    return Verdict(text, reached, _reaches(factor, goal.limit, figure))


def _reaches(value: float, limit: float, figure: Figure) -> bool:
    return value <= limit if figure.better == LOWER else value >= limit


def _other(goal: Goal, figure: Figure, results: Results) -> tuple[str, float | None]:
    """Return who the goal is measured against, the best of several, and its figure."""
    assert goal.against is not None
    if goal.against == _EITHER:
        names = [PPE, POOL]
    elif goal.against == PEERS:
        names = [one.name for one in results.settings.contenders if not one.ours and one.name != PIPE]
    else:
        names = [goal.against]
    values = {name: results.value(goal.workload, name, goal.figure) for name in names}
    known = {name: value for name, value in values.items() if value is not None}
    if not known:
        return goal.against, None
    best = (min if figure.better == LOWER else max)(known, key=lambda name: known[name])
    return best, known[best]


def _text(goal: Goal, figure: Figure) -> str:
    most = "at most" if figure.better == LOWER else "at least"
    limit = with_unit(goal.limit, figure) if goal.against is None else f"{goal.limit:g} × {goal.against}"
    aim = f" (aim: {goal.aim:g} ×)" if goal.aim else ""
    return f"{goal.workload}: {figure.title} {most} {limit}{aim}"
