"""A shared queue, as users hold it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from parapluie.sharing.proxy import ItemProxy

if TYPE_CHECKING:
    from collections.abc import Iterable

T = TypeVar("T")


class SharedQueue(ItemProxy, Generic[T]):
    """A first-in, first-out queue, as `queue.Queue` is one. What never ends is better sent through a channel."""

    kind = "queue"

    def put(self, item: T, block: bool = True, timeout: float | None = None) -> None:  # noqa: FBT001, FBT002 - as there
        """Append an item; raises `queue.Full` if there is no room in time."""
        self._do("put", self._pack(item), block, timeout=timeout)

    def put_nowait(self, item: T) -> None:
        self.put(item, block=False)

    def put_many(self, items: Iterable[T], timeout: float | None = None) -> None:
        """Append several items in one round trip, as room comes; those that are in when the time is up stay."""
        self._do("put_many", [self._pack(item) for item in items], True, timeout=timeout)  # noqa: FBT003 - sent so

    def get(self, block: bool = True, timeout: float | None = None) -> T:  # noqa: FBT001, FBT002 - as there
        """Take the first item; raises `queue.Empty` if there is none in time."""
        item: T = self._unpack(self._do("get", block, timeout=timeout))
        return item

    def get_nowait(self) -> T:
        return self.get(block=False)

    def get_many(self, most: int) -> list[T]:
        """Take the items that there are, up to so many, in one round trip."""
        return [self._unpack(item) for item in self._do("get_many", most)]

    def qsize(self) -> int:
        return int(self._do("qsize")[0])

    def empty(self) -> bool:
        return self.qsize() == 0

    def full(self) -> bool:
        return bool(self._do("qsize")[1])

    def task_done(self) -> None:
        self._do("task_done")

    def join(self) -> None:
        """Wait until `task_done` was called for every item that was put in."""
        self._do("join")
