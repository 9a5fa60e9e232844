"""Executors, futures, and other things that stay in their process: refused in a sentence that says what to do."""

from __future__ import annotations

import concurrent.futures
import functools
import multiprocessing
import os
import socket
import threading

import pytest
from first_day_tasks import Crawler, Polite, answer, give, ignore, loop_future

from parapluie import ResultPicklingError, TaskPicklingError

SECONDS = 30
ADVICE = "an executor cannot be sent into a task; make one there, or leave it out in __getstate__"
EXECUTOR = f"'parapluie.executor.Executor', which cannot be pickled; {ADVICE}"
FUTURE = "'parapluie.future.Future', which cannot be pickled; a future stays in the process that made it; send its "


@pytest.fixture
def executor(any_row):
    with any_row.make(1) as executor:
        yield executor


def refusal(future, path, reason):
    """Check that a task was not sent, and that its error says where the reason is."""
    error = future.exception(SECONDS)
    assert isinstance(error, TaskPicklingError), error
    assert error.path == path
    assert f": {path} is a {reason}" in str(error)
    assert f"{os.path.basename(__file__)}:" in str(error)  # noqa: PTH119 - it was submitted in here


def test_executor_in_a_task(executor):
    refusal(executor.submit(ignore, executor), "args[0]", EXECUTOR)
    refusal(executor.submit(ignore, pool=executor), "kwargs['pool']", EXECUTOR)
    refusal(executor.submit(ignore, {"pools": [(1, executor)]}), "args[0]['pools'][0][1]", EXECUTOR)
    refusal(executor.submit(ignore, executor.with_options(name="view")), "args[0]", EXECUTOR)
    refusal(executor.submit(lambda: executor), "function.__closure__['executor']", EXECUTOR)
    refusal(executor.submit(functools.partial(ignore, executor)), "function.args[0]", EXECUTOR)
    refusal(executor.submit(executor.submit, ignore), "function.__self__", EXECUTOR)
    assert executor.submit(ignore).result(SECONDS) is None


def test_bound_method_that_drags_an_executor_along(executor):
    refusal(executor.submit(Crawler(executor).crawl, 1), "function.__self__.pool", EXECUTOR)
    with pytest.raises(TaskPicklingError, match="function.__self__.pool is a 'parapluie.executor.Executor'"):
        list(executor.map(Crawler(executor).crawl, range(3)))
    # What the sentence says: leave it out.
    assert executor.submit(Polite(executor).crawl, 1).result(SECONDS) == 1


def test_future_in_a_task(executor):
    future = executor.submit(ignore)
    refusal(executor.submit(ignore, future), "args[0]", FUTURE)
    refusal(executor.submit(ignore, after=[future]), "kwargs['after'][0]", FUTURE)
    refusal(executor.submit(future.result), "function.__self__", FUTURE)
    refusal(executor.submit(lambda: future), "function.__closure__['future']", FUTURE)
    with pytest.raises(TaskPicklingError, match="args\\[0\\] is a 'parapluie.future.Future'"):
        list(executor.map(ignore, [future]))
    assert executor.submit(ignore, future.result(SECONDS)).result(SECONDS) is None


THINGS = [
    (concurrent.futures.Future, "a future stays in the process that made it; send its result()"),
    (loop_future, "it stays in its event loop; await it and send what that gives"),
    (
        lambda: concurrent.futures.ThreadPoolExecutor(1),
        ADVICE,
    ),
    (
        lambda: concurrent.futures.ProcessPoolExecutor(1),
        ADVICE,
    ),
    (lambda: (n for n in "ab"), "send a list of its items, or make it in the worker"),
    (lambda: open(os.devnull, "wb"), "send its path and open it in the worker"),  # noqa: SIM115, PTH123
    (threading.Lock, "create it in the worker (initializer=) or leave it out in __getstate__"),
    (threading.Thread, "start it in the worker"),
    (socket.socket, "open it in the worker (initializer=)"),
    (lambda: multiprocessing.Pipe()[0], "the end of a pipe stays in its process; use executor.shared.queue()"),
    (multiprocessing.Lock, "it reaches other processes by inheritance only; use executor.shared"),
]


def test_other_things_in_a_task(executor):
    for make, advice in THINGS:
        thing = make()
        error = executor.submit(ignore, [thing]).exception(SECONDS)
        if hasattr(thing, "close"):
            thing.close()
        assert isinstance(error, TaskPicklingError), make
        assert "args[0][0] is a" in str(error)
        assert f"which cannot be pickled; {advice}" in str(error)
    assert executor.submit(ignore).result(SECONDS) is None


RESULTS = {
    "executor": ("result", "an executor stays in the process that made it; return what its tasks returned"),
    "future": ("result['all'][0]", "a future stays in the process that made it; return its result()"),
    "lock": ("result[0]", "return what is needed of it as plain data, or leave it out in __getstate__"),
    "generator": ("result", "return a list of its items"),
    "socket": ("result", "return what is needed of it as plain data, or leave it out in __getstate__"),
    "pipe": ("result", "return what is needed of it as plain data, or leave it out in __getstate__"),
}


def test_things_that_a_task_returns(executor):
    for kind, (path, advice) in RESULTS.items():
        error = executor.submit(give, kind).exception(SECONDS)
        assert isinstance(error, ResultPicklingError), kind
        assert error.path == path
        assert str(error).endswith(f"which cannot be pickled; {advice}")
    assert executor.submit(ignore).result(SECONDS) is None


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
def test_async_function_as_a_task(executor):
    error = executor.submit(answer).exception(SECONDS)
    assert isinstance(error, ResultPicklingError)
    assert str(error).endswith("run it in the task, as by asyncio.run(), and return what that returns")
