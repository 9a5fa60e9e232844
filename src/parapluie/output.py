"""What a task prints, kept: `sys.stdout` and `sys.stderr` are switches while a task runs whose output is captured.

    print(…) ─▶ sys.stdout, a Switch ─┬─ in a task that is captured ─▶ its Output
                                      └─ anywhere else ─▶ the stream that was there before

Tasks may run in several threads at a time, and others print meanwhile; so which task prints is a context variable.
Threads that a task starts have a context of their own: in a worker process with one task at a time, what they print is
the task's as well. Imported with the first task that is captured.
"""

from __future__ import annotations

import io
import os
import sys
import threading
from contextlib import contextmanager
from contextvars import ContextVar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_NAMES = ("stdout", "stderr")
_of_task: ContextVar[Output | None] = ContextVar("parapluie_output", default=None)
_open: list[Output] = []  # those of tasks that run; guarded by _lock
_lock = threading.RLock()


def _renew() -> None:
    """In a forked child: nothing of what is captured in its parent is captured here."""
    global _lock  # noqa: PLW0603 - the thread that held it may not be here
    _lock = threading.RLock()
    _open.clear()
    _of_task.set(None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


class Output:
    """What one task prints: both streams, as they come.

    Attributes: alone: what nobody else prints in this process is this task's, as long as no other is captured.
    """

    def __init__(self, *, alone: bool) -> None:
        self.alone = alone
        self._bytes = io.BytesIO()
        # Text and bytes (`sys.stdout.buffer`) keep their order, and text that is not valid is shown.
        self.stream = io.TextIOWrapper(self._bytes, "utf-8", "backslashreplace", newline="", write_through=True)

    def text(self) -> str:
        """Return all of it; it takes no more then that is kept."""
        return self._bytes.getvalue().decode("utf-8", "backslashreplace")


class Switch:
    """Stands for a stream of `sys`, and is that of the task that uses it, or the one that was there before."""

    def __init__(self, before: Any) -> None:
        self.__dict__["_before"] = before

    def _stream(self) -> Any:
        output = _of_task.get()
        if output is None:
            output = _open[0] if len(_open) == 1 and _open[0].alone else None
        return self._before if output is None else output.stream

    def write(self, text: str) -> int:
        """Write to whoever's it is now."""
        stream = self._stream()
        if stream is None:  # a program without a console
            return len(text)
        written: int = stream.write(text)
        return written

    def flush(self) -> None:
        """Flush whoever's it is now."""
        stream = self._stream()
        if stream is not None:
            stream.flush()

    def fileno(self) -> int:
        """Return the descriptor of the stream before: programs that a task starts write there."""
        number: int = self._before.fileno()
        return number

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream(), name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._stream(), name, value)

    def __iter__(self) -> Any:
        return iter(self._stream())


@contextmanager
def captured(*, alone: bool) -> Iterator[Output]:
    """Capture what is printed in here."""
    output = Output(alone=alone)
    with _lock:
        _open.append(output)
        for name in _NAMES:
            if not isinstance(getattr(sys, name), Switch):
                setattr(sys, name, Switch(getattr(sys, name)))
    token = _of_task.set(output)
    try:
        yield output
    finally:
        _of_task.reset(token)
        with _lock:
            _open.remove(output)
            for name in _NAMES if not _open else ():
                stream = getattr(sys, name)
                if isinstance(stream, Switch):  # else somebody has put his own there meanwhile
                    setattr(sys, name, vars(stream)["_before"])
