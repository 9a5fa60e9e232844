"""Among how many workers the CPUs are divided that a worker may use."""

from __future__ import annotations

import threading

# Of this process, if it is a worker: the executors above it have so many. A thread that is a worker has a number of its
# own.
_peers = 1
_thread_peers = threading.local()


def cpu_peers() -> int:
    """Return among how many workers, this one included, the CPUs are divided; 1 where nothing is a worker."""
    peers: int = getattr(_thread_peers, "number", _peers)
    return peers


def share_cpus(peers: int, *, thread: bool = False) -> None:
    """Note in a worker, a process or a thread, among how many the CPUs are divided."""
    global _peers  # noqa: PLW0603 - one for the process
    if thread:
        _thread_peers.number = peers
    else:
        _peers = peers
        vars(_thread_peers).clear()  # what forked this process may have been such a thread
