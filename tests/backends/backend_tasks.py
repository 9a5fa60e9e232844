"""Functions that the tests hand to workers, and the objects that go with them.

Imports the standard library only, and `processes`.

What a task and its test have to say to each other goes through a `Gate` (see conftest.py), whose port the task knows,
or through a file to which every process appends.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import pickle
import socket
import sys
import threading
from contextlib import suppress
from pathlib import Path

import processes

SECONDS = 30.0  # for every wait


# ---- plain ones -------------------------------------------------------------------------------------------------


def add(first, second):
    return first + second


def square(number):
    return number * number


def echo(*args, **kwargs):
    return args, kwargs


def same(value):
    return value


def call(function):
    return function()


def give(name):
    """Make a value in the worker, so that it is a result without having been an argument."""
    return SPECIAL_VALUES[name]()


def pid(_item=None):
    return os.getpid()


def where():
    return os.getpid(), threading.get_ident()


class AlwaysEqual:
    """Says that it equals everything, and has no hash."""

    __hash__ = None

    def __eq__(self, other):
        return True

    def __ne__(self, other):
        return False


SPECIAL_VALUES = {
    "None": lambda: None,
    "Ellipsis": lambda: ...,
    "NotImplemented": lambda: NotImplemented,
    "AlwaysEqual": AlwaysEqual,
    "StopIteration": lambda: StopIteration("a value"),
    "GeneratorExit": GeneratorExit,
    "exception": lambda: ValueError("returned, not raised"),
    "exception type": lambda: KeyboardInterrupt,
    "empty bytes": lambda: b"",
    "empty tuple": lambda: (),
    "False": lambda: False,
    "asyncio.CancelledError": asyncio.CancelledError,
}


class Account:
    """Something with methods."""

    def __init__(self, balance):
        self.balance = balance

    def plus(self, amount):
        return self.balance + amount

    @classmethod
    def opened(cls, balance):
        return cls(balance).balance


class Block:
    """Carries its bytes out of band, as arrays do."""

    def __init__(self, data):
        self.data = data

    def __reduce_ex__(self, protocol):
        return Block, (pickle.PickleBuffer(self.data),)

    def same_as(self, data):
        return bytes(self.data) == bytes(data)


def flip(block):
    return Block(bytearray(bytes(block.data)[::-1]))


# ---- failures ---------------------------------------------------------------------------------------------------


def fail(text="on purpose"):
    raise ValueError(text)  # the line that fails


def fail_with_cause():
    try:
        {}["missing"]
    except KeyError as error:
        raise RuntimeError("the outer one") from error


def raise_it(error):
    raise error


def fail_at(bad, number):
    if number == bad:
        raise ValueError(f"item {number}")
    return number * number


def fail_if_odd(number):
    if number % 2:
        raise ValueError(f"item {number}")
    return number


class NeedsTwo(Exception):  # noqa: N818
    """Cannot be made again from its args."""

    def __init__(self, name, place):
        super().__init__(f"{name} at {place}")
        self.name, self.place = name, place


def fail_needing_two():
    raise NeedsTwo("pump", "cellar")


class HoldsLock(Exception):  # noqa: N818
    """Has an attribute that cannot be pickled, and one that can."""

    def __init__(self, text):
        super().__init__(text)
        self.lock, self.code = threading.Lock(), 17


def fail_holding_lock():
    raise HoldsLock("held")


def fail_locally():
    class LocalError(Exception):
        pass

    raise LocalError("nobody can import me")


class Speechless(Exception):  # noqa: N818
    """Cannot say what it is."""

    def __str__(self):
        raise RuntimeError("no words")

    __repr__ = __str__


def fail_speechless():
    raise Speechless(1)


class Unreadable(Exception):  # noqa: N818
    """Can be pickled, and not be read back."""

    def __reduce__(self):
        return explode, ("an exception",)


def fail_unreadably():
    raise Unreadable("the text")


class Client:
    """Holds a lock, deep inside of an argument."""

    def __init__(self):
        self._lock = threading.Lock()


class Holder:
    def __init__(self):
        self.client = Client()


def explode(what):
    raise LookupError(f"{what} is not to be read back")


class Bomb:
    """Can be pickled; reading it back raises."""

    def __reduce__(self):
        return explode, ("a bomb",)


class ReadsBack:
    """Comes back as the gate's port; but the time of that number it never ends to be read."""

    def __init__(self, path, port, hangs):
        self.path, self.port, self.hangs = path, port, hangs

    def __reduce__(self):
        return read_back, (self.path, self.port, self.hangs)


def read_back(path, port, hangs):
    note(path)
    if Path(path).stat().st_size == hangs:
        wait_for_ever(port)
    return port


class ReadsBackLate:
    """Waits at the gate the first time that it is read back, and cannot be read then; comes back as 1 after that."""

    def __init__(self, path, port):
        self.path, self.port = path, port

    def __reduce__(self):
        return read_back_late, (self.path, self.port)


def read_back_late(path, port):
    note(path)
    if Path(path).stat().st_size == 1:
        wait_at(port, "reading")
        explode("what waited")
    return 1


class QuitsWhenPickled:
    def __reduce__(self):
        raise SystemExit("pickled")


def give_lock():
    return {"rows": [1, threading.Lock()]}


def give_bomb():
    return Bomb()


def give_lambda():
    return lambda number: number + 1


