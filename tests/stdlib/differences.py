"""Where parapluie's executor differs from the standard ones on purpose, and CPython's suites can tell.

These tests run as well, and have to fail just so: one that passes, or fails in another way, is reported.
"""

from __future__ import annotations

import functools
import unittest

import pytest

# By "class.test" of CPython's: how it ends with our executor, and why.
DIFFERENT = {
    "ProcessPoolExecutorTest.test_killed_child": (
        "BrokenProcessPool not raised by",
        "the standard executor breaks when a worker dies; this one replaces it, and runs again what had not begun",
    ),
    "ProcessPoolExecutorTest.test_max_workers_too_large": (
        "ValueError not raised",
        "the number of workers has no limit on Windows",
    ),
    "ProcessPoolExecutorTest.test_python_finalization_error": (
        "can't create new thread at interpreter shutdown",
        "mocks a private function of threading, to fail a thread that starts late; here all start with the executor",
    ),
    "ThreadPoolShutdownTest.test_thread_names_default": (
        "Regex didn't match: .* not found in 'parapluie-worker-",
        "the threads say in their names that they are parapluie's",
    ),
}

# What is not run, since how it ends depends on the machine. Both read private attributes, to see a default.
SKIPPED = {
    "ProcessPoolExecutorTest.test_max_tasks_per_child_defaults_to_spawn_context": (
        "the default start method is the platform's safe one, never fork, so that recycling needs no other one"
    ),
    "ThreadPoolExecutorTest.test_default_workers": (
        "the default is the number of CPUs that may be used, on every backend; the standard one adds four, up to 32"
    ),
}


def mark(suite):
    """Have the tests of the tables that a class has end as the tables say."""
    for entry, (failure, _) in DIFFERENT.items():
        if has_test(suite, entry):
            _, _, test = entry.partition(".")
            setattr(suite, test, _differs(getattr(suite, test), failure))
    for entry, reason in SKIPPED.items():
        if has_test(suite, entry):
            _, _, test = entry.partition(".")
            setattr(suite, test, unittest.skip(reason)(getattr(suite, test)))


def has_test(suite, entry):
    """Tell whether a class has the test of an entry: it inherits from the entry's class, where that has such a test."""
    name, _, test = entry.partition(".")
    return any(base.__name__ == name and hasattr(base, test) for base in suite.__mro__)


def _differs(test, failure):
    @functools.wraps(test)
    def differing(self):
        with pytest.raises((AssertionError, RuntimeError), match=failure):
            test(self)

    return differing
