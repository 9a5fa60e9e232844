"""A channel, as users hold it: a queue that ends.

put ─▶ one-way request, while puts come in quick succession ─▶ server ─▶ several items ahead ─▶ get
       else a round trip, as where there is a limit
"""

from __future__ import annotations

import operator
import os
import pickle
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import count, islice
from time import monotonic
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from parapluie.answers import seal_error
from parapluie.sharing.ahead import Ahead
from parapluie.sharing.inside import current, note
from parapluie.sharing.proxy import ItemProxy
from parapluie.state.channels import ChannelFailedError
from parapluie.state.link import ServerLink, link_to
from parapluie.state_errors import ChannelBrokenError, ChannelClosedError, SharedStateError, SharedStateLostError

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from parapluie.sharing.inside import Running
    from parapluie.state.link import Link

T = TypeVar("T")

_BATCH = 256  # items that `put_many` sends at a time
_numbers = count(1)


class ChannelStats(NamedTuple):
    """Figures of a channel.

    Attributes:
        size: items that are in it. put, taken: items that were, since it was made; those that were given back, too,
            but once. lost: items that a process had in hand when it died. waiting: producers and consumers that wait.
        closed: whether it takes no more items, since it was closed or failed.
    """

    size: int
    put: int
    taken: int
    lost: int
    waiting: int
    closed: bool


