"""The mark of a cell's worker: which call, and which of its items, have begun. The parent can read it at any time.

    worker ── begin, before it begins anything ──▶ memory that both have ◀── read ── parent

The memory is there for as long as one of them has it: what a dead worker had begun is known as well.
"""

from __future__ import annotations

import struct
from time import monotonic
from typing import Any, NamedTuple

from parapluie.shared_memory import SharedBytes

_CALL = struct.Struct("<Q")
_ITEMS = struct.Struct("<QQd")


class Marked(NamedTuple):
    """What a mark says.

    Attributes: call_id: 0 if nothing has begun; item: that the worker is at; stop: no item from there on has begun;
    at: when the item began (`time.monotonic`).
    """

    call_id: int
    item: int
    stop: int
    at: float


class Mark:
    """The mark of one worker. The parent makes, reads and closes it; it travels to the worker as that is started.

    There is no lock, since each order in which the parent may see what the worker writes is safe: a call counts as
    begun when all else has been written for it, and it begins after that; its items only grow.
    """

    def __init__(self, method: str) -> None:
        self._memory: SharedBytes | None = SharedBytes(_CALL.size + _ITEMS.size, method)
        self._view = self._memory.view

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrived, (self._memory,)

    def begin(self, call_id: int, item: int, stop: int) -> int:
        """Mark items of a call as begun; return stop."""
        _ITEMS.pack_into(self._view, _CALL.size, item, stop, monotonic())
        _CALL.pack_into(self._view, 0, call_id)
        return stop

    def read(self) -> Marked:
        """Return what is marked."""
        view = self._view
        (call_id,) = _CALL.unpack_from(view)
        return Marked(call_id, *_ITEMS.unpack_from(view, _CALL.size))

    def sent(self) -> None:
        """Let go of what only the start of the worker needs."""
        if self._memory is not None:
            self._memory.sent()

    def close(self) -> None:
        """Let go of all but the last mark, which may still be asked for."""
        self.sent()
        self._view, self._memory = memoryview(bytes(self._view)), None


def _arrived(view: memoryview) -> Mark:
    mark = Mark.__new__(Mark)
    mark._view = view  # noqa: SLF001 - it is being made
    return mark
