"""The worker's loop: reads calls from its pipe, runs them one after another, writes replies. Standard library only.

    pipe ─▶ inbox ─▶ begin (mark, under the page's lock) ─▶ worker.execute ─▶ seal into the page ─▶ pipe
                       ├─ withdrawn? skip                      │ the next items
                       └─ cut? end it here  ◀──────────────────┘

One thread. Replies are gathered in the page and written to the pipe together: when there is nothing left to run, when
the page is full, or when the first of them is half a millisecond old; parts of a chunk's reply, behind which the parent
gives nothing, wait a little longer, since to read them costs it time. A reply is sealed before the next call is marked
as begun, so the parent finds every finished task's answer in the pipe or in the page, whenever the worker dies.
"""

from __future__ import annotations

import os
from collections import deque
from time import monotonic, perf_counter, time

from parapluie import answers, call_format, log_ways, worker
from parapluie.backends.process.ports import looker
from parapluie.backends.process.wire import (
    CALL,
    LOGGED,
    PART,
    READ_SIZE,
    READY,
    REFUSES,
    REPLY,
    STOP,
    Frames,
    Page,
    frame,
    freed_frame,
    read_call,
    reply_frame,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from parapluie.backends.process.ports import WorkerEnd
    from parapluie.backends.process.store import WorkerStore
    from parapluie.dumps import DumpFile, LogEnd, LogSettings
    from parapluie.shared_memory import SharedFile

_SOON_SECONDS = 0.0001  # between an answer and the next call, where a caller waits for each
_FLUSH_SECONDS = 0.0005  # half of what a worker is given ahead: the parent sends more before that is used up
_PART_SECONDS = 0.008  # shorter than the quiet after which the parent looks into the page


def main(
    dump: DumpFile,
    connection: WorkerEnd,
    page: Page,
    bootstrap: bytes,
    inherited: Sequence[int],
    files: tuple[SharedFile, SharedFile],
    *,
    peers: int,
    logs: tuple[LogSettings, LogEnd],
) -> None:
    """Run a worker until the sentinel, or until the parent's end of the pipe is closed.

    Args:
        dump: where the fault handler is to write.
        inherited: descriptors that a forked child must not hold: the parent's ends of pipes, and other workers' files.
        files: where the large buffers of calls are, and where to put those of replies.
        peers: among how many workers the CPUs are divided.
        logs: what the parent logs, and where to send it.
    """
    worker.begin(dump, inherited, peers)
    loop = _Loop(connection, page, files)
    log_ways.send_logs(*logs, loop.place_of_log)
    failure = worker.prepare(bootstrap)
    loop.write([frame(READY if failure is None else REFUSES)])
    while (call := loop.next_call()) is not None:
        if failure is not None:
            loop.refuse(call, failure)
            break  # another worker may have better luck
        loop.run(call)
    loop.flush()
    connection.close()


class _Loop:
    """What a worker keeps between calls."""

    def __init__(self, connection: WorkerEnd, page: Page, files: tuple[SharedFile, SharedFile]) -> None:
        self._connection = connection  # kept open
        self._fd = connection.fileno()
        self._page = page
        self._acquire, self._release = page.lock.acquire, page.lock.release
        self._files = files
        self._store: WorkerStore | None = None
        self._frames = Frames()
        self._inbox: deque[tuple[int, memoryview]] = deque()
        self._kept = 0  # bytes of replies in the page
        self._arrives = looker(self._fd)
        self._soon = False  # the last call came soon after the answer to the one before
        self._flush_at = 0.0  # when they are to be written
        self._pid = os.getpid()
        self._number = 0
        self._logged = False  # there are log records in their pipe that the next reply is not to overtake
        self._cut = False  # the call ends before its last item
        self._serial = 0  # of the last reply
        self._began = 0.0
        self._start = 0.0
        self._segments: list[bytes] = []
        self._buffers: list[memoryview] = []

    # ---- reading ----------------------------------------------------------------------------------------------

    def next_call(self) -> memoryview | None:
        """Return the next call's body; None at the sentinel or when the parent is gone."""
        while not self._inbox:
            self.flush()
            data = self._read()
            if not data:
                return None
            self._inbox.extend(self._frames.add(data))
        kind, body = self._inbox.popleft()
        if kind == STOP:
            return None
        if kind != CALL:
            raise RuntimeError(f"worker got a frame of type {kind}, where only {CALL} and {STOP} make sense")
        return body

    def _read(self) -> bytes:
        """Read what comes next; b"" when the parent is gone.

        To sleep and be woken takes longer than a short round trip's other parts together, so where the last call came
        soon, this one is looked for, for as long as that may take; others may have the processor at every look.
        """
        began = perf_counter()
        if self._soon:
            self._arrives(_SOON_SECONDS)
        data = os.read(self._fd, READ_SIZE)
        self._soon = perf_counter() - began < _SOON_SECONDS
        return data

    # ---- running ----------------------------------------------------------------------------------------------

    def run(self, body: memoryview) -> None:
        """Run a call, unless it was withdrawn, and keep its reply."""
        number, each, select, payload, buffers = read_call(body)
        del body
        self._number, self._cut = number, False
        first = 0 if select is None else select[0].start
        if not self._begin(first, first + 1, look=True):  # withdrawn
            return
        self._began, self._start = time(), perf_counter()
        if not buffers:
            worker.execute(payload, (), select, self._emit, self._mark, each=each)
        else:
            self._run_with(buffers, payload, select, each=each)
        if self._cut and self._segments:
            self._keep(PART)  # so that the reply is empty, by which the host knows it for the last one
        self._keep(REPLY)

    def _run_with(
        self, buffers: Sequence[Any], payload: memoryview, select: tuple[range, ...] | None, *, each: bool
    ) -> None:
        try:
            opened = self._first_store().open(self._number, buffers)
        except (OSError, ValueError) as error:
            self._emit(answers.seal_unreadable(error, 0, 0, perf_counter() - self._start), ())
        else:
            worker.execute(payload, opened, select, self._emit, self._mark, each=each)

    def _first_store(self) -> WorkerStore:
        if self._store is None:
            from parapluie.backends.process.store import WorkerStore

            self._store = WorkerStore(*self._files)
        return self._store

    def _begin(self, item: int, stop: int, *, look: bool = False) -> int:
        """Mark items as begun, unless they were taken back; return how far they may run, at most stop."""
        self._lock()
        try:
            if look and self._number <= self._page.withdrawn():
                return 0
            # A block that was cut off by an error is followed by one that begins before its end, and so before the cut.
            stop = self._page.before_cut(self._number, stop)
            if stop > item:
                self._page.begin(self._kept, self._number, item, stop, monotonic())
        finally:
            self._release()
        return stop

    def _mark(self, item: int, stop: int) -> int:
        """Before items of a chunk: seal what is done, then mark; return how far they may run."""
        if self._segments:
            self._keep(PART)
        stop = self._begin(item, stop)
        self._cut = stop <= item
        return stop

    def _emit(self, segment: bytes, buffers: Sequence[memoryview]) -> None:
        self._segments.append(segment)
        self._buffers.extend(buffers)

    def place_of_log(self) -> tuple[int, int]:
        """Note that something is being logged; return the call that runs, and its item. Any thread, at any time."""
        self._logged = True
        return self._number, log_ways.current_item()

    def refuse(self, body: memoryview, failure: tuple[Any, ...]) -> None:
        """Answer a call with the initializer's failure."""
        self._number = read_call(body)[0]
        self._began, self._start = time(), perf_counter()
        worker.refuse(failure, self._emit)
        self._keep(REPLY)

    # ---- writing ----------------------------------------------------------------------------------------------

    def _keep(self, kind: int) -> None:
        """Put the segments that were emitted into the page, as a reply, or write it at once."""
        now = perf_counter()
        self._serial += 1
        seconds = now - self._start
        head = call_format.REPLY.pack(self._pid, self._began, len(self._segments))
        buffers = self._buffers and self._first_store().put(self._serial, self._buffers, self._read_up_to)
        pieces = reply_frame(kind, self._serial, self._number, seconds, [head, *self._segments], buffers)
        if self._logged:
            self._logged = False
            pieces.insert(0, frame(LOGGED))
        self._segments, self._buffers = [], []
        if self._store is not None and (freed := self._store.let_go()):  # now: the result may have been what it held
            pieces.insert(0, freed_frame(freed))
        if kind == REPLY and not self._kept and not self._inbox:
            self.write(pieces)  # no other call begins before this is in the pipe, so it needs no page
            return
        size = sum(map(len, pieces))
        large = size > self._page.room // 2
        if large or size > self._page.room - self._kept:
            self.flush()  # replies must not overtake each other
        if large:
            self.write(pieces)
            return
        flush_at = now + _PART_SECONDS if kind == PART else self._start + _FLUSH_SECONDS
        self._flush_at = min(self._flush_at, flush_at) if self._kept else flush_at
        self._kept = self._page.keep(self._kept, pieces)
        if now >= self._flush_at:
            self.flush()

    def flush(self) -> None:
        """Write the kept replies to the pipe, and only then take them out of the page."""
        if self._kept:
            self.write([self._page.replies(self._kept)])
            self._kept = 0
            self._lock()
            self._page.seal(0)
            self._release()

    def _read_up_to(self) -> int:
        self._lock()
        try:
            return self._page.read_up_to()
        finally:
            self._release()

    def _lock(self) -> None:
        while not self._acquire(timeout=1.0):
            """The parent holds it for microseconds; should it be stopped just then, we wait with it."""

    def write(self, pieces: Sequence[Any]) -> None:
        """Write all of it; the parent always reads."""
        data: bytes | memoryview = b"".join(pieces)
        try:
            while (sent := os.write(self._fd, data)) < len(data):
                data = memoryview(data)[sent:]
        except BrokenPipeError:
            os._exit(1)  # the parent is gone
