"""Functions that the tests of faults hand to workers. Imports the standard library only, and `processes`.

Tasks and their test talk through a `Gate` (see fault_help.py), whose port the tasks know, or through a file to which
every process appends. What a task says to the gate stays connected, so that the test sees when its process ends.
"""

from __future__ import annotations

import os
import pickle
import random
import signal
import socket
import threading
import time
import zlib
from contextlib import suppress
from pathlib import Path

from parapluie.testing import processes

SECONDS = 30.0  # for every wait

_connections = []  # until this process ends


# ---- notes ------------------------------------------------------------------------------------------------------


def note(path, text="x"):
    """Append a line; what several processes write at a time is not mixed up. Return how many there are."""
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | processes.BINARY)
    try:
        processes.append(descriptor, f"{text}\n".encode())
    finally:
        os.close(descriptor)
    return Path(path).read_bytes().count(b"\n")


def meet(path, count):
    """Return when so many have come."""
    note(path)
    while Path(path).read_bytes().count(b"\n") < count:
        time.sleep(0.001)


def note_pid(path, number):
    note(path, number)
    return os.getpid()


def pid(_item=None):
    return os.getpid()


def square(number):
    return number * number


def itself(value):
    return value


def divide(number, by):
    return number / by


# ---- the gate ---------------------------------------------------------------------------------------------------


def arrive(port, label=""):
    """Tell the gate who is here, and stay connected until this process ends."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=SECONDS)
    connection.settimeout(None)  # the gate opens, or the test ends by its deadline
    connection.sendall(f"{os.getpid()} {label}\n".encode())
    _connections.append(connection)
    return connection


def wait_at(port, label=""):
    """Tell the gate that one is here, and wait to be let through."""
    connection = arrive(port, label)
    with suppress(OSError):
        connection.recv(1)
    return label


class WaitsWhenRead:
    """Comes back as its label, once the gate lets that through."""

    def __init__(self, port, label):
        self.port, self.label = port, label

    def __reduce__(self):
        return wait_at, (self.port, self.label)


# ---- tasks that do not end by themselves ------------------------------------------------------------------------


def get_stuck(port, how, label=""):
    """Tell the gate that one is here, and never end."""
    arrive(port, label)
    WAYS_TO_BE_STUCK[how]()


def stay():
    threading.Event().wait()


def _compute():
    while True:
        pass


def _compute_in_c():
    sum(range(10**15))  # holds the GIL, and looks at no signal


def _catch_everything():
    while True:
        with suppress(BaseException):
            time.sleep(0.001)


def _stop():
    os.kill(os.getpid(), signal.SIGSTOP)
    stay()


def _read():
    reading, writing = os.pipe()
    os.read(reading, writing)


def _ignore_termination():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    stay()


WAYS_TO_BE_STUCK = {
    "waiting": stay,
    "computing": _compute,
    "in C": _compute_in_c,
    "catching everything": _catch_everything,
    "stopped": _stop,
    "reading": _read,
    "ignoring termination": _ignore_termination,
}


# ---- deaths -----------------------------------------------------------------------------------------------------


def exit_if_odd(number, code):
    if number % 2:
        os._exit(code)
    return number


def end_process(how):
    if how == "killed":
        processes.end(os.getpid())
        stay()
    os._exit(7)


# ---- initializers -----------------------------------------------------------------------------------------------


def fail_to_prepare(path, times=10**9):
    """Fail the first times."""
    if note(path, os.getpid()) <= times:
        raise OSError("no disk")


def fail_each_second(path):
    if note(path, os.getpid()) % 2:
        raise OSError("no disk")


def die_preparing(path, how, times=10**9):
    if note(path, os.getpid()) <= times:
        end_process(how)


def hang_preparing(path, port, how, times=10**9):
    if note(path, os.getpid()) <= times:
        get_stuck(port, how)


def wait_after(path, port, times):
    """Be ready at once the first times, then wait at the gate."""
    if note(path, os.getpid()) > times:
        wait_at(port, "starting")


def ignore(*args):
    """Take anything."""


# ---- large values -----------------------------------------------------------------------------------------------


class Block:
    """Carries its bytes out of band, as arrays do."""

    def __init__(self, data):
        self.data = data

    def __reduce_ex__(self, protocol):
        return Block, (pickle.PickleBuffer(self.data),)


def large(seed, size):
    """Make bytes that differ by their seed."""
    return random.Random(seed).randbytes(1 << 16) * (size >> 16)  # noqa: S311 - not a secret


def exchange(data, seed, size):
    """Return the checksum of what has come, and as much again."""
    if isinstance(data, Block):
        return zlib.crc32(data.data), Block(bytearray(large(seed, size)))
    return zlib.crc32(data), large(seed, size)


_blocks = []


def keep_block(block, *, die=False):
    """Keep what was given, for as long as this process lives."""
    _blocks.append(block)
    if die:
        processes.end(os.getpid())
        threading.Event().wait(SECONDS)
    return zlib.crc32(block.data)


def checksum_of(block, number):
    return zlib.crc32(block.data), number


def forget_blocks():
    _blocks.clear()


def overwrite(path, block, deaths):
    """Return the checksum of what was given, and write to it; the first times, die then."""
    checksum = zlib.crc32(block.data)
    block.data[:] = bytes(len(block.data))
    if note(path) <= deaths:
        processes.end(os.getpid())
        threading.Event().wait(SECONDS)
    return checksum
