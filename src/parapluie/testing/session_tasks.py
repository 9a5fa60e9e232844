"""Functions that the tests run in sessions. Imports the standard library only, as tasks.py does."""

from __future__ import annotations

import logging
import os
import threading

from parapluie.testing import hostile, tasks
from parapluie.testing.patience import SECONDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from parapluie.sharing.connection import Connection


def echo(connection: Connection) -> int:
    """Send back what comes; return how many messages that were."""
    count = 0
    for message in connection:
        connection.send(message)
        count += 1
    return count


def echo_type(connection: Connection) -> None:
    for message in connection:
        connection.send(type(message).__name__)


def say_who(connection: Connection, *args: Any, **kwargs: Any) -> int:
    """Send what the function was given, and where it runs; stay there until the end of the session."""
    connection.send((args, kwargs))
    connection.send(tasks.where())
    assert list(connection) == []
    return os.getpid()


def give_values(connection: Connection) -> None:
    """Send special values that are made here."""
    for name in tasks.SPECIAL_VALUES:
        connection.send((name, tasks.give(name)))


def add_up(connection: Connection, total: int) -> int:
    for number in connection:
        total += number
        connection.send(total)
    return total


def receive_to_the_end(connection: Connection) -> list[Any]:
    """Receive by `recv` alone; send once more behind the end, and return all that came."""
    received = []
    while True:
        try:
            received.append(connection.recv())
        except EOFError:
            break
    assert connection.poll()  # it would raise at once
    connection.send("the last word")
    return received


def keep_all(connection: Connection) -> list[Any]:
    """Say that it is here, receive until the end, and return what came."""
    connection.send("here")
    return list(connection)


def send_and_fail(connection: Connection, text: str = "on purpose") -> None:
    connection.send(1)
    connection.send(2)
    tasks.fail(text)


def fail_when_told(connection: Connection) -> None:
    connection.recv()
    tasks.fail("told to")


def send_and_die(connection: Connection, how: str) -> None:
    connection.send("the last")
    connection.recv()
    tasks.die(how)


def stay(connection: Connection, port: int) -> None:
    """Tell the gate that one is here, and never end."""
    tasks.wait_at(port)
    threading.Event().wait()


def stay_until_closed(connection: Connection, port: int) -> str:
    """Tell the gate that one is here, stay connected to it, and wait for the end of the session."""
    with tasks.arrive(port):
        for _ in connection:
            pass
    return "closed"


def wait_and_keep_all(connection: Connection, port: int) -> list[int]:
    """Receive only when the gate lets one through; return the lengths of what came."""
    tasks.wait_at(port)
    return [len(message) for message in connection]


def send_many(connection: Connection, count: int, size: int) -> int:
    """Send much before anything is received; return how much came then."""
    for number in range(count):
        connection.send((number, b"x" * size))
    return sum(len(message[1]) for message in connection)


def send_in_threads(connection: Connection, threads: int, count: int) -> None:
    """Have threads send at the same time."""

    def send(thread: int) -> None:
        for number in range(count):
            connection.send((thread, number, "x" * (number % 7) * 100))

    started = [threading.Thread(target=send, args=(thread,)) for thread in range(threads)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join(SECONDS)


def answer(connection: Connection, ways: dict[str, Callable[[], Any]]) -> None:
    """Send what is asked for, or the error that this raises."""
    for name in connection:
        try:
            connection.send(ways[name]())
        except Exception as error:  # noqa: BLE001 - it is what the test asks about
            connection.send((type(error).__name__, str(error)))


WAYS: dict[str, Callable[[], Any]] = {
    "lock": hostile.Holder,
    "bomb": hostile.Bomb,
    "exit": lambda: hostile.Hostile("read back", "exit"),
    "plain": lambda: "plain",
    "lambda": hostile.give_lambda,
}


def answer_ways(connection: Connection) -> None:
    answer(connection, WAYS)


def say_what_comes(connection: Connection) -> None:
    """Say of each message what receiving it gave or raised."""
    while True:
        try:
            message = connection.recv()
        except EOFError:
            return
        except Exception as error:  # noqa: BLE001 - it is what the test asks about
            message = type(error).__name__
        connection.send(message)


def time_out(connection: Connection) -> Any:
    """Wait for a message for too short a time, and then for long enough."""
    try:
        connection.recv(timeout=0.01)
    except TimeoutError:
        connection.send("nothing yet")
    return connection.recv(timeout=SECONDS)


def give_lock(connection: Connection) -> Any:
    return hostile.give_lock()


def give_bomb(connection: Connection) -> Any:
    return hostile.give_bomb()


def say_prepared(connection: Connection) -> None:
    connection.send(tasks.prepared())


def put_squares(connection: Connection, results: Any) -> None:
    """Note the squares of what comes in shared state."""
    for number in connection:
        results[number] = number * number
        connection.send(None)


def append(connection: Connection) -> list[int]:
    """Append to what comes, and send it back."""
    kept: list[int] = []
    for kept in connection:
        kept.append(0)
        connection.send(kept)
        kept.append(1)
    return kept


def log(connection: Connection, name: str) -> None:
    """Log each message before it is sent back."""
    for message in connection:
        logging.getLogger(name).warning("it says %s", message)
        connection.send(message)


def go_on_until_refused(connection: Connection, port: int) -> list[str]:
    """Tell the gate that one is here; receive, and then send, until that raises; return what was raised."""
    tasks.knock(port)
    raised = []
    for call in (connection.recv, lambda: connection.send(1)):
        try:
            while True:
                call()
        except Exception as error:  # noqa: BLE001 - it is what the test asks about
            raised.append(type(error).__name__)
    return raised
