"""How much memory a process takes, from what the platform offers; psutil where it offers nothing."""

from __future__ import annotations

import gc
import os
import sys
from contextlib import suppress
from pathlib import Path

from parapluie.memory import bytes_of, peak_memory

MB = 1_000_000


def resident(pid: int) -> int | None:
    """Return how many bytes of a process are in memory, or None if that cannot be said."""
    found = bytes_of(pid, b"VmRSS")
    if found is None:
        with suppress(Exception):  # not installed, or the process has just ended
            import psutil

            return int(psutil.Process(pid).memory_info().rss)
    return found


class Growth:
    """By how much the peak of this process grows from now on."""

    def __init__(self) -> None:
        gc.collect()
        with suppress(OSError):  # Linux: from here on, the peak is that of what follows
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        self._before = _peak()

    def megabytes(self) -> float | None:
        """Return the growth since this was made, or None if it cannot be measured here."""
        now = _peak()
        return None if now is None or self._before is None else (now - self._before) / MB


def limit_address_space(size: int) -> None:
    """Refuse this process, and each that it starts, more than so much address space, where there is such a limit."""
    with suppress(ImportError, OSError, ValueError):
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        soft = size if hard == resource.RLIM_INFINITY else min(size, hard)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _peak() -> int | None:
    found = peak_memory(os.getpid())
    if found is not None:
        return found
    with suppress(ImportError):
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    with suppress(Exception):  # not installed
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    return None
