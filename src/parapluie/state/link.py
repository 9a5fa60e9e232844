"""How a process reaches the shared objects: through connections to their server, or, where they are local, directly."""

from __future__ import annotations

import os
import pickle
import threading

from parapluie.state.hub import Caller, Hub, Process, Wait
from parapluie.state.stream import Stream
from parapluie.state.wire import ALONE, HUB, LATE, UNDO, open_answer
from parapluie.state_errors import SharedStateLostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from abc import abstractmethod
    from collections.abc import Callable, Sequence
    from multiprocessing.connection import Connection
    from typing import Any, Protocol

    class Link(Protocol):
        """What proxies talk to.

        Thread safety: any thread.
        """

        @abstractmethod
        def call(self, target: int, name: str, args: Sequence[Any] = (), timeout: float | None = None) -> Any:
            """Do an operation of an object and return its value; raise what it raises.

            Args:
                timeout: seconds to wait, if it cannot be done yet; None waits for ever.

            Raises:
                SharedStateLostError: if the server is gone.
            """

        @abstractmethod
        def make(self, kind: str, args: Sequence[Any], name: str | None) -> int:
            """Make an object; return its number."""

        @abstractmethod
        def find(self, name: str) -> tuple[str, int]:
            """Return the kind and the number of a named object."""

        @abstractmethod
        def drop(self, target: int) -> None:
            """Have an object forgotten."""

        @abstractmethod
        def server_pid(self) -> int | None:
            """Return the process id of the server; None where the objects are local."""


_UNDO_SECONDS = 0.5  # a request that was cut off half-way is never answered


class ServerLink:
    """The connections of this process to one server: as many as are in use at a time, each used by one caller at once.

    Made by `link_to`, one for each server.

    Attributes:
        alone: says whether nothing runs beside the caller, who would then wait for ever; None where tasks run apart.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.alone: Callable[[], bool] | None = None
        self._renew()

    def _renew(self) -> None:
        self._free: list[Connection] = []
        self._token = os.urandom(8)  # by which the server tells that connections are of one process
        self.stream = Stream(self._connect, self._lost)

    def call(self, target: int, name: str, args: Sequence[Any] = (), timeout: float | None = None) -> Any:
        if self.stream.unflushed:
            self.stream.flush()  # what this process does is seen in the order in which it is done
        data = _dumps((target, name, args))
        try:
            connection = self._free.pop()
        except IndexError:
            connection = self._connect()
        try:
            connection.send_bytes(data)
            if timeout is not None and not connection.poll(max(timeout, 0)):
                connection.send_bytes(LATE)
            elif timeout is None and self.alone is not None and self.alone():
                connection.send_bytes(ALONE)
            answer = connection.recv_bytes()
        except (EOFError, OSError) as error:
            connection.close()
            raise self._lost(error) from error
        except BaseException:
            self._abandon(connection)
            raise
        self._free.append(connection)
        return open_answer(answer)

    def make(self, kind: str, args: Sequence[Any], name: str | None) -> int:
        number: int = self.call(HUB, "make", (kind, args, name))
        return number

    def find(self, name: str) -> tuple[str, int]:
        found: tuple[str, int] = self.call(HUB, "find", (name,))
        return found

    def drop(self, target: int) -> None:
        self.call(HUB, "drop", (target,))

    def server_pid(self) -> int | None:
        pid: int = self.call(HUB, "pid")
        return pid

    def _connect(self) -> Connection:
        from multiprocessing import AuthenticationError, process
        from multiprocessing.connection import Client

        try:
            connection: Connection = Client(self.address, authkey=process.current_process().authkey)
            connection.send_bytes(pickle.dumps((self._token, os.getpid())))
            connection.recv_bytes()  # it counts from now on as one of this process's
        except AuthenticationError as error:
            raise SharedStateLostError(
                "this process may not use the shared objects of another program: it has no key to their server, which "
                "only children of the program have that multiprocessing, or an executor, has started"
            ) from error
        except (EOFError, OSError) as error:
            raise self._lost(error) from error
        return connection

    def _abandon(self, connection: Connection) -> None:
        """Give up a connection whose caller was interrupted: where in the exchange that was is not known."""
        try:
            if not self._free:
                self._free.append(self._connect())  # before the other goes: without any, this process counts as ended
            connection.send_bytes(UNDO)
            while connection.poll(_UNDO_SECONDS):  # the server closes when it has; what is called next must see that
                connection.recv_bytes()
        except (EOFError, OSError):
            """It has been undone; or the server is gone, and with it what there was to undo."""
        finally:
            connection.close()

    def _lost(self, error: BaseException) -> SharedStateLostError:
        for connection in self._free:
            connection.close()
        self._free.clear()
        problem = str(error) or type(error).__name__
        return SharedStateLostError(
            f"the server of shared state cannot be reached ({problem}): it has died, or its executor has been shut down"
        )

    def close(self) -> None:
        """Close the connections that are not in use."""
        links.pop(self.address, None)
        self.stream.close()
        while self._free:
            self._free.pop().close()

    def forked(self) -> None:
        """In a forked child: leave the parent's connections to the parent."""
        for connection in self._free:
            connection.close()
        self.stream.close()
        self._renew()


