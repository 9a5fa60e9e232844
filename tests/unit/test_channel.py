"""Channels: the rules of the hub, what is given ahead, and what is sent without waiting."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import queue
import signal
import sys
import threading
import time
from functools import partial
from types import SimpleNamespace

import pytest

from parapluie import pickling
from parapluie.sharing.ahead import Ahead
from parapluie.sharing.inside import Inside
from parapluie.sharing.state import local_state, served_state
from parapluie.starvation import Starvation
from parapluie.state import stream
from parapluie.state.channels import PROMISES_FROM, Channel
from parapluie.state.hub import Caller, Hub, Process, Wait
from parapluie.state.link import LocalLink
from parapluie.state_errors import ChannelBrokenError, ChannelClosedError, SharedStateLostError
from parapluie.testing.processes import kill

SECONDS = 20
PARENT, WORKER, OTHER = 1, 2, 3

posix = pytest.mark.skipif(sys.platform == "win32", reason="signals and forks")


# ---- the hub ----------------------------------------------------------------------------------------------------


class Asking(Caller):
    """A caller whose answers are kept."""

    def __init__(self, process):
        super().__init__(process)
        self.answers = []

    def answered(self, sealed, *, failed):
        self.answers.append(sealed)


class Room:
    """A channel in a hub, and who talks to it."""

    def __init__(self, maxsize=0):
        self.told = []
        self.hub = Hub(self.told.append)
        self.target = self.hub.add("channel", Channel(maxsize), "room")
        self.processes = {number: Process(number) for number in (PARENT, WORKER, OTHER)}

    def do(self, who, name, *args):
        """Do an operation; return its value, or the caller, whose answers will have it."""
        caller = Asking(self.processes[who])
        outcome = self.hub.call(caller, self.target, name, args)
        return caller if isinstance(outcome, Wait) else outcome

    def put(self, who, ticket, *items):
        return self.do(who, "put", ticket, list(items))

    def get(self, who, ticket, most=1, hand=1, *, ahead=True):
        return self.do(who, "get", ticket, hand, most, ahead)

    def left(self, who):
        self.hub.left(self.processes[who])


def ending_of(waiting):
    """Return what the error says that ended a wait."""
    (error,) = waiting.answers
    assert isinstance(error, ChannelBrokenError)
    return str(error)


@pytest.mark.windows
class TestHub:
    def test_closed_channel_is_not_empty_while_something_may_come_back(self):
        room = Room()
        room.put(PARENT, None, *"abcd")
        room.do(PARENT, "close")
        assert room.get(WORKER, 1, 3) == ["a", "b", "c"]
        assert room.get(OTHER, 2) == ["d"]
        waiting = room.get(OTHER, 2)
        assert waiting.answers == []
        room.do(WORKER, "take_back", 1, ["c"])
        assert waiting.answers == [["c"]]

    def test_consumer_that_used_up_what_it_had_ahead_lets_others_end(self):
        room = Room()
        room.put(PARENT, None, *"ab")
        room.do(PARENT, "close")
        assert room.get(WORKER, 1, 2) == ["a", "b"]
        waiting = room.get(OTHER, 2)
        with pytest.raises(ChannelClosedError):
            room.get(WORKER, 1, 2)
        assert [type(answer) for answer in waiting.answers] == [ChannelClosedError]

    def test_what_is_ahead_is_shared_among_consumers(self):
        room = Room()
        room.get(OTHER, 2)
        room.put(PARENT, None, *"abcdefghi")  # the first one goes to who waits
        assert room.get(WORKER, 1, 100) == list("bcde")

    def test_what_is_ahead_is_not_much(self):
        room = Room()
        room.put(PARENT, None, *[b"x" * 30_000] * 9)
        assert len(room.get(WORKER, 1, 100)) == 3
        assert len(room.get(WORKER, 1, 5, ahead=False)) == 5

    def test_what_is_ahead_keeps_its_room(self):
        room = Room(4)
        room.put(PARENT, None, *"abcd")
        assert room.get(WORKER, 1, 3) == ["a", "b", "c"]
        producer = room.put(PARENT, None, "e", "f")  # for a, which is in use, and for c
        assert room.do(PARENT, "stats")[0] == 2 and producer.answers == []
        room.do(WORKER, "take_back", 1, ["b", "c"])
        assert room.do(PARENT, "stats")[0] == 4
        assert room.get(OTHER, 2) == ["b"] and producer.answers == [0]

    def test_room_that_was_promised_is_nobody_elses(self):
        room = Room(PROMISES_FROM)
        promised = room.put(WORKER, 1, "a")
        assert promised == (PROMISES_FROM - 1) // 4
        free = PROMISES_FROM - 1 - promised
        other = room.put(OTHER, 2, *range(free + 1))
        assert other.answers == []
        room.do(WORKER, "put_ahead", 1, list(range(promised)))
        assert room.do(PARENT, "stats")[0] == PROMISES_FROM
        room.get(PARENT, None)
        assert other.answers == [0]

    def test_promise_ends_with_its_attempt_or_its_process(self):
        for end in (lambda room: room.do(WORKER, "leave", 1, "", 1, []), lambda room: room.left(WORKER)):
            room = Room(PROMISES_FROM)
            room.do(PARENT, "hold", 1)
            promised = room.put(WORKER, 1, "a")
            other = room.put(OTHER, None, *range(PROMISES_FROM - 1))
            assert promised and other.answers == []
            end(room)
            assert other.answers == [0]

    def test_consumer_is_known_by_its_first_get(self):
        room = Room()
        for ticket in (1, 2):
            room.do(PARENT, "hold", ticket)
        room.do(PARENT, "end", 1, "task 1 failed")
        with pytest.raises(ChannelBrokenError, match="task 1 failed"):
            room.get(WORKER, 2)

    def test_holder_that_did_nothing_yet_may_still_put(self):
        room = Room()
        for ticket in (1, 2, 3):
            room.do(PARENT, "hold", ticket)
        waiting = room.get(WORKER, 3)
        room.put(OTHER, 1, "a")
        room.do(PARENT, "end", 1, "task 1 failed")
        assert room.get(WORKER, 3).answers == [] and waiting.answers == [["a"]]
        room.do(PARENT, "end", 2, "task 2 failed")
        with pytest.raises(ChannelBrokenError, match="task 2 failed"):
            room.get(WORKER, 3)

    def test_success_of_the_last_producer_is_no_news(self):
        room = Room()
        for ticket in (1, 2):
            room.do(PARENT, "hold", ticket)
        room.put(OTHER, 1, "a")
        room.do(PARENT, "end", 1, "")
        assert room.get(WORKER, 2) == ["a"]
        assert room.get(WORKER, 2).answers == []

    def test_task_that_nobody_knew_of_counts_until_its_process_ends(self):
        room = Room()
        room.do(PARENT, "hold", 2)
        room.put(OTHER, 1, "a")
        assert room.get(WORKER, 2) == ["a"]
        waiting = room.get(WORKER, 2)
        room.left(OTHER)
        assert "task 1: process 3 has ended" in ending_of(waiting)

    def test_process_that_is_no_task_counts_until_it_ends(self):
        room = Room()
        room.put(OTHER, None, "a")
        assert room.get(PARENT, None) == ["a"]
        waiting = room.get(PARENT, None)
        room.left(OTHER)
        assert "process 3 has ended" in ending_of(waiting) and room.told == []

    def test_only_what_was_in_hand_is_lost(self):
        room = Room()
        for ticket in (1, 2):
            room.do(PARENT, "hold", ticket)
        room.put(PARENT, None, *"abcdefghijklmnopqrst")
        assert len(room.get(WORKER, 1, 4)) == 4
        assert len(room.get(WORKER, 1, 3)) == 3  # the four are dealt with
        room.get(OTHER, 2, hand=5)
        room.do(OTHER, "leave", 2, "", 5, [])
        for process in (WORKER, OTHER):
            room.left(process)
        assert room.told == ["process 2 ended with 3 items of channel 'room' in hand, now lost"]
        assert room.do(PARENT, "stats")[3] == 3

    def test_parent_that_shuts_down_is_no_producer_any_more(self):
        room = Room()
        room.do(PARENT, "hold", 1)
        room.put(PARENT, None, "a")
        assert room.get(WORKER, 1) == ["a"]
        waiting = room.get(WORKER, 1)
        room.do(PARENT, "last_call")
        assert "its executor is being shut down, and nobody has called close()" in ending_of(waiting)

    def test_starved_ones_end_and_a_later_put_is_taken(self):
        room = Room()
        room.do(PARENT, "hold", 1)
        waiting = room.get(WORKER, 1)
        room.do(PARENT, "starve", "no worker is left")
        assert "no worker is left" in ending_of(waiting)
        room.put(OTHER, 2, "a")
        assert room.get(WORKER, 1) == ["a"] and room.do(PARENT, "waiting") == []

    def test_late_put_says_what_is_in(self):
        room = Room(2)
        caller = Asking(room.processes[PARENT])
        wait = room.hub.call(caller, room.target, "put", (None, ["a", "b", "c"]))
        room.hub.give_up(wait)
        (error,) = caller.answers
        assert isinstance(error, queue.Full) and str(error) == "channel 'room' had no room for 1 of 3 items in time"


@pytest.mark.windows
def test_look_for_starved_tasks_does_not_mind_channels_that_are_made_meanwhile():
    inside = Inside(LocalLink())
    inside.channels |= {1, 2}
    inside.held |= {1: {1}, 2: {1}}

    def waiting(target):
        inside.channels.add(target + 10)
        inside.held[2].add(target + 10)
        return [1] if target == 1 else []

    inside.waiting = waiting
    works = {number: SimpleNamespace(inside=SimpleNamespace(ticket=number)) for number in (1, 2)}
    starvation = Starvation(SimpleNamespace(max_workers=1), inside, works, None)
    assert starvation._starved() == {1: 2}
    del works[2]
    assert starvation._starved() == {}


# ---- in a program -----------------------------------------------------------------------------------------------


@pytest.fixture
def channel(server):
    return served_state(multiprocessing.get_context(), server, print).shared.channel()


def burst(channel, count=100):
    """Put in such quick succession that items travel together."""
    for item in range(count):
        channel.put(item)


@pytest.mark.windows
def test_puts_in_quick_succession_travel_together(channel, monkeypatch):
    monkeypatch.setattr(stream, "_QUICK_SECONDS", SECONDS)
    channel.put(0)
    puts = channel._link.stream
    burst(channel, stream._MOST_ITEMS - 1)
    assert len(puts._kept) == stream._MOST_ITEMS - 1
    burst(channel, 2)
    assert len(puts._kept) == 1
    assert channel.stats().size == stream._MOST_ITEMS + 2 and not puts.unflushed


@pytest.mark.windows
def test_last_put_does_not_wait_for_another_one(channel):
    burst(channel)
    deadline = time.monotonic() + SECONDS
    while channel._link.stream._kept:
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.mark.windows
def test_what_is_done_behind_a_put_is_seen_behind_it(channel, server):
    seen = served_state(multiprocessing.get_context(), server, print).shared.event()
    for _ in range(20):
        burst(channel, 3)
        seen.set()
        assert len(channel.get_many(10, 0)) == 3


def test_refused_puts_are_raised_when_they_are_known(channel, server):
    other = served_state(multiprocessing.get_context(), server, print).shared
    channel.put(0)
    channel._link.call(channel._target, "close")
    puts = channel._link.stream
    assert puts.send(channel._target, None, [b"1"])
    assert puts.send(channel._target, None, [b"2"])
    other.event()
    with pytest.raises(ChannelClosedError, match="is closed: put was refused"):
        channel.close()
    channel.close()


def test_refused_puts_that_nobody_asks_for_are_logged(channel, caplog):
    channel.put(0)
    channel._link.call(channel._target, "close")
    puts = channel._link.stream
    puts._do(lambda: puts._keep((channel._target, None), [pickling.dumps_auto(1, None)]))
    puts._do(puts._push)
    puts.close()
    deadline = time.monotonic() + SECONDS
    while not [text for text in caplog.messages if "failed unseen: ChannelClosedError: channel 1 is closed" in text]:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_death_of_the_server_is_told_of_what_was_kept(channel, server):
    channel.put(0)
    kill(server.pid)
    with pytest.raises(SharedStateLostError):
        burst(channel, 100_000)
    with pytest.raises(SharedStateLostError):
        channel.put_many(range(2000))


def test_task_whose_puts_may_be_lost_is_told(channel, server, monkeypatch):
    monkeypatch.setattr(stream, "_QUICK_SECONDS", SECONDS)
    burst(channel, 2)
    kill(server.pid)
    with pytest.raises(SharedStateLostError):
        channel.task_ends(1, "")
    channel.task_ends(1, "")  # told once


@pytest.mark.windows
def test_who_is_sent_a_handle_finds_what_was_put_before(channel, monkeypatch):
    monkeypatch.setattr(stream, "_QUICK_SECONDS", SECONDS)
    burst(channel, 2)
    assert channel._link.stream.unflushed
    sent = pickle.dumps(channel)
    assert not channel._link.stream.unflushed
    assert pickle.loads(sent).get_many(3, 0) == [0, 1]


@posix
def test_interrupted_put_leaves_a_channel_that_works(channel, monkeypatch):
    channel.put(0)
    puts, token = channel._link.stream, channel._link._token
    connection = puts._connection

    def half(_data):
        os.write(connection.fileno(), b"\0\0\0\x10half")
        raise KeyboardInterrupt

    monkeypatch.setattr(connection, "send_bytes", half, raising=False)
    with pytest.raises(KeyboardInterrupt):
        channel.put_many(range(1000))
    assert puts._connection is not connection and connection.closed
    burst(channel, 3)
    assert channel.get_many(10) == [0, 0, 1, 2] and channel._link._token is token


@posix
def test_put_in_a_signal_handler_that_came_in_between_is_in(channel):
    puts = channel._link.stream
    before = signal.signal(signal.SIGUSR1, lambda *_: channel.put("in between"))
    try:
        puts._do(lambda: os.kill(os.getpid(), signal.SIGUSR1))
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert channel.get(0) == "in between"


@pytest.mark.windows
def test_items_ahead_go_back_when_nobody_comes_for_them():
    back = queue.SimpleQueue()
    ahead = Ahead(back.put)
    assert ahead.most() == 1
    assert ahead.came([1, 2, 3, 4]) == 1
    assert back.get(timeout=SECONDS) == [2, 3, 4] and not ahead.items
    assert ahead.most() == 1


@pytest.mark.windows
def test_as_many_are_asked_for_as_were_used_up_lately():
    ahead = Ahead(lambda _: None)
    ahead.came([1])
    assert ahead.most() == 4  # at most so many times more
    ahead.came([1])
    threading.Event().wait(0.01)
    assert ahead.most() == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks")
def test_forked_child_has_nothing_of_what_its_parent_was_given():
    ahead = Ahead(lambda _: None)
    ahead.came(["a", "b", "c"])
    pid = os.fork()
    if not pid:
        os._exit(len(ahead.items))
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_channels_are_found_where_they_are_not_pickled():
    shared = local_state(lambda _: None, lambda: False).shared
    bound, closed_over, given, in_list, named = made = [shared.channel() for _ in range(5)]
    inside = shared._inside
    handed = [
        ((bound.get,), {}),
        ((lambda: closed_over.put(1),), {}),
        ((partial(print, given),), {}),
        ((print, [in_list]), {}),
        ((print,), {"out": {"a": named}}),
    ]
    for ticket, ((function, *args), kwargs) in enumerate(handed):
        inside(function, ticket).look_at(function, args, kwargs)
    assert inside.held == {ticket: {channel._target} for ticket, channel in enumerate(made)}
