"""Items that a process puts into channels without waiting: one-way requests to the server.

    send, send, send ─▶ ONE_WAY with one item, and, some hundred microseconds later, ONE_WAY with all since ─▶ server
    flush ────────────▶ FLUSH ──▶ server ──▶ what failed since the last flush, by object

A link flushes before it does anything else, so that all that a process does is seen in the order in which it did it.
"""

from __future__ import annotations

import pickle
import threading
from functools import partial
from time import monotonic

from parapluie.state.watch import watch
from parapluie.state.wire import FLUSH, ONE_WAY, open_answer
from parapluie.state_errors import SharedStateLostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection
    from typing import Any

_QUICK_SECONDS = 0.0005  # since the last request: so long items are kept for the next one,
_MOST_ITEMS = 128  # until there are so many,
_MOST_BYTES = 1 << 16  # or of so many bytes
_FLUSH_SECONDS = 0.005  # since the last flush, and
_FLUSH_REQUESTS = 50  # requests, after which a sender waits: that something fails is known so soon


class Stream:
    """The connection of this process for one-way requests to one server; it is made when it is needed.

    Attributes:
        unflushed: whether there is something that the server may not have done yet.

    Thread safety: any thread. Blocking: while the server is slower than who sends.
    """

    def __init__(self, connect: Callable[[], Connection], lost: Callable[[BaseException], Exception]) -> None:
        """Make one; connect: makes a connection; lost: makes an error of that which says that the server is gone."""
        self._connect, self._lost = connect, lost
        self.unflushed = False
        self._lock = threading.Lock()  # guards all that follows
        self._owner = 0  # the thread that holds it
        self._connection: Connection | None = None
        self._key: tuple[int, Any] = (0, None)  # of the items that are kept: object, and task
        self._kept: list[bytes] = []
        self._bytes = 0
        self._requests = 0
        self._sent = self._flushed = 0.0
        self._failures: dict[int, tuple[int, bytes]] = {}
        self._untold: SharedStateLostError | None = None  # what happened while nobody was there to be told

    def send(self, target: int, ticket: Any, items: list[bytes]) -> bool:
        """Put items into a channel that has always room; False if that was not possible: it has to be called.

        Single items go at once, and what comes in quick succession goes together. What fails is raised by `check`.

        Raises:
            SharedStateLostError: if the server is gone.
        """
        if self._owner == threading.get_ident():  # in a signal handler or a finalizer, that came in between
            return False
        self._do(partial(self._keep, (target, ticket), items))
        return True

    def _keep(self, key: tuple[int, Any], items: list[bytes]) -> None:
        """Keep items for a moment, or send them, with those that are kept."""
        if self._key != key:
            self._push()
            self._key = key
        self._kept += items
        self._bytes += sum(map(len, items))
        self.unflushed = True
        quick = monotonic() - self._sent < _QUICK_SECONDS
        if (
            not quick
            or len(self._kept) >= _MOST_ITEMS
            or self._bytes >= _MOST_BYTES
            or (len(self._kept) == len(items) and not watch.look_after(self))
        ):
            self._push()
        if self._requests >= _FLUSH_REQUESTS or (self._requests and self._sent - self._flushed > _FLUSH_SECONDS):
            self._flush()

    def _push(self) -> None:
        """Send what is kept."""
        if self._kept:
            target, ticket = self._key
            items, self._kept, self._bytes = self._kept, [], 0
            self._connected().send_bytes(ONE_WAY + pickle.dumps((target, "put_ahead", (ticket, items)), 5))
            self._requests += 1
            self._sent = monotonic()

    def moment_passed(self) -> bool:
        try:
            self._do(self._push_after_moment)
        except SharedStateLostError as error:
            self._untold = error
            self.unflushed = True
        return not self._kept

    def _push_after_moment(self) -> None:
        if monotonic() - self._sent >= _QUICK_SECONDS:
            self._push()

    def forget(self) -> None:
        """Do nothing: a forked child's link has another stream."""

    def flush(self) -> None:
        """Wait until all that was sent is done.

        Raises:
            SharedStateLostError: if the server is gone.
        """
        if self._owner != threading.get_ident():
            self._do(self._flush)

    def _flush(self) -> None:
        if self._untold is not None:
            error, self._untold = self._untold, None
            raise error
        self._push()
        if self._requests:
            connection = self._connected()
            connection.send_bytes(FLUSH)
            failed: dict[int, tuple[int, bytes]] = open_answer(connection.recv_bytes())
            for target, (count, failure) in failed.items():
                before, first = self._failures.get(target, (0, failure))
                self._failures[target] = before + count, first
            self._flushed = monotonic()
        self._requests = 0
        self.unflushed = False

    def check(self, target: int) -> None:
        """Raise what the first request for an object failed with, of those that have been flushed; once."""
        if not self._failures or target not in self._failures:
            return
        count, failure = self._failures.pop(target)
        try:
            open_answer(failure)
        except Exception as error:
            if count > 1:
                error.add_note(f"parapluie: so were {count - 1} more that had been sent by then")
            raise

    def _connected(self) -> Connection:
        if self._connection is None:
            self._connection = self._connect()
        return self._connection

    def _do(self, action: Callable[[], None]) -> None:
        with self._lock:
            try:
                self._owner = threading.get_ident()
                action()
            except SharedStateLostError:
                self._drop()
                raise
            except (EOFError, OSError) as error:
                self._drop()
                raise self._lost(error) from error
            except BaseException:  # it was interrupted, and where in a message that was is not known
                self._replace()
                raise
            finally:
                self._owner = 0

    def _replace(self) -> None:
        """Take another connection: without any, this process would count as one that has ended."""
        try:
            other: Connection | None = self._connect()
        except Exception:  # noqa: BLE001 - the server is gone, as whoever needs it next is told
            other = None
        self._drop()
        self._connection = other

    def _drop(self) -> None:
        self.unflushed, self._requests, self._kept, self._bytes = False, 0, [], 0
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def close(self) -> None:
        """Close the connection, unless it is in use: then who uses it finds the server gone."""
        if self._lock.acquire(blocking=False):
            self._drop()
            self._lock.release()
