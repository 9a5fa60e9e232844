"""All that happens in a worker: `run(payload) -> reply`. Imports the standard library only.

    payload ── unpickle ──▶ function and arguments ── call ──▶ value or error ── seal ──▶ segments ──▶ reply

A **payload** is either one pickle of `(function, args, kwargs)`, or, for a chunk of `map`, a header (`CHUNK`), a
pickled function, and a pickle of the items: as columns of arguments where all are plain values, or else as rows that
are pickles of their own, `(pickle, first buffer, last buffer)`, so that one that cannot be read back fails alone. The
function's buffers come first.

A **segment** answers one item or several neighbours of the call: a header (`SEGMENT`) and a body. Nothing of the
user's is outside of a body, so what cannot be read back costs its own task only. A **reply** is a header (`REPLY`)
and segments; a chunk may be answered by several replies, each sealed within about a millisecond of work.
"""

from __future__ import annotations

import pickle
import struct
from itertools import islice
from os import getpid
from time import perf_counter, time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

REPLY = struct.Struct("<IdI")  # process id, began (seconds since the epoch), number of segments
SEGMENT = struct.Struct("<BIIdQI")  # kind, first item, items, seconds, length of the body, number of buffers
SINGLE = struct.Struct("<IdIBIIdQI")  # the head of a reply with one segment: both headers
CHUNK = struct.Struct("<cQI")  # COLUMNS or ROWS, length of the function's pickle, buffers that are the function's
COLUMNS = b"C"
ROWS = b"R"
_COLUMNS, _ROWS = COLUMNS[0], ROWS[0]
PLAIN = frozenset({int, float, str, bytes, bool, complex, type(None)})  # reading these back cannot fail

# Kinds of segments. What the body is:
VALUE = 0  # a pickled value
VALUES = 1  # a pickled list, one value for each item
ERROR = 2  # a pickled tuple, see `seal_error`
UNSENDABLE = 3  # the result cannot be pickled: a pickled (problem, path, found)
UNREADABLE = 4  # it cannot be unpickled here: the problem as UTF-8; 0 items stand for all of the call
INIT = 5  # the initializer failed: as ERROR

LARGE = 1 << 16  # bytes from which on a buffer travels out of band (pickle protocol 5)
SEAL_SECONDS = 0.001  # within a chunk, what is done is sealed at least this often
BLOCK_SECONDS = 0.00025  # and runs in blocks of about this length, between which the worker looks around

# By process and bootstrap: the executor's serializer, and how its initializer failed, if it did. A process may serve
# several executors, and a forked child, which holds a copy of this, is another process.
_prepared: dict[tuple[int, bytes], tuple[str, tuple[Any, ...] | None]] = {}
_serializer = "auto"  # of the executor whose call runs


class Bootstrap(bytes):
    """A bootstrap whose initializer, or what it is given, can only be inherited, as multiprocessing's locks and queues.

    To a process that is just being started it goes whole; anywhere else as bytes, by which `prepare` then finds that
    it has been run. Attribute: inherited: (function, args).
    """

    inherited: tuple[Callable[..., object], tuple[Any, ...]]

    def __reduce__(self) -> tuple[Any, ...]:
        from multiprocessing.context import get_spawning_popen

        return (bytes, (bytes(self),)) if get_spawning_popen() is None else (inherit, (bytes(self), self.inherited))


def inherit(data: bytes, inherited: tuple[Callable[..., object], tuple[Any, ...]]) -> Bootstrap:
    """Make a `Bootstrap`."""
    bootstrap = Bootstrap(data)
    bootstrap.inherited = inherited
    return bootstrap


def prepare(bootstrap: bytes) -> tuple[Any, ...] | None:
    """Get ready for an executor's calls, and run its initializer, once in a process.

    Returns:
        None, or what the initializer raised, sealed by `seal_error`.
    """
    global _serializer  # noqa: PLW0603 - one call runs at a time
    if not bootstrap:  # there is no initializer, and the settings are the default ones
        _serializer = "auto"
        return None
    key = getpid(), bytes(bootstrap)
    if key not in _prepared:
        _prepared[key] = _first_time(bootstrap)
    _serializer, failure = _prepared[key]
    return failure


