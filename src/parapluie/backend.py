"""The backend contract: all that an author of a backend imports.

A backend moves bytes to workers and bytes back:

    executor ── dispatch(calls) ──▶ backend ── payload ──▶ worker: parapluie.worker.run(payload, buffers, select)
    executor ◀── host.replied(…) ── backend ◀── reply ────┘

Pickling, retries, timeouts, exceptions, tracebacks and cancellation of what waits are done above, once. Every call
that `dispatch` took gets one answer for each of its items, by `replied` or by `lost`, unless `revoke` withdrew it.
For an engine that already hands out futures, `FutureBackend` (at home in future_backend.py) derives all of this from
two methods: one that submits, and one that ends the engine.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from parapluie.records import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from multiprocessing.context import BaseContext
    from typing import Any, ClassVar, Protocol

    from parapluie.future_backend import FutureBackend as FutureBackend  # noqa: PLC0414 - part of this module, see below
else:
    Protocol = object  # importing typing takes two milliseconds

Buffers = Sequence["Any"]  # what pickle protocol 5 keeps out of band: bytes, or what an engine keeps them as


class CallOptions(NamedTuple):
    """What an engine may need to know of a call besides its bytes.

    Attributes:
        task_timeout: seconds that one item may run, or None. The limit is kept above the backend, with `begun` and
            `revoke(running=True)`; an engine needs it only to decide what its workers note down.
    """

    task_timeout: float | None = None


NO_OPTIONS = CallOptions()


class Call(NamedTuple):
    """One attempt's message, opaque to a backend.

    Attributes:
        id: grows from call to call within the executor; never used again, not by a retry either.
        payload: bytes for `parapluie.worker.run`; None where the workers share our memory.
        buffers: the payload's out-of-band buffers, in order: what the backend's `keep_buffers` has made. They stay as
            they are, since the call may be repeated; `run` makes the copies that a task may write to.
        local: set where payload is None: runs the call in the thread that calls it and answers it; never raises.
        items: 1, or the length of a chunk of `map`.
        select: which items to run, as ranges into the chunk; None for all of them.
        options: what the engine may need to see.
    """

    id: int
    payload: bytes | None
    buffers: Buffers = ()
    local: Callable[[], None] | None = None
    items: int = 1
    select: tuple[range, ...] | None = None
    options: CallOptions = NO_OPTIONS


class Loss(NamedTuple):
    """Why a call gets no reply.

    Attributes:
        began: True, False, or None where the engine cannot know. What had not begun is dispatched again silently.
        items: the items that had begun and were not answered, as indices into the call; None means all of them.
            The others of the call had not begun.
        culprit: False for a call that had begun and was ended beside the one at fault.
        exit_code: the worker's; minus the signal's number where a signal ended it; None where it is not known.
        worker: the worker's name; pid: its process id.
        why: what else is known, as a clause.
        peak_memory: the most memory that the worker was seen to use, in bytes; None where it is not known.
        dump: the last lines that its fault handler wrote, the innermost frame first.
        oom: it is known that the kernel's out-of-memory killer did it.
        at: when it began, by `time.monotonic`; None where it is not known.
    """

    began: bool | None
    items: range | None = None
    culprit: bool = True
    exit_code: int | None = None
    worker: str | None = None
    pid: int | None = None
    why: str = ""
    peak_memory: int | None = None
    dump: str = ""
    oom: bool = False
    at: float | None = None


class Begun(NamedTuple):
    """What a worker's mark says of a call: the item that it is at, and when that began (`time.monotonic`)."""

    item: int
    at: float


class Stop(NamedTuple):
    """How to stop.

    Attributes:
        grace: seconds that workers have to end once they are told to; then they are terminated, and, when as many
            seconds have passed again, killed.
        kill: do not wait for anybody.
    """

    grace: float = 5.0
    kill: bool = False


