"""CPython's own suites of its executors, from whichever layout this interpreter has.

Newer ones have a package, with a module for each suite; older ones have all of it in one module, which then stands for
each. Importing this raises ImportError, or unittest.SkipTest, where the interpreter carries neither.
"""

from __future__ import annotations

import importlib

import test.test_concurrent_futures as found


def _module(name):
    return importlib.import_module(f"{found.__name__}.{name}") if hasattr(found, "__path__") else found


as_completed = _module("test_as_completed")
deadlock = _module("test_deadlock")
future = _module("test_future")
init = _module("test_init")
process_pool = _module("test_process_pool")
shutdown = _module("test_shutdown")
thread_pool = _module("test_thread_pool")
util = _module("util")
wait = _module("test_wait")
