"""The programs in examples/ do what they say, on every backend and under every start method."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from pathlib import Path

import pytest

from parapluie import Executor

EXAMPLES = Path(__file__).parents[1] / "examples"
FILES = 60
START_METHODS = multiprocessing.get_all_start_methods()
ROWS = [
    ("serial", None),
    ("thread", None),
    *((backend, method) for backend in ("process", "pool", "futures", "manager") for method in (None, *START_METHODS)),
]
TOTALS = ("files", "bytes", "words", "digest", "identifier")


def run_example(*arguments):
    """Run count_words.py as a user does."""
    command = [sys.executable, str(EXAMPLES / "count_words.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=50)


def totals(output):
    """Return the lines of the table that say what was counted."""
    return [line for line in output.splitlines() if line.split(maxsplit=1)[0] in TOTALS]


@pytest.fixture(scope="module")
def serial_totals():
    return totals(run_example("--backend", "serial", "--no-check", "--limit", str(FILES)).stdout)


@pytest.mark.parametrize(("backend", "start_method"), ROWS)
def test_count_words_gives_the_same_totals(backend, start_method, serial_totals):
    chosen = ["--start-method", start_method] if start_method else []
    done = run_example("--backend", backend, *chosen, "--limit", str(FILES), "--workers", "2")
    assert (done.returncode, done.stderr) == (0, "")
    assert totals(done.stdout) == serial_totals
    assert f"files       {FILES}\n" in done.stdout
    assert "the same totals as the serial run" in done.stdout


def test_count_words_notices_other_totals(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    import count_words

    one = count_words.count_file(Path(__file__))
    totals = count_words.Totals()
    totals.add(one)
    assert count_words.check(totals, 1) == 1
    totals = count_words.run(Executor("serial"), [next(count_words.standard_library())])
    assert count_words.check(totals, 1) == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--backend", "rya"), ("invalid choice: 'rya'",)),
        (("--workers", "0"), ("--workers", "'0'")),
        (("--limit", "many"), ("--limit", "'many'")),
        (("--backend", "process", "--start-method", "spoon"), ("spoon", "spawn")),
        (("--backend", "thread", "--start-method", "spawn"), ("'thread'", "start_method", "process")),
    ],
)
def test_count_words_explains_wrong_options(arguments, words):
    done = run_example(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert all(word in done.stderr for word in words), done.stderr
