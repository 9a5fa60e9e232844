"""What CPython's suites run on: the backends, each with every start method where it has processes.

The suites' mixins that make an executor are combined with executor types of ours, and where a suite names a standard
executor, it gets the row's.
"""

from __future__ import annotations

import concurrent.futures
import concurrent.futures.process
import os
import sys
import threading
import unittest.mock
from contextlib import ExitStack
from functools import partial
from types import SimpleNamespace

import standard_names
from cpython_suites import process_pool, shutdown, thread_pool, util
from test import support
from test.support import script_helper

from parapluie import RemoteTraceback


class StandardFutures:
    """`concurrent.futures`, as a suite sees it.

    What it has in place of the standard executors makes ours and is no type: who compares an executor's type with it
    finds that it is another one.
    """

    process = SimpleNamespace(**vars(concurrent.futures.process) | {"_RemoteTraceback": RemoteTraceback})
    ThreadPoolExecutor = staticmethod(partial(standard_names.ThreadPoolExecutor))

    def __init__(self, process_pool_executor):
        self.ProcessPoolExecutor = partial(process_pool_executor)

    def __getattr__(self, name):
        return getattr(concurrent.futures, name)


def run_script(option, script):
    """Run a suite's script, which imports its executor by name, with the executors of ours."""
    script = script.replace("from concurrent.futures import", "from standard_names import")
    script = f"import multiprocessing\n{script}"  # which one of them uses without importing it
    result = script_helper.assert_python_ok(option, script, PYTHONPATH=os.pathsep.join(sys.path))
    # The suite looks for the type in the text of the traceback; ours is a RuntimeError with a name of its own.
    return result._replace(err=result.err.replace(b"parapluie.errors.ExecutorShutdownError:", b"RuntimeError:"))


class Base(util.BaseTestCase):
    """Has the suites meet our executors, and fails where they only warn: about threads and processes left behind."""

    process_pool_executor = standard_names.ProcessExecutor

    def setUp(self):
        for suite in (process_pool, shutdown, thread_pool):
            self.replace(suite, "futures", StandardFutures(self.process_pool_executor))
        self.replace(shutdown, "assert_python_ok", run_script)
        self.threads_before = {thread.ident for thread in threading.enumerate()}
        support.environment_altered = False
        super().setUp()

    def replace(self, owner, name, value):
        patch = unittest.mock.patch.object(owner, name, value)
        patch.start()
        self.addCleanup(patch.stop)

    def tearDown(self):
        # Older suites look once for threads; newer ones have a second's patience, and do not mind what has ended.
        self.join_threads()
        support.gc_collect()  # an executor and its threads are a cycle, as are an error and the executor that keeps it
        super().tearDown()
        assert not support.environment_altered, "threads or processes were left behind; see the warnings"

    def join_threads(self):
        for thread in threading.enumerate():
            if thread.ident not in self.threads_before:
                thread.join(1.0)


class ThreadMixin(util.ThreadPoolMixin):
    executor_type = standard_names.ThreadPoolExecutor


class Context:
    """A multiprocessing context, as the suites see it; our executors take the real one.

    Args:
        managers: an ExitStack, for the servers that are started. Not the test case, which is to end without a cycle:
            one of the suites looks whether its semaphores are gone with it.
    """

    def __init__(self, real, managers):
        self.real, self._managers = real, managers

    def __getattr__(self, name):
        return getattr(self.real, name)

    def get_start_method(self, allow_none=False):  # noqa: FBT002 - the standard's signature
        """Never say that it is fork, of which the suites believe two things.

        The standard executor starts all forked workers at once, and does not recycle them; ours treats them as any.
        """
        return f"{self.real.get_start_method(allow_none)}, on demand"

    def Semaphore(self, value):  # noqa: N802 - the standard's name
        """Return a semaphore that can be sent, for the tests that submit one.

        The standard semaphores cannot, so that the standard executor fails with these tasks, after starting workers
        for them; this one would not start any.
        """
        return self._managers.enter_context(self.real.Manager()).Semaphore(value)


class ProcessMixin:
    """What the rows of the backends with processes have in common."""

    def setUp(self):
        super().setUp()
        if self._testMethodName in ("test_cancel_futures", "test_killed_child"):
            # They want some task to have begun, at once; the standard executor says so of tasks that it has queued.
            self.executor.submit(int).result()

    def get_context(self):
        managers = ExitStack()
        self.addCleanup(managers.close)
        return Context(super().get_context(), managers)


def _process_row(name, executor, mixin):
    return type(name, (ProcessMixin, mixin), {"executor_type": executor, "process_pool_executor": executor})


BACKENDS = {
    "Process": standard_names.ProcessExecutor,
    "Manager": standard_names.ManagerExecutor,
    "Pool": standard_names.PoolExecutor,
    "Futures": standard_names.FuturesExecutor,
}
METHODS = {
    "Spawn": util.ProcessPoolSpawnMixin,
    "Forkserver": util.ProcessPoolForkserverMixin,
    "Fork": util.ProcessPoolForkMixin,
}
PROCESSES = {
    backend + method: _process_row(f"{backend}{method}Mixin", executor, mixin)
    for backend, executor in BACKENDS.items()
    for method, mixin in METHODS.items()
}
THREAD = {"Thread": ThreadMixin}
EVERYWHERE = THREAD | PROCESSES
