"""The one worker process of an engine: a multiprocessing context that hands out our own `Process`, once.

    parent                                         worker
    engine ── queue of calls ────────────────────▶ engine's loop ── parapluie.worker.run
    engine ◀── queue of replies ────────────────── engine's loop
    watcher ◀── ready: one message, then closed ── before the loop starts

Right after the start the parent closes its copies of the worker's ends, under the lock that every start takes: so no
other worker inherits them, and the worker's death ends both pipes.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from functools import partial
from multiprocessing import Pipe, connection, current_process
from multiprocessing import context as contexts
from multiprocessing.context import BaseContext
from typing import TYPE_CHECKING, Any, ClassVar

from parapluie import log_ways, orphans, stdlib_private, worker
from parapluie.cell_mark import Mark
from parapluie.cpu_peers import share_cpus
from parapluie.dumps import DumpFile
from parapluie.logs import log_settings
from parapluie.one_way_queue import OneWayQueue, close_reader
from parapluie.starting import starting, wait_for_exit_code

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

    from parapluie.dumps import LogEnd, LogSettings
    from parapluie.logs import LogPipe

    _Base = BaseProcess
else:
    _Base = object

READY, REFUSES = b"1", b"0"  # what a worker says when it is ready: whether its initializer went well

_reap_lock = threading.Lock()  # held to ask for an exit code


def _renew_lock() -> None:
    global _reap_lock  # noqa: PLW0603 - one for the process
    _reap_lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)  # the thread that held it is not in the child


class CellProcess(_Base):
    """What our `Process` adds to that of a start method."""

    method: ClassVar[str]
    bootstrap: bytes
    peers: int
    logs: tuple[LogSettings, LogEnd]
    log_reader: tuple[int, ...]  # which it must not hold, if it is forked
    logged = False  # since the last reply: there are records that the next one is not to overtake
    ready: Connection | None
    queues: tuple[Any, ...]
    dump: DumpFile
    mark: Mark
    _pidfd: int | None = None

    def start(self) -> None:
        with starting(self.method):
            super().start()
            orphans.bind(self)
            self.mark.sent()
            reads, writes = self.queues
            close_reader(reads)
            writes.close_writer()
            if self.ready is not None:
                self.ready.close()
            self.ready, self.queues = None, ()
            self._pidfd = self._open_pidfd()

    def _open_pidfd(self) -> int | None:
        """Get a handle that tells of the death of this process alone.

        The sentinel of multiprocessing is a pipe, which whatever a task forked holds open too; but for forkserver's,
        which is the server's own.
        """
        if not hasattr(os, "pidfd_open") or self.method == "forkserver" or self.pid is None:
            return None
        try:
            return os.pidfd_open(self.pid)
        except OSError:  # an old kernel, or a sandbox
            return None

    @property
    def sentinel(self) -> int:
        return super().sentinel if self._pidfd is None else self._pidfd

    # Under forkserver the exit code can be read once only, and the engine's threads and ours ask at the same time.

    @property
    def exitcode(self) -> int | None:
        with _reap_lock:
            return super().exitcode

    def is_alive(self) -> bool:
        with _reap_lock:
            return super().is_alive()

    def join(self, timeout: float | None = None) -> None:
        if connection.wait([self.sentinel], timeout):
            with _reap_lock:
                super().join()

    def terminate(self) -> None:
        # ProcessPoolExecutor asks for this when it finds its worker dead, and Wine takes that for the exit code.
        if not connection.wait([self.sentinel], 0):
            super().terminate()

    def close(self) -> None:
        wait_for_exit_code(self)
        with suppress(ValueError):  # somebody else has taken it for good, so the process is believed to be alive
            super().close()
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None

    def run(self) -> None:
        """Get the worker ready, and run the engine's loop."""
        if self.method == "fork":
            stdlib_private.forget_parents_business()
            for descriptor in self.log_reader:
                os.close(descriptor)
        self.dump.enable()
        orphans.end_with_parent()
        orphans.ignore_interrupts()
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._leave_queues)
        stdlib_private.allow_children()
        share_cpus(self.peers)
        log_ways.send_logs(*self.logs, self.place_of_log)
        failure = worker.prepare(self.bootstrap) if self.bootstrap else None
        if self.ready is not None:
            self.ready.send_bytes(READY if failure is None else REFUSES)
            self.ready.close()
        super().run()

    def place_of_log(self) -> tuple[int, int]:
        """Note that something is being logged; return the call that runs, and its item. Any thread, at any time."""
        self.logged = True
        return self.mark.read().call_id, log_ways.current_item()

    def _leave_queues(self) -> None:
        """Close the queues in what a task forks: it would keep them open beyond the worker's death."""
        for queue in self.queues:
            stdlib_private.close_both_ends(queue)


