"""The wire between the parent and one worker: frames over a duplex pipe, and the worker's page of marks.

    parent                                                worker
      submitting thread ── one write, never blocks ──▶┐
      collector thread  ── what is left of it ───────▶┤  pipe  ├─▶ read, blocking
                        ◀── read ─────────────────────┤        │◀─ write, blocking
      caller who waits  ◀── peek, then read ──────────┤        │
                        ◀── look, at any time ────────  page  ◀── marks and sealed replies

A frame is a type, a length and a body. The sentinel is a type of its own, so no value of a user's can be taken for it.
"""

from __future__ import annotations

import struct
from collections import deque

from parapluie.shared_memory import SharedBytes, SharedLock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from parapluie.backend import Call
    from parapluie.backends.process.ports import ParentEnd

FRAME = struct.Struct("<BQ")  # type, length of the body
CALL, STOP, READY, REPLY, PART, REFUSES, FREED, LOGGED = range(1, 9)

_CALL = struct.Struct("<QBIIQ")  # number, each item marked?, ranges, buffers, length of the payload
_REPLY = struct.Struct("<QQdIQ")  # serial number of the reply, number of the call, seconds, buffers, length of payload
_FRAMED_CALL = struct.Struct("<BQQBIIQ")  # both at once, since most frames have nothing in between
_FRAMED_REPLY = struct.Struct("<BQQQdIQ")
_RANGE = struct.Struct("<QQ")
_BUFFER = struct.Struct("<QQ")  # where it is in shared memory, or _HERE; length
_HERE = (1 << 64) - 1  # it follows, in this frame
_NUMBER = struct.Struct("<Q")
Ref = tuple[int, int]  # where in shared memory a buffer is, and how many bytes (store.py)
READ_SIZE = 1 << 16  # larger ones make malloc map and unmap memory for each read


# ---- frames -----------------------------------------------------------------------------------------------------


def frame(kind: int, body: bytes = b"") -> bytes:
    """Make a frame."""
    return FRAME.pack(kind, len(body)) + body


def call_frame(number: int, call: Call) -> list[Any]:
    """Make a call's frame, as the pieces to be joined or written in a row."""
    payload, select = call.payload or b"", call.select or ()
    each = call.options.task_timeout is not None
    if not select and not call.buffers:
        size = len(payload)
        return [_FRAMED_CALL.pack(CALL, _CALL.size + size, number, each, 0, 0, size), payload]
    buffers = [buffer if type(buffer) is bytes else buffer.ref for buffer in call.buffers]
    head = [_CALL.pack(number, each, len(select), len(buffers), len(payload))]
    head += [_RANGE.pack(part.start, part.stop) for part in select]
    return _framed(CALL, head, buffers, payload)


def reply_frame(
    kind: int, serial: int, number: int, seconds: float, pieces: Sequence[bytes], buffers: Sequence[Any]
) -> list[Any]:
    """Make the frame of a reply (REPLY, the last one for its call, or PART), as pieces."""
    size = sum(map(len, pieces))
    if not buffers:
        return [_FRAMED_REPLY.pack(kind, _REPLY.size + size, serial, number, seconds, 0, size), *pieces]
    return _framed(kind, [_REPLY.pack(serial, number, seconds, len(buffers), size)], buffers, *pieces)


def _framed(kind: int, head: list[bytes], buffers: Sequence[Any], *payload: bytes) -> list[Any]:
    """Make a frame; a buffer is a `Ref`, or else goes with it."""
    here = []
    for buffer in buffers:
        if type(buffer) is tuple:
            head.append(_BUFFER.pack(*buffer))
        else:
            head.append(_BUFFER.pack(_HERE, len(buffer)))
            here.append(buffer)
    size = sum(map(len, head)) + sum(map(len, payload)) + sum(map(len, here))
    return [FRAME.pack(kind, size), *head, *payload, *here]


def read_call(body: memoryview) -> tuple[int, bool, tuple[range, ...] | None, memoryview, list[Ref | bytearray]]:
    """Read a call's body: number, whether each item is marked, select, payload, buffers."""
    number, each, ranges, buffers, size = _CALL.unpack_from(body)
    offset = _CALL.size
    if not ranges and not buffers:
        return number, bool(each), None, body[offset:], []
    select = []
    for _ in range(ranges):
        select.append(range(*_RANGE.unpack_from(body, offset)))
        offset += _RANGE.size
    return number, bool(each), tuple(select) or None, *_read_buffers(body, offset, buffers, size)


def read_reply(body: memoryview) -> tuple[int, int, float, memoryview, list[Ref | bytearray]]:
    """Read a reply's body: serial number, number of the call, seconds, payload, buffers."""
    serial, number, seconds, buffers, size = _REPLY.unpack_from(body)
    if not buffers:
        return serial, number, seconds, body[_REPLY.size :], []
    return serial, number, seconds, *_read_buffers(body, _REPLY.size, buffers, size)


