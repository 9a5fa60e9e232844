"""What the tests of cells share: a host that records, gates at which calls wait, and functions for workers."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import queue
import signal
import socket
import threading
from contextlib import suppress
from importlib import import_module
from typing import Any

from parapluie import call_format
from parapluie.backend import Call, Stop

SECONDS = 20.0  # for every wait


class RecordingHost:
    """A host that notes what it is told; `answers` holds ("replied", id, kind, body) and ("lost", id, loss)."""

    backend = "tested"
    prepare = staticmethod(lambda: True)

    def __init__(self, method, *, max_workers=1, initializer=None, max_tasks_per_child=None, start_timeout=SECONDS):
        self.context = multiprocessing.get_context(method)
        self.max_workers, self.max_tasks_per_child = max_workers, max_tasks_per_child
        self.start_timeout = start_timeout
        initializer = initializer and pickle.dumps(initializer)
        self.bootstrap = pickle.dumps({"serializer": "pickle", "initializer": initializer, "salt": os.urandom(8)})
        self.answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.rooms: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.failures: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.ready = threading.Semaphore(0)

    def replied(self, call_id, payload, buffers=()):
        ((kind, _, _, _, body, _),) = call_format.segments_of(payload)
        pid, _, _ = call_format.REPLY.unpack_from(payload)
        self.answers.put(("replied", call_id, kind, pickle.loads(body, buffers=buffers), pid))

    def lost(self, call_id, loss):
        self.answers.put(("lost", call_id, loss))

    def logged(self, call_id, item, pid, record):
        """Drop it."""

    def worker_started(self, worker, pid=None):
        """Tell nobody."""

    def worker_ended(self, worker, pid=None, **facts):
        """Tell nobody."""

    def room(self, n=1, /):
        self.rooms.put(n)

    def start_failed(self, why, cause=None):
        self.failures.put((why, cause))

    def started(self):
        self.ready.release()

    def broken(self, error):
        raise AssertionError(error)

    def answer(self):
        return self.answers.get(timeout=SECONDS)

    def value(self):
        what, _, kind, body, _ = self.answer()
        assert (what, kind) == ("replied", call_format.VALUE)
        return body

    def wait_room(self):
        self.rooms.get(timeout=SECONDS)


def backend_class(name):
    return getattr(import_module(f"parapluie.backends.{name}"), f"{name.title()}Backend")


class Running:
    """A started backend with its host, stopped at the end of a `with`."""

    def __init__(self, name, method, **settings):
        self.host = RecordingHost(method, **settings)
        self.backend = backend_class(name)()
        self.backend.start(self.host)
        self._ids = iter(range(1, 1_000_000))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.backend.stop(Stop(SECONDS))

    def send(self, function, *args):
        """Dispatch a call; True if it was taken."""
        return self.backend.dispatch([Call(next(self._ids), pickle.dumps((function, args, {})))]) == 1

    def run(self, function, *args):
        """Run a call as soon as there is room for it; return its value."""
        while not self.send(function, *args):  # it tells of a loss before it has room again
            self.host.wait_room()
        value = self.host.value()
        self.host.wait_room()
        return value

    def engine(self, cell=0):
        return self.backend._cells[cell].engine

    def wait_dead(self, engine):
        with suppress(ValueError, OSError):  # the watcher was faster, and has closed it
            engine.process.join(SECONDS)


class Gate:
    """A place where calls wait: workers connect to it, tell their pid, and go on when it lets them."""

    def __enter__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(SECONDS)
        self.port = self._listener.getsockname()[1]
        self._guests = []
        return self

    def open(self):
        """Let everybody go on."""
        for guest in self._guests:
            let_go(guest)

    def __exit__(self, *_):
        self.open()
        for connection in [self._listener, *self._guests]:
            connection.close()

    def arrival(self):
        """Wait for a worker; return its pid and the connection, for `let_go`."""
        guest, _ = self._listener.accept()
        guest.settimeout(SECONDS)
        self._guests.append(guest)
        return int(guest.recv(20)), guest


def let_go(guest):
    """Let a worker go on. To close the connection is not enough: a worker that was forked later holds it too."""
    with suppress(OSError):
        guest.shutdown(socket.SHUT_RDWR)


def wait_at(port):
    """Wait at a gate until it opens."""
    with socket.create_connection(("127.0.0.1", port), SECONDS) as connection:
        connection.settimeout(2 * SECONDS)
        connection.sendall(str(os.getpid()).encode())
        with suppress(ConnectionError):
            connection.recv(1)
    return os.getpid()


def end_with_seven(*_):
    os._exit(7)


def kill_self():
    os.kill(os.getpid(), signal.SIGKILL)


def kill_self_at(number, at):
    if number == at:
        kill_self()
    return number


def kill_later(seconds):
    threading.Timer(seconds, kill_self).start()


def fail():
    raise LookupError("not today")


def die_in_mid_reply():
    """Have the worker die when half of its reply is written."""
    from multiprocessing import connection

    def send(self, data):
        os.write(self.fileno(), bytes(data[: len(data) // 2]))
        kill_self()

    setattr(connection.Connection, "_send", send)  # noqa: B010 - no type checker knows it
    return bytes(50_000)


def fork_and_die(port):
    """Leave a child behind that has inherited everything."""
    if os.fork() == 0:
        wait_at(port)
        os._exit(0)
    kill_self()


def start_a_process():
    process = multiprocessing.get_context("spawn").Process(target=os.getpid)
    process.start()
    process.join(SECONDS)
    return process.exitcode
