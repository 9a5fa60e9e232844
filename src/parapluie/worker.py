"""All that happens in a worker: `run(payload) -> reply`. Imports the standard library only.

    payload ── unpickle ──▶ function and arguments ── call ──▶ value or error ── seal ──▶ segments ──▶ reply

A **payload** is either one pickle of `(function, args, kwargs)`, behind `CAPTURED` if the task's output is wanted, or,
for a chunk of `map`, a header (`CHUNK`), a pickled function, and a pickle of the items: as columns of arguments where
all are plain values, or else as rows that are pickles of their own, `(pickle, first buffer, last buffer)`, so that one
that cannot be read back fails alone. The function's buffers come first.

A **segment** answers one item or several neighbours of the call: a header (`SEGMENT`) and a body. Nothing of the
user's is outside of a body, so what cannot be read back costs its own task only. A **reply** is a header (`REPLY`)
and segments; a chunk may be answered by several replies, each sealed within about a millisecond of work.
"""

from __future__ import annotations

import pickle
import struct
import sys
import threading
from collections import deque
from itertools import islice
from os import close, getpid
from time import perf_counter, time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from parapluie.dumps import DumpFile, LogEnd, LogSettings

REPLY = struct.Struct("<IdI")  # process id, began (seconds since the epoch), number of segments
SEGMENT = struct.Struct("<BIIdQI")  # kind, first item, items, seconds, length of the body, number of buffers
SINGLE = struct.Struct("<IdIBIIdQI")  # the head of a reply with one segment: both headers
CHUNK = struct.Struct("<cQI")  # COLUMNS or ROWS, length of the function's pickle, buffers that are the function's
COLUMNS = b"C"
ROWS = b"R"
CAPTURED = b"O"  # before the pickle of a task whose output is captured
_COLUMNS, _ROWS, _CAPTURED = COLUMNS[0], ROWS[0], CAPTURED[0]
PLAIN = frozenset({int, float, str, bytes, bool, complex, type(None)})  # reading these back cannot fail

# Kinds of segments. What the body is:
VALUE = 0  # a pickled value
VALUES = 1  # a pickled list, one value for each item
ERROR = 2  # a pickled tuple, see `seal_error`
UNSENDABLE = 3  # the result cannot be pickled: a pickled (problem, path, found)
UNREADABLE = 4  # it cannot be unpickled here: the problem as UTF-8; 0 items stand for all of the call
INIT = 5  # the initializer failed: as ERROR
LOGS = 6  # 0 items; log records that had no other way: a pickled list of (item or None, record); the first segment
OUTPUT = 7  # 0 items; what the call printed, as UTF-8; before its answer

LARGE = 1 << 16  # bytes from which on a buffer travels out of band (pickle protocol 5)
SEAL_SECONDS = 0.001  # within a chunk, what is done is sealed at least this often
BLOCK_SECONDS = 0.00025  # and runs in blocks of about this length, between which the worker looks around

_FIRST_INIT, _FIRST_LOGS = bytes([INIT]), bytes([LOGS])

# By process and bootstrap: the executor's serializer, and how its initializer failed, if it did. A process may serve
# several executors, and a forked child, which holds a copy of this, is another process.
_prepared: dict[tuple[int, bytes], tuple[str, tuple[Any, ...] | None]] = {}
_serializer = "auto"  # of the executor whose call runs


# Among how many workers the CPUs are divided that this process may use, if it is a worker: the executors above it have
# so many. A thread that is a worker has a number of its own.
_peers = 1
_thread_peers = threading.local()


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


def cpu_peers() -> int:
    """Return among how many workers, this one included, the CPUs are divided; 1 where nothing is a worker."""
    peers: int = getattr(_thread_peers, "number", _peers)
    return peers


def share_cpus(peers: int, *, thread: bool = False) -> None:
    """Note in a worker, a process or a thread, among how many the CPUs are divided."""
    global _peers  # noqa: PLW0603 - one for the process
    if thread:
        _thread_peers.number = peers
    else:
        _peers = peers
        vars(_thread_peers).clear()  # what forked this process may have been such a thread


# ---- log records ------------------------------------------------------------------------------------------------

_chunks: dict[int, tuple[int, Sequence[Any]]] = {}  # by thread: first item that is not sealed, results from there on
_identity: tuple[int, bytes] | None = None  # of a process that makes executors
_kept_logs: deque[tuple[int | None, bytes]] = deque(maxlen=1000)  # that no call made; they go with the next reply
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
    chunk = _chunks.get(threading.get_ident())
    if chunk is None:
        others = list(_chunks.values())
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


