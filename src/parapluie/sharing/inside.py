"""The tasks of an executor that has channels or named objects: which one a thread runs, and what it was handed.

submit ─ `Inside` makes of a function an `InsideTask` ─ pickled, with what it is given ─▶ worker: `InsideTask` runs it
  │        │ which channels are among that: `hold`                                          │ `current` is what runs
  │        ▼                                                                                ▼
  └─ the task ends: `ended` ─▶ channels                             the attempt ends: what it has used is told so
"""

from __future__ import annotations

import threading
from contextlib import suppress
from functools import partial
from types import CellType, FunctionType, MethodType

from parapluie.call_format import PLAIN
from parapluie.replies import annotate
from parapluie.sharing.proxy import Proxy
from parapluie.state.link import ServerLink, link_to
from parapluie.state_errors import SharedStateError, SharedStateLostError
from parapluie.words import describe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, Protocol

    from parapluie.pickling import Serializer
    from parapluie.state.link import Link
    from parapluie.work import Task

    Ticket = int | str

    class Used(Protocol):
        """What a task uses that wants to know of its end."""

        def task_ends(self, ticket: Ticket, failure: str) -> None:
            """Take note that an attempt of a task is over; failure: how it failed, or ""."""


_here = threading.local()  # its `running`: the task that this thread runs; its `held`: see `note`
_running: list[Running] = []  # the tasks that run in this process; where there is one, its own threads are its


class Running:
    """A task that runs in this process.

    Attributes:
        link: to the shared objects of its executor. ticket: its id. used: what is to be told of its end.
    """

    def __init__(self, link: Link, ticket: Ticket) -> None:
        self.link, self.ticket = link, ticket
        self.used: set[Used] = set()


def current(link: Link) -> Running | None:
    """Return the task, of the executor to whose objects a link leads, that this thread runs, or was started by.

    None if that is not known. In the process that submits, a thread may be anybody's.
    """
    running: Running | None = getattr(_here, "running", None)
    if running is None and len(_running) == 1 and isinstance(link, ServerLink):
        (running,) = _running
    return running if running is not None and running.link is link else None


def current_link() -> Link | None:
    """Return the link of the task that this thread runs, or else that of all that run in this process."""
    running: Running | None = getattr(_here, "running", None)
    if running is not None:
        return running.link
    links = {running.link for running in list(_running)}
    return links.pop() if len(links) == 1 else None


def note(link: Link, target: int) -> None:
    """Note that a channel is among what is being pickled, if somebody wants to know: a task is being submitted."""
    held: set[tuple[Link, int]] | None = getattr(_here, "held", None)
    if held is not None:
        held.add((link, target))


class Inside:
    """Makes of a task's function one that knows the shared objects of its executor. One for each executor.

    Attributes:
        link: reaches the objects. channels: the numbers of the channels that were made.
        held: by the tasks that have not ended, which of them they were handed.
        holding: called before a task that was is dispatched.
    """

    def __init__(self, link: Link) -> None:
        self.link = link
        self.channels: set[int] = set()
        self.held: dict[Ticket, set[int]] = {}
        self.holding: Callable[[], None] = lambda: None

    def __call__(self, function: Callable[..., Any], ticket: Ticket) -> InsideTask:
        return InsideTask(self.link, function, ticket, self)

    def of_task(self, task: Task, function: Callable[..., Any], args: Any, kwargs: Any) -> InsideTask:
        """Make a task, of these arguments, one that knows; return what is called in place of its function."""
        task.inside = inside = self(function, task.task_id)
        if not isinstance(self.link, ServerLink):  # what is pickled is noted then
            inside.look_at(function, args, kwargs)
        return inside

    def hold(self, ticket: Ticket, targets: set[int]) -> None:
        """Note that a task was handed channels. Before it is dispatched."""
        if not targets:
            return
        self.holding()
        held = self.held.setdefault(ticket, set())
        for target in targets - held:
            held.add(target)
            self._tell(target, "hold", ticket)

    def ended(self, ticket: Ticket, error: BaseException | None) -> None:
        """Note that a task has ended for good; error: with what, if it failed. Before its future says so."""
        held = self.held.pop(ticket, None)
        failure = "" if error is None or not held else f"task {ticket} failed with {describe(error)}"
        for target in held or ():
            self._tell(target, "end", ticket, failure)

    def last_call(self) -> None:
        """Note that the executor is being shut down: this process puts into its channels no more."""
        for target in list(self.channels):
            self._tell(target, "last_call")

    def waiting(self, target: int) -> list[Ticket | None]:
        """Return the tasks that wait in a channel; None for who waits there without being one."""
        waiting: list[Ticket | None] = self._tell(target, "waiting") or []
        return waiting

    def starve(self, target: int, why: str) -> None:
        """Have all fail that wait in a channel."""
        self._tell(target, "starve", why)

    def _tell(self, target: int, operation: str, *args: Any) -> Any:
        with suppress(SharedStateError, SharedStateLostError):  # it is gone; whoever uses it is told
            return self.link.call(target, operation, args)
        return None


