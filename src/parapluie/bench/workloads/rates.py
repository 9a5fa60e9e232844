"""How fast trivial work goes through: one task at a time, many tasks, many items."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any

from parapluie.bench import tasks

if TYPE_CHECKING:
    from parapluie.bench.workloads.stage import Stage

Figures = dict[str, "float | None"]


def latency(stage: Stage) -> Figures:
    """Measure single round trips; the median leaves out what the machine did beside them."""
    call, clock = stage.adapter.call, time.perf_counter
    for number in range(stage.sizes.warm_up_tasks):
        call(tasks.same, number)
    took = []
    for number in range(stage.sizes.latency_calls):
        began = clock()
        call(tasks.same, number)
        took.append(clock() - began)
    return {"round_trip": statistics.median(took) * 1e6}


def submit(stage: Stage) -> Figures:
    """Submit tasks one by one, then wait for all."""
    _submit_all(stage, stage.sizes.warm_up_tasks)
    count = stage.sizes.submit_tasks
    return {"tasks_per_second": count / _submit_all(stage, count)}


def _submit_all(stage: Stage, count: int) -> float:
    adapter, same = stage.adapter, tasks.same
    began = time.perf_counter()
    results = adapter.results([adapter.submit(same, number) for number in range(count)])
    took = time.perf_counter() - began
    _check(results, count)
    return took


def by_map(stage: Stage) -> Figures:
    """Map with the library's defaults."""
    count = stage.sizes.map_items
    if stage.request.needs_chunks:
        count = stage.sizes.map_items_one_by_one
        stage.notes.append(f"rate over {count:,} items: by default each one is a message")
    _map(stage, stage.sizes.warm_up_tasks)
    return {"items_per_second": count / _map(stage, count)}


def map_chunked(stage: Stage) -> Figures:
    """Map with several chunk sizes and keep the best."""
    count = stage.sizes.map_items
    _map(stage, stage.sizes.warm_up_tasks, 10)
    took, chunk = min((_map(stage, count, chunk), chunk) for chunk in stage.sizes.chunk_sizes)
    return {"items_per_second": count / took, "chunk": chunk}


def _map(stage: Stage, count: int, chunk: int | None = None) -> float:
    adapter, items = stage.adapter, range(count)
    began = time.perf_counter()
    results = adapter.map(tasks.same, items, chunk=chunk)
    took = time.perf_counter() - began
    _check(results, count)
    return took


def _check(results: list[Any], count: int) -> None:
    """Refuse a rate whose results are wrong."""
    if results != list(range(count)):
        raise ValueError(f"{count:,} results were expected, in order, and {len(results):,} came or they are others")
