"""How much memory workers use: looked at from outside and while they live, since a dead process cannot be asked.

    thread that submits ── wake, if it dozes ──▶ watch ── every fifth of a second, while a worker is busy ──▶ look

A thread of its own, so that what submits and what collects need no look at a clock for it.
"""

from __future__ import annotations

import os
import sys
import threading
from queue import Empty, SimpleQueue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_SECONDS = 0.2  # between two looks; each costs 15 µs for a worker


class MemoryWatch:
    """Calls a function now and then while there is something to see.

    Attributes:
        dozing: it waits for `wake`. Set by the function, under the lock of who calls `wake`; never where the platform
            does not tell how much memory another process uses, and then there is no thread either.

    Args:
        look: looks at busy workers; False if there are none.
    """

    def __init__(self, look: Callable[[], bool]) -> None:
        self._look = look
        self._news: SimpleQueue[str] = SimpleQueue()  # re-entrant, as `wake` has to be
        self.dozing = sys.platform == "linux"
        self._thread = threading.Thread(target=self._run, name="parapluie-memory", daemon=True)

    def start(self) -> None:
        """Start the thread. Once, and not where a start could be interrupted by another one."""
        try:
            if self.dozing:
                self._thread.start()
        except RuntimeError:  # no more threads: one can do without
            self.dozing = False

    def wake(self) -> None:
        """Say that a worker is busy. Any thread; never blocks."""
        self.dozing = False
        self._news.put("busy")

    def stop(self) -> None:
        """End the thread."""
        self._news.put("end")
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while self._news.get() != "end":
            busy = True
            while busy:
                try:
                    if self._news.get(timeout=_SECONDS) == "end":
                        return
                except Empty:
                    busy = self._look()


def peak_memory(pid: int) -> int | None:
    """Return the most memory, in bytes, that a living process has had resident (Linux: `VmHWM`); None if unknown."""
    return bytes_of(pid, b"VmHWM")


def bytes_of(pid: int, field: bytes) -> int | None:
    """Return what Linux says of a living process's memory, in bytes: `VmRSS`, `VmHWM`; None if it does not say."""
    try:
        file = os.open(f"/proc/{pid}/status", os.O_RDONLY)
    except OSError:
        return None
    try:
        _, found, rest = os.read(file, 4096).partition(b"\n" + field + b":")
    except OSError:  # it ended meanwhile
        return None
    finally:
        os.close(file)
    return int(rest.split(None, 1)[0]) * 1024 if found else None  # a dead process has none