def _keep_logs(made_in: tuple[int, bytes], settings: LogSettings) -> None:
    """Have the log records of this process, an engine's worker, sent with replies; not if no process lies between."""
    global _keeps_logs  # noqa: PLW0603 - one for the process
    if made_in == identity() or _keeps_logs:
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
            _kept_logs.append((None, record))
            return
        records = others[0]  # of a thread that the only task has started
    records.append((current_item(), record))


def _logs_segment(records: list[tuple[int | None, bytes]]) -> bytes:
    while _kept_logs:
        records.append(_kept_logs.popleft())
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


# ---- an executor's calls ----------------------------------------------------------------------------------------


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
        logs = settings.get("logs")
        if logs is not None:
            _keep_logs(*logs)
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


def begin(dump: DumpFile, inherited: Sequence[int], peers: int) -> None:
    """Begin a process that an executor has started itself.

    Args:
        dump: where the fault handler is to write.
        inherited: descriptors that a forked child must not hold; empty if it is not forked.
        peers: among how many workers the CPUs are divided.
    """
    if inherited:
        from parapluie import stdlib_private

        stdlib_private.forget_parents_business()
        for descriptor in inherited:
            close(descriptor)
    dump.enable()
    become_worker()
    share_cpus(peers)


def become_worker() -> None:
    """Have this process end when its parent is gone, in the middle of C code too, and leave Ctrl-C to the parent.

    For processes that an engine starts through multiprocessing: call it in the main thread, once, before the first
    call; many engines take it as their initializer. Does nothing in a process that multiprocessing did not start.
    """
    from parapluie import orphans

    orphans.end_with_parent()
    orphans.ignore_interrupts()


def run(
    payload: bytes,
    buffers: Sequence[Any] = (),
    select: tuple[range, ...] | None = None,
    bootstrap: bytes = b"",
    mark: Callable[[int, int], int] = lambda _item, stop: stop,
) -> tuple[bytes, tuple[bytearray, ...]]:
    """Run a call and return its reply: bytes, and the buffers that the bytes refer to.

    Args:
        payload: `Call.payload`; buffers: `Call.buffers`, which are copied; select: `Call.select`.
        bootstrap: `Host.bootstrap`, where the backend did not hand it to `prepare`; it is run once per process.
        mark: as of `execute`, and called for every call before it is even unpickled.

    Raises nothing but what kills the process: whatever happens is in the reply.
    """
    began = time()
    segments: list[bytes] = []
    kept: list[bytearray] = []

    def emit(segment: bytes, out_of_band: Sequence[memoryview]) -> None:
        segments.append(segment)
        kept.extend(map(bytearray, out_of_band))  # engines pickle the reply again, in band

    logs: list[tuple[int | None, bytes]] = []
    thread = threading.get_ident()
    outer = _keeping.get(thread)  # `serial` runs calls inside of calls
    _keeping[thread] = logs  # before the initializer, which may log
    failure = prepare(bootstrap)
    if failure is not None:
        refuse(failure, emit)
    else:
        first = 0 if select is None else select[0].start
        mark(first, first + 1)
        execute(payload, list(map(bytearray, buffers)), select, emit, mark)  # a task may write to what it is given
    if outer is None:
        del _keeping[thread]
    else:
        _keeping[thread] = outer
    if logs or _kept_logs:
        segments.insert(0, _logs_segment(logs))
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
        if form == _CAPTURED:
            _execute_captured(payload, buffers, emit, start)
            return
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
                break
        _chunks.pop(threading.get_ident(), None)


