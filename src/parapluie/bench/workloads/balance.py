"""How well work is spread: short tasks, and a long one among short ones.

workers   ├ 2 ms ┼ 2 ms ┼ …………… idle ─────────┤
          ├ ────────────── 1 s ──────────────┤     ideal: the long one alone decides
held      ├ ────────────── 1 s ──────────────┼ 2 ms ┤   a short one was given away too early
"""

from __future__ import annotations

import heapq
import time
from functools import partial
from typing import TYPE_CHECKING

from parapluie.bench import tasks
from parapluie.bench.contenders import MAP, SUBMIT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from parapluie.bench.workloads.rates import Figures
    from parapluie.bench.workloads.stage import Stage

    Span = tuple[float, float]

_IDLE = 0.010  # seconds without work that are no accident


def short_sleeps(stage: Stage) -> Figures:
    """Measure tasks that only wait. What the operating system adds to each sleep is not held against anybody."""

    def ideal(spans: Sequence[Span]) -> float:
        return sum(ended - began for began, ended in spans) / stage.workers

    return _short(stage, tasks.rest, ideal)


def short_work(stage: Stage) -> Figures:
    """Measure tasks that need a core: with as many workers as cores, what the parent uses is missing to them."""
    total = stage.sizes.short_tasks * stage.sizes.short_seconds
    return _short(stage, tasks.work, lambda _: total / stage.workers)


def _short(stage: Stage, function: Callable[[float], Any], ideal: Callable[[list[Any]], float]) -> Figures:
    seconds = [stage.sizes.short_seconds] * stage.sizes.short_tasks
    warm_up = seconds[: len(seconds) // 20]
    figures: Figures = {}
    if stage.can(SUBMIT):
        stage.adapter.each(function, warm_up)
        began = time.perf_counter()
        results = stage.adapter.each(function, seconds)
        figures["submit_efficiency"] = 100 * ideal(results) / (time.perf_counter() - began)
        stage.close()
    if stage.can(MAP):
        stage.adapter.map(function, warm_up)
        began = time.perf_counter()
        results = stage.adapter.map(function, seconds)
        figures["map_efficiency"] = 100 * ideal(results) / (time.perf_counter() - began)
    return figures


def skew_first(stage: Stage) -> Figures:
    """Measure a long task that comes first."""
    return _skew(stage, 0)


def skew_middle(stage: Stage) -> Figures:
    """Measure a long task with as many short ones before it as behind it."""
    return _skew(stage, stage.sizes.skew_tasks // 2)


def _skew(stage: Stage, place: int) -> Figures:
    seconds = [stage.sizes.skew_seconds] * stage.sizes.skew_tasks
    seconds.insert(place, stage.sizes.long_seconds)
    figures: Figures = {}
    if stage.can(SUBMIT):
        took, spans, answered = _submit(stage, seconds)
        figures["submit_efficiency"] = 100 * makespan(spans, stage.workers) / took
        figures["submit_held"] = held(spans, place, answered)
        stage.close()
    if stage.can(MAP):
        adapter = stage.adapter  # opened here, and not in the time that is taken
        began = time.perf_counter()
        spans = adapter.map(tasks.rest, seconds)
        took = time.perf_counter() - began
        figures["map_efficiency"] = 100 * makespan(spans, stage.workers) / took
        # Results come in the order of the input, so that nobody can say when each was answered.
        figures["map_held"] = held(spans, place)
    return figures


def held(spans: Sequence[Span], place: int, answered: Sequence[float] | None = None) -> int:
    """Count the short tasks that waited for the long one to end although a worker was idle.

    That one that began after its end was held is certain only if nobody had anything to do before: on a busy machine
    the short ones may just have needed longer. One that ended long before and was answered after it was held as well:
    its reply waited.

    Args:
        spans: when each began and ended. place: of the long one among them.
        answered: when each was, if that is known.
    """
    end = spans[place][1]
    others = [(*span, at) for at, span in enumerate(spans) if at != place]
    last = max((ended for began, ended, _ in others if began < end), default=0.0)
    waited = sum(began >= end for began, _, _ in others) if last < end - _IDLE else 0
    if answered is not None:
        waited += sum(ended < end - _IDLE and answered[at] > end for _, ended, at in others)
    return waited


def _submit(stage: Stage, seconds: Sequence[float]) -> tuple[float, list[Span], list[float]]:
    """Return how long all took, when each began and ended, and when each was answered."""
    adapter = stage.adapter
    answered = [0.0] * len(seconds)
    began = time.perf_counter()
    handles = [adapter.submit(tasks.rest, one, partial(note, answered, at)) for at, one in enumerate(seconds)]
    spans = adapter.results(handles)
    took = time.perf_counter() - began
    settle(answered)
    return took, spans, answered


def note(times: list[float], index: int, _answer: object) -> None:
    """Write down that a task is answered; called where the library calls back."""
    times[index] = time.perf_counter()


def settle(times: list[float]) -> None:
    """Wait for the last notes: a future wakes up those who wait before it calls back."""
    end = time.perf_counter() + 1
    while not all(times) and time.perf_counter() < end:
        time.sleep(0.001)


def makespan(spans: Iterable[Span], workers: int) -> float:
    """Return how long tasks of these lengths take if, in this order, each goes to whoever is free first.

    No other order is possible for an engine that learns of a task when it comes; for a long one that comes first it
    is also the best of all.
    """
    free = [0.0] * workers
    for began, ended in spans:
        heapq.heapreplace(free, free[0] + ended - began)
    return max(free)
