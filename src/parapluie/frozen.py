"""Frozen programs: a script and an interpreter in one executable, as PyInstaller and others make them.

    program ── starts itself: program.exe --multiprocessing-fork … ─▶ program, from its first line on
                                                                     └─ multiprocessing.freeze_support() ─▶ worker

So a worker has the program's own `__main__`, as far as that was run: up to `freeze_support()`, which does not return in
a worker. A program that does not call it would start again and again. Imported late: most programs are not frozen.
"""

from __future__ import annotations

import sys

HINT = (  # a note for errors of workers that could not start
    "parapluie: this program is frozen: each worker runs it from its first line up to freeze_support(); "
    "call that first under the main guard, before arguments are read and windows are opened"
)

# How multiprocessing asks a POSIX program to be one of its helpers; tests/unit/test_stdlib_private.py watches it.
_HELPERS = ("from multiprocessing.resource_tracker import ", "from multiprocessing.forkserver import ")


def is_frozen() -> bool:
    """Say whether this program is a frozen one."""
    return bool(getattr(sys, "frozen", False))


def was_started_as_worker() -> bool:
    """Say whether this process is to be a worker, and goes on as the program since it has not become one."""
    return sys.argv[1:2] == ["--multiprocessing-fork"]  # what has become one has the arguments of its parent


def was_started_as_helper() -> bool:
    """Say whether it is to be a server of multiprocessing's own, and goes on as the program."""
    return sys.argv[-2:-1] == ["-c"] and sys.argv[-1].startswith(_HELPERS)
