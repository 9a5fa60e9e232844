"""Log records, in the worker that makes them: on their way to the parent. Imported only where logging is.

    logger.info(…) ─▶ Logger.callHandlers ─┬─ there are handlers that the program added in this worker ─▶ they alone
                                           └─ there are none ─▶ pack ─▶ channel ─▶ parent (logs.py), or the reply

What the worker has of handlers when it begins is a copy of the parent's: it was forked with them, or has imported the
main module that adds them. They are taken down, or else the same record would be written twice.
"""

from __future__ import annotations

import itertools
import logging
import os
import pickle
import struct
import sys
import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from parapluie.dumps import LogEnd, LogSettings

    Place = Callable[[], tuple[int, int]]

CHUNK = struct.Struct("<QIBH")  # process id, serial number of the record, whether this is its end, bytes that follow
HEAD = struct.Struct("<QIQ")  # of a record: call, item, process id of the worker
_WAIT_SECONDS = 10.0  # for a parent that does not read; then the record is dropped, and those after it at once
_PLAIN = frozenset({int, float, str, bytes, bool, complex, type(None)})
_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}

_settings: dict[str, tuple[int, bool, int]] = {}  # the parent's, see `dumps.LogSettings`
_floors: dict[str, int] = {}  # found in there, by logger
_send: Callable[[bytes], None] | None = None
_muted: list[logging.Handler] = []  # kept, since what collects one may close what it writes to
_call_handlers, _basic_config = logging.Logger.callHandlers, logging.basicConfig


def are_sent() -> bool:
    """Say whether this process sends its records to a parent."""
    return _send is not None


def take_over(settings: LogSettings, send: Callable[[bytes], None], *, ours: bool) -> None:
    """Have what this process logs, and no handler of its own takes, sent; at the parent's levels.

    Args:
        send: takes a record that is packed; from any thread, and in the midst of any line of the main one.
        ours: the process was started for nothing else, so that all that is set up in it is a copy of the parent's.
    """
    global _send  # noqa: PLW0603 - one for the process
    disable, levels = settings
    root = logging.root
    if ours:
        loggers = [root, *root.manager.loggerDict.values()]
        for logger in loggers:
            if isinstance(logger, logging.Logger):
                _muted.extend(logger.handlers)
                logger.handlers = []
    if ours or not root.handlers:  # else somebody has set it up
        logging.disable(disable)
        for name, (level, disabled, _) in levels.items():
            logger = logging.getLogger(name)
            logger.setLevel(level)
            logger.disabled = disabled
    _settings.clear()
    _settings.update(levels)
    _floors.clear()
    _send = send
    logging.Logger.callHandlers = _handle_or_send  # type: ignore[method-assign, assignment]
    logging.basicConfig = _configure_if_asked


def _handle_or_send(logger: logging.Logger, record: logging.LogRecord) -> None:
    if _is_taken(logger, record.levelno):
        _call_handlers(logger, record)
    elif _send is not None and record.levelno >= _floor(logger.name):
        _send(pack(record))


def _configure_if_asked(**kwargs: Any) -> None:
    """Do what `logging.basicConfig` does, unless `logging.warning` and the like call it, for want of a handler."""
    if sys._getframe(1).f_globals is not vars(logging):  # noqa: SLF001 - public in all but name
        _basic_config(**kwargs)


def _is_taken(logger: logging.Logger, level: int) -> bool:
    """Say whether a handler in this process takes records of a level."""
    current: logging.Logger | None = logger
    while current is not None:
        for handler in current.handlers:
            if level >= handler.level and not isinstance(handler, logging.NullHandler):
                return True
        current = current.parent if current.propagate else None
    return False


def _floor(name: str) -> int:
    """Return from which level on a handler of the parent takes what comes from a logger."""
    found = _floors.get(name)
    if found is None:
        known = "" if name == "root" else name
        while known and known not in _settings:
            known = known.rpartition(".")[0]
        found = _floors[name] = _settings[known][2] if known in _settings else 0
    return found


def pack(record: logging.LogRecord) -> bytes:
    """Make bytes of a record that can surely be read: the message is formatted, and the traceback is text.

    Unlike `QueueHandler` it leaves a message with plain arguments as it is, since some handlers count by it.
    """
    fields = dict(vars(record))
    if not _is_plain(record.args):
        fields["msg"], fields["args"] = _message(record), None
    elif type(record.msg) is not str:
        fields["msg"] = _message(record)
    if record.exc_info and not record.exc_text:
        fields["exc_text"] = logging.Formatter().formatException(_exc_info(record.exc_info))
    fields["exc_info"] = None
    more = []
    for name, value in list(fields.items()):
        if name not in _FIELDS and type(value) not in _PLAIN:
            more.append((name, _dumps(fields.pop(name))))
    try:
        return pickle.dumps((fields, more), 5)
    except Exception:  # noqa: BLE001 - a field of the standard's is of no standard type
        return pickle.dumps(({name: _plain(value) for name, value in fields.items()}, more), 5)


