"""A condition that an interrupt cannot leave locked, nor unlocked.

`threading.Condition` is entered by a function written in Python, and Ctrl-C may raise in it when the lock has been
taken and `with` does not know yet. The lock is then held for ever, and whoever wants to tell news to the interrupted
thread waits for ever: the thread that collects all answers, for one. A lock's own way in is a single step in C. In the
same way `threading.Condition.wait` may be interrupted when it has let go of the lock, and the end of `with` raises.

A signal that comes when the interpreter has looked for one, and the system's wait has not begun, does not end that
wait; letting go of the GIL in between may take long. So nothing here waits longer than `LOOK_SECONDS` at a time.
"""

from __future__ import annotations

import threading
from collections import deque
from contextlib import suppress
from time import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LOOK_SECONDS = 1.0  # after which a wait that goes on lets the interpreter look for signals

_RLock: Any = type(threading.RLock())


class Condition(_RLock, threading.Condition):  # type: ignore[misc]
    """A `threading.Condition` that is its own re-entrant lock.

    Touches what is private to `threading.Condition`: `_waiters`, and that all else is asked of the lock's methods
    `_release_save`, `_acquire_restore` and `_is_owned`. `tests/unit/test_condition.py` fails when a new Python changes
    that.
    """

    def __init__(self) -> None:
        self._waiters: deque[Any] = deque()

    def wait(self, timeout: float | None = None) -> bool:
        """Let go of the lock until somebody tells, or for so many seconds; say whether somebody did."""
        if not self._is_owned():
            raise RuntimeError("cannot wait on un-acquired lock")
        held: Any = 1, threading.get_ident()  # unless an interrupt keeps us from learning more
        told = False
        waiter = threading.Lock()
        waiter.acquire()
        self._waiters.append(waiter)
        try:
            held = self._release_save()
            told = _wait_to_acquire(waiter, timeout)
        finally:
            if not self._is_owned():
                self._acquire_restore(held)
            if not told:
                with suppress(ValueError):  # somebody told in this moment
                    self._waiters.remove(waiter)
        return told


def _wait_to_acquire(lock: threading.Lock, timeout: float | None) -> bool:
    """Acquire a lock within so many seconds; say whether it was."""
    end = None if timeout is None else monotonic() + timeout
    while True:
        left = LOOK_SECONDS if end is None else min(LOOK_SECONDS, max(0.0, end - monotonic()))
        if lock.acquire(timeout=left):
            return True
        if end is not None and monotonic() >= end:
            return False
