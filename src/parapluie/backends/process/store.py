"""Large buffers (pickle protocol 5) go through shared memory: copied in once, and not through the pipe.

    submit ────── keep ──▶ calls' file ◀── open ── worker    mappings of its own: nobody else sees what a task writes
                              ▲ FREED: nothing of the task's holds them any more
    collector ◀── read ── replies' file ◀── put ── worker
                              ▲ `Page.read_up_to`: what the parent has read

An executor has one file for calls, and each worker one for its replies; they have no names, and their memory is used
again. Where there is no room for a buffer, it travels in its frame. Imported with the first large buffer.
"""

from __future__ import annotations

import weakref
from collections import deque
from mmap import ALLOCATIONGRANULARITY
from threading import Lock, get_ident

from parapluie.call_format import LARGE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, TypeVar

    from parapluie.backends.process.wire import Ref
    from parapluie.shared_memory import SharedFile

    T = TypeVar("T")

_ENDLESS = 1 << 62
_SPARE = 1 << 26  # bytes of memory that are kept for what comes next


class Ranges:
    """Which parts of a file are free: the lowest that is large enough is taken. Sizes are rounded up to pages."""

    def __init__(self) -> None:
        self._free = [(0, _ENDLESS)]  # in ascending order, none next to another
        self._top = 0  # of what was ever taken, unless the file was cut

    def take(self, size: int) -> int:
        """Return where so many bytes are free; they are taken then."""
        size = _whole_pages(size)
        for index, (start, stop) in enumerate(self._free):
            if stop - start >= size:
                self._free[index : index + 1] = [(start + size, stop)] if stop - start > size else []
                self._top = max(self._top, start + size)
                return start
        raise MemoryError

    def give(self, start: int, size: int) -> None:
        """Give back what was taken."""
        free = self._free
        stop = start + _whole_pages(size)
        first = last = sum(1 for begin, _ in free if begin < start)
        if free[last][0] == stop:
            stop = free[last][1]
            last += 1
        if first and free[first - 1][1] == start:
            first -= 1
            start = free[first][0]
        free[first:last] = [(start, stop)]  # in one go, should Ctrl-C come just now

    def too_long(self) -> int | None:
        """Return to what size to cut a file whose end has not been used for long enough; None: leave it."""
        size = self._free[-1][0] + _SPARE
        if self._top <= size:
            return None
        self._top = size
        return size


