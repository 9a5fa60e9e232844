"""The ends of a worker's pipe and what the collector waits on, on this platform.

On Windows they are made of what is private to the standard library: these tests fail where a new Python changes that.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from parapluie.backends.process import ports
from parapluie.backends.process.ports import READ, WRITE
from parapluie.testing import processes

SECONDS = 30.0
MB = 1 << 20
windows = pytest.mark.skipif(sys.platform != "win32", reason="of completion ports")
pytestmark = pytest.mark.windows


def descriptor_of(end):
    """Return a descriptor of the worker's end, as it is in the worker."""
    if sys.platform == "win32":
        import msvcrt

        return msvcrt.open_osfhandle(end._handle, os.O_RDWR)
    return os.dup(end.fileno())


@pytest.fixture
def waiter():
    waiter = ports.Waiter()
    yield waiter
    waiter.close()


@pytest.fixture
def pipe(waiter):
    """The parent's end, and a descriptor of the worker's, in a list; what is left in that is closed."""
    ours, theirs = ports.pipe(waiter)
    descriptors = [descriptor_of(theirs)]
    if sys.platform != "win32":
        theirs.close()
    yield ours, descriptors
    for descriptor in descriptors:
        os.close(descriptor)
    ours.close()


def read_all(descriptor, size):
    data = b""
    while len(data) < size:
        data += os.read(descriptor, MB)
    return data


def test_wake_from_another_thread_is_told(waiter):
    thread = threading.Thread(target=waiter.wake)
    thread.start()
    assert waiter.wait(SECONDS) == [(waiter.wake_fd, READ)]
    waiter.drain()
    thread.join()
    assert waiter.wait(0) == []


def test_waiter_that_is_closed_is_not_woken():
    waiter = ports.Waiter()
    waiter.close()
    waiter.wake()


def test_writes_never_block_and_arrive_in_order(waiter, pipe):
    """Begun by threads that have ended by the time they are done."""
    ours, [theirs] = pipe
    waiter.watch(ours.fd, READ | WRITE)
    data, sent = os.urandom(4 * MB), 0

    def write_some():
        nonlocal sent
        try:
            while sent < len(data):
                sent += ours.write(memoryview(data)[sent:])
        except BlockingIOError:
            return

    received = b""
    while sent < len(data):
        writer = threading.Thread(target=write_some)
        writer.start()
        writer.join(SECONDS)
        assert not writer.is_alive() and sent > len(received)
        received += read_all(theirs, sent - len(received))
        assert (ours.fd, WRITE) in waiter.wait(SECONDS)
    assert received == data


def test_all_that_was_written_is_read_before_the_end_of_the_stream(waiter, pipe):
    ours, descriptors = pipe
    waiter.watch(ours.fd, READ)
    with pytest.raises(BlockingIOError):
        ours.read(MB)
    for number in range(100):
        os.write(descriptors[0], b"%d " % number)
    os.close(descriptors.pop())
    data, closed = b"", False
    while not closed:
        [(ready, events)] = waiter.wait(SECONDS)
        assert ready == ours.fd and events & READ  # where the end is something to write, too, it says so
        data += (some := ours.read(100))
        closed = not some
    assert data.split() == [b"%d" % number for number in range(100)]


def test_less_than_was_asked_for_is_all_that_there_is(waiter, pipe):
    ours, [theirs] = pipe
    waiter.watch(ours.fd, READ)
    os.write(theirs, b"first")
    assert waiter.wait(SECONDS) == [(ours.fd, READ)]
    os.write(theirs, b"second")
    assert ours.read(MB) == b"firstsecond"
    with pytest.raises(BlockingIOError):
        ours.read(MB)


def test_write_to_a_closed_end_says_so(pipe):
    ours, descriptors = pipe
    os.close(descriptors.pop())
    with pytest.raises(OSError):  # noqa: PT011 - which one is the platform's affair
        ours.write(b"x")


@pytest.mark.skipif(sys.platform != "win32" and not hasattr(os, "pidfd_open"), reason="nothing tells of a process")
def test_ends_of_very_many_processes_are_told(waiter):
    """More than Windows waits for in one call."""
    count = 70 if sys.platform == "win32" else 10
    command = [sys.executable, "-S", "-E", "-c", "import sys; sys.stdin.read()"]
    children = [subprocess.Popen(command, stdin=subprocess.PIPE) for _ in range(count)]
    sentinels = [int(child._handle) if sys.platform == "win32" else os.pidfd_open(child.pid) for child in children]
    for sentinel in sentinels:
        waiter.watch(sentinel, READ)
    assert waiter.wait(0) == []
    for number in reversed(range(count)):
        processes.end(children[number].pid)
        assert waiter.wait(SECONDS) == [(sentinels[number], READ)]
        waiter.forget(sentinels[number])
        children[number].communicate()
        if sys.platform != "win32":
            os.close(sentinels[number])


@windows
def test_what_is_under_way_when_an_end_is_closed_is_given_back():
    from parapluie.backends.process import windows

    before = processes.open_things()
    waiter = ports.Waiter()
    for _ in range(3):
        ours, theirs = ports.pipe(waiter)
        waiter.watch(ours.fd, READ)
        assert 0 < ours.write(bytes(MB)) < MB
        with pytest.raises(BlockingIOError):
            ours.write(bytes(MB))
        waiter.forget(ours.fd)
        theirs.close()
        ours.close()
    waiter.close()
    assert not waiter._ends and not windows._never_ended
    assert processes.open_things() <= before
