"""How fast large arrays go to a worker and come back. Every page of them is read where they arrive."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any

from parapluie.bench import tasks

if TYPE_CHECKING:
    from collections.abc import Callable

    from parapluie.bench.workloads.stage import Stage

_MB = 1_000_000


def small(stage: Stage) -> dict[str, float | None]:
    """Send and fetch arrays of a few pages' size."""
    return _both_ways(stage, stage.sizes.array_bytes, stage.sizes.array_repeats)


def large(stage: Stage) -> dict[str, float | None]:
    """Send and fetch arrays that no cache holds."""
    return _both_ways(stage, stage.sizes.large_array_bytes, stage.sizes.large_array_repeats)


def _both_ways(stage: Stage, size: int, repeats: int) -> dict[str, float | None]:
    import numpy as np

    call, count = stage.adapter.call, size // 8
    array = np.ones(count)

    def send() -> Any:
        return call(tasks.touch, array)

    def fetch() -> Any:
        return tasks.touch(call(tasks.ones, count))

    expected = float(array[:: tasks.PAGE].sum())
    return {way: size / _MB / _median(step, expected, repeats) for way, step in (("sent", send), ("fetched", fetch))}


def _median(step: Callable[[], Any], expected: float, repeats: int) -> float:
    took = []
    for _ in range(1 + repeats):
        began = time.perf_counter()
        found = step()
        took.append(time.perf_counter() - began)
        if found != expected:
            raise ValueError(f"an array arrived as another one: its sum is {found}, and not {expected}")
    return statistics.median(took[1:])