class Capabilities(NamedTuple):
    """What an engine can do with given options on this platform; each fact is proven by a conformance test.

    Attributes:
        isolated_memory: workers have memory of their own, so tasks are pickled and preflight is needed.
        survives_dead_worker: a worker's death costs the task that it ran and no other.
        kills_running_task: `revoke(running=True)` ends a call that has begun; `task_timeout` needs it.
        initializer: runs an initializer once in each worker.
        max_tasks_per_child: can replace a worker after so many tasks.
        start_methods: the multiprocessing start methods to choose from; empty where there is no such choice.
        imports_main: workers have the functions and classes of the program's main file, which they import, or were
            forked with; without it those travel by value.
        shared_state: `executor.shared` works; local objects where memory is not isolated.
        sessions: `executor.session` works: in a process of its own, which is the executor's; where memory is not
            isolated, in a thread.
        channels: `executor.channel` works: workers can wait for one another, and reach what holds the items.
        distributed: workers may be on other machines.
        knows_begun: tells of a lost call whether it had begun; without it, `began` is always None.
        runs_in_caller: calls run in the thread that submits, before `submit` returns.
        takes_back_items: what has not begun of a chunk of `map` is taken back from behind an item that turns out long
            (`host.returned`), so that chunks may be longer.
        sends_logs: log records of workers come as they are made (`host.logged`), those of one that dies as well;
            without it, `parapluie.worker.run` sends them with its reply.
    """

    isolated_memory: bool = True
    survives_dead_worker: bool = False
    kills_running_task: bool = False
    initializer: bool = True
    max_tasks_per_child: bool = False
    start_methods: tuple[str, ...] = ()
    imports_main: bool = True
    shared_state: bool = False
    sessions: bool = False
    channels: bool = False
    distributed: bool = False
    knows_begun: bool = False
    runs_in_caller: bool = False
    takes_back_items: bool = False
    sends_logs: bool = False


class NoOptions:
    """The options class of a backend that has none."""

    __slots__ = ()


class Host(Protocol):
    """What a backend is given by `start`. Every method may be called from any thread, and none of them raises.

    Attributes:
        backend: the name under which the backend was chosen.
        max_workers: the most workers to run.
        bootstrap: hand it to `parapluie.worker.prepare` once in each worker, or to every `run` as its last argument.
        context: the multiprocessing context that was asked for, or the platform's default one.
        max_tasks_per_child: replace a worker after so many calls; None for never.
        start_timeout: seconds that a worker may take until it is ready.
    """

    backend: str
    max_workers: int
    bootstrap: bytes
    context: BaseContext
    max_tasks_per_child: int | None
    start_timeout: float

    def prepare(self) -> bool:
        """Run the initializer, where memory is not isolated: once in each worker thread, before its first call.

        False means that it failed, and that the executor is broken.
        """

    def replied(self, call_id: int, payload: bytes | memoryview, buffers: Buffers = ()) -> None:
        """Hand over what `run` returned. A reply may answer a part of a chunk's items; it says which."""

    def replied_here(self, call_id: int, payload: bytes | memoryview) -> bool:
        """Take a reply in the thread that waits for it, see `Backend.attend`; False: hand it to `replied` instead.

        Ctrl-C may raise at any line of this. It may be called again with the same reply, or `replied` may, until
        `settled` is.
        """

    def settled(self, call_id: int) -> None:
        """Say that the reply which `replied_here` has taken does not come again."""

    def lost(self, call_id: int, loss: Loss) -> None:
        """Say that the call's unanswered items get no reply from this dispatch."""

    def returned(self, call_id: int, item: int) -> None:
        """Say that a call ends before an item: those from there on have not begun, and will not by this dispatch.

        Optional, and once for a call. Those before are still to be answered. Behind its last answer such a call gets an
        empty reply (of no segments), or it is `lost`. Never at the same time as `replied` or `lost` for the same call.
        """

    def began(self, call_id: int, *, item: int = 0, at: float | None = None) -> None:
        """Say that a worker began the call. Optional; an engine whose marks can be read implements `begun`."""

    def logged(self, call_id: int, item: int, pid: int, record: bytes) -> None:
        """Hand over a log record that `parapluie.worker_logs` has packed in a worker: of which call, and which process.

        Optional, for engines that have a way for it besides their replies. Before the call's answer, if it can be.
        """

    def room(self, n: int = 1, /) -> None:
        """Say that about n more calls would be taken. It dispatches in this thread if nobody else is at it."""

    def start_failed(self, why: str, cause: BaseException | None = None) -> None:
        """Say that a worker ended before it was ready. After a bounded number in a row the executor is broken."""

    def started(self) -> None:
        """Say that a worker is ready."""

    def worker_started(self, worker: str, pid: int | None = None) -> None:
        """Tell observers that a worker is ready, by the name that `Future.worker` has for it. Optional."""

    def worker_ended(
        self, worker: str, pid: int | None = None, *, exit_code: int | None = None, lost: bool = False, why: str = ""
    ) -> None:
        """Tell observers that a worker has ended; lost: it was not told to, or left a call unfinished. Optional."""

    def broken(self, error: BaseException) -> None:
        """Say that the engine is gone: all that is pending ends with the error."""


