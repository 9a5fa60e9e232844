"""Processes, as tests end and watch them: the one place in here that knows how platforms differ. For workers, too.

Imports the standard library only.
"""

from __future__ import annotations

import multiprocessing
import os
import select
import signal
import sys
from functools import partial
from pathlib import Path

from parapluie.testing.patience import SECONDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.process import BaseProcess
    from typing import Any

SLOWER = 10.0 if sys.platform == "win32" else 1.0  # a worker starts, and still more so under Wine
LIMIT = 1.0 if sys.platform == "win32" else 0.3  # seconds: a `task_timeout` for tasks that take no time, or for ever
BINARY = getattr(os, "O_BINARY", 0)  # for os.open

if sys.platform == "win32":
    import _winapi
    import ctypes
    import faulthandler
    import msvcrt
    import time

    KILLED, KILLED_WORDS = int(signal.SIGTERM), "ended with exit code 15"  # what `end` makes the exit code
    CRASHED, CRASHED_WORDS = 0xC0000005, "ended with STATUS_ACCESS_VIOLATION (0xC0000005)"
    CRASH_DUMP = "Windows fatal exception: access violation\n"
    CRASH_FRAMES = []  # that `crash` has
    _FAR = 1 << 30  # behind the end of every file
    crash = faulthandler._read_null  # of what ctypes reads, an exception would be made

    def end(pid: int) -> None:
        """Have a process end at once, by what it cannot catch."""
        os.kill(pid, signal.SIGTERM)  # which is TerminateProcess

    def await_end(pid: int, seconds: float = SECONDS) -> bool:
        """Wait for the end of a process, whoever's child it is; say whether it came."""
        try:
            handle = _winapi.OpenProcess(_winapi.SYNCHRONIZE, False, pid)  # noqa: FBT003 - it has no name
        except OSError:
            return True
        try:
            return _winapi.WaitForSingleObject(handle, int(seconds * 1000)) == _winapi.WAIT_OBJECT_0
        finally:
            _winapi.CloseHandle(handle)

    def lives(pid: int) -> bool:
        """Say whether there is such a process that has not ended."""
        return not await_end(pid, 0)

    close = _winapi.CloseHandle  # what can be waited for until a process ends

    def append(descriptor: int, data: bytes) -> None:
        """Write at the end of a file; what several processes write at a time is not mixed up."""
        while True:
            os.lseek(descriptor, _FAR, os.SEEK_SET)
            try:
                msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # O_APPEND alone is two steps: seek, write
                break
            except OSError:
                time.sleep(0.001)
        os.lseek(descriptor, 0, os.SEEK_END)
        os.write(descriptor, data)
        os.lseek(descriptor, _FAR, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

    def open_things() -> int:
        """Return how many handles this process has open."""
        count = ctypes.c_ulong()
        kernel = ctypes.WinDLL("kernel32")
        assert kernel.GetProcessHandleCount(ctypes.c_void_p(-1), ctypes.byref(count))
        return count.value

else:
    import ctypes

    KILLED, KILLED_WORDS = -signal.SIGKILL, "was killed by SIGKILL"
    CRASHED, CRASHED_WORDS = -signal.SIGSEGV, "was killed by SIGSEGV"
    CRASH_DUMP = "Fatal Python error: Segmentation fault\n"
    CRASH_FRAMES = ["string_at"]
    crash = partial(ctypes.string_at, 0)
    append = os.write  # O_APPEND does it
    close = os.close

    def end(pid: int) -> None:
        os.kill(pid, signal.SIGKILL)

    def await_end(pid: int, seconds: float = SECONDS) -> bool:
        if not hasattr(os, "pidfd_open"):
            return _poll_until_gone(pid, seconds)
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            return True
        try:
            return bool(select.select([descriptor], [], [], seconds)[0])
        finally:
            os.close(descriptor)

    def _poll_until_gone(pid: int, seconds: float) -> bool:
        import multiprocessing
        import time

        deadline = time.monotonic() + seconds
        while multiprocessing.active_children() and lives(pid):  # which reaps what has ended
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return not lives(pid)

    def lives(pid: int) -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        return True

    def open_things() -> int:
        return len(proc("self/fd/*"))


def proc(pattern: str) -> list[Path]:
    """Return what Linux shows in /proc. Wine shows it too, where it is not about our processes: nothing there."""
    return [] if sys.platform == "win32" else list(Path("/proc").glob(pattern))


def kill(pid: int) -> None:
    """Kill a process, and return when it has ended."""
    end(pid)
    assert await_end(pid), f"process {pid} does not end"


def run(method: str, function: Callable[..., Any], *args: Any) -> int | None:
    """Run a function in a process, by a start method of multiprocessing; return the exit code."""
    context: Any = multiprocessing.get_context(method)
    process: BaseProcess = context.Process(target=function, args=args)
    process.start()
    process.join(SECONDS)
    return process.exitcode
