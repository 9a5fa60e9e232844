"""The server's process: takes connections from those who have the key, and does for them what they ask of the hub.

    main ── accepts ──▶ a thread for each connection: request ─▶ hub ─▶ answer, or a Wait; then it reads on
                                                                  │
    another connection's thread ── its operation lets go ─────────┘── the answer to that Wait

A connection's thread never waits but for its own connection; so it sees at once when that is closed.
"""

from __future__ import annotations

import os
import pickle
import threading
from contextlib import suppress
from multiprocessing import AuthenticationError, process
from multiprocessing.connection import Listener, answer_challenge, deliver_challenge

from parapluie import orphans, stdlib_private, waits
from parapluie.state.hub import Caller, Hub, Process, Wait
from parapluie.state.kinds import make
from parapluie.state.wire import (
    ALONE,
    FLUSH,
    HUB,
    LATE,
    ONE_WAY,
    UNDO,
    WELCOME,
    failure_text,
    seal_failure,
    seal_value,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.connection import Connection
    from typing import Any

    from parapluie.dumps import DumpFile

_BACKLOG = 128
_ONE_WAY = ONE_WAY[0]
_LARGE = 1 << 15  # bytes of an answer that a stopped caller's socket may have no room for


def main(dump: DumpFile, news: Connection, forked: bool) -> None:  # noqa: FBT001 - handed over by position
    """Run the server until its process is ended.

    Args:
        dump: was for a note only.
        news: to the parent: the address, and then what it should know, as text.
        forked: from the parent itself.
    """
    if forked:
        stdlib_private.forget_parents_business()
    dump.close()
    orphans.ignore_interrupts()
    orphans.end_with_parent()
    telling = threading.Lock()

    def tell(text: str) -> None:
        with telling, suppress(OSError):  # OSError: the parent is gone, and so are we in a moment
            news.send(text)

    listener = Listener(backlog=_BACKLOG)  # a Unix socket, or a named pipe: what the platform has
    server = _Server(Hub(tell))
    tell(str(listener.address))
    while True:
        try:
            connection = listener.accept()
        except OSError:  # who wanted to connect has gone again
            continue
        threading.Thread(target=server.serve, args=(connection,), daemon=True).start()


class _Server:
    """What all connections have in common."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self._lock = threading.Lock()  # guards the next one, and its processes' `callers`
        self._processes: dict[bytes, Process] = {}

    def serve(self, connection: Connection) -> None:
        """Serve one connection until it ends. Runs in a thread of its own."""
        with suppress(EOFError, OSError, AuthenticationError), connection:
            key = bytes(process.current_process().authkey)
            deliver_challenge(connection, key)
            answer_challenge(connection, key)
            token, pid = pickle.loads(connection.recv_bytes())
            user = self._came(token, pid)
            try:
                connection.send_bytes(WELCOME)
                _Connection(connection, user, self.hub).run()
            finally:
                self._went(token, user)

    def _came(self, token: bytes, pid: int) -> Process:
        with self._lock:
            user = self._processes.setdefault(token, Process(pid))
            user.callers += 1
            return user

    def _went(self, token: bytes, user: Process) -> None:
        with self._lock:
            user.callers -= 1
            if user.callers:
                return
            del self._processes[token]
        self.hub.left(user)


class _Connection(Caller):
    """One caller at the other end of a connection."""

    def __init__(self, connection: Connection, user: Process, hub: Hub) -> None:
        super().__init__(user)
        self._connection, self._hub = connection, hub
        self._is_closed = waits.closed_by_other(connection)
        self._wait: Wait | None = None
        # Of one-way requests since the last flush, by object: how many failed, and with what the first one did, sealed.
        self._failed: dict[int, tuple[int, bytes]] = {}

    def run(self) -> None:
        """Do what is asked until the connection ends."""
        try:
            while True:
                self._take(self._connection.recv_bytes())
        finally:
            if self._wait is not None:
                self._hub.forget(self._wait)
            for count, failure in self._failed.values():  # nobody has asked, and now nobody will
                self._hub.tell(f"{count} requests of process {self.process.pid} failed unseen: {failure_text(failure)}")

    def _take(self, data: bytes) -> None:
        if data == LATE:
            if self._wait is not None:
                self._hub.give_up(self._wait)
        elif data == UNDO:
            if self._wait is not None:
                self._hub.forget(self._wait)
            self._hub.undo(self)
            raise EOFError  # it closes: by that the caller knows
        elif data == ALONE:
            if self._wait is not None and (error := self._hub.endless(self._wait)) is not None:
                self._connection.send_bytes(seal_failure(error))
        elif data[0] == _ONE_WAY:
            self._do(data)
        elif data == FLUSH:
            self._connection.send_bytes(seal_value(self._failed))
            self._failed = {}
        else:
            self._request(data)

    def _do(self, data: bytes) -> None:
        """Do what nobody waits for. It must not have to wait itself."""
        target, name, args = pickle.loads(memoryview(data)[1:])
        try:
            outcome = self._hub.call(self, target, name, args)
            if isinstance(outcome, Wait):
                self._hub.give_up(outcome)
        except Exception as error:  # noqa: BLE001 - it is told to who flushes
            count, first = self._failed.get(target, (0, None))
            self._failed[target] = count + 1, first or seal_failure(error)

    def _request(self, data: bytes) -> None:
        self._wait = None
        try:
            target, name, args = pickle.loads(data)
            answer = self._ask_hub(name, args) if target == HUB else self._hub.call(self, target, name, args)
        except BaseException as error:  # noqa: BLE001 - a function that is applied may exit; it harms nobody else
            answer = seal_failure(error)
        if isinstance(answer, Wait):
            self._wait = answer
        else:
            self._connection.send_bytes(answer)

    def _ask_hub(self, name: str, args: Sequence[Any]) -> bytes:
        if name == "make":
            kind, arguments, label = args
            return seal_value(self._hub.add(kind, make(kind, arguments), label))
        if name == "find":
            return seal_value(self._hub.find(*args))
        if name == "pid":
            return seal_value(os.getpid())
        self._hub.drop(*args)
        return seal_value(None)

    def seal(self, value: Any) -> bytes:
        return seal_value(value)

    def is_gone(self) -> bool:
        return self._is_closed()

    def answered(self, sealed: Any, *, failed: bool) -> None:
        answer = seal_failure(sealed) if failed else sealed
        if len(answer) < _LARGE:
            self._send(answer)
        else:  # in a thread of its own: who let go of this must not wait for who waited, who may be stopped
            threading.Thread(target=self._send, args=(answer,), daemon=True).start()

    def _send(self, answer: bytes) -> None:
        with suppress(OSError):  # it is gone, and its own thread sees that
            self._connection.send_bytes(answer)
