"""Whether memory stays where it is, however long the input and however slow the consumer."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

from parapluie.bench import tasks
from parapluie.bench.memory import Growth

if TYPE_CHECKING:
    from collections.abc import Iterator

    from parapluie.bench.workloads.rates import Figures
    from parapluie.bench.workloads.stage import Stage


def stream(stage: Stage) -> Figures:
    """Map over a generator of items with a weight, results of the same weight, and take them slowly."""
    sizes = stage.sizes
    _take(stage, sizes.stream_items // 50)
    growth = Growth()
    took = _take(stage, sizes.stream_items)
    return {"growth": growth.megabytes(), "items_per_second": sizes.stream_items / took}


def _take(stage: Stage, count: int) -> float:
    sizes = stage.sizes
    began, taken = time.perf_counter(), 0
    for item in stage.adapter.stream(tasks.same, _heavy(count, sizes.stream_item_bytes), chunk=sizes.lazy_chunk_heavy):
        taken += len(item) == sizes.stream_item_bytes
        if taken % sizes.stream_pause_every == 0:
            time.sleep(sizes.stream_pause)
    _check(taken, count)
    return time.perf_counter() - began


def _heavy(count: int, size: int) -> Iterator[bytes]:
    for number in range(count):
        yield number.to_bytes(8, "big") * (size // 8)


def long_map(stage: Stage) -> Figures:
    """Map over a long input that is not there before it is asked for; compare with a short one."""
    sizes = stage.sizes
    _run_through(stage, sizes.warm_up_tasks)
    short = sizes.map_items / _run_through(stage, sizes.map_items)
    growth = Growth()
    long = sizes.long_map_items / _run_through(stage, sizes.long_map_items)
    return {"growth": growth.megabytes(), "items_per_second": long, "versus_short": 100 * long / short}


def _run_through(stage: Stage, count: int) -> float:
    began = time.perf_counter()
    results = stage.adapter.stream(tasks.same, iter(range(count)), chunk=stage.sizes.lazy_chunk)
    last = deque(results, maxlen=1)  # at the speed of C: the consumer is not what is measured
    took = time.perf_counter() - began
    _check(last.pop() + 1, count)
    return took


def _check(found: int, count: int) -> None:
    """Refuse figures whose results are wrong."""
    if found != count:
        raise ValueError(f"{count:,} results were expected, and it looks like {found:,}")
