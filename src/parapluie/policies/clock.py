"""The one thread of an executor that waits for time to pass: retries, time limits, late work."""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from time import monotonic

_log = logging.getLogger("parapluie")


class Clock:
    """Calls functions at given times, in a thread of its own that runs from the start.

    Thread safety: `at` and `post` are re-entrant and never block: they may be called from callbacks, finalizers and
    signal handlers. A function that raises is logged and disturbs no other.
    """

    def __init__(self, name: str) -> None:
        self._requests: SimpleQueue[tuple[float, int, Callable[..., object], tuple[object, ...]] | None] = SimpleQueue()
        self._number = itertools.count()  # breaks ties: functions cannot be compared
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.thread.start()

    def at(self, when: float, function: Callable[..., object], *args: object) -> None:
        """Call function(*args) at `time.monotonic()` == when, or soon after."""
        self._requests.put((when, next(self._number), function, args))

    def post(self, function: Callable[..., object], *args: object) -> None:
        """Call function(*args) as soon as can be."""
        self.at(0.0, function, *args)

    def stop(self) -> None:
        """End the thread; what is not due yet is dropped. Waits for it, unless called from the thread itself."""
        self._requests.put(None)
        if threading.current_thread() is not self.thread:
            self.thread.join()

    def _run(self) -> None:
        due: list[tuple[float, int, Callable[..., object], tuple[object, ...]]] = []
        while True:
            try:
                request = self._requests.get(timeout=max(0.0, due[0][0] - monotonic()) if due else None)
            except Empty:
                pass
            else:
                if request is None:
                    return
                heapq.heappush(due, request)
                del request  # it may hold the last reference to an executor
            while due and due[0][0] <= monotonic():
                _, _, function, args = heapq.heappop(due)
                try:
                    function(*args)
                except Exception:  # noqa: BLE001 - one that fails must not keep the others from their time
                    _log.exception("parapluie: %r failed in the clock thread", function)
                del function, args
