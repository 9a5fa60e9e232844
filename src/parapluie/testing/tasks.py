"""Functions that the tests hand to workers, and the objects that go with them; what is hostile is in hostile.py.

What a task and its test have to say to each other goes through a `Gate`, whose port the task knows, or through a file
to which every process appends.
"""

from __future__ import annotations

import importlib
import logging
import multiprocessing
import os
import pickle
import socket
import sys
import threading
from contextlib import suppress
from pathlib import Path

from parapluie.testing import processes
from parapluie.testing.patience import SECONDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container, Sequence
    from typing import Any


# ---- plain ones -------------------------------------------------------------------------------------------------


def add(first: Any, second: Any) -> Any:
    return first + second


def square(number: int) -> Any:
    return number * number


def echo(*args: Any, **kwargs: Any) -> Any:
    return args, kwargs


def same(value: Any) -> Any:
    return value


def call(function: Callable[..., Any]) -> Any:
    return function()


def call_with(parts: tuple[Callable[..., Any], Any]) -> Any:
    """Call the first part with the others."""
    function, *args = parts
    return function(*args)


def give(name: str) -> Any:
    """Make a value in the worker, so that it is a result without having been an argument."""
    return SPECIAL_VALUES[name]()


def pid(_item: Any = None) -> Any:
    return os.getpid()


def host_and_pid() -> tuple[str, int]:
    return socket.gethostname(), os.getpid()


def start_method() -> str:
    """Return how multiprocessing would start processes here: in a worker that was not forked, as it was started."""
    return multiprocessing.get_start_method()


def where() -> Any:
    return os.getpid(), threading.get_ident()


class AlwaysEqual:
    """Says that it equals everything, and has no hash."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False


SPECIAL_VALUES: dict[str, Callable[[], Any]] = {
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
    # Not imported by all of the workers for this one: it is much to import.
    "asyncio.CancelledError": lambda: importlib.import_module("asyncio").CancelledError(),
}


class Account:
    """Something with methods."""

    def __init__(self, balance: Any) -> None:
        self.balance = balance

    def plus(self, amount: Any) -> Any:
        return self.balance + amount

    @classmethod
    def opened(cls, balance: Any) -> Any:
        return cls(balance).balance


class Block:
    """Carries its bytes out of band, as arrays do."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __reduce_ex__(self, protocol: object) -> Any:
        return Block, (pickle.PickleBuffer(self.data),)

    def same_as(self, data: bytes) -> Any:
        return bytes(self.data) == bytes(data)


def flip(block: Block) -> Any:
    return Block(bytearray(bytes(block.data)[::-1]))


# ---- failures ---------------------------------------------------------------------------------------------------


def fail(text: str = "on purpose") -> None:
    raise ValueError(text)  # the line that fails


def fail_with_cause() -> None:
    try:
        dict[str, int]()["missing"]
    except KeyError as error:
        raise RuntimeError("the outer one") from error


def raise_it(error: Any) -> None:
    raise error


def fail_at(bad: int, number: int) -> Any:
    if number == bad:
        raise ValueError(f"item {number}")
    return number * number


def fail_if_odd(number: int) -> Any:
    if number % 2:
        raise ValueError(f"item {number}")
    return number


def echo_type(value: Any) -> Any:
    return type(value).__name__


# ---- notes in files ---------------------------------------------------------------------------------------------


