"""POSIX: a selector with a pipe that wakes it, and pipes that are descriptors. See `ports.py`."""

from __future__ import annotations

import os
import selectors
from functools import partial
from multiprocessing import Pipe
from multiprocessing.connection import Connection

WorkerEnd = Connection


class Waiter(selectors.DefaultSelector):
    """What the collector waits on. Its `select` tells of `wake` by a key without data; `drain` says it was seen.

    Attributes:
        descriptors: its own, which a forked worker must not hold.

    Thread safety: `wake` from any thread, signal handler or finalizer; all else is the collector's.
    """

    def __init__(self) -> None:
        super().__init__()
        try:
            self.descriptors = self._wake_read, self._wake_write = os.pipe()
        except BaseException:
            super().close()
            raise
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self.register(self._wake_read, selectors.EVENT_READ, None)

    def wake(self) -> None:
        """Have `select` return."""
        try:
            os.write(self._wake_write, b"\0")
        except (BlockingIOError, OSError):
            return  # full: it is awake already; closed: there is nobody to wake

    def drain(self) -> None:
        """Take note of having been woken, before looking what for."""
        try:
            os.read(self._wake_read, 4096)
        except BlockingIOError:
            return

    def close(self) -> None:
        super().close()
        os.close(self._wake_read)
        os.close(self._wake_write)


class ParentEnd:
    """The parent's end of a worker's pipe.

    Attributes:
        fd: what the waiter knows it by.
        read, write: as `os.read` and `os.write`, with BlockingIOError where they would block; bound here, since each
            message takes one of them.
    """

    def __init__(self, connection: WorkerEnd) -> None:
        self.fd = connection.fileno()
        os.set_blocking(self.fd, False)
        self.read = partial(os.read, self.fd)
        self.write = partial(os.write, self.fd)
        self.close = connection.close


def pipe(waiter: Waiter) -> tuple[ParentEnd, WorkerEnd]:
    """Make a duplex pipe."""
    del waiter  # is told of the parent's end when that is registered
    ours, theirs = Pipe(duplex=True)
    return ParentEnd(ours), theirs