def _execute_captured(
    payload: bytes | memoryview,
    buffers: Sequence[Any],
    emit: Callable[[bytes, Sequence[memoryview]], None],
    start: float,
) -> None:
    """Run a task and emit what it printed, and then its answer. What cannot be unpickled raises."""
    from parapluie.output import captured

    function, args, kwargs = pickle.loads(memoryview(payload)[1:], buffers=buffers)
    del payload, buffers
    value: Any
    alone = _identity is None or _identity[0] != getpid()  # in the process that submits, others print, too
    with captured(alone=alone) as output:
        try:
            kind, value = VALUE, function(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001 - as in `execute`
            kind, value = ERROR, error
    seconds = perf_counter() - start
    del function, args, kwargs
    body = output.text().encode()
    emit(SEGMENT.pack(OUTPUT, 0, 0, 0.0, len(body), 0) + body, ())
    emit(*seal(kind, value, 0, seconds))


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
    thread = threading.get_ident()
    _chunks[thread] = first, results
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
            _chunks[thread] = first, results
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


def dumps(value: Any, out_of_band: list[memoryview] | None) -> bytes:
    """Pickle what this process sends: by the standard pickle, and where that fails, unless it is strict, by value.

    Args:
        out_of_band: gets the large buffers; None leaves them in band.
    """
    if type(value) in PLAIN:
        return pickle.dumps(value, 5)
    buffers: list[pickle.PickleBuffer] = []
    try:
        data = pickle.dumps(value, 5, buffer_callback=None if out_of_band is None else large_ones(buffers))
        if b"multiprocessing.connection" in data:
            from parapluie import pickling

            pickling.check_pipe_ends(value, data)
    except Exception:
        if _serializer == "pickle":
            raise
        from parapluie import pickling

        buffers.clear()
        found = pickling.dumps_by_value(value, None if out_of_band is None else buffers.append)
        if found is None:
            raise
        data = found
    if out_of_band is not None:
        out_of_band.extend(buffer.raw() for buffer in buffers)  # raises if there are gaps in one
    return data


def seal(kind: int, value: Any, item: int, seconds: float) -> tuple[bytes, Sequence[memoryview]]:
    """Make the segment of one item: of its value, of the exception that it raised, or of why neither can travel."""
    out_of_band: list[memoryview] = []
    try:
        body = pickle.dumps(seal_error(value), 5) if kind == ERROR else dumps(value, out_of_band)
    except Exception as error:  # noqa: BLE001 - whatever pickling raised is explained to the parent
        from parapluie import pickling

        kind, out_of_band = UNSENDABLE, []
        body = pickle.dumps(pickling.explain(value, "result", error))
    except BaseException as error:  # noqa: BLE001 - a result may exit when pickled: then that is the answer
        kind, out_of_band = ERROR, []
        body = pickle.dumps(seal_error(error), 5)
    return SEGMENT.pack(kind, item, 1, seconds, len(body), len(out_of_band)) + body, out_of_band


# What a hostile exception may raise when it is looked at. Not KeyboardInterrupt: that is never its doing.
_ANYTHING = (Exception, SystemExit, GeneratorExit)


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
        except _ANYTHING as problem:
            why = why or describe(problem)
    return None, type_name(error), _text(error), traceback_text, why


def _pickle_error(error: BaseException) -> bytes:
    return pickle.dumps(error, 5)


def _pickle_error_parts(error: BaseException) -> bytes:
    state = {}
    for name, value in vars(error).items():
        try:
            pickle.loads(pickle.dumps(value, 5))
        except _ANYTHING:  # an attribute that cannot travel stays behind; the rest goes
            continue
        state[name] = value
    args = tuple(value if _travels(value) else repr(value) for value in error.args)
    return pickle.dumps(_Parts(type(error), args, state), 5)


def _travels(value: Any) -> bool:
    try:
        pickle.loads(pickle.dumps(value, 5))
    except _ANYTHING:  # the question is whether, not why
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
    except _ANYTHING as problem:  # an exception whose __str__ raises still gets an answer
        return f"{type_name(error)}: its traceback cannot be formatted ({describe(problem)})\n"


def type_name(value: object) -> str:
    """Return the full name of a value's type."""
    cls = type(value)
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except _ANYTHING:  # a hostile __str__
        return "<its __str__ raises>"


def describe(error: BaseException) -> str:
    """Return an exception as one line: type and text."""
    return f"{type(error).__name__}: {_text(error)}"


def join(replies: Sequence[memoryview]) -> bytes:
    """Make one reply of several to the same call."""
    pid, began, _ = REPLY.unpack_from(replies[0])
    count = sum(REPLY.unpack_from(reply)[2] for reply in replies)
    return b"".join((REPLY.pack(pid, began, count), *[reply[REPLY.size :] for reply in replies]))


def pid_of(reply: bytes | memoryview) -> int:
    """Return the id of the process that a reply comes from."""
    return int(REPLY.unpack_from(reply)[0])


def refuses(reply: bytes | memoryview) -> bool:
    """Say whether a reply is the failure of the initializer, perhaps behind what that has logged."""
    kind = reply[REPLY.size : REPLY.size + 1]
    if kind == _FIRST_LOGS:
        return any(kind == INIT for kind, *_ in segments_of(reply))
    return kind == _FIRST_INIT


def split_first(reply: bytes | memoryview) -> tuple[memoryview, bytes]:
    """Return the body of a reply's first segment, which has no buffers, and the reply without it."""
    view = memoryview(reply)
    pid, began, count, _, _, _, _, size, _ = SINGLE.unpack_from(view)
    end = SINGLE.size + size
    return view[SINGLE.size : end], REPLY.pack(pid, began, count - 1) + view[end:]


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
