"""The wire of sessions: frames however they are cut, messages that are taken back, turns, what is not read ahead."""

from __future__ import annotations

import os
import random
import threading
from time import monotonic

import pytest

from parapluie.sharing import session_frames, session_wire
from parapluie.sharing.session_frames import ABORT, ENDED, LOGGED, MESSAGE, PART, Frames, frame, frames_of
from parapluie.sharing.session_port import Port, pipe
from parapluie.sharing.session_wire import Wire
from parapluie.sharing.turns import Flag, News, Turn

pytestmark = pytest.mark.windows
SECONDS = 20.0


class Side(Wire):
    """A side that keeps what comes besides messages."""

    def __init__(self, port):
        super().__init__(port)
        self.taken = []
        self.full = threading.Event()

    def take(self, kind, body):
        self.taken.append((kind, bytes(body)))
        self.over = True

    def note_full(self):
        self.full.set()


@pytest.fixture
def sides():
    ends = pipe()
    sides = [Side(Port(end)) for end in ends]
    yield sides
    for side in sides:
        side.port.close()


def soon():
    return monotonic() + 0.05


def later():
    return monotonic() + SECONDS


# ---- frames -----------------------------------------------------------------------------------------------------


def fed(stream, cuts):
    frames, found, at = Frames(), [], 0
    for cut in [*cuts, len(stream)]:
        data = stream[at:cut]
        message = frames.message_in(data)
        found += (
            [(MESSAGE, message)] if message is not None else [(kind, bytes(body)) for kind, body in frames.feed(data)]
        )
        at = cut
        assert frames.missing() >= 0
    return found


def test_frames_are_the_same_however_they_are_cut(monkeypatch):
    monkeypatch.setattr(session_frames, "PIECE", 10)
    monkeypatch.setattr(session_frames, "_SMALL", 5)
    wanted = [(MESSAGE, b""), (MESSAGE, b"short"), (MESSAGE | LOGGED, b"x" * 35), (ENDED, b"y" * 20), (MESSAGE, b"z")]
    stream = b"".join(piece for kind, body in wanted for piece, _ in frames_of(kind, body))
    stream = frame(PART, b"taken back") + frame(ABORT) + stream
    assert fed(stream, range(1, len(stream))) == wanted
    invented = random.Random(0)  # noqa: S311 - it has nothing to keep secret
    for _ in range(300):
        cuts = sorted(invented.sample(range(1, len(stream)), invented.randrange(8)))
        assert fed(stream, cuts) == wanted


def fill(side, size):
    """Send until there is no room; return how many messages were sent."""
    for number in range(256):
        try:
            side.send(MESSAGE, bytes([number]) * size, soon())
        except TimeoutError:
            return number
    raise AssertionError("there is no end of room")


# ---- messages ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [4000, 100_000, session_frames.PIECE // 2, 3 * session_frames.PIECE])
def test_message_whose_time_is_up_does_not_arrive_and_the_next_ones_do(sides, size):
    ours, theirs = sides
    theirs.over = True  # nobody reads there
    sent = fill(ours, size)
    theirs.over = False
    sender = threading.Thread(target=ours.send, args=(MESSAGE, b"the next"), daemon=True)
    sender.start()
    received = [bytes(theirs.receive(later())) for _ in range(sent + 1)]
    sender.join(SECONDS)
    assert received == [*(bytes([number]) * size for number in range(sent)), b"the next"]
    with pytest.raises(TimeoutError):
        theirs.receive(soon())


def test_end_that_finds_no_room_is_sent_when_there_is_some(sides):
    ours, theirs = sides
    theirs.over = True
    fill(ours, 100_000)
    ours.close()
    theirs.over = False
    threading.Thread(target=ours.receive, args=(None,), daemon=True).start()  # who waits here sends it
    while theirs.receive(later()) is not None:
        pass
    assert theirs.taken == [(session_frames.END, b"")]
    assert ours.send(MESSAGE, b"too late") is False
    theirs.over = False
    theirs.port.close()  # so that the thread ends
    assert ours.receive(later()) is None


def test_end_is_sent_by_who_is_at_sending_when_another_thread_closes(sides):
    ours, theirs = sides
    sender = threading.Thread(target=ours.send, args=(MESSAGE, b"x" * 5_000_000), daemon=True)
    sender.start()
    while ours._writer.is_free():
        pass
    ours.close()
    assert len(theirs.receive(later())) == 5_000_000
    assert theirs.receive(later()) is None
    sender.join(SECONDS)


def await_end(side):
    while not side.over:
        side.step(None, message=False)


def test_no_more_is_read_ahead_than_there_is_room_for(sides, monkeypatch):
    monkeypatch.setattr(session_wire, "_MOST_UNREAD", 1_000_000)
    ours, theirs = sides
    sender = threading.Thread(target=lambda: [theirs.send(MESSAGE, b"x" * 100_000) for _ in range(30)], daemon=True)
    sender.start()
    waiter = threading.Thread(target=await_end, args=(ours,), daemon=True)
    waiter.start()
    assert ours.full.wait(SECONDS) and ours.is_full()
    assert sum(len(message) for _, message in ours._inbox) <= 1_200_000 and sender.is_alive()
    assert [len(ours.receive(later())) for _ in range(30)] == [100_000] * 30
    sender.join(SECONDS)
    assert not sender.is_alive()
    theirs.port.close()
    waiter.join(SECONDS)
    assert not waiter.is_alive()


def test_nothing_is_written_to_a_port_that_is_closed(sides, tmp_path):
    """Its descriptor may be another one's by then."""
    ours, theirs = sides
    descriptor = ours.port._end.fileno()
    theirs.port.close()
    ours.end()
    path = tmp_path / "another one"
    with path.open("wb") as file:
        taken = os.name == "posix" and file.fileno() != descriptor  # else it is the same by itself, or a handle
        if taken:
            os.dup2(file.fileno(), descriptor)
        with pytest.raises(BrokenPipeError):
            ours.send(MESSAGE, b"where would it go")
        ours.close()
        assert ours.receive(None) is None
        if taken:
            os.close(descriptor)
    assert path.read_bytes() == b""


# ---- turns ------------------------------------------------------------------------------------------------------


def test_turn_is_one_threads_at_a_time():
    turn = Turn(News())
    mine, other = object(), object()
    assert turn.take(mine) and not turn.take(other) and not turn.is_free()
    turn.give_back(other)
    assert not turn.wait_to_take(other, soon())
    waiter = threading.Thread(target=turn.wait_to_take, args=(other,), daemon=True)
    waiter.start()
    turn.give_back(mine)
    waiter.join(SECONDS)
    assert not waiter.is_alive() and not turn.take(mine)


def test_flag_is_waited_for():
    flag = Flag()
    assert not flag.wait(soon()) and not flag.is_set()
    waiter = threading.Thread(target=flag.wait, daemon=True)
    waiter.start()
    flag.set()
    waiter.join(SECONDS)
    assert not waiter.is_alive() and flag.wait() and flag.is_set()
