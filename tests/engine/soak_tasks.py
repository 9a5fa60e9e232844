"""What the soak test and the state machine hand to workers. Imports the standard library only, and `processes`.

A task is called with one whole number: its own number, times 16, plus its kind. So a map of them is a map of plain
numbers, and what is to come back is known to who sees the number. The first thing that every attempt does is to note
its number and its process in a log outside of the engine.
"""

from __future__ import annotations

import os
import pickle
import socket
import struct
import sys
import threading
import time
from contextlib import suppress

from parapluie.testing import processes

SECONDS = 40.0  # for every wait
RECORD = struct.Struct("<QQ")  # number of the task, process id; 16 bytes never cross a page, so they are written whole

KINDS = 16
(
    PLAIN, SLEEP, BUSY, LARGE, FAIL, LOCK, BOMB, UNREADABLE, CRASH, HANG, CRASH_ONCE, FAIL_ONCE, HANG_ONCE, BUFFER,
) = range(14)  # fmt: skip
NAMES = [
    "plain", "sleep", "busy", "large", "fail", "lock", "bomb", "unreadable", "crash", "hang", "crash once", "fail once",
    "hang once", "buffer",
]  # fmt: skip
LARGE_SIZE = 40_000  # more than a reply that is kept in a worker's page
BUFFER_SIZE = 100_000  # more than what travels within a pickle


class Log:
    """Where this process notes what it runs; the initializer opens it."""

    folder = ""
    descriptor = -1


def open_log(folder):
    Log.folder = folder
    Log.descriptor = os.open(f"{folder}/log", os.O_WRONLY | os.O_APPEND | os.O_CREAT | processes.BINARY)


def close_log():
    if Log.descriptor >= 0:
        os.close(Log.descriptor)
    Log.descriptor = -1


def note(number):
    processes.append(Log.descriptor, RECORD.pack(number, os.getpid()))


