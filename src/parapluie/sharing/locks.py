"""Shared locks, and what else tasks wait for one another with, as users hold them."""

from __future__ import annotations

import operator
import threading
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

from parapluie.sharing.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

T = TypeVar("T")


class _Held(Proxy):
    """What is acquired and released."""

    def _arguments(self) -> tuple[int, ...]:
        """Return what tells who calls, where that matters."""
        return ()

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:  # noqa: FBT001, FBT002 - as there
        """Acquire it; False if that cannot be, at once or in time. No timeout, or a negative one, waits for ever."""
        patience = None if timeout is None or timeout < 0 else timeout
        return bool(self._do("acquire", *self._arguments(), blocking, timeout=patience))

    def release(self) -> None:
        self._do("release", *self._arguments())

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class SharedLock(_Held):
    """A lock. Should the process that holds it die, it is free again, and a warning says so."""

    kind = "lock"

    def locked(self) -> bool:
        return bool(self._do("locked"))


class SharedRLock(_Held):
    """A lock that the thread which holds it may acquire again. Should its process die, it is free again."""

    kind = "rlock"

    def _arguments(self) -> tuple[int, ...]:
        return (threading.get_ident(),)


class SharedCondition(SharedRLock):
    """A condition, with a re-entrant lock of its own."""

    kind = "condition"

    def wait(self, timeout: float | None = None) -> bool:
        """Let go of the lock until somebody notifies, and acquire it again; False if the time was up before."""
        me = threading.get_ident()
        try:
            return bool(self._do("wait", me, timeout=timeout))
        except BaseException as error:
            if not isinstance(error, Exception):  # it was interrupted; who called holds the lock, as he believes
                self._do("acquire", me, True)  # noqa: FBT003 - sent so
            raise

    def wait_for(self, predicate: Callable[[], T], timeout: float | None = None) -> T:
        """Wait until predicate() is true; return what it returned last. It is called with the lock held."""
        deadline = None if timeout is None else monotonic() + timeout
        while not (result := predicate()):
            left = None if deadline is None else deadline - monotonic()
            if left is not None and left <= 0:
                break
            self.wait(left)
        return result

    def notify(self, n: int = 1) -> None:
        self._do("notify", threading.get_ident(), n)

    def notify_all(self) -> None:
        self._do("notify", threading.get_ident(), None)


class SharedSemaphore(_Held):
    """A number of permits. Those that a process had when it died are given back."""

    kind = "semaphore"

    def release(self, n: int = 1) -> None:
        if operator.index(n) < 1:
            raise ValueError(f"n={n!r} is not a whole number from 1")
        self._do("release", n)

    def get_value(self) -> int:
        return int(self._do("get_value"))


class SharedEvent(Proxy):
    """A flag that is waited for."""

    kind = "event"

    def set(self) -> None:
        self._do("set")

    def clear(self) -> None:
        self._do("clear")

    def is_set(self) -> bool:
        return bool(self._do("is_set"))

    def wait(self, timeout: float | None = None) -> bool:
        return bool(self._do("wait", timeout=timeout))


class SharedBarrier(Proxy):
    """So many parties wait until all of them do. It breaks when one that waits gives up, or its process dies."""

    kind = "barrier"

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the others; return how many came before. Raises `threading.BrokenBarrierError` if it breaks."""
        return int(self._do("wait", timeout=timeout))

    def abort(self) -> None:
        self._do("abort")

    def reset(self) -> None:
        self._do("reset")

    @property
    def broken(self) -> bool:
        return bool(self._do("broken"))

    @property
    def n_waiting(self) -> int:
        return int(self._do("n_waiting"))
