"""CPython's own executor tests, on parapluie's executor: they are the contract of what calls itself an executor.

Nothing of them is copied. The suites' mixins are combined with executor types of ours, as CPython combines them with
its own, and where a suite names a standard executor, it gets ours of the same name.
"""

from __future__ import annotations

import concurrent.futures
import copy
import importlib
import logging
import os
import sys
import unittest
import unittest.mock
from functools import partial
from types import SimpleNamespace

import pytest
import standard_names

from parapluie import Future, RemoteTraceback

try:
    from test import support
    from test.support import script_helper
    from test.test_concurrent_futures import util
except (ImportError, unittest.SkipTest) as problem:
    pytest.skip(f"this interpreter does not carry CPython's executor tests: {problem}", allow_module_level=True)

as_completed, deadlock, executor, future, init, process_pool, shutdown, thread_pool, wait = (
    importlib.import_module(f"test.test_concurrent_futures.{name}")
    for name in (
        "test_as_completed", "test_deadlock", "executor", "test_future", "test_init", "test_process_pool",
        "test_shutdown", "test_thread_pool", "test_wait",
    )
)  # fmt: skip

pytestmark = pytest.mark.deadline(120)

# What is not run, by "class.test" of CPython's, or of ours where it is about one start method only.
SKIPPED = {
    "ProcessPoolExecutorTest.test_killed_child": (
        "the standard executor breaks when a worker dies; this one replaces it, and runs again what had not begun"
    ),
    "ProcessPoolExecutorTest.test_max_tasks_per_child_defaults_to_spawn_context": (
        "the default start method is not fork in the first place, so that recycling needs no other one"
    ),
    "ProcessPoolExecutorTest.test_python_finalization_error": (
        "about the thread that a standard executor starts late; this one has all of its threads from the start"
    ),
    "ProcessForkProcessPoolExecutorTest.test_max_tasks_per_child": (
        "the standard executor refuses to recycle forked workers; this one does it"
    ),
    "ProcessForkProcessPoolShutdownTest.test_processes_terminate": (
        "expects all forked workers to start with the first task; these are started as they are needed"
    ),
    "ThreadPoolExecutorTest.test_default_workers": (
        "the default is the number of CPUs that may be used, on every backend; the standard one adds four"
    ),
    "ThreadPoolShutdownTest.test_thread_names_default": "the threads say in their names that they are parapluie's",
}


class StandardFutures:
    """`concurrent.futures`, as a suite sees it."""

    # These make ours and are not their types: who compares an executor's type with them finds that it is another one.
    ThreadPoolExecutor = staticmethod(partial(standard_names.ThreadPoolExecutor))
    ProcessPoolExecutor = staticmethod(partial(standard_names.ProcessPoolExecutor))
    process = SimpleNamespace(_RemoteTraceback=RemoteTraceback)

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

    def setUp(self):
        for suite in (process_pool, shutdown, thread_pool):
            self.replace(suite, "futures", StandardFutures())
        self.replace(shutdown, "assert_python_ok", run_script)
        support.environment_altered = False
        super().setUp()

    def replace(self, owner, name, value):
        patch = unittest.mock.patch.object(owner, name, value)
        patch.start()
        self.addCleanup(patch.stop)

    def tearDown(self):
        super().tearDown()
        support.gc_collect()  # an error that was raised, and the executor that keeps it, are a cycle
        assert not support.environment_altered, "threads or processes were left behind; see the warnings"


class ProcessMixin:
    """What the rows of the process backend have in common."""

    executor_type = standard_names.ProcessPoolExecutor
    manager = None

    def setUp(self):
        super().setUp()
        if self._testMethodName == "test_cancel_futures":
            # It wants some task to have begun, at once; the standard executor says so of tasks that it has queued.
            self.executor.submit(int).result()

    def get_context(self):
        """Return the row's context, with semaphores that can be sent for the tests that submit one.

        The standard semaphores cannot, so that the standard executor fails with these tasks, after starting workers
        for them; this one would not start any.
        """
        context = super().get_context()
        if self._testMethodName in ("test_saturation", "test_processes_terminate"):
            if self.manager is None:
                self.manager = context.Manager()
                self.addCleanup(self.manager.shutdown)
            context = copy.copy(context)
            context.Semaphore = self.manager.Semaphore
        return context