links: dict[str, ServerLink] = {}  # of this process, by address


def link_to(address: str) -> ServerLink:
    """Return this process's link to a server."""
    link = links.get(address)
    return links.setdefault(address, ServerLink(address)) if link is None else link


def _forked() -> None:
    for link in links.values():
        link.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def _dumps(request: tuple[int, str, Sequence[Any]]) -> bytes:
    """Pickle a request; by value what the server would not find, as a function that is applied may be."""
    try:
        data = pickle.dumps(request, 5)
    except Exception:  # noqa: BLE001 - a `__reduce__` may raise anything; the serializer decides about it
        data = b"__main__"
    if b"__main__" not in data:
        return data
    from parapluie.pickling import dumps_auto

    return dumps_auto(request, None)


class LocalLink:
    """Objects of this process, for backends whose workers are threads of it."""

    def __init__(self, alone: Callable[[], bool] = lambda: False) -> None:
        """Make one; alone: says whether nothing runs beside the caller, who would then wait for ever."""
        self._hub = Hub()
        self._process = Process(os.getpid())
        self._alone = alone

    def call(self, target: int, name: str, args: Sequence[Any] = (), timeout: float | None = None) -> Any:
        caller = _LocalCaller(self._process)
        outcome = self._hub.call(caller, target, name, args)
        if not isinstance(outcome, Wait):
            return outcome
        if timeout is None and self._alone() and (error := self._hub.endless(outcome)) is not None:
            raise error
        return self._wait(caller, outcome, timeout)

    def _wait(self, caller: _LocalCaller, wait: Wait, timeout: float | None) -> Any:
        try:
            if not caller.come.acquire(timeout=-1 if timeout is None else min(max(timeout, 0), threading.TIMEOUT_MAX)):
                self._hub.give_up(wait)
                caller.come.acquire()
        except BaseException:
            self._hub.forget(wait)
            self._hub.undo(caller)
            raise
        if caller.failed:
            raise caller.answer
        return caller.answer

    def make(self, kind: str, args: Sequence[Any], name: str | None) -> int:
        from parapluie.state.kinds import make

        return self._hub.add(kind, make(kind, args), name)

    def find(self, name: str) -> tuple[str, int]:
        return self._hub.find(name)

    def drop(self, target: int) -> None:
        self._hub.drop(target)

    def server_pid(self) -> int | None:
        return None


class _LocalCaller(Caller):
    """A thread of this process."""

    def __init__(self, process: Process) -> None:
        super().__init__(process)
        self.come = threading.Lock()  # released once, when the answer has come
        self.come.acquire()
        self.answer: Any = None
        self.failed = False

    def answered(self, sealed: Any, *, failed: bool) -> None:
        self.answer, self.failed = sealed, failed
        self.come.release()
