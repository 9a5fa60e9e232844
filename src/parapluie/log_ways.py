"""How log records leave a worker: by a pipe, where the executor has started the process, or else with the replies.

What writes them is `worker_logs.py`, which needs logging. That takes long to import, so nothing happens here until
somebody has imported it.
"""

from __future__ import annotations

import pickle
import sys
import threading
from collections import deque
from os import getpid

from parapluie.call_format import LOGS, SEGMENT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from parapluie.dumps import LogEnd, LogSettings

# Chunks that run, by thread: the first item that is not sealed, and the results from there on.
chunks: dict[int, tuple[int, Sequence[Any]]] = {}
_identity: tuple[int, bytes] | None = None  # of a process that makes executors
_kept: deque[tuple[int | None, bytes]] = deque(maxlen=1000)  # that no call made; they go with the next reply
_keeping: dict[int, list[tuple[int | None, bytes]]] = {}  # by thread that runs a call: its records
_keeps_logs = False  # `run` is to send them with its reply


def send_logs(settings: LogSettings, end: LogEnd, place: Callable[[], tuple[int, int]]) -> None:
    """Have this process, a worker that was started for nothing else, send its log records through a pipe.

    Args:
        settings: what the parent logs. place: returns the number of the call that runs, and its item.

    What never logs pays nothing for it: nothing happens until logging has been imported.
    """

    def take_over() -> None:
        from parapluie import worker_logs

        worker_logs.take_over(settings, worker_logs.Channel(end, place).send, ours=True)

    _after_import("logging", take_over)


def current_item() -> int:
    """Return the item of a chunk that runs in this thread, or else in the only one that runs any; 0 outside of one."""
    chunk = chunks.get(threading.get_ident())
    if chunk is None:
        others = list(chunks.values())
        if len(others) != 1:
            return 0
        chunk = others[0]
    first, results = chunk
    return first + len(results)  # a block of items appends its results one by one


def identity() -> tuple[int, bytes]:
    """Return what tells this process from every other one, also from those that are forked from it."""
    global _identity  # noqa: PLW0603 - one for the process
    if _identity is None or _identity[0] != getpid():
        import os

        _identity = getpid(), os.urandom(8)
    return _identity


def makes_executors() -> bool:
    """Say whether this process makes executors, and so may do more than run calls."""
    return _identity is not None and _identity[0] == getpid()


def keep_logs(made_in: tuple[int, bytes], settings: LogSettings) -> None:
    """Have the log records of this process, an engine's worker, sent with replies; not if no process lies between."""
    global _keeps_logs  # noqa: PLW0603 - one for the process
    if _keeps_logs or (makes_executors() and made_in == _identity):
        return
    _keeps_logs = True

    def take_over() -> None:
        from parapluie import worker_logs

        if not worker_logs.are_sent():
            worker_logs.take_over(settings, _keep_log, ours=False)

    _after_import("logging", take_over)


def _keep_log(record: bytes) -> None:
    records = _keeping.get(threading.get_ident())
    if records is None:
        others = list(_keeping.values())
        if len(others) != 1:
            _kept.append((None, record))
            return
        records = others[0]  # of a thread that the only task has started
    records.append((current_item(), record))


def begin_call() -> list[tuple[int | None, bytes]] | None:
    """Keep the records of this thread for the call that it runs now; return what `end_call` wants."""
    thread = threading.get_ident()
    outer = _keeping.get(thread)  # `serial` runs calls inside of calls
    _keeping[thread] = []
    return outer


def end_call(outer: list[tuple[int | None, bytes]] | None) -> bytes | None:
    """Return the segment with the records of a call, and of what no call made; None if there are none."""
    thread = threading.get_ident()
    records = _keeping.pop(thread)
    if outer is not None:
        _keeping[thread] = outer
    if not records and not _kept:
        return None
    while _kept:
        records.append(_kept.popleft())
    body = pickle.dumps(records)
    return SEGMENT.pack(LOGS, 0, 0, 0.0, len(body), 0) + body


def _after_import(name: str, function: Callable[[], None]) -> None:
    """Call a function once a module has been imported: now, or right behind its import."""
    if name in sys.modules:
        function()
    else:
        sys.meta_path.insert(0, _Finder(name, function))


class _Finder:
    """Stands before the finders of modules and finds none: it sees that one is looked for, and the others find it."""

    def __init__(self, name: str, function: Callable[[], None]) -> None:
        self._name, self._function = name, function

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != self._name:
            return None
        sys.meta_path[:] = [finder for finder in sys.meta_path if finder is not self]
        for finder in sys.meta_path:
            spec = finder.find_spec(name, path, target)
            if spec is not None and spec.loader is not None:
                loader: Any = _Loader(spec.loader, self._function)
                spec.loader = loader
                return spec
        return None


class _Loader:
    """Loads a module as its own loader does, and calls a function behind that."""

    def __init__(self, loader: Any, function: Callable[[], None]) -> None:
        self._loader, self._function = loader, function

    def create_module(self, spec: Any) -> Any:
        return self._loader.create_module(spec)

    def exec_module(self, module: Any) -> None:
        module.__loader__ = module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._function()