def value_of(code):
    """Return what a task is to answer, if it answers."""
    number, kind = divmod(code, KINDS)
    if kind == BUFFER:
        return Buffer.of(number)
    return number.to_bytes(8, "little") * (LARGE_SIZE // 8) if kind == LARGE else number * 2_654_435_761 % 1_000_003


class Buffer:
    """Travels out of band, through shared memory, as large arrays do."""

    def __init__(self, data):
        self.data = data

    @classmethod
    def of(cls, number):
        return cls(bytearray(number.to_bytes(8, "little") * (BUFFER_SIZE // 8)))

    def __reduce__(self):
        return Buffer, (pickle.PickleBuffer(self.data),)

    def __eq__(self, other):
        return isinstance(other, Buffer) and self.data == other.data

    __hash__ = None

    def number(self):
        """Return whose it is; each eight bytes say so."""
        (number,) = set(memoryview(self.data).cast("Q"))
        return number


_kept = {}  # what earlier tasks were given, by chance some of it


def take(number, buffer):
    """Check a buffer, and those that are kept; write to some; keep some."""
    for owner, earlier in _kept.items():
        assert earlier.number() == owner, f"what task {owner} was given has changed"
    assert buffer.number() == number, f"task {number} was given what is another one's"
    if number % 3 == 0:
        buffer.data[:] = Buffer.of(7).data  # its own copy
    else:
        _kept.pop(next(iter(_kept)) if len(_kept) > number % 5 else number, None)
        _kept[number] = buffer


def argument_of(code):
    """Return a task's second argument."""
    number, kind = divmod(code, KINDS)
    return Buffer.of(number) if kind == BUFFER else ()


def work(code, argument=None):
    """Run a task of any kind."""
    number, kind = divmod(code, KINDS)
    note(number)
    if type(argument) is Buffer:
        take(number, argument)
    if kind != PLAIN:
        special = BEHAVIOUR.get(kind)
        if special is not None:
            result = special(number)
            if result is not None:
                return result
    return value_of(code)


def _sleep(number):
    time.sleep(number % 4 / 2000)


def _busy(number):
    end = time.perf_counter() + number % 4 / 4000
    while time.perf_counter() < end:
        pass


def _fail(number):
    raise ValueError(number)


def _lock(_):
    return threading.Lock()


class Bomb:
    """Can be pickled; reading it back raises."""

    def __reduce__(self):
        return explode, ()


def explode():
    raise LookupError("a bomb is not to be read back")


def _bomb(_):
    return Bomb()


class UnreadableError(Exception):
    """Can be pickled, and not be read back."""

    def __reduce__(self):
        return explode, ()


def _unreadable(number):
    raise UnreadableError(number)


def die(number=0):
    if number % 2:
        os._exit(7)
    processes.end(os.getpid())
    threading.Event().wait()


def _hang(_):
    threading.Event().wait(SECONDS)
    raise AssertionError("nobody has ended this")


def _first_time(number):
    try:
        os.close(os.open(f"{Log.folder}/once-{number}", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def _crash_once(number):
    if _first_time(number):
        die(number)


def _fail_once(number):
    if _first_time(number):
        raise ValueError(number)


def _hang_once(number):
    if _first_time(number):
        _hang(number)


BEHAVIOUR = {
    SLEEP: _sleep,
    BUSY: _busy,
    FAIL: _fail,
    LOCK: _lock,
    BOMB: _bomb,
    UNREADABLE: _unreadable,
    CRASH: die,
    HANG: _hang,
    CRASH_ONCE: _crash_once,
    FAIL_ONCE: _fail_once,
    HANG_ONCE: _hang_once,
}


class Unsendable:
    """Cannot be pickled."""

    def __init__(self):
        self.lock = threading.Lock()


# ---- doors: tasks that wait for their test ------------------------------------------------------------------------


def knock(port, label=""):
    """Say that one is here; return the connection, by which the test answers."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=SECONDS)
    connection.sendall(f"{os.getpid()} {label}\n".encode())
    return connection


def wait_at(port, number):
    """Note the number, and wait to be let through."""
    note(number)
    with knock(port, str(number)) as connection, suppress(OSError):
        connection.recv(1)
    return value_of(number * KINDS)


def wait_and_die(port, number):
    wait_at(port, number)
    die()


# ---- deaths at a given place --------------------------------------------------------------------------------------


class DiesRead:
    """An argument that ends the worker which reads it back: after the mark, and before the task."""

    def __reduce__(self):
        return die, ()


class DiesSealed:
    """A result that ends its worker when it is pickled: after the task, and before its reply."""

    def __reduce__(self):
        die()


def note_and_give_deadly(number):
    note(number)
    return DiesSealed()


def large_result_then_die(number, size):
    """Return more than any pipe takes, and die once its writer is stuck in the middle of it."""
    note(number)
    main = threading.main_thread().ident

    def watch():
        seen, since = None, time.monotonic()
        while time.monotonic() - since < 0.1:  # nobody reads: once it stands still, it is stuck
            frame = sys._current_frames()[main]
            if (here := (id(frame), frame.f_lasti)) != seen:
                seen, since = here, time.monotonic()
            time.sleep(0.005)
        die()

    threading.Thread(target=watch, daemon=True).start()
    return bytes(size)


def arm(port, number, point, how):
    """Wait at the door; then, at so many lines of the engine's own code from here, end or stop this process."""
    note(number)
    left = point

    def engine(frame):
        return frame.f_globals.get("__name__", "").startswith("parapluie.")

    def line(_frame, event, _argument):
        nonlocal left
        if event == "line":
            left -= 1
            if left == 0:
                os.kill(os.getpid(), how)
        return line

    def enter(frame, _event, _argument):
        return line if engine(frame) else None

    with knock(port, str(number)) as connection, suppress(OSError):
        connection.recv(1)
    frame = sys._getframe()
    while frame is not None:
        if engine(frame):
            frame.f_trace = line
        frame = frame.f_back
    sys.settrace(enter)
    return value_of(number * KINDS)


def arm_first(port, point, how, first, number):
    """Be an item of a map: the first one arms, the others are ordinary."""
    return arm(port, number, point, how) if number == first else work(number * KINDS)


def disarm():
    sys.settrace(None)


def crash_once_then_give_lock(number):
    note(number)
    _crash_once(number)
    return threading.Lock()
