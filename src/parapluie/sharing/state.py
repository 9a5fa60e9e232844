"""Shared state: objects that several tasks read and change, whatever the backend."""

from __future__ import annotations

import operator
import threading
from typing import TYPE_CHECKING, Any

from parapluie.errors import ConfigError
from parapluie.sharing import locks, values
from parapluie.sharing.inside import Inside
from parapluie.sharing.lookup import found
from parapluie.sharing.queue import SharedQueue
from parapluie.state.link import LocalLink
from parapluie.state.server import StateServer

if TYPE_CHECKING:
    import builtins
    from collections.abc import Callable, Iterable
    from multiprocessing.context import BaseContext

    from parapluie.sharing.channel import Channel
    from parapluie.sharing.proxy import Proxy
    from parapluie.state.link import Link


class Shared:
    """Factories of shared objects, to be handed to tasks as arguments: what `executor.shared` returns.

    Where workers are processes the objects live in a server process, which starts with the first of them unless the
    backend has started it; else they are local, and behave alike, but that values are not copied.

    With `name=`, tasks find an object by `parapluie.lookup(name)` too, if they are submitted after it was made. An
    object lives until it is dropped, or the executor is shut down; then its operations raise `SharedStateError` or
    `SharedStateLostError`.

    Thread safety: any thread. Blocking: while the server starts, and for a round trip.
    """

    def __init__(self, link: Callable[[], Link], announce: Callable[[Inside], None]) -> None:
        """Make one; link: returns what reaches the objects; announce: is told how tasks find named ones."""
        self._link, self._announce = link, announce
        self.limits_channels = True  # not where nobody could make room: tasks run one after another
        self._inside: Inside | None = None
        self._lock = threading.Lock()  # guards it while it is made

    def _make(self, kind: type[Any], *args: Any, name: str | None) -> Any:
        if name is not None and not isinstance(name, str):
            raise ConfigError(f"name={name!r} is not a string")
        link = self._link()
        proxy = kind(link, link.make(kind.kind, args, name), name)
        if name is not None:
            self._know_tasks(link)
        return proxy

    def _know_tasks(self, link: Link) -> Inside:
        """Have tasks that are submitted from now on know the objects, and whether they hold channels."""
        with self._lock:
            if self._inside is None:
                self._inside = Inside(link)
                self._announce(self._inside)
            return self._inside

    def last_call(self) -> None:
        """Note that the executor is being shut down."""
        if self._inside is not None:
            self._inside.last_call()

    def lookup(self, name: str) -> Any:
        """Return the shared object that was made with this name.

        Raises:
            SharedStateError: if there is none; it names those that there are.
        """
        return found(self._link(), name)

    def drop(self, proxy: Proxy) -> None:
        """Have an object forgotten, wherever it is in use; who waits for it is told."""
        self._link().drop(proxy._target)  # noqa: SLF001 - a part of it

    @property
    def server_pid(self) -> int | None:
        """The process id of the server that holds the objects, for who watches processes; None where they are local."""
        return self._link().server_pid()

    # ---- values -----------------------------------------------------------------------------------------------

    def value(self, value: Any = None, *, name: str | None = None) -> values.SharedValue[Any]:
        """Make a single value."""
        made: values.SharedValue[Any] = self._make(values.SharedValue, value, name=name)
        return made

    def counter(self, value: int = 0, *, name: str | None = None) -> values.SharedCounter:
        """Make a number that is counted up and down."""
        made: values.SharedCounter = self._make(values.SharedCounter, operator.index(value), name=name)
        return made

    def array(self, typecode: str, items: int | Iterable[Any], *, name: str | None = None) -> values.SharedArray[Any]:
        """Make numbers of one type, which keep their count.

        Args:
            typecode: as for `array.array`. items: the numbers, or how many zeros.
        """
        given = items if isinstance(items, int) else [*items]
        made: values.SharedArray[Any] = self._make(values.SharedArray, typecode, given, name=name)
        return made

    def namespace(self, *, name: str | None = None, **attributes: Any) -> values.SharedNamespace:
        """Make an object whose attributes are shared."""
        made: values.SharedNamespace = self._make(values.SharedNamespace, attributes, name=name)
        return made

    # ---- what tasks wait for ----------------------------------------------------------------------------------

    def queue(self, maxsize: int = 0, *, name: str | None = None) -> SharedQueue[Any]:
        """Make a first-in, first-out queue of at most maxsize items; 0 means no limit."""
        made: SharedQueue[Any] = self._make(SharedQueue, operator.index(maxsize), name=name)
        return made

    def channel(self, maxsize: int = 0, *, name: str | None = None) -> Channel[Any]:
        """Make a queue that ends, see `Executor.channel`."""
        from parapluie.sharing.channel import Channel

        limit = _count("maxsize", maxsize, 0) * self.limits_channels
        inside = self._know_tasks(self._link())
        made: Channel[Any] = self._make(Channel, limit, name=name)
        inside.channels.add(made.made_with(limit))
        return made

    def lock(self, *, name: str | None = None) -> locks.SharedLock:
        """Make a lock."""
        made: locks.SharedLock = self._make(locks.SharedLock, name=name)
        return made

    def rlock(self, *, name: str | None = None) -> locks.SharedRLock:
        """Make a lock that the thread which holds it may acquire again."""
        made: locks.SharedRLock = self._make(locks.SharedRLock, name=name)
        return made

    def semaphore(self, value: int = 1, *, name: str | None = None) -> locks.SharedSemaphore:
        """Make a semaphore of so many permits."""
        made: locks.SharedSemaphore = self._make(locks.SharedSemaphore, _count("value", value, 0), name=name)
        return made

    def event(self, *, name: str | None = None) -> locks.SharedEvent:
        """Make a flag to wait for."""
        made: locks.SharedEvent = self._make(locks.SharedEvent, name=name)
        return made

    def condition(self, *, name: str | None = None) -> locks.SharedCondition:
        """Make a condition with a re-entrant lock of its own."""
        made: locks.SharedCondition = self._make(locks.SharedCondition, name=name)
        return made

    def barrier(self, parties: int, *, name: str | None = None) -> locks.SharedBarrier:
        """Make a barrier for so many parties."""
        made: locks.SharedBarrier = self._make(locks.SharedBarrier, _count("parties", parties, 1), name=name)
        return made

    # The next two names hide the built-in ones from what follows them in the class, so they come last.

    def dict(self, *args: Any, name: str | None = None, **kwargs: Any) -> values.SharedDict[Any, Any]:
        """Make a dictionary; the arguments are those of the built-in one, but for name."""
        items: builtins.dict[Any, Any] = {}
        items.update(*args, **kwargs)
        made: values.SharedDict[Any, Any] = self._make(values.SharedDict, items, name=name)
        return made

    def list(self, items: Iterable[Any] = (), /, *, name: str | None = None) -> values.SharedList[Any]:
        """Make a list."""
        made: values.SharedList[Any] = self._make(values.SharedList, [*items], name=name)
        return made


def _count(name: str, value: object, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{name}={value!r} is not a whole number from {least}")
    return value


class SharedState:
    """The shared objects of one executor, and their server if they need one of their own.

    Attributes:
        shared: the factories.
    """

    def __init__(self, shared: Shared, own_server: StateServer | None = None) -> None:
        self.shared, self._own_server = shared, own_server

    def close(self) -> None:
        """End the server, where it is this executor's own."""
        if self._own_server is not None:
            self._own_server.close()


def local_state(announce: Callable[[Inside], None], alone: Callable[[], bool]) -> SharedState:
    """Make shared objects of this process; alone: see `LocalLink`."""
    link = LocalLink(alone)
    return SharedState(Shared(lambda: link, announce))


def served_state(
    context: BaseContext,
    server: StateServer | None,
    announce: Callable[[Inside], None],
    alone: Callable[[], bool] | None = None,
) -> SharedState:
    """Make shared objects in a server process: one that the backend has started, and ends, or one that starts now.

    Args:
        alone: see `ServerLink`.
    """
    used = server or StateServer(context)

    def link() -> Link:
        link = used.start()
        link.alone = alone
        return link

    return SharedState(Shared(link, announce), None if used is server else used)
