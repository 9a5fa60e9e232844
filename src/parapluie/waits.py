"""What tells of the end of a process, and waiting for many things at once: the one place where that differs.

Windows waits for 63 handles in one call, and the standard library with it. Here many are waited for in groups, in turn;
the process engine, which has a completion port, needs none of that (see `backends/process/windows.py`).
"""

from __future__ import annotations

import os
import sys
from multiprocessing import connection
from time import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.connection import Connection
    from typing import Any

MOST_HANDLES: int | None = 60 if sys.platform == "win32" else None  # in one call, with some to spare; None: any number
_TURN_SECONDS = 0.02  # for each group, where there are several


def wait(handles: Sequence[Any], timeout: float | None, most: int | None = None) -> list[Any]:
    """Wait until any of the handles is ready; return those that are, as `multiprocessing.connection.wait` does.

    Args:
        handles: the first one is waited for all the time: to become ready is how it calls to look again.
        timeout: seconds; None waits for ever.
        most: how many in one call, if not as many as the platform takes.
    """
    most = MOST_HANDLES if most is None else most
    if most is None or len(handles) <= most:
        return connection.wait(handles, timeout)
    first, size = handles[0], most - 1
    groups = [[first, *handles[start : start + size]] for start in range(1, len(handles), size)]
    deadline = None if timeout is None else monotonic() + timeout
    while True:
        for group in groups:
            if ready := connection.wait(group, _TURN_SECONDS):
                return ready
        if deadline is not None and monotonic() >= deadline:
            return []


def closed_by_other(pipe: Connection) -> Callable[[], bool]:
    """Return a function that says, without waiting, whether the other end of a connection, or both, are closed.

    On Windows, what came before that and was not read yet hides it.
    """
    if sys.platform == "win32":
        import _winapi

        def is_closed() -> bool:
            try:
                _winapi.PeekNamedPipe(pipe.fileno(), 0)
            except OSError:
                return True
            return False

        return is_closed

    import select

    poller = select.poll()
    poller.register(pipe.fileno(), 0)  # a hang-up is told of whatever is asked for
    return lambda: bool(poller.poll(0))


def end_of(pid: int) -> int | None:
    """Open what can be waited for until a process ends, whoever's child it is; None where there is no such thing.

    Raises:
        OSError: if there is no such process any more, or if it may not be waited for.
    """
    if sys.platform == "win32":
        import _winapi

        return _winapi.OpenProcess(_winapi.SYNCHRONIZE, False, pid)  # noqa: FBT003 - it has no name
    return os.pidfd_open(pid) if hasattr(os, "pidfd_open") else None
