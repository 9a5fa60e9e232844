"""Items that a consumer has been given ahead, so that one round trip brings several; and how they go back.

    get ─▶ items ahead? ─▶ the first of them
             │ none                      idle for a moment, or the task ends ─▶ the last ones go back, first in the line
             ▼
           ask for as many as were used up lately in about a millisecond

No item is kept from other consumers by one that has gone on to something slow: a thread of the process looks after it.
"""

from __future__ import annotations

import threading
from collections import deque
from time import monotonic

from parapluie.state.watch import watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from typing import Any

_SECONDS = 0.001  # of work to ask for
_GROWTH = 4  # times the items that came last are asked for at most
_MOST = 512
_IDLE_SECONDS = 0.002  # after which what is ahead goes back


class Ahead:
    """What one handle of a channel has been given and not handed on. Any number of threads may take from it.

    Attributes:
        items: the first one to be taken first. Taken from the left by who gets, from the right by what gives back: so
            an item never goes back from before one that was taken.
        touched: when something was taken last (`time.monotonic`).
    """

    def __init__(self, give_back: Callable[[list[Any]], None]) -> None:
        """Make one; give_back: is called with items, in order, by the thread that looks after them."""
        self.items: deque[Any] = deque()
        self.touched = 0.0
        self._give_back = give_back
        self._came, self._came_at = 0, 0.0
        self._returning = threading.RLock()  # held while items are on their way back

    def most(self) -> int:
        """Return how many items to ask for. Blocking: until what is on its way back has arrived."""
        with self._returning:
            if not self._came or not watch.is_possible():
                return 1
        pace = self._came / max(monotonic() - self._came_at, 1e-6)
        return max(1, min(int(pace * _SECONDS), _GROWTH * self._came, _MOST))

    def came(self, items: Sequence[Any]) -> Any:
        """Take in what was asked for; return the first item."""
        self._came, self.touched = len(items), monotonic()
        self._came_at = self.touched
        if len(items) > 1:
            self.items.extend(items[1:])
            if not watch.look_after(self):
                self._give_back(self.take_out())
        return items[0]

    def returned(self) -> AbstractContextManager[object]:
        """Wait until what is on its way back has arrived, and let nothing go that way meanwhile."""
        return self._returning

    def take_out(self) -> list[Any]:
        """Take out all items, in order."""
        taken: list[Any] = []
        while self.items:
            try:
                taken.append(self.items.pop())
            except IndexError:  # who gets was faster
                break
        taken.reverse()
        return taken

    def moment_passed(self) -> bool:
        """Give the items back if nobody has come for them for a while; say whether none is left."""
        if self.items and monotonic() - self.touched > _IDLE_SECONDS:
            with self._returning:
                self._came = 0
                items = self.take_out()
                if items:
                    self._give_back(items)
        return not self.items

    def forget(self) -> None:
        self.items.clear()
        self._returning = threading.RLock()
