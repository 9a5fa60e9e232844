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
from multiprocessing.managers import SyncManager
from multiprocessing.pool import Pool

import half_import
import pytest
from half_import import half_imported

from parapluie import stdlib_private
from parapluie.cell_process import OneWorkerContext, Vacancy
from parapluie.one_way_queue import close_reader

CONTEXT = multiprocessing.get_context()
SECONDS = 20


def private(thing, name):
    """Return an attribute that no type checker knows."""
    return getattr(thing, name)


@pytest.fixture
def context():
    return OneWorkerContext(CONTEXT, b"")


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


def test_manager_has_a_process_and_a_folder_made_here():
    stdlib_private.make_temporary_directory()
    assert os.path.isdir(private(multiprocessing.current_process(), "_config")["tempdir"])  # noqa: PTH112 - a plain question
    manager = SyncManager(ctx=CONTEXT)
    manager.start()
    try:
        assert stdlib_private.manager_process(manager).is_alive()
    finally:
        manager.shutdown()


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
before_threads_end(lambda: print("ending", interpreter_is_ending(), process._global_shutdown))
print("running", interpreter_is_ending())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=SECONDS)
    assert done.stdout.split("\n")[:2] == ["running False", "ending True False"]
    assert threading.main_thread().is_alive()
