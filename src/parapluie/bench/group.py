"""Ends a process and all that it started, and lets the tidy ones tidy up.

    the leader ─▶ everybody else in its group but resource trackers ─▶ a moment ─▶ who is left
                                                 └ these see that they are alone, and remove the others' semaphores

That order matters: a worker that outlives its parent keeps the tracker waiting, and a tracker that is killed leaves
every semaphore of a killed contender in the system for good.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_GRACE = 2.0  # seconds
_PROC = Path("/proc")
_TRACKER = b"resource_tracker"  # in the command lines of those of the standard library, of loky and of joblib


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of a process that leads a group, and of that group; return when it is gone."""
    if os.name == "nt":
        if process.poll() is None:
            command = ["taskkill", "/F", "/T", "/PID", str(process.pid)]
            subprocess.run(command, capture_output=True, check=False)  # noqa: S603 - constant but for our own pid
            process.wait()
        return
    process.kill()  # does nothing if it has ended
    process.wait()
    group = process.pid  # cannot become anybody else's while there is someone in it
    try:
        _kill_all_but_trackers(group)
        deadline = time.monotonic() + _GRACE
        while _lives(group) and time.monotonic() < deadline:
            time.sleep(0.005)
    finally:  # after a second Ctrl-C, too
        if _lives(group):
            _signal(group, signal.SIGKILL)


def _kill_all_but_trackers(group: int) -> None:
    if not _PROC.is_dir():
        _signal(group, signal.SIGTERM)  # of which trackers take no notice
        return
    for pid in _members(group):
        with suppress(OSError):  # it has just ended
            if _TRACKER not in (_PROC / str(pid) / "cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)


def _lives(group: int) -> bool:
    """Whether anybody in a group still runs."""
    if not _signal(group, 0):
        return False
    # Linux counts zombies, and in a container nobody may be in a hurry to collect them.
    return not _PROC.is_dir() or any(_members(group))


def _signal(group: int, number: int) -> bool:
    """Send a signal to a group; return whether there was anybody."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):  # the latter on macOS, where there are only zombies left
        return False
    return True


def _members(group: int) -> Iterator[int]:
    """Yield the processes of a group that are no zombies, where there is a /proc."""
    for folder in _PROC.glob("[0-9]*"):
        with suppress(OSError, ValueError):  # it has just ended
            # After the name of the program, in parentheses, which may hold anything: state, parent, group.
            state, _, found = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()[:3]
            if int(found) == group and state not in "ZX":
                yield int(folder.name)
