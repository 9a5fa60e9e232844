"""Log records of programs as they are written: configured at the top of the main file, with workers of workers."""

from __future__ import annotations

import logging
import multiprocessing
import re
import subprocess
import sys
import types

import pytest

from parapluie import Executor, WorkerLostError
from parapluie.testing import tasks

SECONDS = 30.0  # for every wait

PROGRAM = """
import logging
import os
import sys

from parapluie import Executor

FORMAT = "%(levelname)s %(message)s, task %(parapluie_task)s, worker %(parapluie_worker)s, process %(process)d"
logging.basicConfig(level=logging.INFO, format=FORMAT, stream=sys.stdout)
logging.getLogger("parapluie").setLevel(logging.WARNING)  # it says which backend an executor gets


def inner(n):
    logging.getLogger("app").info("inner %d", n)
    return os.getpid()


def outer(n):
    logging.info("outer %d", n)  # the module's function, which configures logging if there is no handler
    with Executor("process", 1, start_method=sys.argv[2]) as executor:
        return os.getpid(), executor.submit(inner, n).result()


if __name__ == "__main__":
    with Executor(sys.argv[1], 1, start_method=sys.argv[2]) as executor:
        print(*executor.with_options(name="t").submit(outer, 1).result())
"""


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
@pytest.mark.parametrize("backend", ["process", "pool", "futures"])
def test_records_of_workers_and_of_their_workers_are_written_once(backend, method, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM, encoding="utf-8")
    command = [sys.executable, str(program), backend, method]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=50)
    lines = done.stdout.splitlines()
    assert done.returncode == 0 and len(lines) == 3, done.stdout + done.stderr
    outer, inner = re.fullmatch(r"(\d+) (\d+)", lines[2]).groups()
    assert lines[:2] == [
        f"INFO outer 1, task t-1, worker {backend}-{outer}, process {outer}",
        f"INFO inner 1, task 1, worker process-{inner}, process {inner}",
    ]


FORKS = """
import logging
import multiprocessing
import sys

from parapluie import Executor


def log(n):
    logging.getLogger("app").warning("record %d", n)


def forks(n):
    process = multiprocessing.get_context("fork").Process(target=log, args=(n,))
    process.start()
    process.join()


if __name__ == "__main__":
    logging.basicConfig(format="%(message)s %(parapluie_task)s", stream=sys.stdout)
    with Executor(sys.argv[1], 1, start_method="spawn") as executor:
        for n in range(3):
            executor.submit(forks, n).result()
"""


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="forks")
@pytest.mark.parametrize("backend", ["process", "pool", "futures"])
def test_record_of_what_a_task_forks_comes_as_the_tasks(backend, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(FORKS, encoding="utf-8")
    command = [sys.executable, str(program), backend]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=50)
    assert (done.stdout, done.stderr) == ("record 0 1\nrecord 1 2\nrecord 2 3\n", "")


def stop_watching(engine):
    """Have nobody told that there are records: what comes in time is only what is looked for in time."""
    if hasattr(engine, "_poller"):
        if engine._log_fd is not None:
            engine._poller.forget(engine._log_fd)
    else:
        engine._watcher._logs = types.SimpleNamespace(reader=None, close=engine._logs.close)


@pytest.fixture(params=["process", "pool", "futures"])
def unwatched(request):
    """Return an executor that looks for records at answers and deaths alone."""
    executor = Executor(request.param, 1, start_method="spawn")
    executor.submit(tasks.square, 2).result(SECONDS)  # the watcher may be waiting for the pipe until it has a worker
    stop_watching(executor._dispatcher.engine)
    yield executor
    executor.shutdown()


def test_answer_does_not_overtake_what_its_task_logged(unwatched, caplog):
    for number in range(3):
        text = f"record {number}"
        unwatched.submit(tasks.log, "app", logging.WARNING, text).result(SECONDS)
        assert caplog.messages[-1] == text


def test_death_does_not_overtake_what_its_task_logged(unwatched, caplog):
    future = unwatched.submit(tasks.log_and_die, "app", "last words", "_exit")
    assert isinstance(future.exception(SECONDS), WorkerLostError)
    assert caplog.messages == ["last words"]