class ThreadMixin(util.ThreadPoolMixin):
    executor_type = standard_names.ThreadPoolExecutor


class ProcessSpawnMixin(ProcessMixin, util.ProcessPoolSpawnMixin):
    pass


class ProcessForkserverMixin(ProcessMixin, util.ProcessPoolForkserverMixin):
    pass


class ProcessForkMixin(ProcessMixin, util.ProcessPoolForkMixin):
    pass


THREAD = (ThreadMixin,)
METHODS = (ProcessSpawnMixin, ProcessForkserverMixin, ProcessForkMixin)

for mixin, rows in (
    (thread_pool.ThreadPoolExecutorTest, THREAD),
    (process_pool.ProcessPoolExecutorTest, METHODS),
    (as_completed.AsCompletedTests, THREAD + METHODS),
    (wait.ThreadPoolWaitTests, THREAD),
    (wait.WaitTests, METHODS),
    (shutdown.ThreadPoolShutdownTest, THREAD),
    (shutdown.ProcessPoolShutdownTest, METHODS),
    (init.InitializerMixin, THREAD + METHODS),
    (init.FailingInitializerMixin, THREAD + METHODS),
    (deadlock.ExecutorDeadlockTest, METHODS),
):
    util.create_executor_tests(globals(), mixin, bases=(Base,), executor_mixins=rows)


class FutureTests(Base, future.FutureTests):
    """The suite makes its futures itself; here they are parapluie's."""

    def setUp(self):
        super().setUp()
        # It expects what is logged on stderr, where it goes as long as nobody, as pytest does, has handlers for it.
        self.replace(logging.getLogger("concurrent.futures"), "propagate", value=False)
        self.replace(future, "Future", Future)
        self.replace(util, "Future", Future)
        for name, made in list(vars(future).items()):
            if name.endswith("_FUTURE"):
                ours = util.create_future(made._state, made._exception, made._result)
                self.replace(future, name, ours)


class FailingInitializerResourcesTest(init.FailingInitializerResourcesTest):
    """Workers whose initializer fails leave no semaphore behind."""

    __test__ = False  # see below

    def setUp(self):
        for method in ("Spawn", "Forkserver"):
            name = f"ProcessPool{method}FailingInitializerTest"
            patch = unittest.mock.patch.object(init, name, globals()[f"Process{method}FailingInitializerTest"])
            patch.start()
            self.addCleanup(patch.stop)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_failing_initializer_leaves_no_resources_behind(method):
    # In a process of its own, because it ends the resource tracker, and with it what is left of other tests.
    test = f"{__name__}.{FailingInitializerResourcesTest.__name__}.test_{method}"
    script_helper.assert_python_ok("-m", "unittest", test, PYTHONPATH=os.pathsep.join(sys.path))


def owner_of(cls, entry):
    """Return the class that an entry of the table is about, if it is this one or one of its bases."""
    name = entry.partition(".")[0]
    return next((base for base in cls.__mro__ if base.__name__ == name), None)


def skip(suites):
    """Mark the tests of the table."""
    for cls in suites:
        for entry, reason in SKIPPED.items():
            test = entry.partition(".")[2]
            if owner_of(cls, entry):
                setattr(cls, test, unittest.skip(reason)(getattr(cls, test)))


SUITES = [value for value in globals().values() if isinstance(value, type) and issubclass(value, unittest.TestCase)]
skip(SUITES)


@pytest.mark.skipif(sys.version_info < (3, 13), reason="the table is that of CPython 3.13; some tests came with it")
@pytest.mark.parametrize("entry", SKIPPED)
def test_table_of_skipped_tests_names_tests_that_exist(entry):
    assert any(hasattr(owner_of(suite, entry), entry.partition(".")[2]) for suite in SUITES)
