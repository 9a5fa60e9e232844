"""A channel: a queue that ends. Its items are bytes, so that whatever they are, they are nobody's but the callers'.

    put ─▶ items ─▶ get        behind the last item: `_end`, or, where nobody is left to put, an error that says so

A **ticket** is the id of a task of the channel's executor. The parent says which unfinished tasks were handed the
channel (`hold`), and when one has ended for good (`end`); who of them puts and who gets, each operation tells. A task
that nobody knew to have it counts from its first operation until it ends (`leave`), or its process does. Who has no
ticket is known by its process, which may be the parent.
"""

from __future__ import annotations

import sys
from collections import deque
from functools import partial
from queue import Empty, Full

from parapluie.state.hub import NOT_YET, Served, Wait
from parapluie.state_errors import ChannelBrokenError, ChannelClosedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from parapluie.state.hub import Caller, Process

    Ticket = int | str | None

AHEAD_BYTES = 1 << 16  # of items that a consumer is given ahead, behind the first
PROMISES_FROM = 64  # items that a limit has to be for room to be promised


class ChannelFailedError(Exception):
    """A channel was ended by an error, which its users raise in place of this."""

    def __init__(self, sealed: Any, who: str) -> None:
        """Make one; sealed: the error, as it travels; who: has sent it."""
        self.sealed, self.who = sealed, who
        super().__init__(sealed, who)


