"""Shared state: objects that several tasks read and change, whatever the backend."""

from __future__ import annotations

import queue
import threading
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from parapluie.state_server import StateServer

if TYPE_CHECKING:
    import builtins
    from collections.abc import Callable, Iterable, MutableMapping, MutableSequence
    from contextlib import AbstractContextManager
    from multiprocessing.context import BaseContext


class Shared(ABC):
    """Factories of shared objects, to be handed to tasks as arguments: what `executor.shared` returns."""

    @abstractmethod
    def _make(self, kind: str, *args: Any, **kwargs: Any) -> Any:
        """Make an object of a kind: the name of the method below."""

    def close(self) -> None:  # noqa: B027 - local objects need nothing
        """Let go of the objects, where they live in a process of their own."""

    def lock(self) -> AbstractContextManager[bool]:
        """Make a lock, with `acquire` and `release`."""
        lock: AbstractContextManager[bool] = self._make("lock")
        return lock

    def queue(self, maxsize: int = 0) -> queue.Queue[Any]:
        """Make a first-in, first-out queue of at most maxsize items; 0 means no limit."""
        made: queue.Queue[Any] = self._make("queue", maxsize)
        return made

    # The next two names hide the built-in ones from what follows them in the class, so they come last.

    def dict(self, *args: Any, **kwargs: Any) -> MutableMapping[Any, Any]:
        """Make a dictionary; the arguments are those of the built-in one."""
        made: MutableMapping[Any, Any] = self._make("dict", *args, **kwargs)
        return made

    def list(self, items: Iterable[Any] = (), /) -> MutableSequence[Any]:
        """Make a list."""
        made: MutableSequence[Any] = self._make("list", items)
        return made


class LocalShared(Shared):
    """Plain objects of this process, for backends whose workers share its memory."""

    _KINDS: builtins.dict[str, Callable[..., Any]] = {  # noqa: RUF012 - a constant
        "dict": dict,
        "list": list,
        "lock": threading.Lock,
        "queue": queue.Queue,
    }

    def _make(self, kind: str, *args: Any, **kwargs: Any) -> Any:
        return self._KINDS[kind](*args, **kwargs)


class ServerShared(Shared):
    """Proxies of objects in a server process, which starts with the first of them unless it has been started.

    A proxy can be an argument of any task of a local backend; each of its methods is a message to the server and
    back. When the server is gone they raise `EOFError` or an `OSError`.

    Args:
        context: of the server's start method, where there is no server yet.
        server: one that somebody else started, and ends.
    """

    _KINDS: builtins.dict[str, str] = {  # noqa: RUF012 - a constant
        "dict": "dict",
        "list": "list",
        "lock": "Lock",
        "queue": "Queue",
    }

    def __init__(self, context: BaseContext, server: StateServer | None = None) -> None:
        self._own = server is None
        self.server = StateServer(context) if server is None else server

    def _make(self, kind: str, *args: Any, **kwargs: Any) -> Any:
        return self.server.make(self._KINDS[kind], args, kwargs)

    def close(self) -> None:
        if self._own:
            self.server.close()