def note(path: str, text: str = "x") -> None:
    """Append to a file; what several processes write at a time is not mixed up."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | processes.BINARY)
    try:
        processes.append(descriptor, text.encode())
    finally:
        os.close(descriptor)


def note_item(path: str, number: int) -> Any:
    note(path, "x")
    return number


def note_and_add(path: str, one: int, other: int) -> Any:
    note(path)
    return one + other


def note_line(path: str, text: str) -> Any:
    note(path, f"{text}\n")
    return text


def note_and_fail(path: str, error: Any = None) -> None:
    note(path)
    raise ValueError("again") if error is None else error


def succeed_at(path: str, attempt: int) -> Any:
    """Fail until that attempt; return its number."""
    note(path)
    made = Path(path).stat().st_size
    if made < attempt:
        raise ValueError(f"attempt {made}")
    return made


def flaky(folder: str, failures: int, number: int) -> Any:
    """Fail the first times of each item."""
    try:
        succeed_at(f"{folder}/item-{number}", failures + 1)
    except ValueError:
        raise ValueError(f"item {number}") from None
    return number * number


def note_and_die(path: str, how: str) -> None:
    note(path)
    die(how)


def die_once(path: str, how: str) -> Any:
    """Die at the first attempt, and return at the second."""
    note(path)
    if Path(path).stat().st_size == 1:
        die(how)
    return "survived"


# ---- log records ------------------------------------------------------------------------------------------------


def log(name: str, level: int, text: str, *args: Any) -> Any:
    logging.getLogger(name).log(level, text, *args)
    return text


def log_all(name: str, levels: Sequence[int]) -> Any:
    for level in levels:
        log(name, level, "a record")


def log_many(name: str, count: int) -> Any:
    for number in range(count):
        log(name, logging.WARNING, "record %d", number)


def log_item(name: str, number: int) -> Any:
    log(name, logging.WARNING, "item %d", number)
    return number


def log_and_die(name: str, text: str, how: str) -> None:
    log(name, logging.WARNING, text)
    die(how)


def log_and_wait(name: str, text: str, port: int) -> None:
    log(name, logging.WARNING, text)
    wait_at(port)


def log_and_fail(name: str, text: str) -> None:
    log(name, logging.WARNING, text)
    raise ValueError(text)


def log_what_cannot_travel(name: str) -> Any:
    """Log an argument, an exception and something extra that cannot be pickled."""
    try:
        raise_it(UnsendableError("raised and logged"))
    except UnsendableError:
        extra = {"lock": threading.Lock(), "numbers": [1, 2]}
        logging.getLogger(name).exception("an argument: %s", UnsendableError("argument"), extra=extra)


def log_in_thread(name: str, text: str) -> None:
    thread = threading.Thread(target=log, args=(name, logging.WARNING, text))
    thread.start()
    thread.join()


def level_of(name: str) -> Any:
    return logging.getLogger(name).getEffectiveLevel()


def log_to_file(name: str, path: str) -> None:
    """Add a handler: an initializer."""
    logging.getLogger(name).addHandler(logging.FileHandler(path))


def configure_logging(path: str) -> None:
    """Set up logging as a program does: an initializer."""
    logging.basicConfig(filename=path, level=logging.DEBUG, format="%(message)s")


class UnsendableError(Exception):
    """Cannot be pickled."""

    def __reduce__(self) -> Any:
        raise TypeError("not to be sent")


# ---- output -----------------------------------------------------------------------------------------------------


def say(text: str) -> Any:
    """Print to both streams, as text and as bytes."""
    print(f"out {text}")
    print(f"err {text}", file=sys.stderr)
    sys.stdout.buffer.write(f"bytes {text}\n".encode())
    return text


def say_and_fail(text: str) -> None:
    say(text)
    raise ValueError(text)


def say_at_gate(port: int, text: str) -> None:
    print(text)
    wait_at(port, text)
    print(text)


def say_attempt(path: str, attempt: int) -> Any:
    """Print which attempt this is; fail until one."""
    note(path)
    print(f"attempt {Path(path).stat().st_size}")
    if Path(path).stat().st_size < attempt:
        raise ValueError("again")


def say_in_thread(text: str) -> int:
    thread = threading.Thread(target=print, args=(text,))
    thread.start()
    thread.join()
    return os.getpid()


# ---- deaths -----------------------------------------------------------------------------------------------------


def die(how: str) -> None:
    if how == "killed":
        processes.end(os.getpid())
        threading.Event().wait()
    elif how == "crash":
        processes.crash()
    elif how == "_exit":
        os._exit(0)
    elif how == "exit":
        sys.exit(3)


def die_at(bad: int, how: str, number: int) -> Any:
    if number == bad:
        die(how)
    return number * number


# ---- gates ------------------------------------------------------------------------------------------------------


def knock(port: int, label: str = "") -> Any:
    """Tell the gate that one is here."""
    arrive(port, label).close()
    return label


def wait_at(port: int, label: str = "", value: Any = None) -> Any:
    """Tell the gate that one is here, and wait to be let through."""
    with arrive(port, label) as connection, suppress(OSError):
        connection.recv(1)
    return label if value is None else value


def wait_and_note(port: int, path: str) -> None:
    """Wait at the gate, and then append to a file."""
    wait_at(port)
    note(path)


def wait_at_if(port: int, held: Container[int], number: int) -> Any:
    """Wait at the gate with these numbers; pass by with all others."""
    if number in held:
        wait_at(port, str(number))
    return number * number


def note_and_wait_if(path: str, port: int, held: Container[int], number: int) -> Any:
    """Note the number, and wait at the gate with these; pass by with all others."""
    note_line(path, str(number))
    return wait_at_if(port, held, number)


def note_and_fail_if(path: str, port: int, held: Container[int], number: int) -> Any:
    """Note a number and return its square; fail for some, once the gate is open."""
    note_and_wait_if(path, port, held, number)
    if number in held:
        raise ValueError(number)
    return number * number


def note_and_hang_at(path: str, port: int, bad: int, number: int) -> Any:
    note_line(path, str(number))
    return hang_at(port, bad, number)


def knock_at_last(path: str, port: int, last: int, number: int) -> Any:
    """Note an item; tell the gate of the last one."""
    note(path)
    if number == last:
        knock(port)
    return number


def wait_for_ever(port: int, label: str = "") -> None:
    """Tell the gate that one is here, and never end."""
    knock(port, label)
    threading.Event().wait()


def hang_at(port: int, bad: int, number: int) -> Any:
    if number == bad:
        wait_for_ever(port, str(number))
    return number * number


def fail_at_gate(port: int, label: str = "") -> None:
    wait_at(port, label)
    raise ValueError(label)


def arrive(port: int, label: str = "") -> Any:
    """Tell the gate that one is here; what it was told by stays connected."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=SECONDS)
    connection.sendall(f"{os.getpid()} {label}\n".encode())
    return connection