def _first_time(bootstrap: bytes) -> tuple[str, tuple[Any, ...] | None]:
    serializer, failure = "auto", None
    try:
        settings = pickle.loads(bootstrap)
        serializer = settings["serializer"]
        if isinstance(bootstrap, Bootstrap):
            function, args = bootstrap.inherited
            function(*args)
        elif settings["initializer"] is not None:
            function, args = pickle.loads(settings["initializer"])
            function(*args)
    except BaseException as error:
        import logging

        # The standard executors say it in this place too, and a worker's own log handlers may be set up by now.
        logging.getLogger("concurrent.futures").critical("Exception in initializer:", exc_info=True)
        failure = seal_error(error)
    return serializer, failure


def run(
    payload: bytes,
    buffers: Sequence[Any] = (),
    select: tuple[range, ...] | None = None,
    bootstrap: bytes = b"",
) -> tuple[bytes, tuple[bytearray, ...]]:
    """Run a call and return its reply: bytes, and the buffers that the bytes refer to.

    Args:
        payload: `Call.payload`; buffers: `Call.buffers`, which are copied; select: `Call.select`.
        bootstrap: `Host.bootstrap`, where the backend did not hand it to `prepare`; it is run once per process.

    Raises nothing but what kills the process: whatever happens is in the reply.
    """
    began = time()
    segments: list[bytes] = []
    kept: list[bytearray] = []

    def emit(segment: bytes, out_of_band: Sequence[memoryview]) -> None:
        segments.append(segment)
        kept.extend(map(bytearray, out_of_band))  # engines pickle the reply again, in band

    failure = prepare(bootstrap)
    if failure is not None:
        refuse(failure, emit)
    else:
        execute(payload, list(map(bytearray, buffers)), select, emit)  # a task may write to what it is given
    return b"".join((REPLY.pack(getpid(), began, len(segments)), *segments)), tuple(kept)


def refuse(failure: tuple[Any, ...], emit: Callable[[bytes, Sequence[memoryview]], None]) -> None:
    """Answer a call with the failure of the initializer."""
    body = pickle.dumps(failure)
    emit(SEGMENT.pack(INIT, 0, 0, 0.0, len(body), 0) + body, ())


