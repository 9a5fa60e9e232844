"""What workers run. Importing it imports next to nothing, since that is part of a worker's start, which is timed.

Times are those of `time.perf_counter()`, which is the same in all processes of a machine, so that the parent can
compare them with its own.
"""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    T = TypeVar("T")

# Where the clock of a thread's CPU time ticks too seldom (Windows: every 16 ms), the clock on the wall has to do.
_work_clock = time.perf_counter if os.name == "nt" else time.thread_time
_CALIBRATION = 1_000_000
PAGE = 512  # numbers of eight bytes
_arrays: dict[int, Any] = {}


def same(item: T) -> T:
    """Return the item: a task that is all overhead."""
    return item


def rest(seconds: float) -> tuple[float, float]:
    """Sleep; return when it began and ended, since a sleep is always longer than it was asked to be."""
    began = time.perf_counter()
    time.sleep(seconds)
    return began, time.perf_counter()


def work(seconds: float) -> None:
    """Spin until this thread has had so much CPU time.

    By the clock on the wall a worker that is pushed off its core, by a parent that is busy, would still seem to work,
    and the contender with the busiest parent would look best.
    """
    end = _work_clock() + seconds
    while _work_clock() < end:
        pass


def who(seconds: float) -> tuple[int, int]:
    """Sleep, so that another worker takes the next task, and return which process and thread this is."""
    import threading

    time.sleep(seconds)
    return os.getpid(), threading.get_ident()


def summands_per_second(_: object = None) -> float:
    """Return how many numbers of a range this worker adds up in a second."""
    began = time.perf_counter()
    sum(range(_CALIBRATION))
    return _CALIBRATION / (time.perf_counter() - began)


def hold_gil(numbers: int) -> tuple[float, float]:
    """Add up a range in one C call, during which no other thread of this process runs; return began and ended."""
    began = time.perf_counter()
    sum(range(numbers))
    return began, time.perf_counter()


def touch(array: Any) -> float:
    """Read one number of each page of an array; return their sum."""
    return float(array[::PAGE].sum())


def ones(count: int) -> Any:
    """Return an array, which is made once: to make it is not what is measured."""
    if count not in _arrays:
        import numpy as np

        _arrays[count] = np.ones(count)
    return _arrays[count]


def meet(place: tuple[str, int, float]) -> float:
    """Wait until so many of us are in a folder, each in a task of its own; return when this one arrived.

    Args:
        place: the folder, how many, and for how many seconds to wait at most.

    Raises:
        TimeoutError: if the others did not come, since their tasks wait behind this one.
    """
    folder, expected, patience = place
    arrived = time.perf_counter()
    os.close(os.open(os.path.join(folder, str(os.getpid())), os.O_CREAT | os.O_WRONLY))  # noqa: PTH118 - as above
    while len(os.listdir(folder)) < expected:  # noqa: PTH208 - pathlib takes milliseconds to import
        if time.perf_counter() > arrived + patience:
            raise TimeoutError(f"{expected} tasks did not run at the same time within {patience:g} seconds")
        time.sleep(0.0005)
    return arrived


def increment(how: tuple[Any, Any, int, int | None]) -> None:
    """Increment a number in a shared dictionary; how: that, a lock or None, how often, and how many at once."""
    counts, lock, times, batch = how
    if lock is not None:
        for _ in range(times):
            with lock:
                counts["n"] = counts["n"] + 1
    elif batch is None:
        for _ in range(times):
            counts.add("n")
    else:
        for _ in range(times // batch):
            counts.add_many({"n": batch})
        counts.add("n", times % batch)


def put_items(channel: Any, items: int, batch: int | None) -> None:
    """Put numbers into a channel, one by one or so many at a time."""
    if batch is None:
        for number in range(items):
            channel.put(number)
    else:
        for first in range(0, items, batch):
            channel.put_many(range(first, min(first + batch, items)))


def take_items(channel: Any) -> float:
    """Take all items of a channel; return the seconds from the first to the last."""
    items = iter(channel)
    next(items)
    began = time.perf_counter()
    for _ in items:
        pass
    return time.perf_counter() - began


def put_into_queue(queue: Any, items: int) -> None:
    """Put numbers, and None behind them, into a queue."""
    for number in range(items):
        queue.put(number)
    queue.put(None)


def take_from_queue(queue: Any, answer: Any) -> None:
    """Take items from a queue until None comes; answer with the seconds from the first to the last."""
    queue.get()
    began = time.perf_counter()
    while queue.get() is not None:
        pass
    answer.put(time.perf_counter() - began)
