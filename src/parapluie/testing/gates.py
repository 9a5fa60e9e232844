"""The gate at which tasks wait until their test lets them through: how tests know, and say, what runs when."""

from __future__ import annotations

import queue
import socket
import threading
from contextlib import suppress
from typing import NamedTuple

from parapluie.testing import processes
from parapluie.testing.patience import SECONDS

_TIMES = 20  # that somebody passes by before nobody else is said to come


class Visitor(NamedTuple):
    """A task, or a program, that has come to the gate."""

    pid: int
    label: str
    connection: socket.socket

    def release(self) -> None:
        # By a byte: closing would not do, since a worker that was forked meanwhile holds the connection too.
        with suppress(OSError):
            self.connection.sendall(b"!")

    def ends(self, seconds: float = SECONDS) -> bool:
        """Wait for the end of its process, which closes the connection; say whether it came."""
        self.connection.settimeout(seconds)
        try:
            return self.connection.recv(1) == b""
        except TimeoutError:
            return not processes.lives(self.pid)  # Wine 8 may keep a socket of a process that was killed
        except OSError:
            return True


class Gate:
    """Where tasks wait until their test lets them through (`backend_tasks.wait_at`, `fault_tasks.wait_at`)."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self._server.getsockname()[1]
        self._visitors: queue.SimpleQueue[Visitor] = queue.SimpleQueue()
        self._seen: list[Visitor] = []
        self._lock = threading.Lock()
        self._is_open = False
        self._thread = threading.Thread(target=self._run, name="gate", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            connection, _ = self._server.accept()
            with connection.makefile() as stream:
                pid, _, label = stream.readline().rstrip("\n").partition(" ")
            if pid == "close":
                connection.close()
                return
            if pid == "passing":
                connection.close()
                continue
            visitor = Visitor(int(pid or 0), label, connection)
            with self._lock:
                self._seen.append(visitor)
                if self._is_open:
                    visitor.release()
            self._visitors.put(visitor)

    def _connect(self, word: str) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), SECONDS)
        connection.sendall(f"{word}\n".encode())
        return connection

    def arrival(self) -> Visitor:
        """Wait for the next one to come."""
        return self._visitors.get(timeout=SECONDS)

    def arrivals(self, count: int) -> list[Visitor]:
        """Wait for several; they are there at the same time."""
        return [self.arrival() for _ in range(count)]

    def nobody(self) -> bool:
        """Say that none has come who was not asked about, nor comes while this thread passes by several times.

        That takes the longer the busier the machine is, as does the way of somebody who is about to come.
        """
        for _ in range(_TIMES):
            if not self._visitors.empty():
                return False
            with self._connect("passing") as connection:
                connection.recv(1)
        return self._visitors.empty()

    def open(self) -> None:
        """Let everybody through, now and from now on."""
        with self._lock:
            self._is_open = True
            for visitor in self._seen:
                visitor.release()

    def close(self) -> None:
        self.open()
        with self._connect("close"):
            self._thread.join()
        self._server.close()
        for visitor in self._seen:
            visitor.connection.close()
