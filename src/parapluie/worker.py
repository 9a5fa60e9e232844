"""All that happens in a worker: `run(payload) -> reply`. Imports the standard library only.

    payload ── unpickle ──▶ function and arguments ── call ──▶ value or error ── seal ──▶ segments ──▶ reply

What a payload and a reply are made of says `call_format.py`; `answers.py` makes the segments.
"""

from __future__ import annotations

import pickle
import threading
from itertools import islice
from os import close, getpid
from time import perf_counter, time

from parapluie import answers, log_ways
from parapluie.call_format import (
    CAPTURED,
    CHUNK,
    COLUMNS,
    ERROR,
    INIT,
    OUTPUT,
    PLAIN,
    REPLY,
    ROWS,
    SEGMENT,
    VALUE,
    VALUES,
)
from parapluie.cpu_peers import share_cpus

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from parapluie.dumps import DumpFile

SEAL_SECONDS = 0.001  # within a chunk, what is done is sealed at least this often
BLOCK_SECONDS = 0.00025  # and runs in blocks of about this length, between which the worker looks around

_COLUMNS, _ROWS, _CAPTURED = COLUMNS[0], ROWS[0], CAPTURED[0]

# By process and bootstrap: the executor's serializer, and how its initializer failed, if it did. A process may serve
# several executors, and a forked child, which holds a copy of this, is another process.
_prepared: dict[tuple[int, bytes], tuple[str, tuple[Any, ...] | None]] = {}


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
        None, or what the initializer raised, sealed by `answers.seal_error`.
    """
    if not bootstrap:  # there is no initializer, and the settings are the default ones
        answers.serializer = "auto"
        return None
    key = getpid(), bytes(bootstrap)
    if key not in _prepared:
        _prepared[key] = _first_time(bootstrap)
    answers.serializer, failure = _prepared[key]
    return failure


def _first_time(bootstrap: bytes) -> tuple[str, tuple[Any, ...] | None]:
    serializer, failure = "auto", None
    try:
        settings = pickle.loads(bootstrap)
        serializer = settings["serializer"]
        logs = settings.get("logs")
        if logs is not None:
            log_ways.keep_logs(*logs)
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
        failure = answers.seal_error(error)
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

    outer = log_ways.begin_call()  # before the initializer, which may log
    failure = prepare(bootstrap)
    if failure is not None:
        refuse(failure, emit)
    else:
        first = 0 if select is None else select[0].start
        mark(first, first + 1)
        execute(payload, list(map(bytearray, buffers)), select, emit, mark)  # a task may write to what it is given
    logs = log_ways.end_call(outer)
    if logs is not None:
        segments.insert(0, logs)
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
        emit(answers.seal_unreadable(error, 0, 0, perf_counter() - start), ())
        return
    del payload, buffers
    if columns is None:
        try:
            value = function(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001 - the task's own failure is its answer, SystemExit included
            del function, args, kwargs  # the seal must not keep alive what the task was given
            emit(*answers.seal(ERROR, error, 0, perf_counter() - start))
        else:
            seconds = perf_counter() - start
            del function, args, kwargs
            emit(*answers.seal(VALUE, value, 0, seconds))
    else:
        for part in select or (range(len(columns[0])),):
            if not _run_chunk(function, columns, part, emit, mark, each=each):
                break
        log_ways.chunks.pop(threading.get_ident(), None)


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
    alone = not log_ways.makes_executors()  # in the process that submits, others print, too
    with captured(alone=alone) as output:
        try:
            kind, value = VALUE, function(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001 - as in `execute`
            kind, value = ERROR, error
    seconds = perf_counter() - start
    del function, args, kwargs
    body = output.text().encode()
    emit(SEGMENT.pack(OUTPUT, 0, 0, 0.0, len(body), 0) + body, ())
    emit(*answers.seal(kind, value, 0, seconds))


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
    log_ways.chunks[thread] = first, results
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
            log_ways.chunks[thread] = first, results
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
        emit(*answers.seal(VALUE, value, first + index, seconds / len(results)))


def _seal_failure(failure: BaseException, item: int, seconds: float) -> tuple[bytes, Sequence[memoryview]]:
    if type(failure) is _UnreadableError and failure.__cause__ is not None:
        return answers.seal_unreadable(failure.__cause__, item, 1, seconds), ()
    return answers.seal(ERROR, failure, item, seconds)
