"""Starting processes: one at a time, and with what a worker must not see put away."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import contextmanager

from parapluie import travel
from parapluie.main_guard import hidden_main, must_be_hidden_from_server

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.process import BaseProcess

_NOTED_SECONDS = 0.5  # within which a thread that took an exit code has noted it

# One process at a time, from its first pipe on: what a fork in another thread inherits would keep pipes open behind
# our back, and the end of a pipe is how deaths are seen. Re-entrant, so that several steps can be held together.
_lock = threading.RLock()


def _renew_lock() -> None:
    global _lock  # noqa: PLW0603 - the thread that held it is not in a forked child
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


def start_lock() -> threading.RLock:
    """Return the lock that is held while a process is started."""
    return _lock


def wait_for_exit_code(process: BaseProcess) -> None:
    """Wait a moment for the exit code of a process that has ended.

    Each start of a process, in any thread, polls all children, and notes the exit codes that it finds a little later
    than it takes them.
    """
    deadline = time.monotonic() + _NOTED_SECONDS
    while process.exitcode is None and time.monotonic() < deadline:
        time.sleep(0.001)


def start_helpers(method: str) -> None:
    """Start what multiprocessing itself needs for a start method: the resource tracker, and the server that forks.

    They would start with the first worker, and it would wait for them. Now they get ready while there is other work.
    """
    if os.name != "posix" or method == "fork":
        return
    with _lock:
        from multiprocessing import resource_tracker

        resource_tracker.ensure_running()  # already now, since importing the other takes a while
        if method == "forkserver":
            from multiprocessing import forkserver

            with hidden_main(real=must_be_hidden_from_server()):
                forkserver.ensure_running()


def threads_beside(method: str) -> list[threading.Thread]:
    """Return the threads of the program that run while this one forks; none where it does not.

    Ours are made for that, and are not among them. The main thread is one only for another thread of the program:
    where a thread of ours forks, to replace a worker, there may well be no other thread that anybody has made.
    """
    if method != "fork":
        return []
    here = threading.current_thread()
    main = threading.main_thread() if _is_service(here) else None
    return [thread for thread in threading.enumerate() if thread not in {here, main} and not _is_service(thread)]


def threads_beside_this() -> list[threading.Thread]:
    """Return the threads of the program besides the one that calls."""
    here = threading.current_thread()
    return [thread for thread in threading.enumerate() if thread is not here and not _is_service(thread)]


def _is_service(thread: threading.Thread) -> bool:
    """Say whether a thread runs nothing but parapluie, or multiprocessing's queues.

    The workers of the backend `thread` run tasks.
    """
    name = thread.name
    if name == "QueueFeederThread":  # multiprocessing makes a queue's locks anew in what is forked
        return True
    return name.startswith("parapluie-") and not name.startswith("parapluie-worker-")


@contextmanager
def starting(method: str | None, *, hide_main: bool = False) -> Iterator[None]:
    """Start a process inside of this, by a start method; hide_main: it is not to import the program's main file."""
    with _lock, hidden_main(real=hide_main), _interrupts_held(method), travel.connections_sent_whole():
        yield


def ask_for_descriptors(any_one: int) -> None:
    """Raise if there are not enough to start a process, in the middle of which multiprocessing leaves a pipe open."""
    if os.name != "posix":
        return
    spare: list[int] = []
    try:
        spare.extend(os.dup(any_one) for _ in range(8))
    finally:
        for descriptor in spare:
            os.close(descriptor)


@contextmanager
def _interrupts_held(method: str | None) -> Iterator[None]:
    """Have the worker start with SIGINT blocked, so that Ctrl-C finds it quiet while it still imports.

    Not with forkserver: the server would inherit it, for everybody's processes.
    """
    if method == "forkserver" or not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
