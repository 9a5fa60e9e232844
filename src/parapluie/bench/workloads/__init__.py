"""The workloads: what is measured, in which figures, and which contenders can be measured in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from parapluie.bench.contenders import CALL, FLOW, ISOLATED, MAP, STATE, STREAM, SUBMIT

if TYPE_CHECKING:
    from parapluie.bench.sizes import Sizes

LOWER, HIGHER, NEITHER = "lower", "higher", "neither"
PPE, POOL, PIPE, MANAGER, QUEUE = "ProcessPoolExecutor", "Pool", "pipe-echo", "Manager", "Queue"


class Figure(NamedTuple):
    """One number of a measurement.

    Attributes:
        name: in JSON.
        title: above its column.
        unit: "" for a plain number.
        better: LOWER, HIGHER, or NEITHER.
        needs: the ability without which a contender has no such figure.
        ratio: whether the table compares it with the baselines.
        digits: after the point.
    """

    name: str
    title: str
    unit: str
    better: str
    needs: str
    ratio: bool = False
    digits: int = 0


class Workload(NamedTuple):
    """What is done with every contender.

    Attributes:
        name: what users write as `--workload`.
        summary: a sentence, with the names of sizes in braces.
        function: what runs in the measurement, as "package.module:name".
        figures: what it answers; the first one is drawn.
        baselines: contenders that ratios are taken against.
        needs: an ability without which there is nothing to measure, whatever the figures need.
        start_method: the one that it is about; None: the one that is chosen for the run.
    """

    name: str
    summary: str
    function: str
    figures: tuple[Figure, ...]
    baselines: tuple[str, ...] = (PPE, POOL)
    needs: str | None = None
    start_method: str | None = None

    def about(self, sizes: Sizes) -> str:
        """Return the summary with the numbers of a run."""
        return self.summary.format_map(sizes._asdict())

    def figure(self, name: str) -> Figure:
        """Return the figure of that name."""
        return next(figure for figure in self.figures if figure.name == name)


_RATE = Figure("items_per_second", "rate", "items/s", HIGHER, MAP, ratio=True)
_GROWTH = Figure("growth", "memory grew by", "MB", LOWER, STREAM, digits=1)
_EFFICIENCY = (
    Figure("submit_efficiency", "efficiency, submit", "%", HIGHER, SUBMIT, digits=1),
    Figure("map_efficiency", "efficiency, map", "%", HIGHER, MAP, digits=1),
)
_SKEW = (
    _EFFICIENCY[0],
    Figure("submit_held", "held, submit", "tasks", LOWER, SUBMIT),
    _EFFICIENCY[1],
    Figure("map_held", "held, map", "tasks", LOWER, MAP),
)
_ARRAYS = (
    Figure("sent", "to a worker", "MB/s", HIGHER, MAP, ratio=True),
    Figure("fetched", "back", "MB/s", HIGHER, MAP, ratio=True),
)
_STARTUP = (
    Figure("first", "first result", "ms", LOWER, CALL, ratio=True, digits=1),
    Figure("busy", "all workers busy", "ms", LOWER, MAP, ratio=True, digits=1),
)


def _at(function: str) -> str:
    return f"{__name__}.{function}"


def _startup(method: str) -> Workload:
    return Workload(
        f"startup-{method}",
        f"from before the import to the first result, and until every worker is at work; start method {method}",
        _at("startup:startup"),
        _STARTUP,
        needs=ISOLATED,
        start_method=method,
    )


WORKLOADS = (
    Workload(
        "latency",
        "one trivial task, submitted and awaited, on warm workers: the median",
        _at("rates:latency"),
        (Figure("round_trip", "round trip", "µs", LOWER, CALL, ratio=True, digits=1),),
        baselines=(PPE, POOL, PIPE),
    ),
    Workload(
        "submit",
        "{submit_tasks:,} trivial tasks, submitted one by one, all awaited",
        _at("rates:submit"),
        (Figure("tasks_per_second", "rate", "tasks/s", HIGHER, SUBMIT, ratio=True),),
    ),
    Workload("map", "{map_items:,} trivial items through map, as it is by default", _at("rates:by_map"), (_RATE,)),
    Workload(
        "map-chunked",
        "{map_items:,} trivial items through map, with the best of several chunk sizes for each",
        _at("rates:map_chunked"),
        (_RATE, Figure("chunk", "chunk size", "", NEITHER, MAP)),
    ),
    Workload(
        "tasks-1ms-sleep",
        "{short_tasks:,} tasks that sleep for 1 ms: the least time that it could take, by the time that it took",
        _at("balance:short_sleeps"),
        _EFFICIENCY,
    ),
    Workload(
        "tasks-1ms-busy",
        "{short_tasks:,} tasks of 1 ms of CPU time: the least time that it could take, by the time that it took",
        _at("balance:short_work"),
        _EFFICIENCY,
    ),
    Workload(
        "skew-first",
        "one task of {long_seconds:g} s, then {skew_tasks} of 2 ms: efficiency, and short ones held behind it",
        _at("balance:skew_first"),
        _SKEW,
    ),
    Workload(
        "skew-middle",
        "one task of {long_seconds:g} s amid {skew_tasks} of 2 ms: efficiency, and short ones held behind it",
        _at("balance:skew_middle"),
        _SKEW,
    ),
    Workload(
        "surprise",
        "a task that holds the GIL for {long_seconds:g} s near the end of {surprise_tasks:,} trivial ones",
        _at("surprise:surprise"),
        (
            Figure("unanswered", "unanswered 20 ms after it began", "tasks", LOWER, SUBMIT),
            Figure("held", "held until it ended", "tasks", LOWER, SUBMIT),
        ),
        needs=ISOLATED,
    ),
    _startup("spawn"),
    _startup("forkserver"),
    _startup("fork"),
    Workload(
        "stream",
        "{stream_items:,} items of 1 KB from a generator through map to a consumer that pauses: memory of the parent",
        _at("streams:stream"),
        (_GROWTH, Figure("items_per_second", "rate", "items/s", HIGHER, STREAM)),
    ),
    Workload(
        "long-map",
        "{long_map_items:,} trivial items through map: memory of the parent, and the rate by that for {map_items:,}",
        _at("streams:long_map"),
        (
            _GROWTH,
            Figure("items_per_second", "rate", "items/s", HIGHER, STREAM, ratio=True),
            Figure("versus_short", "rate by that of a short input", "%", HIGHER, STREAM, digits=1),
        ),
    ),
    Workload(
        "array",
        "an array (NumPy) of {array_bytes:,} bytes, to a worker and from one, one at a time: the median",
        _at("arrays:small"),
        _ARRAYS,
        needs=ISOLATED,
    ),
    Workload(
        "array-large",
        "the same with {large_array_bytes:,} bytes",
        _at("arrays:large"),
        _ARRAYS,
        needs=ISOLATED,
    ),
    Workload(
        "state",
        "a shared dictionary: reading and writing it, and {increments:,} increments by two tasks at once, none lost",
        _at("state:state"),
        (
            Figure("operation", "operation", "µs", LOWER, STATE, ratio=True, digits=1),
            Figure("safe", "increments, one by one", "/s", HIGHER, STATE, ratio=True),
            Figure("batched", "increments, batched", "/s", HIGHER, STATE, ratio=True),
        ),
        baselines=(MANAGER,),
        needs=STATE,
    ),
    Workload(
        "channel",
        "{channel_items:,} numbers from task to task through a channel, one by one and {channel_batch} at a time",
        _at("channels:channel"),
        (
            Figure("single", "one by one", "items/s", HIGHER, FLOW, ratio=True),
            Figure("batched", "batched", "items/s", HIGHER, FLOW, ratio=True),
        ),
        baselines=(QUEUE,),
        needs=FLOW,
    ),
)
