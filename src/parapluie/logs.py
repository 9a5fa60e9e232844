"""Log records of workers, in the parent: from which level on it wants them, and what it makes of those that come.

    worker: worker_logs.py ── pieces ──▶ one pipe for each executor ──▶ drain ──▶ host.logged ──▶ handlers

What is written to a pipe in pieces of at most PIPE_BUF bytes goes in whole or not at all, whoever else writes to it,
and whoever dies. So there is one pipe for all workers, with no lock, and what a worker had written before its death is
there to be read. Pieces of a record that was never finished are dropped with the worker.

On Windows it is a pipe of messages, which are as whole, and a thread reads them.
"""

from __future__ import annotations

import logging
import os
import pickle
import sys
import threading

from parapluie.dumps import LogEnd
from parapluie.exits import may_be_the_programs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from parapluie.backend import Host
    from parapluie.dumps import LogSettings

_log = logging.getLogger("parapluie")
_READ_SIZE = 1 << 16
_MARK_SECONDS = 5.0  # that who waits for the thread that reads (on Windows) has, at most
_MOST_BYTES = 1 << 16  # that a pipe holds: what was in it before is read then
_NEVER = 1 << 30  # a level that no record has


# ---- what is wanted ---------------------------------------------------------------------------------------------


def log_settings() -> LogSettings:
    """Return what this process logs now, for a worker that is being started.

    That is what `logging.disable` was told, and by the name of each logger its own level, whether it is disabled, and
    from which level on some handler takes what it passes on. The root's name is empty; loggers that are like those
    above them are left out.
    """
    manager = logging.root.manager
    found = {"": _settings_of(logging.root)}
    for name, logger in list(manager.loggerDict.items()):
        if isinstance(logger, logging.Logger) and (
            logger.level or logger.handlers or logger.disabled or not logger.propagate
        ):
            found[name] = _settings_of(logger)
    return manager.disable, found


def _settings_of(logger: logging.Logger) -> tuple[int, bool, int]:
    return logger.level, logger.disabled, _floor(logger)


def _floor(logger: logging.Logger) -> int:
    """Return the lowest level that a handler takes of what comes from a logger."""
    handlers: list[logging.Handler] = []
    current: logging.Logger | None = logger
    while current is not None:
        handlers += current.handlers
        current = current.parent if current.propagate else None
    levels = [handler.level for handler in handlers if not isinstance(handler, logging.NullHandler)]
    if levels:
        return min(levels)
    # Another thread, that of the Windows pipe, may be importing the module just now: then it sends nothing yet.
    are_sent = getattr(sys.modules.get("parapluie.worker_logs"), "are_sent", None)
    if are_sent is not None and are_sent():  # it is a worker, and passes on
        return logging.NOTSET
    return _NEVER if handlers or logging.lastResort is None else logging.lastResort.level


# ---- what comes -------------------------------------------------------------------------------------------------


def handle(data: bytes, *, task: int | str | None, attempt: int | None, worker: str) -> None:
    """Hand a record that a worker made to the logger of its name, if that wants it. Never raises."""
    try:
        core, more = pickle.loads(data)
        record = logging.makeLogRecord({**core, **_readable(more)})
        if not hasattr(record, "parapluie_worker"):  # else it comes from a worker of that worker
            record.parapluie_task, record.parapluie_attempt, record.parapluie_worker = task, attempt, worker
        logger = logging.getLogger(record.name)
        if logger.isEnabledFor(record.levelno):
            logger.handle(record)
    except BaseException as error:  # a filter of the user's may raise, in a thread that has other work to do
        if may_be_the_programs(error):
            raise
        _log.exception("parapluie: a log record of worker %s could not be handled", worker)


def _readable(more: Iterable[tuple[str, bytes]]) -> dict[str, Any]:
    """Read what was added to a record by `extra=`; what cannot be read here is left out."""
    found = {}
    for name, data in more:
        try:
            found[name] = pickle.loads(data)
        except BaseException as error:  # a class that only the worker has: the record is worth more
            if may_be_the_programs(error):
                raise
            found[name] = f"<{name} cannot be read in this process>"
    return found


