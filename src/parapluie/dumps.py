"""What a worker's fault handler writes when the worker crashes, kept where the parent finds it after the death.

    worker: crash ── faulthandler, in C ──▶ a file without a name ◀── read ── parent, once the worker is dead

A file and not a pipe: a dying worker must not wait for somebody who reads. Where a fault handler is on when the worker
starts (`PYTHONFAULTHANDLER`, `-X faulthandler`, a fork of a process that has enabled it), it stays as it is, since its
dumps are looked for where it writes them, mostly on stderr; and what an initializer or a task enables takes the place
of ours. The parent then has no dump to show.

How an open file gets to the worker, by which start method, is all in here.
"""

from __future__ import annotations

import faulthandler
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MOST_BYTES = 1 << 20  # that are read; faulthandler itself writes 100 frames for each of 100 threads at most

_ours = False  # the fault handler of this process writes where we told it to; true in what it forks, too


class DumpFile:
    """The file of one worker. The parent makes, reads and closes it; it travels to a process as that is started."""

    def __init__(self) -> None:
        self._fd = _file_without_name()

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrived, (None if self._fd is None else _to_be_sent(self._fd),)

    def enable(self) -> None:
        """Have the fault handler of this process, the worker, write here, unless it is on already."""
        global _ours  # noqa: PLW0603 - there is one fault handler in a process
        if self._fd is None or (faulthandler.is_enabled() and not _ours):
            return
        os.set_inheritable(self._fd, False)  # noqa: FBT003 - it has no name; the programs that tasks start get none
        faulthandler.enable(self._fd)
        _ours = True

    def read(self) -> str:
        """Return the end of what the worker, which is dead, has written."""
        if self._fd is None:
            return ""
        size = os.lseek(self._fd, 0, os.SEEK_END)
        os.lseek(self._fd, max(0, size - _MOST_BYTES), os.SEEK_SET)
        return os.read(self._fd, _MOST_BYTES).decode("ascii", "replace")

    def close(self) -> None:
        """Let go of the file, which is then gone."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def _arrived(sent: Any) -> DumpFile:
    file = DumpFile.__new__(DumpFile)
    file._fd = None if sent is None else _received(sent)  # noqa: SLF001 - it is being made
    return file


def _file_without_name() -> int | None:
    """Open one; None where that cannot be: a worker can do without."""
    if sys.platform == "linux" and hasattr(os, "memfd_create"):
        try:
            return os.memfd_create("parapluie-dump")
        except OSError:  # a sandbox; or there are too many files open, and then the next try fails as well
            pass
    import tempfile

    try:
        with tempfile.TemporaryFile() as file:
            return os.dup(file.fileno())
    except OSError:
        return None


if sys.platform == "win32":
    import msvcrt

    def _to_be_sent(fd: int) -> Any:
        from multiprocessing.context import get_spawning_popen

        popen: Any = get_spawning_popen()
        return popen.duplicate_for_child(msvcrt.get_osfhandle(fd))

    def _received(sent: Any) -> int:
        return msvcrt.open_osfhandle(sent, os.O_APPEND)

else:

    def _to_be_sent(fd: int) -> Any:
        from multiprocessing.reduction import DupFd

        return DupFd(fd)

    def _received(sent: Any) -> int:
        fd: int = sent.detach()
        return fd
