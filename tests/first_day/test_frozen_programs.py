"""A frozen program works with one line; without it, one error says so, and no process starts another without end."""

from __future__ import annotations

import sys

import pytest
from frozen_program import freeze

HEAD = """\
import multiprocessing, os, sys, threading
from first_day_help import make, note_run

state = None
note_run()

def square(n):
    return n * n

def prepare(value):
    global state
    state = value

def read():
    return state, multiprocessing.parent_process() is not None

def put(squares, n):
    squares[n] = n * n

def main():
    with make(initializer=prepare, initargs=("ready",), serializer=SERIALIZER) as executor:
        found = [executor.submit(square, 3).result(), *executor.map(square, range(3)), *executor.submit(read).result()]
        if SERIALIZER == "auto":
            found.append(executor.submit(lambda: square(4)).result())
        squares = executor.shared.dict()
        executor.submit(put, squares, 5).result()
        found.append(squares[5])
        SHOW(found)

"""
GUARDED = 'if __name__ == "__main__":\n    multiprocessing.freeze_support()\n    main()\n'
FORGOTTEN = 'if __name__ == "__main__":\n    main()\n'
LINE = HEAD.count("\n") + 2
PRINT = "print(*found)"
WORKED = ["9", "0", "1", "4", "ready", "True"]


def program(body, *, serializer="auto", show=PRINT):
    text = HEAD.replace("SERIALIZER", repr(serializer)).replace("SHOW(found)", show)
    return text + body


@pytest.mark.parametrize("has_file", [True, False], ids=["with-file", "without-file"])
def test_tasks_of_the_main_file_run(row, folder, has_file):
    """By their names: the worker has run the main module itself."""
    done = folder.run(*freeze(folder, program(GUARDED, serializer="pickle"), has_file=has_file))
    done.assert_worked(*WORKED, "25")


def test_what_travels_by_value_runs(row, folder):
    folder.run(*freeze(folder, program(GUARDED))).assert_worked(*WORKED, "16", "25")


def test_program_without_a_console_works_and_its_tasks_may_print(row, folder):
    show = 'executor.submit(print, "nobody sees this").result(); open("found", "w").write(repr(found))'
    body = GUARDED
    done = folder.run(*freeze(folder, program(body, show=show), windowed=True))
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "")
    assert (folder.path / "found").read_text() == "[9, 0, 1, 4, 'ready', True, 16, 25]"


def test_forgotten_call_is_one_error(row, folder):
    done = folder.run(*freeze(folder, program(FORGOTTEN)))
    assert done.exit_code == 1 and done.stdout == ""
    assert "MissingMainGuardError: program.py, line" in done.stderr
    assert "a frozen program starts itself again for each. Call freeze_support() before anything else" in done.stderr
    assert len(done.runs) <= 1 + 2 + helpers(), done.runs  # the program's own, and the first workers
    if not helpers():  # these have nobody to tell it for them
        assert done.stderr.count("MissingMainGuardError") == 1, done.stderr


def helpers():
    """Return how many processes of its own multiprocessing tries to start, on this platform, at most.

    Each ends at once, and whether that is seen before the next one is asked for is chance: two resource trackers and a
    fork server while all is prepared, and again for each of the three times that a worker is started.
    """
    return 0 if sys.platform == "win32" else (1 + 3) * 3


def test_call_that_comes_too_late_is_named(row, folder):
    """What reads arguments first does not know those of a worker, and ends it."""
    if row.backend == "manager":
        pytest.skip("its server, which starts first, is not a worker")
    late = "import argparse\nargparse.ArgumentParser().parse_args()\n" + GUARDED
    done = folder.run(*freeze(folder, program(late)))
    assert done.exit_code != 0
    assert "up to freeze_support(); call that first under the main guard" in done.stderr
