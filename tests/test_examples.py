"""The programs in examples/ do what they say, on every backend and under every start method."""

from __future__ import annotations

import multiprocessing
import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
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


@pytest.mark.parametrize(("backend", "_method"), [row for row in ROWS if row[1] is None])
def test_shared_words_loses_none(backend, _method):
    command = [
        sys.executable,
        str(EXAMPLES / "shared_words.py"),
        "--backend",
        backend,
        "--workers",
        "2",
        "--limit",
        "40",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=50)
    assert (done.returncode, done.stderr) == (0, "")
    first, second, third = done.stdout.splitlines()
    assert first.startswith("after 20 files or a few more: ") and second.startswith("after 40 files: ")
    words, found = re.findall(r"\d+", third)
    assert words == found != "0" and "none is lost" in third


def ask_database(*arguments):
    command = [sys.executable, str(EXAMPLES / "file_database.py"), "--limit", str(FILES), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=50)


@pytest.fixture(scope="module")
def serial_answers():
    return ask_database("--backend", "serial").stdout


@pytest.mark.parametrize(("backend", "start_method"), ROWS)
def test_file_database_gives_the_same_answers(backend, start_method, serial_answers, tmp_path):
    chosen = ["--start-method", start_method] if start_method else []
    done = ask_database("--backend", backend, *chosen, "--database", str(tmp_path / "files.sqlite"))
    assert (done.returncode, done.stderr, done.stdout) == (0, "", serial_answers)
    assert done.stdout.startswith(f"{FILES}\t") and done.stdout.endswith("3 questions were asked\n")
    with closing(sqlite3.connect(tmp_path / "files.sqlite")) as database:
        assert database.execute("SELECT count(*) FROM files").fetchall() == [(FILES,)]


def test_file_database_goes_on_behind_a_question_that_is_wrong():
    done = ask_database("--backend", "process", "--ask", "SELECT what", "--ask", "SELECT 6 * 7")
    assert done.returncode == 1 and done.stdout == "42\n2 questions were asked\n"
    assert done.stderr == "OperationalError: no such column: what\n"


def syntax_census(*arguments):
    command = [sys.executable, str(EXAMPLES / "syntax_census.py"), "--limit", "40", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=50)


@pytest.fixture(scope="module")
def serial_census():
    return syntax_census("--backend", "serial").stdout


@pytest.mark.parametrize(("backend", "_method"), [row for row in ROWS if row[1] is None])
def test_syntax_census_is_the_same_through_channels_of_every_backend(backend, _method, serial_census):
    done = syntax_census("--backend", backend, "--workers", "3")
    assert (done.returncode, done.stderr) == (0, "")
    first, *kinds = done.stdout.splitlines()
    assert first == "40 files read, 40 parsed" and len(kinds) == 10
    assert done.stdout == serial_census


def test_syntax_census_explains_that_it_needs_two_workers():
    done = syntax_census("--workers", "1")
    assert done.returncode == 2 and "2 at least" in done.stderr


@pytest.fixture
def folder(tmp_path):
    for name, text in [("a", "one"), ("b", "two"), ("c", "one"), ("d", "six"), ("e/f", "two"), ("g", "alone")]:
        path = tmp_path / "files" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path / "files"


def find_duplicates(*arguments, **variables):
    command = [sys.executable, str(EXAMPLES / "duplicates" / "find_duplicates.py"), *map(str, arguments)]
    environment = {**os.environ, **variables}
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=50, env=environment)


@pytest.mark.parametrize("profile", ["", "debug", "pool"])
def test_find_duplicates_is_the_same_program_on_every_profile(profile, folder):
    done = find_duplicates(folder, PARAPLUIE_PROFILE=profile, PARAPLUIE_MAX_WORKERS="2")
    assert (done.returncode, done.stderr) == (0, "")
    groups = [[folder / "a", folder / "c"], [folder / "b", folder / "e" / "f"]]
    listed = "".join("".join(f"{path}\n" for path in group) + "\n" for group in groups)
    assert done.stdout == f"{listed}2 groups of files with the same content\n"


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"PARAPLUIE_PROFILE": "debgu"}, ("no profile 'debgu'", "Did you mean 'debug'?")),
        ({"PARAPLUIE_BACKEND": "rya"}, ("unknown backend 'rya'", "process")),
        ({"PARAPLUIE_MAX_WORKERS": "0"}, ("PARAPLUIE_MAX_WORKERS: found 0", "a whole number from 1")),
    ],
)
def test_find_duplicates_explains_wrong_settings(variables, words, folder):
    done = find_duplicates(folder, **variables)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert all(word in done.stderr for word in words), done.stderr