def _is_plain(args: Any) -> bool:
    if type(args) is dict:
        args = (*args, *args.values())
    return not args or (type(args) is tuple and _PLAIN.issuperset(map(type, args)))


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as error:  # noqa: BLE001 - a handler here would say so on stderr; let those of the parent say it
        return f"{record.msg!r} cannot be formatted with {record.args!r}: {type(error).__name__}: {error}"


def _exc_info(info: Any) -> Any:
    if isinstance(info, BaseException):
        return type(info), info, info.__traceback__
    return info if isinstance(info, tuple) else sys.exc_info()


def _dumps(value: Any) -> bytes:
    try:
        data = pickle.dumps(value, 5)
        pickle.loads(data)
    except Exception:  # noqa: BLE001 - what cannot travel is shown
        return pickle.dumps(repr(value), 5)
    return data


def _plain(value: Any) -> Any:
    return value if type(value) in _PLAIN else repr(value)


class Channel:
    """The worker's end of the pipe to the parent.

    There is no lock: threads, signal handlers and what a task forks may all be in `send` at a time. A piece goes in
    whole or not at all, and carries the number of its record.

    Args:
        place: returns the number of the call that runs, and its item.
    """

    def __init__(self, end: LogEnd, place: Place) -> None:
        self._place, self._pid = place, os.getpid()
        self._serials = itertools.count(1)
        self._dropped = 0
        self._pipe = _Pipe(end, place)

    def send(self, record: bytes) -> None:
        """Send a record; it is dropped if nobody reads for long, or if the parent is gone."""
        serial, pid = next(self._serials) & 0xFFFFFFFF, os.getpid()
        data = HEAD.pack(*self._place(), self._pid) + record
        room = self._pipe.most - CHUNK.size
        for at in range(0, len(data), room):
            piece = data[at : at + room]
            last = at + room >= len(data)
            if not self._pipe.write(CHUNK.pack(pid, serial, last, len(piece)) + piece):
                self._dropped += 1
                return
        if self._dropped:
            count, self._dropped = self._dropped, 0
            logging.getLogger("parapluie").warning(
                "parapluie: %d log records of worker process %d were dropped, since the parent did not read them",
                count, pid,
            )  # fmt: skip


# ---- the pipe, as the platform has it ---------------------------------------------------------------------------

if sys.platform == "win32":
    from multiprocessing.connection import PipeConnection

    class _Pipe:
        """A pipe of messages, which waits for room. Attributes: most: bytes that are written in one piece."""

        most = 1 << 13

        def __init__(self, end: LogEnd, place: Place) -> None:
            del place
            self._lock = threading.RLock()  # no signal handler comes into the midst of a write here
            self._connection: Any = PipeConnection(end.fd, readable=False)

        def write(self, piece: bytes) -> bool:
            """Write a piece; False if that was in vain."""
            try:
                with self._lock:
                    self._connection.send_bytes(piece)
            except OSError:
                return False
            return True

else:
    import select

    class _Pipe:
        """A pipe that does not block. Attributes: most: bytes that are written in one piece."""

        most = select.PIPE_BUF

        def __init__(self, end: LogEnd, place: Place) -> None:
            # What a task forks may log as well, and cannot say so here.
            os.register_at_fork(before=place)
            self._fd = end.fd
            self._stuck = False  # nobody has read for long

        def write(self, piece: bytes) -> bool:
            until = time.monotonic() + _WAIT_SECONDS
            while True:
                try:
                    os.write(self._fd, piece)
                except BlockingIOError:
                    if self._stuck or not self._wait_for_room(until):
                        self._stuck = True
                        return False
                except OSError:  # the parent is gone, or a task has closed all descriptors
                    return False
                else:
                    self._stuck = False
                    return True

        def _wait_for_room(self, until: float) -> bool:
            left = until - time.monotonic()
            if left <= 0:
                return False
            poller = select.poll()
            poller.register(self._fd, select.POLLOUT)
            if poller.poll(1000 * left):
                time.sleep(0.0001)  # there was room for something, and others want it, too
            return True