def run(
    call_id: int, payload: bytes, buffers: Sequence[Any], select: tuple[range, ...] | None, bootstrap: bytes
) -> tuple[bytes, tuple[bytearray, ...], bool]:
    """Run a call in the worker: `parapluie.worker.run`, which marks what it begins; and say whether it logged."""
    process: Any = current_process()
    reply = worker.run(payload, buffers, select, bootstrap, partial(process.mark.begin, call_id))
    logged, process.logged = process.logged, False  # since the reply before, or, for the first one, by the initializer
    return *reply, logged


class SpawnCellProcess(CellProcess, contexts.SpawnProcess):
    """A worker of start method spawn."""

    method = "spawn"


_classes: dict[str, type[CellProcess]] = {"spawn": SpawnCellProcess}

if hasattr(os, "fork"):

    class ForkCellProcess(CellProcess, contexts.ForkProcess):
        """A worker of start method fork."""

        method = "fork"

    class ForkServerCellProcess(CellProcess, contexts.ForkServerProcess):
        """A worker of start method forkserver."""

        method = "forkserver"

    _classes.update(fork=ForkCellProcess, forkserver=ForkServerCellProcess)


class LocalLock:
    """A lock of one process that can be sent along: where it arrives it is a new one.

    At each end of a worker's queues there is one process, so nothing needs to be locked between them. And what is not
    shared cannot be left held by a worker that is killed.
    """

    def __init__(self) -> None:
        lock = threading.Lock()
        self.acquire, self.release = lock.acquire, lock.release

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()

    def __reduce__(self) -> tuple[type[LocalLock], tuple[()]]:
        return LocalLock, ()


class Vacancy:
    """What Pool gets when it replaces a dead worker behind our back: a process that is none, and never ends.

    Without a `sentinel` Pool does not wait for it, as for the threads of a ThreadPool.
    """

    name = "vacancy"
    daemon = False
    pid = exitcode = None

    def start(self) -> None:
        """Do nothing, as all the rest."""

    terminate = kill = start

    def join(self, timeout: float | None = None) -> None:
        """Return at once."""

    def is_alive(self) -> bool:
        return False


class OneWorkerContext(BaseContext):
    """A multiprocessing context for one engine with one worker, of another context's start method."""

    def __init__(self, context: BaseContext, bootstrap: bytes, logs: LogPipe, peers: int = 1) -> None:
        self.context, self.bootstrap, self.logs, self.peers = context, bootstrap, logs, peers
        self.process: CellProcess | None = None
        self.ready: Connection | None = None  # its message says that the worker is ready
        self.dump: DumpFile | None = None
        self.mark: Mark | None = None
        self._queues: list[OneWayQueue] = []

    def get_start_method(self, allow_none: bool = False) -> str:  # noqa: FBT001, FBT002 - as in the base class
        del allow_none
        return self.context.get_start_method()

    def Process(self, *args: Any, **kwargs: Any) -> CellProcess | Vacancy:  # noqa: N802
        if self.process is not None:
            return Vacancy()
        self.process = process = _classes[self.get_start_method()](*args, **kwargs)
        # It travels first: where the guard is missing, the bootstrap may need a main module that is not there.
        self.dump = process.dump = DumpFile()
        self.mark = process.mark = Mark(self.get_start_method())
        process.bootstrap, process.peers = self.bootstrap, self.peers
        process.logs, process.log_reader = (log_settings(), self.logs.end), self.logs.descriptors
        process.queues = stdlib_private.worker_queues(kwargs["args"])
        self.ready, process.ready = Pipe(duplex=False)
        return process

    def Lock(self) -> LocalLock:  # type: ignore[override]  # noqa: N802
        return LocalLock()

    def SimpleQueue(self) -> OneWayQueue:  # noqa: N802
        queue = OneWayQueue(ctx=self)
        self._queues.append(queue)
        return queue

    def close(self) -> None:
        """Close what is left of the pipes and of the process, which has ended."""
        with ExitStack() as stack:
            for queue in self._queues:
                stack.callback(queue.close)
            if self.dump is not None:
                stack.callback(self.dump.close)
            if self.mark is not None:
                stack.callback(self.mark.close)
            if self.ready is not None:
                stack.callback(self.ready.close)
            if self.process is not None and self.process.pid is not None:
                stack.callback(self.process.close)
