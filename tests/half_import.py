"""A module whose import waits, so that a thread is in the middle of it for as long as a test wants."""

from __future__ import annotations

import importlib
import os
import sys
import threading
import types
from contextlib import contextmanager

from parapluie.testing.patience import SECONDS

NAME = "half_imported"  # of the module; its VALUE is 7


@contextmanager
def half_imported(folder, monkeypatch):
    """Have a thread be in the middle of importing the module, inside of this; whoever else imports it is let through.

    Args: folder: to put the module into.
    """
    began, go, here = threading.Event(), threading.Event(), os.getpid()

    def wait():
        if os.getpid() == here and threading.current_thread() is thread:
            began.set()
            assert go.wait(SECONDS)

    (folder / f"{NAME}.py").write_text("from import_gate import wait\nwait()\nVALUE = 7\n")
    monkeypatch.syspath_prepend(folder)
    gate = types.ModuleType("import_gate")
    gate.wait = wait
    monkeypatch.setitem(sys.modules, "import_gate", gate)
    thread = threading.Thread(target=importlib.import_module, args=[NAME])
    thread.start()
    try:
        assert began.wait(SECONDS) and NAME in sys.modules
        yield
    finally:
        go.set()
        thread.join(SECONDS)
        sys.modules.pop(NAME, None)
