"""`FutureBackend` through an executor, over the engines of the standard library, and over some that refuse."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import CancelledError, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from multiprocessing import get_context

import future_engine
import pytest
from cell_helpers import SECONDS, Gate, wait_at
from future_engine import EngineBackend

from parapluie import (
    Executor,
    Retry,
    Shutdown,
    WorkerInitError,
    WorkerLostError,
)
from parapluie.backend import FutureBackend

driven, no_defect_logged = future_engine.driven, future_engine.no_defect_logged


def square(number):
    return number * number


def fail(number):
    raise LookupError(number)


def kill_self_at(number, at):
    if number == at:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def kill_self_once(path, number):
    try:
        with open(path, "x"):  # noqa: PTH123 - a worker has better things to import
            pass
    except FileExistsError:
        return number
    return os.kill(os.getpid(), signal.SIGKILL)


class InProcesses(FutureBackend):
    """The standard executor, which breaks as a whole, and is then replaced."""

    engine = None

    def submit(self, function, /, *args):
        if self.engine is None or self.engine._broken:
            self.engine = ProcessPoolExecutor(self.host.max_workers, mp_context=get_context("spawn"))
        return self.engine.submit(function, *args)

    def shut_down(self, *, kill):
        if self.engine is not None:
            for process in list((self.engine._processes or {}).values()) if kill else ():
                process.kill()
            self.engine.shutdown()


class InThreads(FutureBackend):
    def start(self, host):
        super().start(host)
        self.engine = ThreadPoolExecutor(host.max_workers)

    def submit(self, function, /, *args):
        return self.engine.submit(function, *args)

    def shut_down(self, *, kill):
        self.engine.shutdown(wait=not kill, cancel_futures=True)


class InLateThreads(InThreads):
    """Has its end at exit registered with its first call, as loky does, and takes no calls from then on."""

    ending = None

    def submit(self, function, /, *args):
        if self.ending is None:
            self.ending = threading.Event()
            threading._register_atexit(self.ending.set)
        if self.ending.is_set():
            raise RuntimeError("cannot schedule new futures after interpreter shutdown")
        return super().submit(function, *args)


@pytest.fixture(params=[InProcesses, InThreads])
def backend(request):
    return request.param()


def test_results_errors_and_maps(backend):
    with Executor(backend, 2) as executor:
        futures = [executor.submit(square, number) for number in range(10)]
        failing = executor.submit(fail, 3)
        assert list(executor.map(square, range(1000))) == [number * number for number in range(1000)]
        assert [future.result(SECONDS) for future in futures] == [number * number for number in range(10)]
        assert isinstance(failing.exception(SECONDS), LookupError)
        assert executor.stats().done == 1010
    with pytest.raises(RuntimeError):
        executor.submit(square, 1)


def test_every_future_ends_when_a_worker_dies():
    with Executor(InProcesses(), 2) as executor:
        futures = [executor.submit(kill_self_at, number, 3) for number in range(12)]
        errors = [future.exception(SECONDS) for future in futures]
        assert isinstance(errors[3], WorkerLostError) and errors[3].began is None
        assert "BrokenProcessPool" in str(errors[3])
        assert {type(error) for error in errors} <= {WorkerLostError, type(None)}
        assert sum(error is not None for error in errors) <= 2  # that the engine had
        assert executor.submit(square, 5).result(SECONDS) == 25


def test_what_is_lost_with_a_worker_is_retried(tmp_path):
    """From the callback of a future, which the engine ends under its lock."""
    with Executor(InProcesses(), 2, retry=Retry(3, wait=0)) as executor:
        futures = [executor.submit(kill_self_once, str(tmp_path / "once"), number) for number in range(8)]
        assert [future.result(SECONDS) for future in futures] == list(range(8))
        items = executor.map(kill_self_once, [str(tmp_path / "twice")] * 50, range(50))
        assert list(items) == list(range(50))


def test_running_task_is_ended_with_the_engine():
    executor = Executor(InProcesses(), 1, shutdown=Shutdown(grace=0.1))
    with Gate() as gate:
        future = executor.submit(wait_at, gate.port)
        gate.arrival()
        executor._dispatcher.ending.close(hurry=True)
        assert isinstance(future.exception(0), WorkerLostError)


class Refusing(EngineBackend):
    refusals: tuple[BaseException, ...] = ()

    def start(self, host):
        super().start(host)
        self.engine.refusals = list(self.refusals)
        self.engine.at_once = lambda future: future.run()


def test_engine_that_takes_no_call_breaks_the_executor():
    backend = Refusing()
    backend.refusals = [OSError("the engine is out of order")] * 100
    with Executor(backend, 2) as executor:
        futures = [executor.submit(square, number) for number in range(10) if executor._dispatcher.error is None]
        wait_for(futures, SECONDS)
        for future in futures:
            error = future.exception(0)
            assert isinstance(error, WorkerInitError) and "OSError: the engine is out of order" in str(error)
        with pytest.raises(WorkerInitError, match="out of order"):
            executor.submit(square, 1)


def test_engine_that_takes_no_call_for_a_moment():
    backend = Refusing()
    backend.refusals = [OSError(), OSError()]
    with Executor(backend, 2) as executor:
        for number in range(3):
            assert executor.submit(square, number).result(SECONDS) == number * number
            backend.engine.refusals = [OSError(), OSError()]


class Cancelling(EngineBackend):
    times = 1_000_000

    def start(self, host):
        super().start(host)
        self.engine.at_once = self.cancel

    def cancel(self, future):
        self.times -= 1
        if self.times >= 0:
            future.cancel()
        else:
            future.run()


def test_engine_that_cancels_every_future_breaks_the_executor():
    with Executor(Cancelling(), 2) as executor:
        error = executor.submit(square, 3).exception(SECONDS)
        assert isinstance(error, WorkerInitError) and "the engine cancelled it" in str(error)


def test_task_that_comes_back_from_an_engine_that_is_stopped_is_cancelled():
    backend = EngineBackend()
    executor = Executor(backend, 1, shutdown=Shutdown(drain=False, grace=0.05))
    future, chunk = executor.submit(square, 3), executor.map(square, [3])
    backend.engine.futures[0].cancel = lambda: False
    backend.engine.at_end = lambda _kill: Future.cancel(backend.engine.futures[0])
    executor._dispatcher.ending.close(hurry=True)
    assert future.cancelled()
    with pytest.raises(CancelledError):
        next(chunk)


def test_engine_that_cancels_a_future_is_given_the_call_again():
    backend = Cancelling()
    backend.times = 2
    with Executor(backend, 2) as executor:
        assert executor.submit(square, 3).result(SECONDS) == 9


def test_tasks_are_cancelled_while_they_wait(backend):
    with Executor(backend, 1) as executor:
        futures = [executor.submit(square, number) for number in range(200)]
        cancelled = [future.cancel() for future in reversed(futures)]
        assert not wait_for(futures, SECONDS).not_done
        assert [future.cancelled() for future in reversed(futures)] == cancelled
        assert executor.submit(square, 3).result(SECONDS) == 9


PROGRAM = """
import sys
from pathlib import Path

sys.path.insert(0, sys.argv[1])
from test_future_backend_engines import {name}, square

from parapluie import Executor

if __name__ == "__main__":
    executor = Executor({name}(), 2)
    for number in range(200):
        executor.submit(square, number).add_done_callback(lambda future: print(future.result()))
"""


@pytest.mark.parametrize("name", ["InProcesses", "InThreads", "InLateThreads"])
def test_what_was_submitted_is_done_before_the_interpreter_exits(tmp_path, name):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(name=name), encoding="utf-8")
    path = os.pathsep.join([os.path.dirname(__file__), os.path.dirname(os.path.dirname(__file__))])  # noqa: PTH120
    command = [sys.executable, str(program), os.path.dirname(__file__)]  # noqa: PTH120
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=50, check=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert (sorted(map(int, done.stdout.split())), done.stderr) == ([number * number for number in range(200)], "")
