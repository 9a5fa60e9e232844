"""CPython's own executor tests, on parapluie's executor: they are the contract of what calls itself an executor.

Nothing of them is copied: the suites' mixins are combined with rows of ours, as CPython combines them with its own.
"""

from __future__ import annotations

import logging
import os
import sys
import unittest
import unittest.mock

import pytest

from parapluie import Future

try:
    from cpython_suites import as_completed, deadlock, future, init, process_pool, shutdown, thread_pool, util, wait
    from test.support import script_helper
except (ImportError, unittest.SkipTest) as problem:
    pytest.skip(f"this interpreter does not carry CPython's executor tests: {problem}", allow_module_level=True)

from differences import DIFFERENT, SKIPPED, has_test, mark
from rows import BACKENDS, EVERYWHERE, PROCESSES, THREAD, Base

pytestmark = pytest.mark.deadline(120)

for suite, rows in (
    (thread_pool.ThreadPoolExecutorTest, THREAD),
    (process_pool.ProcessPoolExecutorTest, PROCESSES),
    (as_completed.AsCompletedTests, EVERYWHERE),
    (wait.ThreadPoolWaitTests, THREAD),
    (wait.WaitTests, PROCESSES),
    (shutdown.ThreadPoolShutdownTest, THREAD),
    (shutdown.ProcessPoolShutdownTest, PROCESSES),
    (init.InitializerMixin, EVERYWHERE),
    (init.FailingInitializerMixin, EVERYWHERE),
    (deadlock.ExecutorDeadlockTest, PROCESSES),
):
    for row, mixin in rows.items():
        name = row + suite.__name__.removesuffix("Mixin").removesuffix("Tests").removesuffix("Test") + "Test"
        globals()[name] = type(name, (suite, mixin, Base), {"__module__": __name__})
        mark(globals()[name])


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


@pytest.mark.skipif(not hasattr(init, "FailingInitializerResourcesTest"), reason="older than this test of CPython's")
@pytest.mark.parametrize("method", ["Spawn", "Forkserver"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_failing_initializer_leaves_no_resources_behind(backend, method):
    # In a process of its own, because it ends the resource tracker, and with it what is left of other tests.
    program = f"import {__name__} as suites; suites.check_resources({backend + method!r}, {method!r})"
    script_helper.assert_python_ok("-c", program, PYTHONPATH=os.pathsep.join(sys.path))


def check_resources(row, method):
    """Run the suite's test of a start method, which runs another suite's test class by name, with that of a row."""
    ours = globals()[f"{row}FailingInitializerTest"]
    with unittest.mock.patch.object(init, f"ProcessPool{method}FailingInitializerTest", ours):
        test = init.FailingInitializerResourcesTest(f"test_{method.lower()}")
        test.debug()


@pytest.mark.skipif(sys.version_info < (3, 13), reason="the tables are those of CPython 3.13; some tests came with it")
@pytest.mark.parametrize("entry", DIFFERENT | SKIPPED)
def test_tables_name_tests_that_exist(entry):
    assert any(has_test(suite, entry) for suite in globals().values() if isinstance(suite, type))