# ---- initializers -----------------------------------------------------------------------------------------------


def import_tasks() -> None:
    """Have imported this module, so that a first task's time limit is not spent on that."""


state = threading.local()  # of the worker: a thread of its own, or the only one of its process


def prepare(path: str, value: Any) -> None:
    note(path, f"{os.getpid()} {threading.get_ident()}\n")
    state.value = value


def prepared() -> Any:
    return getattr(state, "value", None)


def fail_to_prepare(text: str) -> None:
    raise OSError(text)


def die_preparing(how: str) -> None:
    die(how)


# ---- shared objects ---------------------------------------------------------------------------------------------


def put_square(results: Any, number: int) -> None:
    results[number] = number * number


def append_square(results: Any, number: int) -> None:
    results.append(number * number)


def pass_on(source: Any, target: Any) -> None:
    target.put(source.get(timeout=SECONDS) + 1)


def count_up(counts: Any, lock: Any, times: int) -> None:
    for _ in range(times):
        with lock:
            counts["n"] = counts["n"] + 1


def add_between(counts: Any, barrier: Any) -> None:
    number = counts["n"]
    barrier.wait(SECONDS)  # now the other one has read it, too
    counts["n"] = number + 1


def add_at_once(counts: Any, counter: Any, times: int) -> None:
    for _ in range(times):
        counts.add("n")
        counts.apply("n", plus, 2)
        counts.add_many({"m": 1, "n": -2})
        counter.add()


def plus(number: int, more: int) -> int:
    return number + more


def divide_by_zero(number: int) -> float:
    return number / 0


def look_up(name: str, number: int = 0) -> Any:
    import parapluie

    return parapluie.lookup(name).get_many(["a", "b"])[number]


def acquire_and_die(lock: Any, how: str) -> None:
    lock.acquire()
    die(how)


