"""The process that holds shared objects, as its parent sees it.

    this process ── link ──┐
    worker ── link ────────┼── Unix socket, or named pipe on Windows ──▶ server: serve.py
    worker ── link ────────┘
    this process ◀── news: its address, and what became of locks that dead workers held ── server

It belongs to one executor. A socket is in a folder that nobody but this user may enter.
"""

from __future__ import annotations

import logging
import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from parapluie import orphans, stdlib_private
from parapluie.dumps import DumpFile
from parapluie.errors import BackendError, exit_reason
from parapluie.main_guard import told_by_worker
from parapluie.pool_errors import BackendBrokenError
from parapluie.starting import start_lock, starting, wait_for_exit_code
from parapluie.state import serve
from parapluie.state.link import ServerLink, link_to

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.context import BaseContext

_log = logging.getLogger("parapluie")
_END_SECONDS = 2.0  # that a server has to end when it is terminated, and again when it is killed


class StateServer:
    """A server of shared objects, that starts once, ends in bounded time, and never outlives its parent.

    Thread safety: any thread.
    """

    def __init__(self, context: BaseContext) -> None:
        self._context = context
        self._lock = threading.Lock()  # guards the next ones
        self._process: Any = None
        self._link: ServerLink | None = None
        self._closed = False

    def start(self) -> ServerLink:
        """Start the server unless it has been; return the link to it. Blocking: until it listens.

        Raises:
            BackendError: if it has been closed.
            BackendBrokenError: if it ends before it listens.
        """
        with self._lock:
            if self._closed:
                raise BackendError("the server of shared state has been closed with its executor")
            if self._link is None:
                self._link = self._started()
            return self._link

    def _started(self) -> ServerLink:
        stdlib_private.make_temporary_directory()
        method = self._context.get_start_method()
        context: Any = self._context
        file = DumpFile()
        try:
            with start_lock():
                news, theirs = context.Pipe(duplex=False)
                with theirs, starting(method):
                    args = file, theirs, method == "fork"
                    self._process = context.Process(target=serve.main, args=args, name="parapluie-state")
                    self._process.start()
                    orphans.bind(self._process)
            address = self._address(news)
            if address is None:
                missing_guard = told_by_worker(file)
                if missing_guard is not None:
                    raise missing_guard from None
                raise BackendBrokenError(f"the server of shared state {self._end()} before it was ready")
        finally:
            file.close()
        self._reader = threading.Thread(target=self._read, args=(news,), name="parapluie-state", daemon=True)
        self._reader.start()
        return link_to(address)

    def _address(self, news: Connection) -> str | None:
        with suppress(EOFError, OSError):
            address: str = news.recv()
            return address
        self._process.join(_END_SECONDS)
        news.close()
        return None

    def _read(self, news: Connection) -> None:
        """Log what the server tells, and that it died."""
        with news, suppress(EOFError, OSError):
            while True:
                _log.warning("parapluie: %s", news.recv())
        with self._lock:
            if not self._closed:
                self._process.join(_END_SECONDS)
                _log.warning("parapluie: the server of shared state %s; its objects are lost", self._end())

    def _end(self) -> str:
        wait_for_exit_code(self._process)
        return exit_reason(self._process.exitcode)

    @property
    def pid(self) -> int | None:
        """The process id; None if it has not started."""
        pid: int | None = None if self._process is None else self._process.pid
        return pid

    def is_alive(self) -> bool:
        """Say whether the server runs."""
        with self._lock:
            return not self._closed and self._process is not None and bool(self._process.is_alive())

    def close(self) -> None:
        """End the server; what uses its objects raises from then on. May be called again."""
        with self._lock:
            already, self._closed = self._closed, True
            process, link = self._process, self._link
        if already or process is None:
            return
        if link is not None:
            link.close()
            with suppress(OSError):  # nobody cleans up in a process that is terminated; a named pipe goes with it
                os.unlink(link.address)  # noqa: PTH108 - an address, not always a path
        for end in (process.terminate, process.kill):
            end()
            process.join(_END_SECONDS)
            if not process.is_alive():
                break
        if link is not None:
            self._reader.join(_END_SECONDS)
        process.close()
