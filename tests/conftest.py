"""A deadline for every test, as the conformance kit has it: a hang is a failure, never a stuck run.

Should its thread not get to run, because C code holds the GIL, faulthandler's own timer does the part that needs no
GIL, a little later.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import sys

import pytest
from turns import leave_out_by_turns

from parapluie.testing.deadline import PATIENCE, watching

DEADLINE = 60.0  # seconds, where a test has no mark of its own
GRACE = 5.0  # seconds after which faulthandler takes over

STDERR = pytest.StashKey[int]()  # a copy from before pytest captures what tests print; the end of the process closes it


def pytest_addoption(parser):
    group = parser.getgroup("soak", "long tests of the engine (tests/engine)")
    group.addoption("--soak-seconds", type=float, help="how long the soak test and the state machine go on")
    group.addoption("--soak-seed", type=int, default=0, help="what they invent; 0 unless given, so always the same")
    parser.addoption("--by-turns", action="store_true", help="run each test with one of its rows only (turns.py)")


def pytest_configure(config):
    config.stash[STDERR] = os.dup(2)
    config.addinivalue_line(
        "markers", "deadline(seconds): end the run, with a dump of all stacks, if the test lasts longer"
    )
    config.addinivalue_line("markers", "windows: belongs to the part of the suite that is run on Windows")
    # Worker processes inherit it, so that SIGABRT, as every crash, makes them dump their stacks.
    os.environ["PYTHONFAULTHANDLER"] = "1"

    _bear_with_wine()


def pytest_collection_modifyitems(config, items):
    if config.getoption("by_turns"):
        leave_out_by_turns(config, items)


def _bear_with_wine():
    """Have a process made once more if Wine says "internal error" (1359): the new one died before Wine had set it up.

    Windows does not know this error there. Seen once in some thousand processes on a loaded machine.
    """
    if sys.platform != "win32" or not hasattr(ctypes.windll.ntdll, "wine_get_version"):
        return
    import _winapi

    create = _winapi.CreateProcess

    def create_again(*args):
        try:
            return create(*args)
        except OSError as error:
            if error.winerror != 1359:
                raise
            return create(*args)

    _winapi.CreateProcess = create_again


def pytest_unconfigure(config):
    # What is left is the end of the interpreter, which joins threads and processes: it has its deadline too.
    faulthandler.dump_traceback_later(DEADLINE, exit=True, file=config.stash[STDERR])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    if item.config.getoption("usepdb"):
        return (yield)
    mark = item.get_closest_marker("deadline")
    seconds = mark.args[0] if mark else DEADLINE
    stderr = item.config.stash[STDERR]
    faulthandler.dump_traceback_later(PATIENCE * seconds + GRACE, exit=True, file=stderr)
    try:
        with watching(item, seconds, stderr):
            return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()
