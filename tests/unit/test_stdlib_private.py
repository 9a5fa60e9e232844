"""Each private thing of the standard library that is used, so that a new Python that changes one is noticed."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import subprocess
import sys
import threading
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import _process_worker
from inspect import signature
from multiprocessing import pool as pools
from multiprocessing.pool import Pool

import half_import
import pytest
from half_import import half_imported

from parapluie import stdlib_private
from parapluie.cell_process import OneWorkerContext, Vacancy
from parapluie.logs import log_pipe
from parapluie.one_way_queue import close_reader

CONTEXT = multiprocessing.get_context()
SECONDS = 20


def private(thing, name):
    """Return an attribute that no type checker knows."""
    return getattr(thing, name)


@pytest.fixture
def context():
    logs = log_pipe(None)
    yield OneWorkerContext(CONTEXT, b"", logs)
    logs.close()


def test_the_queues_are_the_first_arguments_of_both_workers():
    assert list(signature(private(pools, "worker")).parameters)[:2] == ["inqueue", "outqueue"]
    assert list(signature(_process_worker).parameters)[:2] == ["call_queue", "result_queue"]
    assert stdlib_private.worker_queues(["in", "out", "more"]) == ("in", "out")


def test_one_way_queue_has_ends_that_close(context):
    queue = context.SimpleQueue()
    queue.put(1)
    queue.close_writer()
    queue.put(2)
    assert queue.get() == 1
    with pytest.raises(EOFError):
        queue.get()
    close_reader(queue)
    assert queue._reader.poll() is False
    queue.close()


def test_queue_has_ends_that_close():
    queue = CONTEXT.Queue()
    close_reader(queue)
    reader, writer = private(queue, "_reader"), private(queue, "_writer")
    assert reader.closed and not writer.closed
    stdlib_private.close_both_ends(queue)
    assert writer.closed


def test_pool_has_three_threads_and_replaces_its_worker_by_a_vacancy(context):
    pool = Pool(1, context=context)
    threads = stdlib_private.pool_threads(pool)
    assert all(thread.is_alive() for thread in threads)
    result = pool.apply_async(os._exit, (0,))
    threads[0].join(SECONDS)
    assert not result.ready()
    stdlib_private.give_up(result)
    with pytest.raises(EOFError):
        result.get(SECONDS)
    pool.close()
    for thread in threads:
        thread.join(SECONDS)
        assert not thread.is_alive()
    context.process.join(SECONDS)  # the pipe that has told of its end closes a moment before
    assert all(isinstance(process, Vacancy) or process.exitcode == 0 for process in private(pool, "_pool"))
    stdlib_private.forget_at_exit(pool)
    assert not private(pool, "_terminate").still_active()
    context.close()


def test_executor_has_a_thread(context):
    executor = ProcessPoolExecutor(1, mp_context=context)
    assert stdlib_private.manager_thread(executor) is None
    executor.submit(os.getpid).result(SECONDS)
    thread = stdlib_private.manager_thread(executor)
    assert thread is not None and thread.is_alive()
    executor.shutdown()
    assert not thread.is_alive()
    context.close()


def test_children_are_allowed_by_a_flag():
    config = private(multiprocessing.current_process(), "_config")
    before = config.get("daemon")
    try:
        config["daemon"] = True
        assert multiprocessing.current_process().daemon
        stdlib_private.allow_children()
        assert not multiprocessing.current_process().daemon
    finally:
        config["daemon"] = before


def test_folder_of_sockets_is_made_here():
    stdlib_private.make_temporary_directory()
    assert os.path.isdir(private(multiprocessing.current_process(), "_config")["tempdir"])  # noqa: PTH112 - a plain question


def test_imports_of_other_threads_are_forgotten(tmp_path, monkeypatch):
    """As in a forked child, where those threads are not."""
    with half_imported(tmp_path, monkeypatch):
        stdlib_private.forget_unfinished_imports()
        assert half_import.NAME not in sys.modules
        assert importlib.import_module(half_import.NAME).VALUE == 7


def test_the_end_of_the_interpreter_is_known_before_executors_close():
    code = """
from concurrent.futures import ProcessPoolExecutor, process
from parapluie.stdlib_private import before_threads_end, interpreter_is_ending
show = lambda: print("ending", interpreter_is_ending(), process._global_shutdown)
before_threads_end(show)
before_threads_end(print)
before_threads_end(show)
before_threads_end(show)
print("running", interpreter_is_ending())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=SECONDS)
    assert done.stdout.split("\n") == ["running False", "ending True False", "", "ending True False", ""]
    assert threading.main_thread().is_alive()


# Run by a process that is started as a worker is, from the middle of the import of its main module.
STARTED = """
import multiprocessing, os, pickle
from parapluie import main_guard, stdlib_private
from parapluie.dumps import DumpFile

if __name__ == "__mp_main__" and main_guard.in_main_import():
    own = pickle.load(stdlib_private.rest_of_start())
    own._args[0].note(own.name.encode())
    os._exit(0)

if __name__ == "__main__":
    print(stdlib_private.rest_of_start())
    file = DumpFile()
    process = multiprocessing.get_context("{method}").Process(
        target=DumpFile.note, args=(file, b"as usual"), name="its name"
    )
    process.start()
    process.join({seconds})
    print(file.noted().decode())
"""


@pytest.mark.parametrize("method", [name for name in multiprocessing.get_all_start_methods() if name != "fork"])
def test_worker_can_read_its_own_process_while_it_imports_the_main_module(tmp_path, method):
    script = tmp_path / "script.py"
    script.write_text(STARTED.format(method=method, seconds=SECONDS))
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=2 * SECONDS, check=True)
    assert done.stdout.splitlines() == ["None", "its name"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_child_starts_a_fork_server_of_its_own():
    from multiprocessing import forkserver

    forkserver.ensure_running()
    reader, writer = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=_fork_server_of_child, args=(writer,))
    with private(forkserver, "_forkserver")._lock:  # as another thread might hold it
        process.start()
    assert reader.poll(SECONDS)
    mine = private(forkserver, "_forkserver")._forkserver_pid
    assert reader.recv() not in {None, mine}
    process.join(SECONDS)
    forkserver.ensure_running()
    assert private(forkserver, "_forkserver")._forkserver_pid == mine


def _fork_server_of_child(writer):
    from multiprocessing import forkserver

    stdlib_private.forget_fork_server()
    forkserver.ensure_running()
    writer.send(private(forkserver, "_forkserver")._forkserver_pid)
