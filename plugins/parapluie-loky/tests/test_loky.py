"""What is loky's own about the backend; test_conformance.py has what holds for every one."""

from __future__ import annotations

import multiprocessing
import os
import select
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import BrokenExecutor
from pathlib import Path

import loky
import pytest

from parapluie import CapabilityError, ConfigError, Executor, Retry, Shutdown, WorkerLostError

SECONDS = 60.0  # for every wait

posix = pytest.mark.skipif(sys.platform == "win32", reason="signals")


def square(number):
    return number * number


def pid(_=None):
    return os.getpid()


def wait_for_file(path, name=""):
    """Say that the task runs, and wait until the test lets it go on; return the worker's pid."""
    Path(f"{path}.{name}.began").touch()
    deadline = time.monotonic() + SECONDS
    while not Path(path).exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return os.getpid()


def kill_self_once(path, number):
    try:
        Path(path).touch(exist_ok=False)
    except FileExistsError:
        return number
    return os.kill(os.getpid(), signal.SIGKILL)


def wait_for(path):
    deadline = time.monotonic() + SECONDS
    while not Path(path).exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def ends(pid):
    """Wait for the end of a process; say whether it came."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], SECONDS)[0])
    finally:
        os.close(descriptor)


@pytest.fixture(autouse=True)
def leaves_nothing_behind():
    """Compare threads and processes; loky does not wait for the threads of its queues, which end by themselves."""
    threads, children = set(threading.enumerate()), set(multiprocessing.active_children())
    yield
    assert set(multiprocessing.active_children()) == children
    deadline = time.monotonic() + SECONDS
    while set(threading.enumerate()) - threads:
        assert time.monotonic() < deadline, threading.enumerate()
        time.sleep(0.01)


@pytest.fixture(params=["loky", "loky_init_main", "spawn", "forkserver"])
def context(request):
    if request.param == "forkserver" and request.param not in multiprocessing.get_all_start_methods():
        pytest.skip("this platform has no forkserver")
    return request.param


# ---- workers that die ---------------------------------------------------------------------------------------------


@posix
def test_every_future_ends_when_a_worker_dies(context, tmp_path):
    with Executor("loky", 2, context=context) as executor:
        for name in ("first", "second"):  # the engine was replaced in between
            futures = [executor.submit(kill_self_once, str(tmp_path / name), number) for number in range(12)]
            errors = [future.exception(SECONDS) for future in futures]
            lost = [error for error in errors if error is not None]
            assert 1 <= len(lost) <= 2 and {type(error) for error in lost} == {WorkerLostError}
            assert isinstance(lost[0], BrokenExecutor) and "SIGKILL" in str(lost[0]) and lost[0].began is None
        assert executor.submit(square, 5).result(SECONDS) == 25


@posix
def test_what_is_lost_is_retried(tmp_path):
    with Executor("loky", 2, retry=Retry(3, wait=0)) as executor:
        futures = [executor.submit(kill_self_once, str(tmp_path / "a"), number) for number in range(20)]
        assert [future.result(SECONDS) for future in futures] == list(range(20))
        assert list(executor.map(kill_self_once, [str(tmp_path / "b")] * 100, range(100))) == list(range(100))


@posix
def test_death_of_an_idle_worker():
    with Executor("loky", 2, retry=Retry(3, wait=0)) as executor:
        for _ in range(3):
            os.kill(executor.submit(pid).result(SECONDS), signal.SIGKILL)
            assert list(executor.map(square, range(100))) == [number * number for number in range(100)]


# ---- the end ------------------------------------------------------------------------------------------------------


@posix
def test_shutdown_leaves_no_worker(context):
    with Executor("loky", 2, context=context) as executor:
        pids = {executor.submit(pid).result(SECONDS) for _ in range(20)}
    assert all(ends(pid) for pid in pids)


@posix
def test_what_outstays_the_grace_period_is_killed(tmp_path):
    gate = str(tmp_path / "gate")
    executor = Executor("loky", 1, shutdown=Shutdown(drain=False, grace=0.2))
    running = executor.submit(wait_for_file, gate)
    waiting = [executor.submit(square, number) for number in range(10)]
    wait_for(f"{gate}..began")
    with pytest.raises(KeyboardInterrupt), executor:
        raise KeyboardInterrupt
    assert isinstance(running.exception(0), WorkerLostError)
    assert all(future.cancelled() or isinstance(future.exception(0), WorkerLostError) for future in waiting)
    assert sum(future.cancelled() for future in waiting) >= 8


# ---- others in the same program -----------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [(2, 2), (1, 3)])
def test_executors_do_not_wait_for_each_other(tmp_path, workers):
    gate = str(tmp_path / "gate")
    with Executor("loky", workers[0]) as first:
        running = [first.submit(wait_for_file, gate, number) for number in range(workers[0])]
        wait_for(f"{gate}.0.began")
        with Executor("loky", workers[1]) as second:
            assert list(second.map(square, range(10))) == [number * number for number in range(10)]
        assert not any(future.done() for future in running)
        Path(gate).touch()
        assert len({future.result(SECONDS) for future in running}) == workers[0]


@posix
def test_death_in_one_executor_is_not_noticed_in_another(tmp_path):
    with Executor("loky", 1) as first, Executor("loky", 1) as second:
        before = second.submit(pid).result(SECONDS)
        assert isinstance(first.submit(os._exit, 3).exception(SECONDS), WorkerLostError)
        assert second.submit(pid).result(SECONDS) == before


def test_reusable_executor_of_others_is_left_alone(tmp_path):
    gate = str(tmp_path / "gate")
    reusable = loky.get_reusable_executor(max_workers=2)
    try:
        running = reusable.submit(wait_for_file, gate)
        wait_for(f"{gate}..began")
        with Executor("loky", 3) as executor:
            assert executor.submit(square, 3).result(SECONDS) == 9
            assert isinstance(executor.submit(os._exit, 3).exception(SECONDS), WorkerLostError)
        assert not running.done()
        Path(gate).touch()
        worker = running.result(SECONDS)
        assert loky.get_reusable_executor(max_workers=2) is reusable
        assert worker in set(reusable.map(pid, range(50)))
    finally:
        reusable.shutdown(kill_workers=True)


@posix
def test_reusable_executor_keeps_its_workers_for_the_next_one():
    options = {"reuse": True, "idle_timeout": 0.5}
    with Executor("loky", 1, **options) as executor:
        first = executor.submit(pid).result(SECONDS)
    with Executor("loky", 1, **options) as executor:
        assert executor.submit(pid).result(SECONDS) == first
        assert isinstance(executor.submit(os._exit, 3).exception(SECONDS), WorkerLostError)
        second = executor.submit(pid).result(SECONDS)
        assert second != first
    assert ends(second)
    loky.get_reusable_executor(reuse=True).shutdown()


# ---- what it offers -----------------------------------------------------------------------------------------------


def test_to_be_made_it_starts_no_worker():
    with Executor("loky", 2) as executor:
        executor.shutdown()
        assert not multiprocessing.active_children()


@posix
@pytest.mark.filterwarnings("ignore:A worker stopped while some jobs")  # as it was starting another one for them
def test_idle_workers_end_in_time_and_new_ones_come():
    with Executor("loky", 1, idle_timeout=0.1) as executor:
        first = executor.submit(pid).result(SECONDS)
        assert ends(first)
        assert executor.submit(pid).result(SECONDS) != first


@pytest.mark.parametrize("options", [{"context": "fork"}, {"context": 3}, {"idle_timeout": 0}, {"idle": 3}])
def test_wrong_options(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        Executor("loky", **options)


@pytest.mark.parametrize("settings", [{"task_timeout": 3}, {"start_method": "spawn"}, {"max_tasks_per_child": 3}])
def test_what_it_cannot_do_is_refused(settings):
    with pytest.raises(CapabilityError, match="backend 'loky' cannot honour"):
        Executor("loky", **settings)


def test_to_list_it_imports_no_loky():
    code = """
import sys
from parapluie import registry
assert "loky" in [info.name for info in registry.infos()]
print(registry.explain())
print(sorted(name for name in sys.modules if name.partition(".")[0] == "loky"))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=SECONDS, check=True)
    assert "parapluie-loky" in done.stdout and done.stdout.splitlines()[-1] == "[]"
