"""How fast tasks and their parent change what they share."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from parapluie.bench import tasks

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from parapluie.bench.workloads.stage import Stage

_TASKS = 2


def state(stage: Stage) -> dict[str, float | None]:
    """Time single operations here, and increments by tasks.

    A contender whose dictionary has no increment takes a lock for each, and has no batches.
    """
    counts, lock = stage.adapter.counts()
    batch = stage.sizes.increment_batch if lock is None else None
    stage.adapter.each(tasks.increment, [(counts, lock, 1, None)] * _TASKS)  # they connect
    return {
        "operation": _operation(counts, stage.sizes.state_operations),
        "safe": _rate(stage, counts, lock, None),
        "batched": _rate(stage, counts, lock, batch),
    }


def _operation(counts: Any, repeats: int) -> float:
    """Return the microseconds of one operation, half of them reads and half of them writes."""

    def both() -> None:
        for number in range(repeats):
            counts["m"] = number
            if counts["m"] != number:
                raise ValueError("a value was read that had not been written")

    return _seconds(both) / (2 * repeats) * 1e6


def _rate(stage: Stage, counts: Any, lock: Any, batch: int | None) -> float:
    each = stage.sizes.increments // _TASKS
    before = counts["n"]
    seconds = _seconds(lambda: stage.adapter.each(tasks.increment, [(counts, lock, each, batch)] * _TASKS))
    if counts["n"] != before + each * _TASKS:
        raise ValueError(f"{before + each * _TASKS - counts['n']} increments were lost")
    return each * _TASKS / seconds


def _seconds(function: Callable[[], object]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began
