"""Test classes for every built-in backend, of tests that are not of the kit."""

from __future__ import annotations

from parapluie import builtin
from parapluie.testing import OnBackend


def on_every_backend(tests):
    """Return a class of these tests for each built-in backend, by name: for the globals of the module that has them."""
    classes = {}
    for info in builtin.BACKENDS:
        name = f"Test{info.name.capitalize()}"
        classes[name] = type(name, (tests, OnBackend), {"backend": info.name, "__module__": tests.__module__})
    return classes
