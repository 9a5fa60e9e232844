"""A deadline for a test: a hang is a failure with a dump of all stacks, never a stuck run.

When a test (with its fixtures) has not ended in time, a thread has the child processes dump their stacks, shows what
they and the test have printed, dumps the stacks of this process, and ends it.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

PATIENCE = 5.0 if sys.platform == "win32" else 1.0  # processes start slowly there, and slower still under Wine

_watched: set[str] = set()  # ids of tests: one deadline for each, the first that was set


@contextmanager
def watching(item: pytest.Item, seconds: float, stderr: int = 2) -> Iterator[None]:
    """End the run if the test, or what else runs inside of this, takes longer.

    Args:
        seconds: on a platform where processes start as fast as on Linux; `PATIENCE` times as many elsewhere.
        stderr: the descriptor to write to.
    """
    if item.nodeid in _watched:
        yield
        return
    watch = threading.Timer(PATIENCE * seconds, _end, (item, PATIENCE * seconds, stderr))
    watch.name, watch.daemon = "deadline", True
    watch.start()
    _watched.add(item.nodeid)
    try:
        yield
    finally:
        _watched.discard(item.nodeid)
        watch.cancel()
        watch.join()


def _end(item: pytest.Item, seconds: float, stderr: int) -> None:
    """End the run."""
    printed = ""
    with suppress(Exception):
        printed = _printed(item)
        item.config.pluginmanager.getplugin("capturemanager").suspend_global_capture()  # else nobody would see this
    verdict = f"DEADLINE: {item.nodeid} has not ended within {seconds:g} seconds"
    _write(stderr, f"\n\n{verdict}\n\nThe stacks of pytest's own process:\n")
    faulthandler.dump_traceback(file=stderr)
    children = [child.pid for child in multiprocessing.active_children() if child.pid is not None]
    for pid in children:
        with suppress(OSError):
            os.kill(pid, signal.SIGABRT)
            if hasattr(signal, "SIGCONT"):
                os.kill(pid, signal.SIGCONT)  # one that a test has stopped ends only then
        time.sleep(0.2)  # so that the dumps do not run into each other
    with suppress(Exception):
        printed += _printed(item)
    _write(stderr, f"\nPrinted by the test and its {len(children)} child processes:\n{printed}\n")
    _write(stderr, f"\n{verdict}\n")
    os._exit(1)


def _printed(item: pytest.Item) -> str:
    """Return what was captured; the death of its children may have ended the test, and then it is in its report."""
    reported = [text for _, _, text in item._report_sections]  # noqa: SLF001 - there is no other way to it
    return "".join([*reported, *item.config.pluginmanager.getplugin("capturemanager").read_global_capture()])


def _write(descriptor: int, text: str) -> None:
    os.write(descriptor, text.encode(errors="backslashreplace"))