class Backend(ABC):
    """An engine that carries calls to workers and replies back.

    An instance serves one executor: it is made with an instance of `Options`, started once and stopped once.
    """

    Options: ClassVar[type] = NoOptions

    def __init__(self, options: Any = None) -> None:
        self.options = options

    @abstractmethod
    def start(self, host: Host) -> None:
        """Get ready to take calls. Workers may start now or with the first calls. Raise if it cannot be."""

    def keep_buffers(self, buffers: Sequence[memoryview], /) -> Buffers:
        """Copy the large buffers of a task that is being submitted; a call takes them along. Any thread.

        An engine that shares memory with its workers makes the copy there; then it returns whatever it knows them by.
        """
        return tuple(map(bytes, buffers))

    @abstractmethod
    def dispatch(self, calls: Sequence[Call], /) -> int:
        """Take the first n of calls, without waiting for anything, and return n; the rest wait above.

        Never called twice at a time. After it took fewer than it was given it is not called until `host.room`.
        """

    @abstractmethod
    def revoke(self, call_id: int, *, running: bool = False, item: int | None = None) -> bool:
        """Withdraw a call; True if it will not run and no answer will follow, or if it is not known here.

        The items that have not begun of a chunk that has may be taken back: False, and `host.returned` follows.
        With running, a call that has begun (and, where item is given, is at that item) is ended with its worker:
        then True promises that `host.lost` follows. False: its answer is to be awaited. Any thread.
        """

    def begun(self, call_id: int) -> Begun | None:
        """Read the mark of a dispatched call; None if it has not begun, or marks cannot be read. Any thread."""
        del call_id
        return None

    def attend(self, call_id: int) -> None:
        """Take the answer to a call in this thread, which is about to wait for it, if it comes within a moment.

        An engine whose answers come in a thread of its own may save the way from there; it need not.
        """
        del call_id

    def run_queued(self) -> None:
        """Run what was dispatched, in the calling thread; only called where the capabilities say `runs_in_caller`."""
        raise NotImplementedError(f"{type(self).__name__} says runs_in_caller and has no run_queued")

    @abstractmethod
    def stop(self, stop: Stop) -> None:
        """End all workers and return when they are gone. Calls still running when they are ended are `lost`.

        May be called a second time, with kill, while the first call still waits.
        """

    def workers(self) -> tuple[str, ...]:
        """Return the names of the workers that live now, as shown by `Executor.stats`."""
        return ()


class BackendInfo(NamedTuple):
    """What a plugin registers: the description of a backend. Making one imports nothing.

    Attributes:
        name: what users write as `backend=`.
        summary: one line.
        path: where the `Backend` class is, as `"package.module:Class"`; imported only when the backend is chosen.
        capabilities: called with an instance of the options class (or None for the defaults).
        options: where its options class (attrs) is, as `"package.module:Class"`; None for a backend without options.
        extra: what to install for it to work, as `"parapluie-ray"`; None where nothing is needed.
    """

    name: str
    summary: str
    path: str
    capabilities: Callable[[Any], Capabilities]
    options: str | None = None
    extra: str | None = None


def __getattr__(name: str) -> Any:
    """Import `FutureBackend` when it is asked for: programs whose engine is built in start without it."""
    if name == "FutureBackend":
        from parapluie.future_backend import FutureBackend

        return FutureBackend
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
