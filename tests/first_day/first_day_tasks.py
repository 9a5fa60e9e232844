"""What the tests send to workers."""

from __future__ import annotations

import asyncio
import concurrent.futures
import multiprocessing
import socket
import threading

from parapluie import Executor, cpus


class Crawler:
    """Keeps an executor, as programs do, and has methods that could be tasks."""

    def __init__(self, pool):
        self.pool = pool

    def crawl(self, page):
        return page


class Polite(Crawler):
    """Leaves the executor out."""

    def __getstate__(self):
        return {}


def ignore(*args, **kwargs):
    """Take anything."""


async def answer():
    return 42


def give(kind):
    """Return something that cannot leave its process."""
    makers = {
        "executor": lambda: concurrent.futures.ThreadPoolExecutor(1),
        "future": lambda: {"all": [concurrent.futures.Future()]},
        "lock": lambda: [threading.Lock()],
        "generator": lambda: (n for n in range(3)),
        "socket": socket.socket,
        "pipe": lambda: multiprocessing.Pipe()[0],
    }
    return makers[kind]()


def loop_future():
    """Return a future of asyncio, of a loop that is closed."""
    loop = asyncio.new_event_loop()
    try:
        return loop.create_future()
    finally:
        loop.close()


# ---- executors in workers


def square(n):
    return n * n


def pretend(count):
    """Have this process believe that it may use so many CPUs; no test should depend on the machine's."""
    cpus.usable_cpus = lambda: count


def nested(backend, method, count, **options):
    """Use an executor in a worker; return how many workers it has at most, and what it computed."""
    pretend(count)
    with Executor(backend, start_method=method, **options) as executor:
        results = [*executor.map(square, range(5)), executor.submit(square, 5).result()]
        return most_workers(executor), results


def nested_twice(backend, method, count, max_workers):
    """Use an executor in a worker whose tasks use one, too; return how many workers the innermost has."""
    with Executor(backend, max_workers, start_method=method) as executor:
        return executor.submit(nested, backend, method, count).result()


def most_workers(executor):
    """Return the most workers that an executor has."""
    return int(repr(executor).partition("max_workers=")[2].split()[0])
