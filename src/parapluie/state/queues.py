"""A shared queue. Its items are bytes, so that whatever they are, they are nobody's but the callers'."""

from __future__ import annotations

from collections import deque
from functools import partial
from queue import Empty, Full

from parapluie.state.hub import NOT_YET, Served, Wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from parapluie.state.hub import Caller


class Queue(Served):
    """A first-in, first-out queue as `queue.Queue` is one."""

    operations = frozenset({"get", "get_many", "join", "put", "put_many", "qsize", "task_done"})

    def __init__(self, maxsize: int) -> None:
        super().__init__()
        self._maxsize = maxsize
        self._items: deque[Any] = deque()
        self._unfinished = 0

    def _is_full(self) -> bool:
        return 0 < self._maxsize <= len(self._items)

    def put(self, caller: Caller, item: Any, blocking: bool) -> Any:  # noqa: FBT001 - sent so
        return self.put_many(caller, (item,), blocking)

    def put_many(self, _caller: Caller, items: Iterable[Any], blocking: bool) -> Any:  # noqa: FBT001 - sent so
        """Append items, as room comes; those that are in when the time is up stay."""
        waiting = deque(items)
        if self._append(waiting) is None:
            return None
        if not blocking:
            raise Full
        return Wait(partial(self._append, waiting), partial(_raise, Full))

    def _append(self, waiting: deque[Any]) -> Any:
        while waiting:
            if self._is_full():
                return NOT_YET
            self._items.append(waiting.popleft())
            self._unfinished += 1
        return None

    def get(self, caller: Caller, blocking: bool) -> Any:  # noqa: FBT001 - sent so
        take = partial(self._take_one, caller)
        if self._items:
            return take()
        if not blocking:
            raise Empty
        return Wait(take, partial(_raise, Empty))

    def _take_one(self, caller: Caller) -> Any:
        if not self._items:
            return NOT_YET
        item = self._items.popleft()
        caller.undo = partial(self._put_back, [item])
        return item

    def get_many(self, caller: Caller, most: int) -> list[Any]:
        """Return what there is, up to so many items."""
        items = [self._items.popleft() for _ in range(min(most, len(self._items)))]
        caller.undo = partial(self._put_back, items)
        return items

    def _put_back(self, items: list[Any]) -> Served:
        self._items.extendleft(reversed(items))
        return self

    def qsize(self, _caller: Caller) -> tuple[int, bool]:
        """Return how many items there are, and whether it is full."""
        return len(self._items), self._is_full()

    def task_done(self, _caller: Caller) -> None:
        if not self._unfinished:
            raise ValueError("task_done() called too many times")
        self._unfinished -= 1

    def join(self, _caller: Caller) -> Any:
        if not self._unfinished:
            return None
        return Wait(lambda: NOT_YET if self._unfinished else None, lambda: None)


def _raise(kind: type[Exception]) -> Any:
    raise kind
