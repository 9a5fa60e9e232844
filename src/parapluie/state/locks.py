"""Shared locks, and what else processes wait for one another with. What a dead process held is let go of."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from functools import partial
from threading import BrokenBarrierError

from parapluie.state.hub import NOT_YET, Served, Wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from parapluie.state.hub import Caller, Process

    Owner = tuple[Process, int]  # a process, and which of its threads


class _Held(Served):
    """What is acquired, and held by whoever has acquired it."""

    @abstractmethod
    def _take(self, caller: Caller, *who: int) -> Any:
        """Acquire it for a caller, and return True; or NOT_YET. who: which thread of the process, if that matters."""

    def acquire(self, caller: Caller, *who_and_blocking: Any) -> Any:
        *who, blocking = who_and_blocking
        take = partial(self._take, caller, *who)
        if take() is True:
            return True
        return Wait(take, lambda: False) if blocking else False


class Lock(_Held):
    """A lock that anybody may release."""

    operations = frozenset({"acquire", "locked", "release"})

    def __init__(self) -> None:
        super().__init__()
        self._owner: Process | None = None

    def _take(self, caller: Caller, *_who: int) -> Any:
        if self._owner is not None:
            return NOT_YET
        self._owner = caller.process
        caller.process.concerns.add(self)
        caller.undo = self._free
        return True

    def _free(self) -> Served:
        assert self._owner is not None
        self._owner.concerns.discard(self)
        self._owner = None
        return self

    def release(self, _caller: Caller) -> None:
        if self._owner is None:
            raise RuntimeError(f"{self.label} is released, and nobody has acquired it")
        self._free()

    def locked(self, _caller: Caller) -> bool:
        return self._owner is not None

    def left(self, process: Process) -> str:
        if self._owner is not process:
            return ""
        self._free()
        return f"process {process.pid} ended while it held {self.label}, which is free now"


class RLock(_Held):
    """A lock that the thread which holds it may acquire again, and alone may release."""

    operations = frozenset({"acquire", "release"})

    def __init__(self) -> None:
        super().__init__()
        self._owner: Owner | None = None
        self._count = 0

    def _take(self, caller: Caller, *who: int, count: int = 1) -> Any:
        owner = caller.process, who[0]
        if self._owner is not None and self._owner != owner:
            return NOT_YET
        self._owner = owner
        self._count += count
        caller.process.concerns.add(self)
        caller.undo = self._free
        return True

    def _free(self) -> Served:
        self._count -= 1
        if not self._count:
            self._free_all()
        return self

    def _free_all(self) -> int:
        """Let go of it altogether; return how often it was held."""
        assert self._owner is not None
        self._owner[0].concerns.discard(self)
        count, self._owner, self._count = self._count, None, 0
        return count

    def _check(self, caller: Caller, thread: int) -> None:
        if self._owner != (caller.process, thread):
            raise RuntimeError(f"{self.label} is not held by the thread that called")

    def release(self, caller: Caller, thread: int) -> None:
        self._check(caller, thread)
        self._free()

    def left(self, process: Process) -> str:
        if self._owner is None or self._owner[0] is not process:
            return ""
        self._free_all()
        return f"process {process.pid} ended while it held {self.label}, which is free now"


class Condition(RLock):
    """A condition with a re-entrant lock of its own."""

    operations = RLock.operations | {"notify", "wait"}

    def wait(self, caller: Caller, thread: int) -> Wait:
        """Let go of the lock until somebody notifies, and acquire it again; False if the time was up before."""
        self._check(caller, thread)
        return _Sleeper(self, caller, thread, self._free_all())

    def notify(self, caller: Caller, thread: int, count: int | None) -> None:
        self._check(caller, thread)
        sleepers = [wait for wait in self.line if isinstance(wait, _Sleeper) and wait.outcome is None]
        for sleeper in sleepers[:count]:
            sleeper.outcome = True


class _Sleeper(Wait):
    """Who waits for a notice, and then for the lock."""

    def __init__(self, condition: Condition, caller: Caller, thread: int, count: int) -> None:
        super().__init__(self._try, self._give_up)
        self.outcome: bool | None = None
        self._take = partial(condition._take, caller, thread, count=count)  # noqa: SLF001 - a part of it

    def _try(self) -> Any:
        if self.outcome is None or self._take() is not True:
            return NOT_YET
        return self.outcome

    def _give_up(self) -> Any:
        self.outcome = bool(self.outcome)
        return self._try()


class Semaphore(_Held):
    """A number of permits. Those that a dead process had acquired and not released are given back."""

    operations = frozenset({"acquire", "get_value", "release"})

    def __init__(self, value: int) -> None:
        super().__init__()
        self._free = value
        self._held: Counter[Process] = Counter()

    def _take(self, caller: Caller, *_who: int) -> Any:
        if not self._free:
            return NOT_YET
        self._free -= 1
        self._held[caller.process] += 1
        caller.process.concerns.add(self)
        caller.undo = partial(self._give_back, caller.process, 1)
        return True

    def release(self, caller: Caller, count: int) -> None:
        self._give_back(caller.process, count)

    def _give_back(self, process: Process, count: int) -> Served:
        self._free += count
        self._held[process] -= count
        if self._held[process] <= 0:  # it may have acquired less: a semaphore is also used to signal
            del self._held[process]
            process.concerns.discard(self)
        return self

    def get_value(self, _caller: Caller) -> int:
        return self._free

    def left(self, process: Process) -> str:
        count = self._held.pop(process, 0)
        self._free += count
        return f"process {process.pid} ended while it held {count} of {self.label}, free again now" if count else ""


class Event(Served):
    """A flag that is waited for."""

    operations = frozenset({"clear", "is_set", "set", "wait"})

    def __init__(self) -> None:
        super().__init__()
        self._set = False

    def set(self, _caller: Caller) -> None:
        self._set = True

    def clear(self, _caller: Caller) -> None:
        self._set = False

    def is_set(self, _caller: Caller) -> bool:
        return self._set

    def wait(self, _caller: Caller) -> Any:
        return True if self._set else Wait(lambda: self._set or NOT_YET, lambda: False)


class Barrier(Served):
    """So many parties wait until all of them do. It breaks when one of those that wait gives up, or dies."""

    operations = frozenset({"abort", "broken", "n_waiting", "reset", "wait"})

    def __init__(self, parties: int) -> None:
        super().__init__()
        self._parties = parties
        self._round = _Round()

    def wait(self, _caller: Caller) -> Any:
        """Wait for the others; return how many have come before, of this round."""
        here = self._round
        if here.broken:
            raise BrokenBarrierError
        place, here.came = here.came, here.came + 1
        if here.came == self._parties:
            here.full = True
            self._round = _Round()
            return place

        def attempt() -> Any:
            if here.broken:
                raise BrokenBarrierError
            return place if here.full else NOT_YET

        def late() -> Any:
            here.broken = here.broken or not here.full
            return attempt()

        return Wait(attempt, late)

    def abort(self, _caller: Caller) -> None:
        self._round.broken = True

    def reset(self, _caller: Caller) -> None:
        """Begin anew; those that wait are told that it broke."""
        self._round.broken = True
        self._round = _Round()

    def broken(self, _caller: Caller) -> bool:
        return self._round.broken

    def n_waiting(self, _caller: Caller) -> int:
        return 0 if self._round.broken else self._round.came


class _Round:
    """One use of a barrier."""

    def __init__(self) -> None:
        self.came = 0
        self.full = self.broken = False
