"""Tasks that talk through channels. As those of tasks.py they are importable, and say in their names what they do."""

from __future__ import annotations

import os
import queue
import threading
from typing import TYPE_CHECKING, Any

import parapluie
from parapluie.testing import tasks

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from parapluie import Channel


def put_all(channel: Channel[Any], items: Iterable[Any]) -> int:
    count = 0
    for count, item in enumerate(items, 1):  # noqa: B007 - it is returned
        channel.put(item)
    return count


def put_many(channel: Channel[Any], items: Iterable[Any]) -> None:
    channel.put_many(items)


def put_and_fail(channel: Channel[Any], items: Iterable[Any]) -> None:
    put_all(channel, items)
    tasks.fail("no more")


def put_and_die(channel: Channel[Any], items: Iterable[Any], how: str) -> None:
    put_all(channel, items)
    channel.stats()  # what was put is in
    tasks.die(how)


def put_in_second_attempt(path: str, channel: Channel[Any], items: Sequence[Any]) -> None:
    """Fail in the first attempt, between two puts."""
    put_all(channel, items[:1])
    tasks.succeed_at(path, 2)
    channel.put_many(items[1:])


def put_round_gate(port: int, channel: Channel[Any], first: Any, second: Any) -> None:
    """Put, wait until the gate is open, and put again."""
    channel.put(first)
    tasks.wait_at(port)
    channel.put(second)


def put_behind_gate(port: int, channel: Channel[Any], items: Iterable[Any]) -> None:
    tasks.wait_at(port)
    channel.put_many(items)


def put_big_items(port: int, channel: Channel[Any], size: int) -> None:
    """Put items of one repeated byte each, for ever."""
    tasks.knock(port)
    number = 0
    while True:
        channel.put(bytes([number % 256]) * size)
        number += 1


def put_from_thread(channel: Channel[Any], items: Iterable[Any]) -> None:
    thread = threading.Thread(target=put_all, args=(channel, items))
    thread.start()
    thread.join()


def put_into_found(name: str, items: Iterable[Any]) -> None:
    parapluie.lookup(name).put_many(items)


def put_into_found_and_fail(name: str, items: Iterable[Any]) -> None:
    put_into_found(name, items)
    tasks.fail("no more")


def take_all(channel: Channel[Any], _number: Any = None) -> list[Any]:
    return list(channel)


def take_all_found(name: str) -> list[Any]:
    return list(parapluie.lookup(name))


def take_batches(channel: Channel[Any], most: int) -> list[int]:
    """Return how many items there were at a time."""
    sizes = []
    try:
        while True:
            sizes.append(len(channel.get_many(most)))
    except parapluie.ChannelClosedError:
        return sizes


def take_some(channel: Channel[Any], count: int) -> list[Any]:
    return [channel.get() for _ in range(count)]


def take_some_and_wait(port: int, channel: Channel[Any], count: int) -> list[Any]:
    """Take some in quick succession, and then be busy with the last one until the gate is open."""
    taken = take_some(channel, count)
    tasks.wait_at(port)
    return taken + take_all(channel)


def take_batch_and_die(channel: Channel[Any], count: int) -> None:
    channel.get_many(count)
    tasks.die("killed")


def take_one_and_fail(channel: Channel[Any]) -> None:
    channel.get()
    tasks.fail("no more")


def take_until_empty(channel: Channel[Any]) -> list[Any]:
    """Take what is there, and wait for nothing."""
    taken = []
    try:
        while True:
            taken.append(channel.get(timeout=0))
    except queue.Empty:
        return taken


def pass_on_doubled(source: Channel[Any], target: Channel[Any]) -> None:
    for item in source:
        target.put(2 * item)


def fill_as_context(channel: Channel[Any], items: Iterable[Any], error: BaseException | None = None) -> None:
    with channel:
        channel.put_many(items)
        if error is not None:
            raise error


def fail_channel(channel: Channel[Any], error: Exception) -> int:
    channel.fail(error)
    return os.getpid()


def take_all_and_tell_pid(pids: Channel[int], channel: Channel[Any]) -> list[Any]:
    pids.put(os.getpid())
    return take_all(channel)
