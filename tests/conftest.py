"""A deadline for every test: a hang is a failure with a dump of all stacks, never a stuck run.

When a test (with its fixtures) has not ended in time, a thread has the child processes dump their stacks, shows what
they and the test have printed, dumps the stacks of this process, and ends it. Should that thread not get to run,
because C code holds the GIL, faulthandler's own timer does the part that needs no GIL, a little later.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import signal
import sys
import threading
import time
from contextlib import suppress

import pytest

PATIENCE = 5.0 if sys.platform == "win32" else 1.0  # processes start slowly there, and slower still under Wine
DEADLINE = 60.0  # seconds, where a test has no mark of its own
GRACE = 5.0  # seconds after which faulthandler takes over

STDERR = pytest.StashKey[int]()  # a copy from before pytest captures what tests print; the end of the process closes it


def pytest_addoption(parser):
    group = parser.getgroup("soak", "long tests of the engine (tests/engine)")
    group.addoption("--soak-seconds", type=float, help="how long the soak test and the state machine go on")
    group.addoption("--soak-seed", type=int, default=0, help="what they invent; 0 unless given, so always the same")


def pytest_configure(config):
    config.stash[STDERR] = os.dup(2)
    config.addinivalue_line(
        "markers", "deadline(seconds): end the run, with a dump of all stacks, if the test lasts longer"
    )
    config.addinivalue_line("markers", "windows: belongs to the part of the suite that is run on Windows")
    # Worker processes inherit it, so that SIGABRT, as every crash, makes them dump their stacks.
    os.environ["PYTHONFAULTHANDLER"] = "1"


def pytest_unconfigure(config):
    # What is left is the end of the interpreter, which joins threads and processes: it has its deadline too.
    faulthandler.dump_traceback_later(DEADLINE, exit=True, file=config.stash[STDERR])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    if item.config.getoption("usepdb"):
        return (yield)
    mark = item.get_closest_marker("deadline")
    seconds = PATIENCE * (mark.args[0] if mark else DEADLINE)
    watch = threading.Timer(seconds, _end, (item, seconds))
    watch.name, watch.daemon = "deadline", True
    watch.start()
    faulthandler.dump_traceback_later(seconds + GRACE, exit=True, file=item.config.stash[STDERR])
    try:
        return (yield)
    finally:
        watch.cancel()
        watch.join()
        faulthandler.cancel_dump_traceback_later()


def _end(item, seconds):
    """End the run."""
    stderr = item.config.stash[STDERR]
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
        _write(stderr, f"\nPrinted by the test and its {len(children)} child processes:\n{_printed(item)}\n")
    _write(stderr, f"\n{verdict}\n")
    os._exit(1)


def _printed(item):
    """Return what was captured; the death of its children may have ended the test, and then it is in its report."""
    reported = [text for _, _, text in item._report_sections]
    return "".join([*reported, *item.config.pluginmanager.getplugin("capturemanager").read_global_capture()])


def _write(descriptor, text):
    os.write(descriptor, text.encode(errors="backslashreplace"))
