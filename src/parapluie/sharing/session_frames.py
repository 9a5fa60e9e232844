"""What passes between the two ends of a session: a stream of frames, each with a kind, a length and a body.

A message is one small frame, or pieces and then a frame without a body, so that one whose time is up is taken back in
the middle: ABORT has the other side forget its pieces. END, the sentinel, is a kind of its own, so that no message can
be taken for it.
"""

from __future__ import annotations

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

MESSAGE, PART, ABORT, END, CALL, READY, REFUSES, BEGUN, ENDED = range(1, 10)  # kinds
LOGGED = 0x80  # added to the kind of a frame before which log records were made
PIECE = 1 << 20  # bytes of one piece, at most

_SMALL = 4096  # bytes of a frame that a pipe takes whole or not at all, if only nearly always
_HEAD = struct.Struct("<BI")  # kind, length of the body
_A_MESSAGE = bytes([MESSAGE])


def frame(kind: int, body: bytes | memoryview = b"") -> bytes:
    """Make a frame."""
    return _HEAD.pack(kind, len(body)) + body


def frames_of(kind: int, body: bytes) -> Iterator[tuple[bytes, int]]:
    """Make the frames of a message; yield what to write at a time, and how many bytes at its end are the last frame.

    When something of that is on its way, the message cannot be taken back any more.
    """
    if len(body) <= _SMALL:
        data = frame(kind, body)
        yield data, len(data)
        return
    view = memoryview(body)
    while len(view) > PIECE:
        yield frame(PART, view[:PIECE]), 0
        view = view[PIECE:]
    yield frame(PART, view) + frame(kind), _HEAD.size


class Frames:
    """Cuts a stream into frames, and puts the pieces of messages together."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []  # of the frame that has begun
        self._have = 0  # bytes in there
        self._need = 0  # that are known to be in that frame
        self._pieces: list[bytes | memoryview] = []  # of the message that has begun

    def missing(self) -> int:
        """Return how many bytes at least the frame that has begun still needs."""
        return self._need - self._have

    def message_in(self, data: bytes) -> bytes | None:
        """Return the body, if that is one message and nothing else, as nearly always; else `feed` is to be asked."""
        if not self._chunks and not self._pieces and data[:1] == _A_MESSAGE:
            body = data[_HEAD.size :]
            if data[: _HEAD.size] == _HEAD.pack(MESSAGE, len(body)):
                return body
        return None

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes | memoryview]]:
        """Take bytes; yield what is whole: kind and body."""
        if self._chunks:
            self._chunks.append(data)
            self._have += len(data)
            if self._have < self._need:
                return
            data = b"".join(self._chunks)
            self._chunks = []
        at, end, view = 0, len(data), memoryview(data)
        self._need = _HEAD.size
        while end - at >= _HEAD.size:
            kind, size = _HEAD.unpack_from(data, at)
            self._need = _HEAD.size + size
            if end - at < self._need:
                break
            yield from self._joined(kind, view[at + _HEAD.size : at + self._need])
            at += self._need
            self._need = _HEAD.size
        self._have = end - at
        if self._have:
            self._chunks = [data[at:]]
        else:
            self._need = 0

    def _joined(self, kind: int, body: memoryview) -> Iterator[tuple[int, bytes | memoryview]]:
        if kind == PART:
            self._pieces.append(body)
        elif kind == ABORT:
            self._pieces.clear()
        elif self._pieces:
            pieces, self._pieces = self._pieces, []
            yield kind, pieces[0] if len(pieces) == 1 else b"".join(pieces)
        else:
            yield kind, body