class Channel(ItemProxy, Generic[T]):
    """A queue that ends: any number of producers and consumers, in tasks and in the program that made it.

    Iterating ends, for every consumer, when the channel is closed and empty. As a context it is closed behind the
    block, or failed with what the block raised; that is for who knows that nobody else puts into it.

    Each item goes to one consumer. Where there is one, the items of a producer come in their order.

    Thread safety: any thread. Blocking: as said for each method; besides, while the server is slower than who puts.

    Raises, from all methods:
        SharedStateLostError: if the server of shared state is gone, with its executor or otherwise.
        SharedStateError: if the channel was dropped; on `serial`, if a wait would never end.
    """

    kind = "channel"

    def __init__(self, link: Link, target: int, name: str | None = None, *, maxsize: int | None = None) -> None:
        super().__init__(link, target, name)
        self._maxsize = maxsize  # None: not known yet
        self._made_here = False
        self._hand = next(_numbers)
        self._promised = 0  # items for which there is room
        self._ended = False  # by this handle: it knows that puts are refused
        self._ahead = Ahead(self._give_back)

    def made_with(self, maxsize: int) -> int:
        """Note that this is the handle of who has made the channel; return the channel's number."""
        self._maxsize, self._made_here = maxsize, True
        return self._target

    # ---- putting ----------------------------------------------------------------------------------------------

    def put(self, item: T, timeout: float | None = None) -> None:
        """Append an item. Blocking: while there is no room.

        Raises:
            ChannelClosedError: if it is closed or failed; then the cause is the error. Where puts come in quick
                succession it may come some milliseconds late, from a later put or the end of the task.
            ChannelBrokenError: if it is full, and the last of those who could take items out of it has failed.
            queue.Full: if there was no room for so many seconds.
        """
        self._put([self._pack(item)], timeout)

    def put_many(self, items: Iterable[T], timeout: float | None = None) -> None:
        """Append items, many at a time; they may be more than fit into memory. Raises as `put`.

        Of items that are refused, or that have no room in time, those before are in.
        """
        deadline = None if timeout is None else monotonic() + timeout
        rest = iter(items)
        pack = self._pack
        while batch := [pack(item) for item in islice(rest, _BATCH)]:
            self._put(batch, None if deadline is None else deadline - monotonic())

    def _put(self, packed: list[Any], timeout: float | None) -> None:
        running = self._running()
        ticket = None if running is None else running.ticket
        if self._served and not self._ended and (running is not None or self._made_here):
            limited = self._limit() > 0
            self._check()
            if not limited or len(packed) <= self._promised:
                if limited:
                    self._promised -= len(packed)
                if self._link.stream.send(self._target, ticket, packed):  # type: ignore[attr-defined]
                    self._check()
                    return
        self._promised = 0
        self._promised = self._refusable("put", ticket, packed, timeout=timeout)

    def _limit(self) -> int:
        if self._maxsize is None:
            self._maxsize = int(self._do("limit"))
        return self._maxsize

    def _check(self) -> None:
        """Raise what was refused of what this process has put without waiting for it."""
        if self._served:
            try:
                self._link.stream.check(self._target)  # type: ignore[attr-defined]
            except ChannelFailedError as failed:
                raise self._refusal() from self._opened(failed)

    def _refusable(self, operation: str, *args: Any, timeout: float | None = None) -> Any:
        try:
            value = self._do(operation, *args, timeout=timeout)
        except ChannelFailedError as failed:
            raise self._refusal() from self._opened(failed)
        self._check()
        return value

    def _refusal(self) -> ChannelClosedError:
        return ChannelClosedError(self._label(), "was ended by an error: put was refused")

    # ---- getting ----------------------------------------------------------------------------------------------

    def get(self, timeout: float | None = None) -> T:
        """Take the first item. Blocking: while there is none.

        Raises:
            ChannelClosedError: if it is closed and empty.
            Exception: if it is failed and empty: what it was failed with.
            ChannelBrokenError: if it is empty, and the last of those who could put items into it has failed; or the
                executor is being shut down, and nobody is left who could.
            queue.Empty: if there was no item for so many seconds.
        """
        ahead = self._ahead
        try:
            packed = ahead.items.popleft()
        except IndexError:
            packed = self._fetch(timeout)
        else:
            ahead.touched = monotonic()
        item: T = self._unpack(packed)
        return item

    def _fetch(self, timeout: float | None) -> Any:
        running = self._running()
        ahead = self._ahead
        if self._served and (running is not None or self._made_here):
            return ahead.came(self._take(running, ahead.most(), True, timeout))  # noqa: FBT003 - sent so
        return self._take(running, 1, False, timeout)[0]  # noqa: FBT003

    def get_many(self, most: int, timeout: float | None = None) -> list[T]:
        """Take the items that are there, at most so many, and at least one. Blocking and raising as `get`."""
        if operator.index(most) < 1:
            raise ValueError(f"most={most!r} is not a whole number from 1")
        taken: list[Any] = []
        while len(taken) < most:
            try:
                taken.append(self._ahead.items.popleft())
            except IndexError:
                break
        if not taken:
            with self._ahead.returned():
                taken = self._take(self._running(), most, False, timeout)  # noqa: FBT003
        return [self._unpack(packed) for packed in taken]

    def _take(self, running: Running | None, most: int, ahead: bool, timeout: float | None) -> list[Any]:  # noqa: FBT001
        ticket = None if running is None else running.ticket
        try:
            taken: list[Any] = self._do("get", ticket, self._hand, most, ahead, timeout=timeout)
        except ChannelFailedError as failed:
            raise self._opened(failed) from failed.__cause__
        return taken

    def __iter__(self) -> Iterator[T]:
        """Yield items until the channel is closed and empty. Raises as `get`, but for that."""
        ahead, unpack = self._ahead, pickle.loads if self._served else _itself
        while True:  # as `get`, without the calls: most items are there
            try:
                packed = ahead.items.popleft()
            except IndexError:
                try:
                    packed = self._fetch(None)
                except ChannelClosedError:
                    return
            else:
                ahead.touched = monotonic()
            yield unpack(packed)

    # ---- the end ----------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Take no more items; consumers get what is in it, and then its end. May be called again.

        Raises:
            ChannelClosedError: if items that this process has put had been refused.
        """
        self._ended = True
        self._do("close")
        self._check()

    def fail(self, error: BaseException) -> None:
        """End the channel with an error: consumers get what is in it, and then this. The first one stays."""
        if not isinstance(error, Exception):
            raise TypeError(f"fail: {error!r} is not an Exception")
        self._ended = True
        running = self._running()
        who = f"process {os.getpid()}" if running is None else f"task {running.ticket}, process {os.getpid()}"
        self._do("fail", seal_error(error) if self._served else error, who)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
            return
        if not isinstance(error, Exception):  # Ctrl-C, or an exit: not for others to raise
            error = ChannelBrokenError(self._label(), f"is broken: who filled it ended with {type(error).__name__}")
        with suppress(SharedStateError, SharedStateLostError):  # what the block raised says more
            self.fail(error)

    def stats(self) -> ChannelStats:
        """Return a snapshot."""
        return ChannelStats(*self._do("stats"))

    # ---- how it goes there and back ---------------------------------------------------------------------------

    def _running(self) -> Running | None:
        running = current(self._link)
        if running is not None:
            running.used.add(self)
        return running

    def task_ends(self, ticket: int | str, failure: str) -> None:
        """Have all that a task put be in, and give back what it was given ahead; called when an attempt is over.

        Raises:
            ChannelClosedError: if something that was put had been refused.
            SharedStateLostError: if something that was put may be lost.
        """
        try:
            if self._served and self._link.stream.unflushed:  # type: ignore[attr-defined]
                self._link.stream.flush()  # type: ignore[attr-defined]
        finally:
            with self._ahead.returned(), suppress(SharedStateError, SharedStateLostError):  # then there is none to tell
                self._promised = 0
                self._do("leave", ticket, failure, self._hand, self._ahead.take_out())
        self._check()

    def _give_back(self, items: list[Any]) -> None:
        with suppress(SharedStateError, SharedStateLostError):  # they are lost, as the next `get` says
            self._do("take_back", self._hand, items)

    def _opened(self, failed: ChannelFailedError) -> BaseException:
        """Return the error that ended the channel."""
        from parapluie.replies import open_error

        error: BaseException = open_error(failed.sealed) if self._served else failed.sealed
        error.add_note(f"sent through {self._label()} with fail(), by {failed.who}")
        failed.__cause__ = error.__cause__
        return error

    def _label(self) -> str:
        return f"channel {self._target}" if self._name is None else f"channel {self._name!r}"

    def __reduce__(self) -> tuple[Any, ...]:
        plain = super().__reduce__()
        note(self._link, self._target)
        assert isinstance(self._link, ServerLink)
        if self._link.stream.unflushed:
            self._link.stream.flush()  # who gets this finds what was put before
        return _arrived, (*plain[1], self._limit())


def _itself(item: Any) -> Any:
    return item


def _arrived(kind: type[Channel[Any]], address: str, target: int, name: str | None, maxsize: int) -> Channel[Any]:
    return kind(link_to(address), target, name, maxsize=maxsize)