class InsideTask:
    """A task's function, where its shared objects are, and the task's id.

    Args: owner: that made it; None in a worker that has memory of its own.

    Attributes: ticket: the task's id.
    """

    def __init__(self, link: Link, function: Callable[..., Any], ticket: Ticket, owner: Inside | None = None) -> None:
        self._link, self._function, self.ticket, self._owner = link, function, ticket, owner

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        outer = getattr(_here, "running", None)
        _here.running = running = Running(self._link, self.ticket)
        _running.append(running)
        try:
            value = self._function(*args, **kwargs)
        except BaseException as error:
            self._left(running, error)
            raise
        else:
            self._left(running, None)
        finally:
            _here.running = outer
            _running.remove(running)
        return value

    def _left(self, running: Running, error: BaseException | None) -> None:
        """Tell what the task has used that it is over. What cannot be told is the task's error, if it had none."""
        failure = "" if error is None else f"task {self.ticket} failed with {describe(error)}"
        problems: list[Exception] = []
        for used in running.used:
            try:
                used.task_ends(self.ticket, failure)
            except Exception as problem:  # noqa: BLE001 - it is raised, or noted, below
                problems.append(problem)
        if problems and error is None:
            raise problems[0]
        for another in problems:
            assert error is not None
            annotate(error, describe(another))

    def __reduce__(self) -> tuple[Any, ...]:
        assert isinstance(self._link, ServerLink)  # others do not travel: their tasks are not pickled
        return _arrived, (self._link.address, self._function, self.ticket)

    # ---- in the process that submits ---------------------------------------------------------------------------

    @property
    def holds(self) -> bool:
        """Whether the task was handed channels, and has not ended."""
        return self._owner is not None and self.ticket in self._owner.held

    def noting(self, dumps: Serializer) -> Serializer:
        """Return a serializer that notes which channels are among what it pickles for the task."""

        def noting(value: object, buffer_callback: Any) -> bytes:
            outer = getattr(_here, "held", None)
            held: set[tuple[Link, int]] = set()
            _here.held = held
            try:
                data = dumps(value, buffer_callback)
            finally:
                _here.held = outer
            self._hold(held)
            return data

        return noting

    def look_at(self, *values: Any) -> None:
        """Note which channels are among values that are not pickled, as far as a look shows it."""
        self._hold({proxy.key() for proxy in _proxies(values, 4) if proxy.kind == "channel"})

    def _hold(self, found: set[tuple[Link, int]]) -> None:
        assert self._owner is not None
        self._owner.hold(self.ticket, {target for link, target in found if link is self._link})

    def ended(self, error: BaseException | None) -> None:
        """Note that the task has ended for good."""
        if self._owner is not None:
            self._owner.ended(self.ticket, error)


def _proxies(value: Any, depth: int) -> Iterator[Proxy]:
    """Yield the proxies in a value: in containers, closures and functions that were given arguments."""
    if isinstance(value, Proxy):
        yield value
    parts: Any = ()
    if isinstance(value, list | tuple | set | frozenset):
        parts = value
    elif isinstance(value, dict):
        parts = value.values()
    elif isinstance(value, FunctionType):
        parts = [_content(cell) for cell in value.__closure__ or ()]
    elif isinstance(value, MethodType):
        parts = (value.__self__,)
    elif isinstance(value, partial):
        parts = (value.func, value.args, value.keywords)
    for part in parts if depth else ():
        if type(part) not in PLAIN:
            yield from _proxies(part, depth - 1)


def _content(cell: CellType) -> Any:
    with suppress(ValueError):  # nothing is in it yet
        return cell.cell_contents
    return None


def _arrived(address: str, function: Callable[..., Any], ticket: Ticket) -> InsideTask:
    return InsideTask(link_to(address), function, ticket)