def acquire(lock: Any, waiting: Any) -> bool:
    waiting.set()
    return bool(lock.acquire(timeout=SECONDS))


def wait_for_turn(condition: Any, turns: Any, number: int) -> list[int]:
    with condition:
        condition.wait_for(lambda: len(turns) == number, SECONDS)
        turns.append(number)
        condition.notify_all()
    return list(turns)


def set_event(event: Any) -> None:
    event.set()


def meet(barrier: Any) -> int:
    return int(barrier.wait(SECONDS))


def knock_and_meet(port: int, barrier: Any) -> int:
    knock(port)
    return meet(barrier)


def read_after_gate(port: int, items: Any) -> Any:
    wait_at(port)
    return list(items)


def use_every_kind(shared: Any) -> list[Any]:
    """Use what the test has made of every kind; return what there is to see."""
    seen: list[Any] = []
    table = shared["dict"]
    table.update({"b": 2}, c=3)
    seen += [table.get("a"), table.get("z", 0), "b" in table, table.pop("c"), table.pop("z", None), len(table)]
    seen += [table.setdefault("d", 4), sorted(table), table.get_many(["a", "z"], -1), table.copy()]
    items = shared["list"]
    items += [1, 3]
    items.insert(0, 2)
    items.sort(key=abs, reverse=True)
    items.add(0, 10)
    seen += [
        items.pop(),
        list(items),
        items.index(2),
        items[0:1],
        items.copy(),
        items.apply(0, plus, 1),
        items == [8, 3, 2],
    ]
    numbers = shared["array"]
    numbers[0:2] = [5, 6]
    numbers.add(1, 1)
    seen += [numbers.tolist(), len(numbers), numbers[1], list(numbers[1:])]
    value, counter, names = shared["value"], shared["counter"], shared["namespace"]
    value.value = "x"
    seen += [value.apply(str.upper), value.set("y"), value.get(), counter.add(5), counter.add(-1), int(counter)]
    names.b = names.a + 1
    del names.a
    seen += [names.b, hasattr(names, "a")]
    waiting = shared["queue"]
    waiting.put_many([1, None])
    seen += [waiting.full(), waiting.get(), waiting.get_many(5), waiting.empty()]
    with shared["rlock"], shared["rlock"]:
        pass
    with shared["lock"], shared["semaphore"], shared["condition"]:
        seen += [shared["lock"].acquire(blocking=False), shared["semaphore"].get_value()]
        seen += [shared["condition"].wait(timeout=0.01)]
    shared["event"].set()
    seen += [shared["event"].wait(), shared["lock"].locked(), shared["barrier"].wait(), shared["barrier"].n_waiting]
    return seen


# ---- buffers ----------------------------------------------------------------------------------------------------

_kept: list[Block] = []


def write_to(block: Block) -> Any:
    block.data[0:1] = b"!"
    return block


def write_and_succeed_at(path: str, attempt: int, block: Block) -> Any:
    assert block.data[0:1] == b"a"
    write_to(block)
    succeed_at(path, attempt)
    return block


def length_of(block: Block) -> Any:
    return len(block.data)


def length_of_both(block: Block, number: int) -> Any:
    return len(block.data), number


def holed_block(size: int) -> Any:
    return Block(memoryview(bytearray(size))[::2])


def remember(block: Block) -> None:
    _kept[:] = [block]


def recall() -> Any:
    return _kept[0]


def keep(block: Block) -> None:
    _kept.append(block)


def kept_letters() -> Any:
    assert all(bytes(block.data) == bytes(block.data[:1]) * len(block.data) for block in _kept)
    return "".join(chr(block.data[0]) for block in _kept)


def let_go() -> None:
    _kept.clear()


def add_one(array: Any) -> Any:
    array += 1
    return array


def count_in(counts: Any, number: int) -> Any:
    counts += 1
    return number, int(counts[0])


def both(array: Any, other: Any) -> Any:
    return int(array.sum()), int(other.sum())


def import_value(module: str) -> Any:
    return importlib.import_module(module).VALUE