def execute(
    payload: bytes | memoryview,
    buffers: Sequence[Any],
    select: tuple[range, ...] | None,
    emit: Callable[[bytes, Sequence[memoryview]], None],
    mark: Callable[[int, int], int] = lambda _item, stop: stop,
    *,
    each: bool = False,
) -> None:
    """Run a call and emit its segments as they are sealed.

    Args:
        emit: called with a segment's bytes and its out-of-band buffers; the first items come first.
        mark: called before items of a chunk run, with the first and the last plus one; returns how far they may run,
            which ends the call if it is not beyond the first.
        each: mark and seal every single item, and not blocks of them: any of them may be ended for its time limit.
    """
    start = perf_counter()
    try:
        form = payload[0]  # of a pickle it is another byte
        if form in (_COLUMNS, _ROWS):
            _, length, own = CHUNK.unpack_from(payload)
            view = memoryview(payload)[CHUNK.size :]
            function = pickle.loads(view[:length], buffers=buffers[:own])
            columns = pickle.loads(view[length:])
            if form == _ROWS:
                function, columns = _RowCaller(function, buffers), (columns,)
        else:
            function, args, kwargs = pickle.loads(payload, buffers=buffers)
            columns = None
    except BaseException as error:  # noqa: BLE001 - a task that cannot be read is answered, whatever it raised
        emit(seal_unreadable(error, 0, 0, perf_counter() - start), ())
        return
    del payload, buffers
    if columns is None:
        try:
            value = function(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001 - the task's own failure is its answer, SystemExit included
            del function, args, kwargs  # the seal must not keep alive what the task was given
            emit(*seal(ERROR, error, 0, perf_counter() - start))
        else:
            seconds = perf_counter() - start
            del function, args, kwargs
            emit(*seal(VALUE, value, 0, seconds))
    else:
        for part in select or (range(len(columns[0])),):
            if not _run_chunk(function, columns, part, emit, mark, each=each):
                return


class _UnreadableError(Exception):
    """A row could not be read back; its cause says why."""


class _RowCaller:
    """Calls a function with rows that are still pickled."""

    def __init__(self, function: Callable[..., Any], buffers: Sequence[Any]) -> None:
        self.function, self.buffers = function, buffers

    def __call__(self, row: tuple[bytes, int, int]) -> Any:
        data, first, last = row
        try:
            args = pickle.loads(data, buffers=self.buffers[first:last])
        except BaseException as error:
            raise _UnreadableError from error
        return self.function(*args)


def _run_chunk(
    function: Callable[..., Any],
    columns: Sequence[Sequence[Any]],
    part: range,
    emit: Callable[[bytes, Sequence[memoryview]], None],
    mark: Callable[[int, int], int],
    *,
    each: bool,
) -> bool:
    """Run neighbouring items of a chunk in blocks, at the speed of C, and seal what is done every millisecond.

    A block that raises has run up to the item that raised: the length of the results tells which one it is, and the
    iterator goes on behind it. False if a mark was refused; then what is done is sealed, too.
    """
    calls = map(function, *(column[part.start : part.stop] for column in columns))
    position = first = part.start
    results: list[Any] = []
    block = 1
    sealed = start = perf_counter()
    while position < part.stop:
        wanted = min(1 if each else block, part.stop - position)
        wanted = mark(position, position + wanted) - position
        if wanted < 1:
            _emit_values(results, first, perf_counter() - sealed, emit)
            return False
        failure = None
        try:
            results.extend(islice(calls, wanted))
        except BaseException as error:  # noqa: BLE001 - an item's own failure is its answer
            failure = error
        now = perf_counter()
        done = first + len(results)
        if failure is None and done < position + wanted:
            failure = StopIteration()  # what the function raised; the iterator took it for its own end
        position = done if failure is None else done + 1
        # With a time limit for each item, one that overruns must not take its neighbours' results along.
        if failure is not None or each or now - sealed >= SEAL_SECONDS or position >= part.stop:
            _emit_values(results, first, now - sealed, emit)
            if failure is not None:
                emit(*_seal_failure(failure, done, now - start))
            first, results, sealed = position, [], perf_counter()
        if now - start < BLOCK_SECONDS:
            block *= 2
        elif now - start > 2 * BLOCK_SECONDS:
            block = max(1, block // 2)
        start = perf_counter()
    return True


def _emit_values(
    results: list[Any], first: int, seconds: float, emit: Callable[[bytes, Sequence[memoryview]], None]
) -> None:
    """Seal neighbouring results: plain ones as one segment, others one by one, since each may fail to travel."""
    if not results:
        return
    if PLAIN.issuperset(map(type, results)):
        body = pickle.dumps(results, 5)
        emit(SEGMENT.pack(VALUES, first, len(results), seconds, len(body), 0) + body, ())
        return
    for index, value in enumerate(results):
        emit(*seal(VALUE, value, first + index, seconds / len(results)))


def _seal_failure(failure: BaseException, item: int, seconds: float) -> tuple[bytes, Sequence[memoryview]]:
    if type(failure) is _UnreadableError and failure.__cause__ is not None:
        return seal_unreadable(failure.__cause__, item, 1, seconds), ()
    return seal(ERROR, failure, item, seconds)


def seal_unreadable(error: BaseException, item: int, items: int, seconds: float) -> bytes:
    """Make the segment that answers what could not be unpickled here."""
    body = f"{describe(error)}\n{format_error(error)}".encode("utf-8", "replace")
    return SEGMENT.pack(UNREADABLE, item, items, seconds, len(body), 0) + body


def large_ones(buffers: list[pickle.PickleBuffer]) -> Callable[[pickle.PickleBuffer], bool]:
    """Return a `buffer_callback` that collects large buffers, and leaves small ones in band."""

    def is_small(buffer: pickle.PickleBuffer) -> bool:
        if memoryview(buffer).nbytes < LARGE:
            return True
        buffers.append(buffer)
        return False

    return is_small


def _dumps(value: Any, out_of_band: list[memoryview]) -> bytes:
    """Pickle a result: by the standard pickle, and where that fails, unless it was asked to be strict, by value."""
    if type(value) in PLAIN:
        return pickle.dumps(value, 5)
    buffers: list[pickle.PickleBuffer] = []
    try:
        data = pickle.dumps(value, 5, buffer_callback=large_ones(buffers))
    except Exception:
        if _serializer == "pickle":
            raise
        from parapluie import pickling

        buffers.clear()
        found = pickling.dumps_by_value(value, buffers.append)
        if found is None:
            raise
        data = found
    out_of_band.extend(buffer.raw() for buffer in buffers)  # raises if there are gaps in one
    return data


def seal(kind: int, value: Any, item: int, seconds: float) -> tuple[bytes, Sequence[memoryview]]:
    """Make the segment of one item: of its value, of the exception that it raised, or of why neither can travel."""
    out_of_band: list[memoryview] = []
    try:
        body = pickle.dumps(seal_error(value), 5) if kind == ERROR else _dumps(value, out_of_band)
    except Exception as error:  # noqa: BLE001 - whatever pickling raised is explained to the parent
        from parapluie import pickling

        kind, out_of_band = UNSENDABLE, []
        body = pickle.dumps(pickling.explain(value, "result", error))
    except BaseException as error:  # noqa: BLE001 - a result may exit when pickled: then that is the answer
        kind, out_of_band = ERROR, []
        body = pickle.dumps(seal_error(error), 5)
    return SEGMENT.pack(kind, item, 1, seconds, len(body), len(out_of_band)) + body, out_of_band


def seal_error(error: BaseException) -> tuple[Any, ...]:
    """Turn an exception into plain data that surely survives: (pickled or None, type name, text, traceback, why).

    The exception is pickled and read back here, where a failure harms nobody: as it is; or else by its class,
    arguments and those attributes that survive, without calling `__init__`.
    """
    traceback_text = format_error(error)
    why = ""
    for attempt in (_pickle_error, _pickle_error_parts):
        try:
            data = attempt(error)
            if type(pickle.loads(data)) is type(error):
                return data, type_name(error), _text(error), traceback_text, ""
            why = why or "it comes back as another type"
        except Exception as problem:  # noqa: BLE001 - hostile exceptions raise anything
            why = why or describe(problem)
    return None, type_name(error), _text(error), traceback_text, why


def _pickle_error(error: BaseException) -> bytes:
    return pickle.dumps(error, 5)


def _pickle_error_parts(error: BaseException) -> bytes:
    state = {}
    for name, value in vars(error).items():
        try:
            pickle.loads(pickle.dumps(value, 5))
        except Exception:  # noqa: BLE001, S112 - an attribute that cannot travel stays behind; the rest goes
            continue
        state[name] = value
    args = tuple(value if _travels(value) else repr(value) for value in error.args)
    return pickle.dumps(_Parts(type(error), args, state), 5)


def _travels(value: Any) -> bool:
    try:
        pickle.loads(pickle.dumps(value, 5))
    except Exception:  # noqa: BLE001 - the question is whether, not why
        return False
    return True


class _Parts:
    """Pickles as a call of `rebuild_error`."""

    def __init__(self, *parts: Any) -> None:
        self.parts = parts

    def __reduce__(self) -> tuple[Any, ...]:
        return rebuild_error, self.parts


def rebuild_error(cls: type[BaseException], args: tuple[Any, ...], state: dict[str, Any]) -> BaseException:
    """Make an exception whose `__init__` cannot be called with its `args`."""
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


def format_error(error: BaseException) -> str:
    """Return the traceback as text, with the chain of causes; without our own frames at its top."""
    import traceback

    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    try:
        return "".join(traceback.format_exception(type(error), error, trace))
    except Exception as problem:  # noqa: BLE001 - an exception whose __str__ raises still gets an answer
        return f"{type_name(error)}: its traceback cannot be formatted ({describe(problem)})\n"


def type_name(value: object) -> str:
    """Return the full name of a value's type."""
    cls = type(value)
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - a hostile __str__
        return "<its __str__ raises>"


def describe(error: BaseException) -> str:
    """Return an exception as one line: type and text."""
    return f"{type(error).__name__}: {_text(error)}"


def join(replies: Sequence[memoryview]) -> bytes:
    """Make one reply of several to the same call."""
    pid, began, _ = REPLY.unpack_from(replies[0])
    count = sum(REPLY.unpack_from(reply)[2] for reply in replies)
    return b"".join((REPLY.pack(pid, began, count), *[reply[REPLY.size :] for reply in replies]))


def is_empty(reply: bytes | memoryview) -> bool:
    """Say whether a reply has no segments."""
    return bool(REPLY.unpack_from(reply)[2] == 0)


def segments_of(reply: bytes | memoryview) -> Iterator[tuple[int, int, int, float, memoryview, int]]:
    """Read a reply's segments: kind, first item, items, seconds, body, number of buffers."""
    view = memoryview(reply)
    _, _, count = REPLY.unpack_from(view)
    offset = REPLY.size
    for _ in range(count):
        kind, first, items, seconds, size, buffers = SEGMENT.unpack_from(view, offset)
        offset += SEGMENT.size
        yield kind, first, items, seconds, view[offset : offset + size], buffers
        offset += size
