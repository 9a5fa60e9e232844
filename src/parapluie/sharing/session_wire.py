"""The wire between the two ends of a session: frames over a duplex pipe. Both sides; standard library only.

    thread in send ──▶ writer's turn ── write ──▶ pipe ──▶ the other side
                            └── no room? it reads meanwhile, so that two sides that both send do not wait for each other
    thread in recv ──▶ reader's turn ── read ──▶ frames ──▶ inbox ──▶ whoever is in recv

There is no thread of ours in between, which would cost as much as the whole way there and back. A *turn* is had by one
thread at a time (turns.py).
"""

from __future__ import annotations

from collections import deque
from time import monotonic

from parapluie.sharing.session_frames import ABORT, END, LOGGED, MESSAGE, PIECE, Frames, frame, frames_of
from parapluie.sharing.session_port import DEAD, READ, WRITE
from parapluie.sharing.turns import News, Turn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from parapluie.sharing.session_port import Port

LOOK_SECONDS = 0.05  # between looks at what other threads have done
_READ_SIZE = 1 << 16  # larger ones make malloc map and unmap memory for each read
_MOST_UNREAD = 1 << 26  # bytes that are read before anybody receives them; then the other side waits


class Wire:
    """Sends and receives over a port; what comes besides messages is for the side whose wire it is.

    Attributes:
        over: nothing more comes: the other side has closed, has ended, or is gone.
        deaf: the other side has ended or is gone, and receives nothing more.
        closed: nothing more is sent but END, which is sent or on its way.
        logged: log records were made that the next frame is not to overtake.

    Thread safety: any thread. All times are of `time.monotonic`; None is never.
    """

    def __init__(self, port: Port) -> None:
        self.port = port
        self._port_read, self._port_write = port.read, port.write  # found once
        self.news = News()
        self.over = self.deaf = self.closed = self.logged = False
        self._reader, self._writer = Turn(self.news), Turn(self.news)
        self._frames = Frames()
        self._inbox: deque[tuple[int, bytes | memoryview]] = deque()  # messages, and how many bytes came before each
        self._came = 0  # bytes of messages; the reader's
        self._unsent: bytes | memoryview = b""  # what has begun to be written; the writer's
        self._end_sent = False  # or in _unsent
        self._is_shut = False  # the port is closed; the writer's
        self._size = _READ_SIZE  # how much to read; the reader's
        self._in_read = self._in_write = False  # for ever, once an interrupt came in the midst of one

    # ---- for the side -----------------------------------------------------------------------------------------

    def take(self, kind: int, body: bytes | memoryview) -> None:
        """Take a frame that is no message. In a thread that has the reader's turn; raises nothing."""
        raise NotImplementedError

    def torn(self) -> None:
        """Hear that nobody knows any more where in the stream this side is: an interrupt came in the midst."""
        raise NotImplementedError

    def drain_logs(self) -> None:
        """Handle the log records that were made before what comes next."""

    def note_full(self) -> None:
        """Hear that the other side has to wait, since too much of what it sent is unread."""

    # ---- receiving --------------------------------------------------------------------------------------------

    def receive(self, until: float | None) -> bytes | memoryview | None:
        """Return the next message; None if there are no more.

        Raises:
            TimeoutError: if none has come by then.
        """
        while True:
            over = self.over  # looked at first: what came before is in the inbox then
            try:
                return self._inbox.popleft()[1]
            except IndexError:
                if over:
                    return None
            if not self.step(until):
                raise TimeoutError

    def arrives(self, until: float | None) -> bool:
        """Wait for a message or the end; False if neither comes in time."""
        while not (self.over or self._inbox):
            if not self.step(until):
                return False
        return True

    def step(self, until: float | None, *, message: bool = True) -> bool:
        """Wait for a while for something to come; False if the time is up.

        Args:
            message: return at once if there is a message to be received.
        """
        if self._unsent:
            self._flush()
        if not message and self.is_full():
            self.note_full()
            return self._look_again(until, lambda: self.over or not self.is_full())
        token = object()
        try:
            if not self._reader.take(token):
                return self.news.wait_for(
                    lambda: self.over or (message and self._inbox) or self._reader.is_free(), until
                )
            self._see_whether_torn()
            if not self.over and not (message and self._inbox):
                left = None if until is None else max(0.0, until - monotonic())
                if self._unsent:  # it waits for room
                    left = LOOK_SECONDS if left is None else min(left, LOOK_SECONDS)
                ready = self.port.wait(READ, left)
                if not ready:
                    return until is None or monotonic() < until
                self._read(ready)
        finally:
            self._reader.give_back(token)
        return True

    def _look_again(self, until: float | None, condition: Callable[[], object]) -> bool:
        """Wait for a condition for a while; False if the time is up."""
        soon = monotonic() + LOOK_SECONDS
        return self.news.wait_for(condition, soon if until is None else min(soon, until)) or (
            until is None or monotonic() < until
        )

    def is_full(self) -> bool:
        """Say whether so much is unread that nothing more is read."""
        try:
            return self._came - self._inbox[0][0] >= _MOST_UNREAD
        except IndexError:
            return False

    def end(self) -> None:
        """Read what there is from a process that has ended, wait for who writes, and close the port."""
        token = object()
        try:
            self._reader.wait_to_take(token)
            self._read(DEAD)
            self._writer.wait_to_take(token)
            self.over = self.deaf = self._is_shut = True
            self.port.close()
        finally:
            self._reader.give_back(token)
            self._writer.give_back(token)

    def _read(self, ready: int) -> None:
        """Read what there is; with the reader's turn."""
        self._see_whether_torn()
        self._in_read = True
        while not self.over:
            try:
                data = self._port_read(self._size)
            except BlockingIOError:
                self.over = self.deaf = bool(ready & DEAD)
                break
            except OSError:  # a reset: the other side has ended and had not received everything
                data = b""
            message = self._frames.message_in(data)
            if message is not None:
                self._inbox.append((self._came, message))
                self._came += len(message)
            elif data:
                for kind, body in self._frames.feed(data):
                    self._take(kind, body)
                self._size = min(max(_READ_SIZE, self._frames.missing()), PIECE)
            else:
                self.over = self.deaf = True
            if not ready & DEAD:
                break
        self._in_read = False

    def _see_whether_torn(self) -> None:
        """See whether an interrupt came in the midst of an earlier read."""
        if self._in_read:
            self.torn()
            self.over = self.deaf = True

    def _take(self, kind: int, body: bytes | memoryview) -> None:
        if kind & LOGGED:
            self.drain_logs()
            kind &= ~LOGGED
        if kind == MESSAGE:
            self._inbox.append((self._came, body))
            self._came += len(body)
        else:
            self.take(kind, body)

    # ---- sending ----------------------------------------------------------------------------------------------

    def send(self, kind: int, body: bytes, until: float | None = None) -> bool:
        """Send a frame, and wait for room; False if it is closed.

        Raises:
            TimeoutError: if there is no room by then; nothing of it arrives.
            OSError: if the other side is gone.
        """
        token = object()
        try:
            if not (self._writer.take(token) or self._writer.wait_to_take(token, until)):
                raise TimeoutError
            if self._unsent and not self._write(until):  # the rest of an earlier one
                raise TimeoutError
            if self.closed:
                return False
            if self.deaf:
                raise BrokenPipeError
            if self.logged:
                self.logged = False
                kind |= LOGGED
            self._send(kind, body, until)
        finally:
            self._writer.give_back(token)
            if self.closed and not self._end_sent:  # meanwhile, by a thread that did not have the turn
                self._flush()
        return True

    def _send(self, kind: int, body: bytes, until: float | None) -> None:
        begun = False
        for data, last in frames_of(kind, body):
            self._unsent = data
            sent = False
            try:
                sent = self._write(until)
            finally:
                if not sent:
                    sent = self._take_back(data, last, begun=begun)
            if not sent:
                raise TimeoutError
            begun = True

    def _take_back(self, data: bytes, last: int, *, begun: bool) -> bool:
        """Have nothing of a message arrive, of which perhaps something is on its way; True if it is too late for that.

        Args: data, last: what `frames_of` has said of what is to be written. begun: earlier pieces are on their way.
        """
        rest = len(self._unsent)
        if rest == len(data):
            self._unsent = frame(ABORT) if begun else b""
        elif rest <= last:
            return True
        else:
            self._unsent = bytes(self._unsent[: rest - last]) + frame(ABORT)
        return False

    def close(self) -> None:
        """Tell the other side that nothing more comes. Does not wait: what has no room is sent by `step`."""
        self.closed = True
        self._flush()

    def _flush(self) -> None:
        """Write what there is room for, of what is left of a message, and END; nothing while another thread writes."""
        token = object()
        try:
            if self._writer.take(token):
                if self.closed and not self._end_sent:
                    self._end_sent = True
                    self._unsent = bytes(self._unsent) + frame(END)
                self._write(0.0)
        except OSError:
            pass  # the other side is gone, and needs no telling
        finally:
            self._writer.give_back(token)

    def _write(self, until: float | None) -> bool:
        """Write what is unsent, with the writer's turn; False if the time is up."""
        if self._in_write:
            self.torn()
        if self._in_write or self._is_shut:  # the descriptor may be another one's by now
            raise BrokenPipeError
        while unsent := self._unsent:
            self._in_write = True
            try:
                sent = self._port_write(unsent)
            except BlockingIOError:
                sent = 0
            except OSError:
                self._unsent, self._in_write = b"", False
                raise
            self._unsent = memoryview(unsent)[sent:] if sent < len(unsent) else b""
            self._in_write = False
            if not sent and not self._wait_for_room(until):
                return False
        return True

    def _wait_for_room(self, until: float | None) -> bool:
        """Wait for room for a while, and read meanwhile; False if the time is up."""
        left = LOOK_SECONDS if until is None else min(LOOK_SECONDS, until - monotonic())
        if left <= 0:
            return False
        if self.deaf:
            raise BrokenPipeError
        token = object()
        try:
            if self.is_full():
                self.note_full()
                ready = self.port.wait(WRITE, left)
            elif not self.over and self._reader.take(token):
                ready = self.port.wait(READ | WRITE, left)
                if ready & (READ | DEAD):
                    self._read(ready)
            else:
                ready = self.port.wait(WRITE, left)
        finally:
            self._reader.give_back(token)
        if ready & DEAD:
            raise BrokenPipeError
        return True
