"""A worker ends when its parent is gone: the one place where that differs by platform.

multiprocessing gives every child the read end of a pipe whose write end only the parent holds; on Windows, a handle of
the parent. On Linux the kernel is asked to send SIGIO when that pipe closes: the default action ends the process at
once, in the middle of C code that holds the GIL too. Elsewhere a thread waits, and needs the GIL to act.

On Windows workers are put into a job as well, whose only handle the parent holds: the system ends what is in it when
that handle closes, in the middle of C code too. The thread is for the moment before that, and for where it is refused.
"""

from __future__ import annotations

import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess


_LOOK_SECONDS = 0.5  # between looks whether the parent is still there, where nothing tells


def end_with_parent() -> None:
    """Make this multiprocessing child end when its parent is gone. Call it in the main thread, once.

    The child's part; the parent's is `bind`.

    Does nothing in a process that multiprocessing did not start.
    """
    from multiprocessing import parent_process

    parent = parent_process()
    if parent is None:
        return
    sentinel: int | None = parent.sentinel
    if sentinel is not None and sys.platform == "linux":
        _ask_for_signal(sentinel)
        return
    if sentinel is None:  # an engine that starts processes by a way of its own, which leaves that out
        sentinel = _sentinel_of(parent.pid or os.getppid())
    import threading

    threading.Thread(target=_wait_for_parent, args=(sentinel,), name="parapluie-parent", daemon=True).start()


def _ask_for_signal(sentinel: int) -> None:
    import fcntl
    import select

    signal.signal(signal.SIGIO, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGIO])
    fcntl.fcntl(sentinel, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(sentinel, fcntl.F_SETFL, fcntl.fcntl(sentinel, fcntl.F_GETFL) | os.O_ASYNC)
    poller = select.poll()
    poller.register(sentinel, select.POLLIN)
    if poller.poll(0):  # the parent went before the kernel was asked
        os._exit(1)


def _sentinel_of(pid: int) -> int | None:
    """Return what can be waited for until a process ends; None on a platform that has no such thing."""
    from parapluie import waits

    try:
        return waits.end_of(pid)
    except (ProcessLookupError, PermissionError):  # it has gone
        os._exit(1)


def _wait_for_parent(sentinel: int | None) -> None:
    if sentinel is None:
        import time

        parent = os.getppid()
        while os.getppid() == parent:
            time.sleep(_LOOK_SECONDS)
    else:
        from multiprocessing.connection import wait

        wait([sentinel])
    os._exit(1)


def ignore_interrupts() -> None:
    """Take no notice of Ctrl-C, which is the parent's to handle.

    By a handler that does nothing: an ignored signal would be inherited by the programs that tasks start.
    """
    signal.signal(signal.SIGINT, lambda _signum, _frame: None)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])  # held while this process was started


if sys.platform == "win32":
    _KILL_ON_JOB_CLOSE, _SILENT_BREAKAWAY_OK = 0x2000, 0x1000
    _EXTENDED_LIMITS = 9

    _job: int | None = None  # closed by the system, when this process ends; 0: there can be none

    def bind(process: BaseProcess) -> None:
        """Have a child that has just been started end with this process. Call it under the lock of `starting`.

        Where the system refuses, the child's own thread is all that there is: the child has ended, or it is in a job
        that allows no other one, or this process may make none.
        """
        global _job  # noqa: PLW0603 - one for the process
        from ctypes import WinDLL
        from ctypes.wintypes import HANDLE

        if _job is None:
            _job = _made_job()
        if _job:
            WinDLL("kernel32").AssignProcessToJobObject(HANDLE(_job), HANDLE(process.sentinel))

    def _made_job() -> int:
        """Make a job that ends what is in it with its last handle, but lets go of what its processes start.

        Return 0 if the system refuses.
        """
        import ctypes
        from ctypes.wintypes import DWORD, HANDLE

        class Limits(ctypes.Structure):
            """JOBOBJECT_EXTENDED_LIMIT_INFORMATION, of which the flags are used."""

            _fields_ = (
                ("times", ctypes.c_int64 * 2),
                ("flags", DWORD),
                ("sizes", ctypes.c_size_t * 2),
                ("processes", DWORD),
                ("affinity", ctypes.c_size_t),
                ("priority", DWORD),
                ("scheduling", DWORD),
                ("counters", ctypes.c_uint64 * 6),
                ("memory", ctypes.c_size_t * 4),
            )

        kernel = ctypes.WinDLL("kernel32")
        kernel.CreateJobObjectW.restype = HANDLE
        job = kernel.CreateJobObjectW(None, None) or 0
        limits = Limits(flags=_KILL_ON_JOB_CLOSE | _SILENT_BREAKAWAY_OK)
        done = kernel.SetInformationJobObject(
            HANDLE(job), _EXTENDED_LIMITS, ctypes.byref(limits), ctypes.sizeof(limits)
        )
        return int(job) if done else 0

else:

    def bind(process: BaseProcess) -> None:
        """Do nothing: the child's part is all of it."""