def _read_buffers(body: memoryview, offset: int, count: int, size: int) -> tuple[memoryview, list[Ref | bytearray]]:
    refs = []
    for _ in range(count):
        refs.append(_BUFFER.unpack_from(body, offset))
        offset += _BUFFER.size
    payload = body[offset : offset + size]
    offset += size
    buffers: list[Ref | bytearray] = []
    for where, length in refs:
        if where == _HERE:
            buffers.append(bytearray(body[offset : offset + length]))  # to be written to
            offset += length
        else:
            buffers.append((where, length))
    return payload, buffers


def freed_frame(numbers: Sequence[int]) -> bytes:
    """Make the frame that says of which calls the buffers are not held any more."""
    return frame(FREED, b"".join(map(_NUMBER.pack, numbers)))


def read_freed(body: memoryview) -> list[int]:
    """Read the numbers of calls."""
    return [number for (number,) in _NUMBER.iter_unpack(body)]


class Frames:
    """Cuts a stream into frames."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self._needed = FRAME.size

    @property
    def partial(self) -> bool:
        """Say whether there is a part of a frame."""
        return bool(self._parts)

    def add(self, data: bytes) -> list[tuple[int, memoryview]]:
        """Take what was read; return the frames that are complete, as type and body."""
        if not self._parts and len(data) >= FRAME.size:
            kind, length = FRAME.unpack_from(data)
            if length == len(data) - FRAME.size:  # just one, as in most cases
                return [(kind, memoryview(data)[FRAME.size :])]
        self._parts.append(data)
        self._size += len(data)
        if self._size < self._needed:
            return []
        whole = data if len(self._parts) == 1 else b"".join(self._parts)
        frames, rest, self._needed = split_frames(memoryview(whole))
        self._parts = [whole[rest:]] if rest < len(whole) else []
        self._size = len(whole) - rest
        return frames


def split_frames(view: memoryview) -> tuple[list[tuple[int, memoryview]], int, int]:
    """Return the complete frames at the start of view, where the rest begins, and how long that will be at least."""
    frames: list[tuple[int, memoryview]] = []
    offset, end = 0, len(view)
    while end - offset >= FRAME.size:
        kind, length = FRAME.unpack_from(view, offset)
        stop = offset + FRAME.size + length
        if stop > end:
            return frames, offset, stop - offset
        frames.append((kind, view[offset + FRAME.size : stop]))
        offset = stop
    return frames, offset, FRAME.size


# ---- the parent's end -------------------------------------------------------------------------------------------


class Wire:
    """The parent's end: it never blocks. Guarded by the engine's lock, but for `receive`, which is the collector's.

    Attributes:
        end: of the pipe, at which who attends may look. fd: what the engine's waiter knows it by.
        close: lets go of it; the worker's read ends.
    """

    def __init__(self, end: ParentEnd) -> None:
        self.end, self.fd = end, end.fd
        self._read_some, self._write_some, self.close = end.read, end.write, end.close
        self._frames = Frames()
        self._unsent: deque[memoryview] = deque()
        self.torn = False  # a write was interrupted: what the worker got of the frame is not known

    def send(self, pieces: Iterable[Any]) -> bool:
        """Write what can be written now; False if something is left for `flush`."""
        data = b"".join(pieces)
        if self._unsent:
            self._unsent.append(memoryview(data))
            return False
        return self._write(data)

    @property
    def unsent(self) -> bool:
        """Say whether something is left to flush."""
        return bool(self._unsent)

    def flush(self) -> bool:
        """Write what is left, as far as it goes; True if nothing is."""
        while self._unsent:
            if not self._write(self._unsent.popleft(), again=True):
                return False
        return True

    def _write(self, data: bytes | memoryview, *, again: bool = False) -> bool:
        whole = False
        try:
            sent = self._write_some(data)
            whole = True
        except BlockingIOError:
            sent, whole = 0, True
        except OSError:  # the worker is gone: its death says the rest
            whole = True
            return True
        finally:
            if not whole:
                self.torn = True
        if sent == len(data):
            return True
        (self._unsent.appendleft if again else self._unsent.append)(memoryview(data)[sent:])
        return False

    def receive(self) -> tuple[list[tuple[int, memoryview]], bool]:
        """Read what is there: the frames that are complete, and whether the other end is closed."""
        frames: list[tuple[int, memoryview]] = []
        while True:
            try:
                data = self._read_some(READ_SIZE)
            except BlockingIOError:
                return frames, False
            except OSError:
                return frames, True
            if not data:
                return frames, True
            frames += self._frames.add(data)
            if len(data) < READ_SIZE:
                return frames, False

    @property
    def in_a_frame(self) -> bool:
        """Say whether a part of a frame has been read."""
        return self._frames.partial


# ---- the page ---------------------------------------------------------------------------------------------------

_SEALED = struct.Struct("<Q")  # length of the sealed replies
_MARK = struct.Struct("<QQQd")  # number of the begun call, its item, the last item plus one, when (monotonic)
_SEALED_AND_MARK = struct.Struct("<QQQQd")
_WITHDRAWN = struct.Struct("<Q")  # calls up to this number are not to be begun
_AT_MARK = _SEALED.size
_AT_WITHDRAWN = _SEALED_AND_MARK.size
_CUT = struct.Struct("<QQ")  # number of a call, and the item from which on nothing of it is to be begun
_AT_CUT = _AT_WITHDRAWN + _WITHDRAWN.size
_READ = struct.Struct("<Q")  # serial number of the last reply whose buffers the parent has read
_AT_READ = _AT_CUT + _CUT.size
_AT_REPLIES = _AT_READ + _READ.size
PAGE_SIZE = 1 << 15


class Page:
    """A few kilobytes of memory that a worker and its parent share, with one lock between the two of them.

    The worker marks what it begins, and keeps here the frames of replies that it has sealed and not yet written to the
    pipe: they survive its death. Every look that must be exact is taken under the lock, always with a time-out; the
    lock's operations also order what each side sees of the other's writes.
    """

    room = PAGE_SIZE - _AT_REPLIES

    def __init__(self, method: str) -> None:
        self.lock = SharedLock(method)
        self._memory = SharedBytes(PAGE_SIZE, method)
        self._view = self._memory.view

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrived_page, (self.lock, self._memory)

    def sent(self) -> None:
        """Let go of what only the start of the worker needs."""
        self._memory.sent()

    def close(self) -> None:
        """Let go of all but the last marks, which may still be asked for; called by the parent, once."""
        self.sent()
        self.lock.close()
        self._view = memoryview(bytearray(self._view[:_AT_REPLIES]))
        del self._memory

    def mark(self) -> tuple[int, int, int, float]:
        """Return the begun call's number, its item, the last item that may have begun plus one, and when."""
        return _MARK.unpack_from(self._view, _AT_MARK)

    def begin(self, sealed: int, number: int, item: int, stop: int, now: float) -> None:
        """Mark a call, or an item of it, as begun, and say how long the sealed replies of earlier ones are."""
        _SEALED_AND_MARK.pack_into(self._view, 0, sealed, number, item, stop, now)

    def withdrawn(self) -> int:
        """Return the number up to which calls are withdrawn."""
        return int(_WITHDRAWN.unpack_from(self._view, _AT_WITHDRAWN)[0])

    def withdraw(self, number: int) -> None:
        """Withdraw the calls up to a number, but for those that have begun."""
        _WITHDRAWN.pack_into(self._view, _AT_WITHDRAWN, number)

    def before_cut(self, number: int, stop: int) -> int:
        """Return how far a call's items may be begun: up to stop, or to where it was cut."""
        cut, first = _CUT.unpack_from(self._view, _AT_CUT)
        return min(stop, first) if cut == number else stop

    def cut(self, number: int, item: int) -> None:
        """Have a call that has begun end before an item."""
        _CUT.pack_into(self._view, _AT_CUT, number, item)

    def read_up_to(self) -> int:
        """Return up to which reply the parent has read the buffers."""
        return int(_READ.unpack_from(self._view, _AT_READ)[0])

    def have_read(self, serial: int) -> None:
        """Say that the buffers of replies up to one have been read."""
        _READ.pack_into(self._view, _AT_READ, serial)

    def keep(self, offset: int, pieces: Iterable[Any]) -> int:
        """Write sealed replies behind those that are there; return where they end. `seal` makes them visible."""
        at = _AT_REPLIES + offset
        for piece in pieces:
            self._view[at : at + len(piece)] = piece
            at += len(piece)
        return at - _AT_REPLIES

    def seal(self, length: int) -> None:
        """Say how long the sealed replies are."""
        _SEALED.pack_into(self._view, 0, length)

    def replies(self, length: int | None = None) -> bytes:
        """Return the sealed replies' frames."""
        if length is None:
            length = _SEALED.unpack_from(self._view)[0]
        return bytes(self._view[_AT_REPLIES : _AT_REPLIES + length])


def _arrived_page(lock: SharedLock, view: memoryview) -> Page:
    page = Page.__new__(Page)
    page.lock, page._view = lock, view  # noqa: SLF001 - it is being made
    return page
