"""A worker ends when its parent is gone: the one place where that differs by platform.

multiprocessing gives every child the read end of a pipe whose write end only the parent holds. On Linux the kernel is
asked to send SIGIO when that pipe closes: the default action ends the process at once, in the middle of C code that
holds the GIL too. Elsewhere a thread waits for the pipe, and needs the GIL to act.
"""

from __future__ import annotations

import os
import signal
import sys


def end_with_parent() -> None:
    """Make this multiprocessing child end when its parent is gone. Call it in the main thread, once.

    Does nothing in a process that multiprocessing did not start.
    """
    from multiprocessing import parent_process

    parent = parent_process()
    if parent is None:
        return
    if sys.platform == "linux":
        _ask_for_signal(parent.sentinel)
    else:
        import threading

        threading.Thread(target=_wait_for_parent, args=(parent.sentinel,), name="parapluie-parent", daemon=True).start()


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


def _wait_for_parent(sentinel: int) -> None:
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