def _whole_pages(size: int) -> int:
    return -(-size // ALLOCATIONGRANULARITY) * ALLOCATIONGRANULARITY


# ---- the parent -------------------------------------------------------------------------------------------------


class Kept:
    """A buffer of a task that was submitted; its memory is free when nobody holds this any more.

    Attributes: ref: where it is.
    """

    __slots__ = ("_freed", "ref")

    def __init__(self, ref: Ref, freed: deque[Ref]) -> None:
        self.ref, self._freed = ref, freed

    def __del__(self) -> None:
        self._freed.append(self.ref)  # in a finalizer, nothing else may be done


class CallStore:
    """The parent's: where the buffers of calls are kept until they are answered. Any thread."""

    def __init__(self, file: SharedFile | None) -> None:
        self._file = file
        self._ranges = Ranges()
        self._lock = Lock()  # guards _ranges, for moments;
        self._holder = 0  # the thread that has it
        self._freed: deque[Ref] = deque()

    def keep(self, buffer: memoryview) -> Kept | bytes:
        """Copy a buffer into shared memory; small ones, and where there is none, into memory of our own."""
        file = self._file  # held until it is written to, whoever closes the store meanwhile
        if buffer.nbytes < LARGE or file is None:
            return bytes(buffer)
        kept = self._alone(lambda: self._take(file, buffer.nbytes))
        if kept is None:
            return bytes(buffer)
        try:
            file.write(kept.ref[0], buffer)
        except OSError:  # no memory there, or a limit of the size of files
            return bytes(buffer)
        return kept

    def tidy(self) -> None:
        """Let go of memory that has not been used for a while."""
        file = self._file
        if self._freed and file is not None:
            self._alone(lambda: self._cut(file))

    def _alone(self, do: Callable[[], T]) -> T | None:
        """Do something under the lock; not, if a finalizer or signal handler has interrupted this very thread there."""
        me = get_ident()
        if self._holder == me:
            return None
        with self._lock:
            self._holder = me
            try:
                return do()
            finally:
                self._holder = 0

    def _take(self, file: SharedFile, size: int) -> Kept:
        self._take_back(file)
        return Kept((self._ranges.take(size), size), self._freed)

    def _cut(self, file: SharedFile) -> None:
        self._take_back(file)
        size = self._ranges.too_long()
        if size is not None:
            file.cut(size)

    def _take_back(self, file: SharedFile) -> None:
        while self._freed:
            start, size = self._freed.popleft()
            file.drop(start)
            self._ranges.give(start, size)

    def close(self) -> None:
        """Let go of the file, when the last one that writes to it has done so."""
        self._file = None


class ReplyReader:
    """The parent's, or rather its collector's: reads what a worker has put into its file."""

    def __init__(self, file: SharedFile) -> None:
        self._file = file
        self._top = 0  # how long the file has become

    def read(self, buffers: Iterable[Ref | bytearray]) -> list[bytearray]:
        """Copy a reply's buffers out."""
        return [buffer if isinstance(buffer, bytearray) else self._read(*buffer) for buffer in buffers]

    def _read(self, start: int, size: int) -> bytearray:
        self._top = max(self._top, start + size)
        return self._file.read(start, size)

    def tidy(self) -> None:
        """Let go of memory beyond what is kept for the next replies. The worker is idle, and all is read."""
        if self._top > _SPARE:
            self._file.cut(_SPARE)
            self._top = _SPARE


# ---- the worker -------------------------------------------------------------------------------------------------


class WorkerStore:
    """The worker's: maps the buffers of calls, and puts those of replies where the parent reads them."""

    def __init__(self, calls: SharedFile, replies: SharedFile) -> None:
        self._calls, self._replies = calls, replies
        self._held: dict[int, list[weakref.ref[Any]]] = {}  # what is mapped, by call
        self._ranges = Ranges()  # of the file for replies
        self._unread: deque[tuple[int, Ref]] = deque()  # by the number of the reply that it belongs to

    def open(self, number: int, buffers: Iterable[Ref | bytearray]) -> list[Any]:
        """Map a call's buffers; what is in its frame is passed on.

        Raises:
            OSError: if there is not enough memory.
        """
        opened: list[Any] = []
        held = self._held[number] = []
        for buffer in buffers:
            if isinstance(buffer, bytearray):
                opened.append(buffer)
            else:
                mapped = self._calls.map(*buffer)
                held.append(weakref.ref(mapped))
                opened.append(memoryview(mapped))
        return opened

    def let_go(self) -> list[int]:
        """Return the calls of whose buffers nothing is held any more. Whatever views them holds the mapping."""
        if not self._held:
            return []
        freed = [number for number, held in self._held.items() if all(ref() is None for ref in held)]
        for number in freed:
            del self._held[number]
        return freed

    def put(self, serial: int, views: Iterable[memoryview], read: Callable[[], int]) -> list[Ref | memoryview]:
        """Copy a reply's buffers in; read: returns the last reply that the parent has read."""
        if self._unread:
            last = read()
            while self._unread and self._unread[0][0] <= last:
                self._ranges.give(*self._unread.popleft()[1])
        # What a worker has written must not go with it. What cannot be written travels in its frame.
        return [(self._replies.outlives_writer and self._put(serial, view)) or view for view in views]

    def _put(self, serial: int, view: memoryview) -> Ref | None:
        ref = self._ranges.take(view.nbytes), view.nbytes
        try:
            self._replies.write(ref[0], view)
        except OSError:
            self._ranges.give(*ref)
            return None
        self._unread.append((serial, ref))
        return ref
