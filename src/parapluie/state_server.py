"""The server process that holds shared state.

    this process ── proxy ──┐
    worker ── proxy ────────┼── Unix socket, or named pipe on Windows ──▶ server: the objects themselves
    worker ── proxy ────────┘                                             a thread for each connection

It is a multiprocessing manager's, and belongs to one executor.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from contextlib import suppress
from multiprocessing.managers import SyncManager
from typing import TYPE_CHECKING, Any

from parapluie import orphans, stdlib_private
from parapluie.errors import BackendError
from parapluie.pool_errors import BackendBrokenError
from parapluie.starting import starting
from parapluie.worker import describe

if TYPE_CHECKING:
    from multiprocessing.context import BaseContext

_END_SECONDS = 2.0  # that a server has to end when it is terminated, and again when it is killed
_KEPT_ALIVE = 256  # how many of the newest objects live on without anybody holding them here


class StateServer:
    """A multiprocessing manager that starts once, ends in bounded time, and never outlives its parent.

    Thread safety: any thread.
    """

    def __init__(self, context: BaseContext) -> None:
        self._context = context
        self._lock = threading.Lock()  # guards the next two
        self._manager: SyncManager | None = None
        self._closed = False
        # The server drops an object with its last proxy, and one that is on its way to a worker does not count yet:
        # `submit(task, shared.dict())` would find it gone.
        self._newest: deque[Any] = deque(maxlen=_KEPT_ALIVE)

    def start(self) -> SyncManager:
        """Start the server unless it has been; return its manager. Blocking: until it listens.

        Raises:
            BackendError: if it has been closed, or ends before it listens.
        """
        with self._lock:
            if self._closed:
                raise BackendError("the server of shared state has been closed with its executor")
            if self._manager is None:
                self._manager = self._started()
            return self._manager

    def _started(self) -> SyncManager:
        stdlib_private.make_temporary_directory()
        manager = SyncManager(ctx=self._context)
        try:
            with starting(self._context.get_start_method()):
                manager.start(initializer=orphans.end_with_parent)
                orphans.bind(stdlib_private.manager_process(manager))
        except EOFError as error:
            raise BackendBrokenError("the server of shared state ended before it was ready") from error
        return manager

    def make(self, kind: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Make an object in the server and return a proxy of it.

        Args:
            kind: the name of a method of `multiprocessing.managers.SyncManager`.

        Raises:
            BackendBrokenError: if the server is gone.
        """
        manager = self.start()
        try:
            proxy = getattr(manager, kind)(*args, **kwargs)
        except (EOFError, OSError, AssertionError) as error:  # AssertionError: it is being closed
            raise BackendBrokenError(f"the server of shared state is gone: {describe(error)}") from error
        self._newest.append(proxy)
        return proxy

    def is_alive(self) -> bool:
        """Say whether the server runs."""
        manager = self._manager
        return manager is not None and stdlib_private.manager_process(manager).is_alive()

    def close(self) -> None:
        """End the server; proxies of its objects raise from then on. May be called again."""
        with self._lock:
            self._closed = True
            manager, self._manager = self._manager, None
        if manager is not None:
            _end(manager)
        self._newest.clear()  # not before: a proxy that goes tells the server, and waits for its word


def _end(manager: SyncManager) -> None:
    """End a server by signals: the message that asks it to end would wait for ever for one that is stuck."""
    process = stdlib_private.manager_process(manager)
    for end in (process.terminate, process.kill):
        end()
        process.join(_END_SECONDS)
        if not process.is_alive():
            break
    manager.shutdown()  # forgets the connections; it sends nothing to a process that has ended
    address = manager.address
    if isinstance(address, str):
        with suppress(OSError):  # the server's own clean-up did not run; a named pipe went with its process
            os.unlink(address)  # noqa: PTH108 - an address, not always a path
    process.close()