class Channel(Served):
    """The items that are in it, its end, and who may still put and get."""

    operations = frozenset(
        {
            *("close", "end", "fail", "get", "hold", "last_call", "leave", "limit", "put", "put_ahead", "starve"),
            *("stats", "take_back", "waiting"),
        }
    )

    def __init__(self, maxsize: int) -> None:
        super().__init__()
        self._maxsize = maxsize
        self._items: deque[Any] = deque()
        self._end: Callable[[], Exception] | None = None  # makes what is raised instead of taking or giving more
        self._producers, self._consumers = _Side(), _Side()
        self._holders: set[Ticket] = set()  # tasks that have it, and have not ended
        self._visitors: dict[Ticket, Process] = {}  # those of them of which the parent does not know
        self._starved = ""  # why who waits would wait for ever
        self._parent: Process | None = None  # once the executor is being shut down: it does nothing more then
        self._hands: dict[tuple[Process, int], tuple[int, int]] = {}  # items that are in use, and ahead of that
        self._promised: dict[tuple[Process, Ticket], int] = {}  # room that is kept for producers
        self._put = self._taken = self._lost = 0

    # ---- putting and getting ----------------------------------------------------------------------------------

    def put(self, caller: Caller, ticket: Ticket, items: Sequence[Any]) -> Any:
        """Append items, as room comes; those that are in when the time is up stay.

        Returns how many more the same caller may put ahead: it has room for them.
        """
        self._acts(caller, ticket, self._producers)
        self._promised.pop((caller.process, ticket), None)
        waiting = deque(items)
        attempt = partial(self._append, caller.process, ticket, waiting, len(items))
        done = attempt()
        return done if done is not NOT_YET else _TicketWait(attempt, partial(self._full, waiting, items), ticket)

    def put_ahead(self, caller: Caller, ticket: Ticket, items: Sequence[Any]) -> None:
        """Append items for which there is room: there is no limit, or it was promised."""
        self._acts(caller, ticket, self._producers)
        if self._end is not None:
            raise self._refusal(0, len(items))
        key = caller.process, ticket
        if key in self._promised:
            self._promised[key] = max(0, self._promised[key] - len(items))
        self._items.extend(items)
        self._put += len(items)

    def _append(self, process: Process, ticket: Ticket, waiting: deque[Any], count: int) -> Any:
        if self._end is not None:
            raise self._refusal(count - len(waiting), count)
        for _ in range(min(self._room(), len(waiting))):
            self._items.append(waiting.popleft())
            self._put += 1
        if not waiting:
            return self._promise(process, ticket)
        if self._nobody_else(self._consumers, self._producers):
            raise self._broken(self._consumers, "take items out of it, which is full")
        return NOT_YET

    def _room(self) -> int:
        """Return for how many items there is room; what was given ahead may come back."""
        if not self._maxsize:
            return sys.maxsize
        kept = sum(self._promised.values()) + sum(ahead for _, ahead in self._hands.values())
        return max(0, self._maxsize - len(self._items) - kept)

    def _promise(self, process: Process, ticket: Ticket) -> int:
        """Promise room to a producer, so that its next items need not wait; not where a limit is a small number."""
        if self._maxsize < PROMISES_FROM:
            return 0
        self._promised[process, ticket] = promised = self._room() // 4
        process.concerns.add(self)
        return promised

    def _refusal(self, done: int, count: int) -> Exception:
        assert self._end is not None
        error = self._end()
        if isinstance(error, ChannelClosedError):
            rest = "" if count == 1 else f", after {done} of {count} items" if done else f", {count} items"
            return ChannelClosedError(self.label, f"is closed: put was refused{rest}")
        return error

    def _full(self, waiting: deque[Any], items: Sequence[Any]) -> Any:
        raise Full(f"{self.label} had no room for {len(waiting)} of {len(items)} items in time")

    def get(self, caller: Caller, ticket: Ticket, hand: int, most: int, ahead: bool) -> Any:  # noqa: FBT001 - sent so
        """Take the first items, at most so many, as soon as there is one.

        Args:
            hand: a number of the process for where it keeps what it took; what that had before has been dealt with.
            ahead: the items behind the first are for later, and may be given back; else they are in use.
        """
        self._acts(caller, ticket, self._consumers)
        self._hands.pop((caller.process, hand), None)
        attempt = partial(self._take, caller, ticket, hand, most, ahead)
        taken = attempt()
        return taken if taken is not NOT_YET else _TicketWait(attempt, self._empty, ticket)

    def _take(self, caller: Caller, ticket: Ticket, hand: int, most: int, ahead: bool) -> Any:  # noqa: FBT001 - as above
        if self._items:
            items = self._first(most, shared=ahead)
            self._taken += len(items)
            self._in_hand(caller.process, ticket, hand, len(items), ahead)
            caller.undo = partial(self._put_back, caller.process, hand, items)
            return items
        if any(later for _, later in self._hands.values()):
            return NOT_YET  # they may come back, in a moment
        if self._end is not None:
            raise self._end()
        if self._nobody_else(self._producers, self._consumers):
            raise self._broken(self._producers, "put items into it")
        return NOT_YET

    def _empty(self) -> Any:
        raise Empty(f"{self.label} was empty all the time")

    def _first(self, most: int, *, shared: bool) -> list[Any]:
        """Take the first items out; shared: not more than leaves as many for each consumer, nor too many bytes."""
        if not shared or most == 1:
            return [self._items.popleft() for _ in range(min(most, len(self._items)))]
        most = min(most, max(1, len(self._items) // max(1, self._consumers.count())))
        items = [self._items.popleft()]
        size = 0
        while len(items) < most and (size := size + len(self._items[0])) < AHEAD_BYTES:
            items.append(self._items.popleft())
        return items

    def _in_hand(self, process: Process, ticket: Ticket, hand: int, count: int, ahead: bool) -> None:  # noqa: FBT001
        used = 0 if ticket is None else 1 if ahead else count  # of others it is not known when they are through with it
        later = count - 1 if ahead else 0
        if used or later:
            self._hands[process, hand] = used, later
            process.concerns.add(self)

    def _put_back(self, process: Process, hand: int, items: list[Any]) -> Served:
        self._hands.pop((process, hand), None)
        self._items.extendleft(reversed(items))
        self._taken -= len(items)
        return self

    def take_back(self, caller: Caller, hand: int, items: list[Any]) -> None:
        """Put back, first in the line, the last items that a process was given ahead."""
        self._items.extendleft(reversed(items))
        self._taken -= len(items)
        used, _ = self._hands.pop((caller.process, hand), (0, 0))
        if used:
            self._hands[caller.process, hand] = used, 0

    # ---- the end ----------------------------------------------------------------------------------------------

    def close(self, _caller: Caller) -> None:
        if self._end is None:
            self._end = partial(ChannelClosedError, self.label, "is closed, and empty")

    def fail(self, _caller: Caller, sealed: Any, who: str) -> None:
        """End it with an error; the first one stays."""
        if self._end is None or isinstance(self._end(), ChannelClosedError):
            self._end = partial(ChannelFailedError, sealed, who)

    def last_call(self, caller: Caller) -> None:
        """Take note that the parent, whose executor is being shut down, neither puts nor gets any more."""
        self._parent = caller.process
        self._promised.pop((caller.process, None), None)
        for side in (self._producers, self._consumers):
            side.processes.discard(caller.process)

    # ---- who may still do something ---------------------------------------------------------------------------

    def hold(self, _caller: Caller, ticket: Ticket) -> None:
        self._holders.add(ticket)

    def end(self, _caller: Caller, ticket: Ticket, failure: str) -> None:
        """Take note that a task has ended; failure: how it failed, or ""."""
        self._ended(ticket, failure)

    def _ended(self, ticket: Ticket, failure: str) -> None:
        self._holders.discard(ticket)
        self._visitors.pop(ticket, None)
        for side, other in ((self._producers, self._consumers), (self._consumers, self._producers)):
            if ticket in side.tickets or (failure and ticket not in other.tickets):
                side.failed = bool(failure)
                side.failure = failure or side.failure
        self._producers.tickets.discard(ticket)
        self._consumers.tickets.discard(ticket)

    def leave(self, caller: Caller, ticket: Ticket, failure: str, hand: int, items: list[Any]) -> None:
        """Take note that a task is through with an attempt, in which it used the channel."""
        if items:
            self.take_back(caller, hand, items)
        self._hands.pop((caller.process, hand), None)
        self._promised.pop((caller.process, ticket), None)
        if ticket in self._visitors:
            self._ended(ticket, failure)

    def left(self, process: Process) -> str:
        ended = f"process {process.pid} has ended"
        for ticket in [ticket for ticket, where in self._visitors.items() if where is process]:
            self._ended(ticket, f"task {ticket}: {ended}")
        for side in (self._producers, self._consumers):
            if process in side.processes:
                side.processes.discard(process)
                side.failed, side.failure = True, ended
        for promise in [key for key in self._promised if key[0] is process]:
            del self._promised[promise]
        hands = [key for key in self._hands if key[0] is process]
        lost = sum(sum(self._hands.pop(key)) for key in hands)
        self._lost += lost
        return f"process {process.pid} ended with {_counted(lost)} of {self.label} in hand, now lost" if lost else ""

    def _acts(self, caller: Caller, ticket: Ticket, side: _Side) -> None:
        side.failed = False
        self._starved = ""
        if ticket is None:
            if caller.process is not self._parent:
                side.processes.add(caller.process)
                caller.process.concerns.add(self)
            return
        side.tickets.add(ticket)
        if ticket not in self._holders:
            self._holders.add(ticket)
            self._visitors[ticket] = caller.process
            caller.process.concerns.add(self)

    def _nobody_else(self, side: _Side, other: _Side) -> bool:
        """Say whether nobody is left of one side, or can ever come to it, and that not because all is well."""
        if self._starved:
            return True
        if side.processes or not (side.failed or self._parent is not None):
            return False
        return all(ticket in other.tickets and ticket not in side.tickets for ticket in self._holders)

    def _broken(self, side: _Side, purpose: str) -> ChannelBrokenError:
        whys = [why for why in (side.failure, self._starved) if why]
        if self._parent is not None and not self._starved:
            whys.append("its executor is being shut down, and nobody has called close()")
        return ChannelBrokenError(self.label, f"is broken, since nobody is left to {purpose}: {', and '.join(whys)}")

    def starve(self, _caller: Caller, why: str) -> None:
        """Have all that wait here fail: who could help them cannot begin before they end."""
        self._starved = why

    # ---- looking at it ----------------------------------------------------------------------------------------

    def limit(self, _caller: Caller) -> int:
        return self._maxsize

    def stats(self, _caller: Caller) -> tuple[Any, ...]:
        waiting = len(self.line)
        return len(self._items), self._put, self._taken, self._lost, waiting, self._end is not None

    def waiting(self, _caller: Caller) -> list[Ticket]:
        """Return the tickets of who waits; None for one who has none."""
        return [wait.ticket for wait in self.line if isinstance(wait, _TicketWait)]


class _Side:
    """The producers, or the consumers, of a channel.

    Attributes:
        tickets: of tasks that have acted so. processes: those that did without a ticket.
        failed: the last of them to end has failed, and none has acted since. failure: how the last that failed did.
    """

    def __init__(self) -> None:
        self.tickets: set[Ticket] = set()
        self.processes: set[Process] = set()
        self.failed, self.failure = False, ""

    def count(self) -> int:
        return len(self.tickets) + len(self.processes)


class _TicketWait(Wait):
    """What a task, or somebody else, waits for."""

    def __init__(self, attempt: Callable[[], Any], late: Callable[[], Any], ticket: Ticket) -> None:
        super().__init__(attempt, late)
        self.ticket = ticket


def _counted(items: int) -> str:
    return "an item" if items == 1 else f"{items} items"