class _Records:
    """Puts the pieces of records together, and tells the host of each that is whole."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._parts: dict[tuple[int, int], bytes] = {}  # of records that have not come to their end
        self._rest = b""

    def take(self, data: bytes) -> None:
        """Take what was read from the pipe."""
        from parapluie.worker_logs import CHUNK, HEAD  # a program whose workers log nothing does without

        data = self._rest + data
        at, end = 0, len(data)
        while end - at >= CHUNK.size:
            pid, serial, last, size = CHUNK.unpack_from(data, at)
            stop = at + CHUNK.size + size
            if stop > end:
                break
            record = self._parts.pop((pid, serial), b"") + data[at + CHUNK.size : stop]
            at = stop
            if last:
                call_id, item, worker = HEAD.unpack_from(record)
                self._host.logged(call_id, item, worker, record[HEAD.size :])
            else:
                self._parts[pid, serial] = record
        self._rest = data[at:]

    def forget(self, pid: int) -> None:
        """Drop what a dead worker had only begun to write."""
        for key in [key for key in self._parts if key[0] == pid]:
            del self._parts[key]


class LogPipe:
    """The pipe through which the workers of one executor send their records.

    Attributes:
        end: what each worker gets as it is started.
        reader: the descriptor to wait for before `drain`; None where nobody has to.
        descriptors: those that a forked worker must not hold.

    Thread safety: any thread. The records of each worker are told in their order, one at a time.
    """

    reader: int | None = None
    descriptors: tuple[int, ...] = ()
    end: LogEnd

    def __init__(self, host: Host) -> None:
        self._lock = threading.RLock()  # guards all below; held while records are told, so that they keep their order
        self._records = _Records(host)
        self._closed = False
        self.reader, self._writer = self._read_fd, write = os.pipe()
        os.set_blocking(self._read_fd, False)
        os.set_blocking(write, False)  # a worker that nobody reads from goes on without
        self.end = LogEnd(write)
        self.descriptors = (self._read_fd,)

    def drain(self) -> None:
        """Tell the host of all records that have come, but not of more and more that come meanwhile."""
        left = _MOST_BYTES
        with self._lock:
            while left > 0 and not self._closed and (data := self._read()):
                left -= len(data)
                self._records.take(data)

    def _read(self) -> bytes:
        try:
            return os.read(self._read_fd, _READ_SIZE)
        except BlockingIOError:
            return b""

    def worker_died(self, pid: int) -> None:
        """Tell the host of what a dead worker has written, and drop what it had only begun to write."""
        self.drain()
        with self._lock:
            self._records.forget(pid)

    def close(self) -> None:
        """Tell of what is left, and close the pipe. May be called again."""
        self.drain()
        with self._lock:
            if not self._closed:
                self._closed = True
                os.close(self._read_fd)
                os.close(self._writer)


class _WindowsPipe(LogPipe):
    """As `LogPipe`: of messages, and a thread alone reads them. What waits for other things cannot wait for them."""

    def __init__(self, host: Host) -> None:
        from multiprocessing import Pipe

        self._records = _Records(host)  # the thread's, as is the end that it reads from
        self._dead: list[int] = []  # workers, of which it has to forget what they had not finished
        self._writing = threading.RLock()  # guards those below, and who writes from here
        self._marks: dict[int, threading.Event] = {}  # set when the thread has come to what is marked
        self._closed = False
        self._reading, self._sending = Pipe(duplex=False)
        self.end = LogEnd(self._sending.fileno())
        self._thread = threading.Thread(target=self._run, name="parapluie-logs", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        from parapluie.worker_logs import CHUNK

        while True:
            data = self._reading.recv_bytes()
            pid, number, last, _ = CHUNK.unpack_from(data)
            if pid:
                self._records.take(data)
                continue
            while self._dead:
                self._records.forget(self._dead.pop())
            self._marks.pop(number).set()
            if last:
                return

    def drain(self) -> None:
        """Wait until the thread has told the host of all that has come."""
        self._wait_for_mark(last=False)

    def _wait_for_mark(self, *, last: bool) -> None:
        from parapluie.worker_logs import CHUNK

        if threading.current_thread() is self._thread:  # a handler ends the executor
            return
        passed = threading.Event()
        with self._writing:
            if self._closed:
                return
            self._closed = last
            self._marks[id(passed) & 0xFFFFFFFF] = passed
            self._sending.send_bytes(CHUNK.pack(0, id(passed) & 0xFFFFFFFF, last, 0))
        passed.wait(_MARK_SECONDS)  # a handler may wait for us

    def worker_died(self, pid: int) -> None:
        self._dead.append(pid)
        self.drain()

    def close(self) -> None:
        if self._closed:
            return
        self._wait_for_mark(last=True)
        if self._closed:
            self._thread.join()
            self._reading.close()
            self._sending.close()


def log_pipe(host: Host) -> LogPipe:
    """Make the pipe of an executor's workers."""
    return _WindowsPipe(host) if sys.platform == "win32" else LogPipe(host)
