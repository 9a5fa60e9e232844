"""What goes to a worker for a call and what comes back, as bytes. Imports the standard library only.

A **payload** is either one pickle of `(function, args, kwargs)`, behind `CAPTURED` if the task's output is wanted, or,
for a chunk of `map`, a header (`CHUNK`), a pickled function, and a pickle of the items: as columns of arguments where
all are plain values, or else as rows that are pickles of their own, `(pickle, first buffer, last buffer)`, so that one
that cannot be read back fails alone. The function's buffers come first.

A **segment** answers one item or several neighbours of the call: a header (`SEGMENT`) and a body. Nothing of the
user's is outside of a body, so what cannot be read back costs its own task only. A **reply** is a header (`REPLY`)
and segments; a chunk may be answered by several replies, each sealed within about a millisecond of work.
"""

from __future__ import annotations

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CHUNK = struct.Struct("<cQI")  # COLUMNS or ROWS, length of the function's pickle, buffers that are the function's
COLUMNS = b"C"
ROWS = b"R"
CAPTURED = b"O"  # before the pickle of a task whose output is captured
PLAIN = frozenset({int, float, str, bytes, bool, complex, type(None)})  # reading these back cannot fail
LARGE = 1 << 16  # bytes from which on a buffer travels out of band (pickle protocol 5)

REPLY = struct.Struct("<IdI")  # process id, began (seconds since the epoch), number of segments
SEGMENT = struct.Struct("<BIIdQI")  # kind, first item, items, seconds, length of the body, number of buffers
SINGLE = struct.Struct("<IdIBIIdQI")  # the head of a reply with one segment: both headers

# Kinds of segments. What the body is:
VALUE = 0  # a pickled value
VALUES = 1  # a pickled list, one value for each item
ERROR = 2  # a pickled tuple, see `seal_error`
UNSENDABLE = 3  # the result cannot be pickled: a pickled (problem, path, found)
UNREADABLE = 4  # it cannot be unpickled here: the problem as UTF-8; 0 items stand for all of the call
INIT = 5  # the initializer failed: as ERROR
LOGS = 6  # 0 items; log records that had no other way: a pickled list of (item or None, record); the first segment
OUTPUT = 7  # 0 items; what the call printed, as UTF-8; before its answer

_FIRST_INIT, _FIRST_LOGS = bytes([INIT]), bytes([LOGS])


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