def lock_if_odd(number):
    return threading.Lock() if number % 2 else number


def bomb_if_odd(number):
    return Bomb() if number % 2 else number


def echo_type(value):
    return type(value).__name__


# ---- notes in files ---------------------------------------------------------------------------------------------


def note(path, text="x"):
    """Append to a file; what several processes write at a time is not mixed up."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | processes.BINARY)
    try:
        processes.append(descriptor, text.encode())
    finally:
        os.close(descriptor)


def note_item(path, number):
    note(path, "x")
    return number


def note_line(path, text):
    note(path, f"{text}\n")
    return text


def note_and_fail(path, error=None):
    note(path)
    raise ValueError("again") if error is None else error


def succeed_at(path, attempt):
    """Fail until that attempt; return its number."""
    note(path)
    made = Path(path).stat().st_size
    if made < attempt:
        raise ValueError(f"attempt {made}")
    return made


def flaky(folder, failures, number):
    """Fail the first times of each item."""
    try:
        succeed_at(f"{folder}/item-{number}", failures + 1)
    except ValueError:
        raise ValueError(f"item {number}") from None
    return number * number


def note_and_die(path, how):
    note(path)
    die(how)


def die_once(path, how):
    """Die at the first attempt, and return at the second."""
    note(path)
    if Path(path).stat().st_size == 1:
        die(how)
    return "survived"


# ---- deaths -----------------------------------------------------------------------------------------------------


def die(how):
    if how == "killed":
        processes.end(os.getpid())
        threading.Event().wait()
    elif how == "crash":
        processes.crash()
    elif how == "_exit":
        os._exit(0)
    elif how == "exit":
        sys.exit(3)


def die_at(bad, how, number):
    if number == bad:
        die(how)
    return number * number


# ---- gates ------------------------------------------------------------------------------------------------------


def knock(port, label=""):
    """Tell the gate that one is here."""
    _arrive(port, label).close()
    return label


def wait_at(port, label="", value=None):
    """Tell the gate that one is here, and wait to be let through."""
    with _arrive(port, label) as connection, suppress(OSError):
        connection.recv(1)
    return label if value is None else value


def wait_at_if(port, held, number):
    """Wait at the gate with these numbers; pass by with all others."""
    if number in held:
        wait_at(port, str(number))
    return number * number


def note_and_wait_if(path, port, held, number):
    """Note the number, and wait at the gate with these; pass by with all others."""
    note_line(path, str(number))
    return wait_at_if(port, held, number)


def note_and_fail_if(path, port, held, number):
    """Note a number and return its square; fail for some, once the gate is open."""
    note_and_wait_if(path, port, held, number)
    if number in held:
        raise ValueError(number)
    return number * number


def note_and_hang_at(path, port, bad, number):
    note_line(path, str(number))
    return hang_at(port, bad, number)


def knock_at_last(path, port, last, number):
    """Note an item; tell the gate of the last one."""
    note(path)
    if number == last:
        knock(port)
    return number


def wait_for_ever(port, label=""):
    """Tell the gate that one is here, and never end."""
    knock(port, label)
    threading.Event().wait()


def hang_at(port, bad, number):
    if number == bad:
        wait_for_ever(port, str(number))
    return number * number


def fail_at_gate(port, label=""):
    wait_at(port, label)
    raise ValueError(label)


def _arrive(port, label):
    connection = socket.create_connection(("127.0.0.1", port), timeout=SECONDS)
    connection.sendall(f"{os.getpid()} {label}\n".encode())
    return connection


# ---- initializers -----------------------------------------------------------------------------------------------

state = threading.local()  # of the worker: a thread of its own, or the only one of its process


def prepare(path, value):
    note(path, f"{os.getpid()} {threading.get_ident()}\n")
    state.value = value


def prepared():
    return getattr(state, "value", None)


def fail_to_prepare(text):
    raise OSError(text)


def die_preparing(how):
    die(how)


# ---- shared objects ---------------------------------------------------------------------------------------------


def put_square(results, number):
    results[number] = number * number


def append_square(results, number):
    results.append(number * number)


def pass_on(source, target):
    target.put(source.get(timeout=SECONDS) + 1)


def count_up(counts, lock, times):
    for _ in range(times):
        with lock:
            counts["n"] = counts["n"] + 1


# ---- buffers ----------------------------------------------------------------------------------------------------

_kept = []


def write_to(block):
    block.data[0:1] = b"!"
    return block


def write_and_succeed_at(path, attempt, block):
    assert block.data[0:1] == b"a"
    write_to(block)
    succeed_at(path, attempt)
    return block


def length_of(block):
    return len(block.data)


def length_of_both(block, number):
    return len(block.data), number


def holed_block(size):
    return Block(memoryview(bytearray(size))[::2])


def remember(block):
    _kept[:] = [block]


def recall():
    return _kept[0]


def keep(block):
    _kept.append(block)


def kept_letters():
    assert all(bytes(block.data) == bytes(block.data[:1]) * len(block.data) for block in _kept)
    return "".join(chr(block.data[0]) for block in _kept)


def let_go():
    _kept.clear()


def add_one(array):
    array += 1
    return array


def count_in(counts, number):
    counts += 1
    return number, int(counts[0])


def both(array, other):
    return int(array.sum()), int(other.sum())


def import_value(module):
    return importlib.import_module(module).VALUE
