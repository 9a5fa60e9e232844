"""What a worker's fault handler writes when the worker crashes, kept where the parent finds it after the death.

    worker: crash ── faulthandler, in C ──▶ a file without a name ◀── read ── parent, once the worker is dead

A file and not a pipe: a dying worker must not wait for somebody who reads. Where a fault handler is on when the worker
starts (`PYTHONFAULTHANDLER`, `-X faulthandler`, a fork of a process that has enabled it), it stays as it is, since its
dumps are looked for where it writes them, mostly on stderr; and what an initializer or a task enables takes the place
of ours. The parent then has no dump to show.

A worker that ends before it can answer anything leaves a note in the same file, see `DumpFile.note`.

Beside the file travels the pipe for log records.
"""

from __future__ import annotations

import faulthandler
import os
from contextlib import suppress

from parapluie import travel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    # What the parent logs, see logs.py: what `logging.disable` was told; level, disabled and lowest handler by logger.
    LogSettings = tuple[int, dict[str, tuple[int, bool, int]]]

_MOST_BYTES = 1 << 20  # that are read; faulthandler itself writes 100 frames for each of 100 threads at most

_NOTE = b"parapluie: "  # begins a note; faulthandler writes nothing that begins so

_to_note: bytes | None = None  # what is left in the next file that comes to this process, see `note_on_arrival`
_noted = False
_ours = False  # the fault handler of this process writes where we told it to; true in what it forks, too


class DumpFile:
    """The file of one worker. The parent makes, reads and closes it; it travels to a process as that is started."""

    def __init__(self) -> None:
        self._fd = _file_without_name()

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrived, (None if self._fd is None else travel.sent(self._fd),)

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

    def note(self, data: bytes) -> bool:
        """Leave a note for the parent, from a worker that is about to end; False if there is no file for it."""
        if self._fd is None:
            return False
        # As text without a line's end, which Windows would write as two bytes.
        os.write(self._fd, _NOTE + data.hex().encode())
        return True

    def noted(self) -> bytes | None:
        """Return the note that the worker, which is dead, has left; None if there is none."""
        text = self.read().encode("ascii", "replace")
        return bytes.fromhex(text[len(_NOTE) :].decode()) if text.startswith(_NOTE) else None

    def close(self) -> None:
        """Let go of the file, which is then gone."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def _arrived(sent: Any) -> DumpFile:
    global _noted  # noqa: PLW0603 - see above
    file = DumpFile.__new__(DumpFile)
    file._fd = None if sent is None else travel.received(sent)  # noqa: SLF001 - it is being made
    if _to_note is not None:
        _noted = file.note(_to_note)
    return file


class LogEnd:
    """The end of a pipe that log records are written to. It travels to every worker as that is started.

    Attributes: fd: a descriptor; on Windows a handle. The parent closes its own, a worker's goes with it.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrived_end, (travel.sent_end(self.fd),)


def _arrived_end(sent: Any) -> LogEnd:
    return LogEnd(travel.received_end(sent))


def note_on_arrival(data: bytes, arrive: Callable[[], object]) -> bool:
    """Leave a note in the file that comes to this process while a function is called; say whether one came.

    As soon as it comes: if what comes with it cannot be read, ends of pipes are let go of, and the parent, which sees
    them close, ends this process at once.
    """
    global _to_note  # noqa: PLW0603 - a process is started with one file
    _to_note = data
    with suppress(Exception):
        arrive()
    return _noted


def _file_without_name() -> int | None:
    """Open one; None where that cannot be: a worker can do without."""
    try:
        return travel.file_without_name("parapluie-dump")
    except OSError:
        return None
