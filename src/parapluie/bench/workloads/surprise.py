"""A long task that nobody could expect: whether the short ones behind it are taken back and run by an idle worker.

submitted   tiny × 5,800 │ 1 s, in C, with the GIL │ tiny × 200
worker 1    ▪▪▪▪▪▪▪▪▪▪▪▪ ├──────────────────────────────────────┤ held: ▪▪▪
worker 2    ▪▪▪▪▪▪▪▪▪▪▪▪▪▪▪▪▪▪▪ idle
                         └ 20 ms ┘ by now the others should have been answered
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from parapluie.bench import tasks
from parapluie.bench.workloads.balance import note, settle

if TYPE_CHECKING:
    from parapluie.bench.workloads.rates import Figures
    from parapluie.bench.workloads.stage import Stage


def surprise(stage: Stage) -> Figures:
    """Count the tiny tasks that are not answered 20 ms after the long one began, and when it ended."""
    adapter, sizes = stage.adapter, stage.sizes
    adapter.each(tasks.same, range(sizes.warm_up_tasks))  # so that its engine believes that all tasks are tiny
    numbers = int(adapter.call(tasks.summands_per_second, None) * sizes.long_seconds)
    answered = [0.0] * sizes.surprise_tasks
    place = sizes.surprise_tasks - sizes.surprise_behind
    handles = [adapter.submit(tasks.same, at, partial(note, answered, at)) for at in range(place)]
    long = adapter.submit(tasks.hold_gil, numbers)
    handles += [
        adapter.submit(tasks.same, at, partial(note, answered, at)) for at in range(place, sizes.surprise_tasks)
    ]
    adapter.results(handles)
    settle(answered)
    [(began, ended)] = adapter.results([long])
    return {
        "unanswered": sum(time > began + sizes.surprise_wait for time in answered),
        "held": sum(time > ended for time in answered),
    }
