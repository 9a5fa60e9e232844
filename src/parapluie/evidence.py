"""What the parent can find out about a worker that has died, besides its exit code.

Nothing is guessed: the kernel's out-of-memory killer is named only if the counter of our control group has moved, and a
dump is shown only if the worker died of what its fault handler writes about.
"""

from __future__ import annotations

import signal
import sys

from parapluie import answers, cgroup, worker
from parapluie.errors import exit_reason
from parapluie.records import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from parapluie.dumps import DumpFile

_MOST_FRAMES = 12  # that are shown
_HEADERS = ("Fatal Python error: ", "Windows fatal exception: ")
# Lines of a stack that are of what calls a task and seals what it answers, as faulthandler writes them.
_OURS = tuple(
    f'  File "{str(module.__file__).encode("ascii", "backslashreplace").decode()}", ' for module in (worker, answers)
)
_THREADS = ("Current thread 0x", "Thread 0x", "Stack (")
_LARGEST_EXIT_CODE = 0x7FFFFFFF  # what is above is an NTSTATUS
_SIGKILL = -9
_ABORTED = 3  # the exit code of abort() on Windows
_DUMPED = frozenset(
    -getattr(signal, name) for name in ("SIGSEGV", "SIGFPE", "SIGABRT", "SIGBUS", "SIGILL") if hasattr(signal, name)
)


class Evidence(NamedTuple):
    """What was found out about a death.

    Attributes:
        dump: the last lines that the worker's fault handler wrote, the innermost frame first; empty if there are none.
        oom: the kernel's out-of-memory killer did it.
    """

    dump: str = ""
    oom: bool = False


class OomKills:
    """The counter of what the kernel's out-of-memory killer has killed in our control group. For one thread.

    Args:
        root: the folder that `proc` and `sys` are read from.
    """

    def __init__(self, root: cgroup.Root = "/") -> None:
        self._file: str | None = None
        self._known = 0
        for file in _counters(root):
            count = _count(file)
            if count is not None:
                self._file, self._known = file, count
                break

    def one_more(self) -> bool:
        """Say whether there was a kill that nobody has been told of."""
        count = None if self._file is None else _count(self._file)
        if count is None or count <= self._known:
            return False
        self._known += 1
        return True


def _counters(root: cgroup.Root) -> Iterator[str]:
    for folder in cgroup.folders("memory", root):
        yield f"{folder}/memory.events"  # version 2
        yield f"{folder}/memory.oom_control"  # version 1


def _count(file: str) -> int | None:
    for line in cgroup.read(file).splitlines():
        name, _, value = line.partition(" ")
        if name == "oom_kill" and value.strip().isdecimal():
            return int(value)
    return None


def evidence_of(
    exit_code: int | None, dump: DumpFile | None, oom_kills: OomKills | None = None, *, ours: bool = False
) -> Evidence:
    """Find out what can be known of a worker's death.

    Args:
        oom_kills: None: it is not to be asked.
        ours: whether we have killed it ourselves.
    """
    if exit_code == _SIGKILL:
        return Evidence(oom=oom_kills is not None and not ours and oom_kills.one_more())
    if dump is None or not _dumps(exit_code):  # what the file holds then was written by what a task forked
        return Evidence()
    return Evidence(dump=last_lines(dump.read()))


def early_end(who: str, exit_code: int | None, found: Evidence, why: str = "") -> str:
    """Say how a worker ended before it was ready."""
    text = f"{who} {exit_reason(exit_code, oom=found.oom)} before it was ready" + (f": {why}" if why else "")
    return f"{text}\n{found.dump}" if found.dump else text


def _dumps(exit_code: int | None) -> bool:
    """Say whether a fault handler writes something before it comes to this end."""
    if exit_code is None:
        return False
    return exit_code in _DUMPED or exit_code > _LARGEST_EXIT_CODE or (sys.platform == "win32" and exit_code == _ABORTED)


# ---- reading a dump ---------------------------------------------------------------------------------------------


def last_lines(text: str) -> str:
    """Return what matters of the last dump in a text: what happened, and the task's frames, the innermost first."""
    lines = text.splitlines()
    start = max((number for number, line in enumerate(lines) if line.startswith(_HEADERS)), default=None)
    if start is None:
        return ""
    frames = _own_frames_cut(_crashed_thread(lines[start + 1 :]))
    more = len(frames) - _MOST_FRAMES
    rest = [f"  ... and {more} more"] if more > 0 else []
    return "\n".join([lines[start], *frames[:_MOST_FRAMES], *rest])


def _crashed_thread(lines: list[str]) -> list[str]:
    """Return the frames of the thread that crashed, or, where that one runs no Python, of the main thread."""
    frames: list[str] = []
    found = inside = False
    for line in lines:
        if line.startswith(_THREADS):
            if found:
                break
            found, inside, frames = line.startswith(_THREADS[0]), True, []  # the main thread comes last
        elif inside and line.startswith("  "):
            frames.append(line)
        else:
            inside = False
    return frames


def _own_frames_cut(frames: list[str]) -> list[str]:
    """Cut what is below the task: from `parapluie.worker`, which calls it, down to the start of the process."""
    ours = [frame.startswith(_OURS) for frame in frames]
    if True not in ours:
        return frames
    end = len(ours) - ours[::-1].index(True)
    while end and ours[end - 1]:
        end -= 1
    return frames[:end] or frames[:1]  # a task that crashes as it is unpickled has no frame of its own
