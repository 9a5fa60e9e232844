"""The journal's own file: what is refused, what survives, and what items and functions are called in it."""

from __future__ import annotations

import functools
import os
import pickle
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing

import pytest

import parapluie
from parapluie import (
    ConfigError,
    Executor,
    Journal,
    JournalError,
    JournalMismatchError,
    RemoteError,
    ResultPicklingError,
)
from parapluie.journal import sealing, store
from parapluie.journal.settings import rows_of
from parapluie.testing import tasks
from parapluie.testing.helpers import SECONDS

POSIX = pytest.mark.skipif(os.name != "posix", reason="limits and signals of POSIX")


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "journal")


@pytest.fixture
def executor():
    with Executor("thread", 2) as executor:
        yield executor


def row(place, value=None, *, failed=False, digest=b"d"):
    return store.Row(place, digest, failed, 1, 0.5, pickle.dumps(value))


def run(program, *args, check=True):
    command = [sys.executable, "-c", program, *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, check=check, timeout=50)


# ---- the file ------------------------------------------------------------------------------------------------------


def test_rows_come_back_in_order_whatever_their_size(path):
    rows = [row(place, "x" * (700_000 if place % 50 == 0 else 10)) for place in range(3000)]
    with closing(store.Store(path)) as file:
        file.write(rows[1500:])
        file.write(rows[:1500])
        assert list(map(tuple, rows_of(file, 0))) == list(map(tuple, rows))
        found = file.rows(0)
        assert 1 < len(found) < 100  # about a megabyte
        assert [one.place for one in rows_of(file, 100, 2200)] == list(range(100, 2200))
        file.cut(10)
        assert [mark.place for mark in file.marks(0)] == list(range(10))


def test_transaction_is_all_or_nothing(path):
    with closing(store.Store(path)) as file:
        file.write([row(0)])
        with pytest.raises(JournalError, match="cannot be written"):
            file.write([row(1), row(None, digest=None)])
        assert [mark.place for mark in file.marks(0)] == [0]
        file.write([row(1)])
        assert [mark.place for mark in file.marks(0)] == [0, 1]


def test_commits_are_synchronised(path):
    with closing(store.Store(path)) as file:
        settings = ("journal_mode", "synchronous", "fullfsync", "locking_mode")
        found = [file._base.execute(f"PRAGMA {name}").fetchone()[0] for name in settings]
    assert found == ["wal", 2, 1, "exclusive"]  # 2 is FULL: a power cut loses nothing that was committed


def test_row_that_somebody_has_taken_out_is_missed(path, executor):
    list(executor.map(tasks.square, range(10), journal=path))
    with closing(sqlite3.connect(path)) as base, base:
        base.execute("DELETE FROM items WHERE place = 4")
    assert list(executor.map(tasks.square, range(10), journal=path)) == [number * number for number in range(10)]
    with closing(store.Store(path)) as file:
        file.write([row(12)])
        with pytest.raises(JournalError, match="has lost item 10"):
            list(rows_of(file, 8, 13))


@pytest.mark.parametrize("same_process", [True, False])
def test_second_user_is_refused(path, executor, same_process):
    results = executor.map(tasks.square, range(3), journal=path)
    if same_process:
        with pytest.raises(JournalError, match="in use by another run; wait until"):
            executor.map(tasks.square, range(3), journal=path)
    else:
        program = "import sys, parapluie; list(parapluie.Journal(sys.argv[1]).outcomes())"
        done = run(program, path, check=False)
        assert done.returncode == 1 and "JournalError" in done.stderr and "in use by another run" in done.stderr
    assert list(results) == [0, 1, 4]
    assert list(executor.map(tasks.square, range(3), journal=path)) == [0, 1, 4]  # free as soon as the map has ended


def test_journal_of_a_map_that_is_left_is_free_again(path, executor):
    for value in executor.map(tasks.square, range(3000), journal=path, buffersize=5):
        if value:
            break
    assert list(executor.map(tasks.square, range(3000), journal=path, buffersize=500))[-1] == 2999 * 2999


def test_database_of_something_else_is_refused(path):
    with closing(sqlite3.connect(path)) as base, base:
        base.execute("CREATE TABLE accounts (name TEXT)")
    with pytest.raises(JournalError, match="a database of something else"):
        store.Store(path)
    with closing(sqlite3.connect(path)) as base:
        assert base.execute("SELECT name FROM sqlite_master").fetchall() == [("accounts",)]


def test_journal_of_a_newer_version_is_refused(path):
    store.Store(path).close()
    with closing(sqlite3.connect(path)) as base, base:
        base.execute("PRAGMA user_version = 99")
    with pytest.raises(JournalError, match=r"has format 99, and this version of parapluie knows 1"):
        store.Store(path)


def test_journal_that_cannot_be_made_is_refused(tmp_path, executor):
    with pytest.raises(JournalError, match="cannot be opened"):
        executor.map(tasks.square, [1], journal=tmp_path / "no" / "such" / "folder")
    with pytest.raises(JournalError, match="does not exist"):
        list(Journal(tmp_path / "none").outcomes())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("arguments", [{"path": None}, {"path": ""}, {"path": 3}, {"path": "j", "key": 3}])
def test_journal_is_made_of_a_path(arguments):
    with pytest.raises(ConfigError):
        Journal(**arguments)


DIE = """
import os, sys
from parapluie import Executor
from parapluie.testing import tasks

with Executor("thread", 2) as executor:
    for value in executor.map(tasks.square, range(10**9), journal=sys.argv[1]):
        print(value, flush=True)
        if value > 10**6:
            os._exit(3)
"""


def test_what_was_given_is_in_the_journal_of_a_process_that_ends_at_once(path):
    done = run(DIE, path, check=False)
    given = [int(line) for line in done.stdout.split()]
    assert done.returncode == 3 and len(given) > 1000
    assert [outcome.value for outcome in Journal(path).outcomes()][: len(given)] == given


FULL = """
import resource, signal, sys
from parapluie import Executor, JournalError
from parapluie.testing import tasks

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))  # stands for a full disk
given = 0
with Executor("thread", 2) as executor:
    try:
        for value in executor.map(tasks.same, range(10**9), journal=sys.argv[1]):
            given += 1
    except JournalError as error:
        print(given, error)
"""


@POSIX
def test_full_disk_is_one_error_and_loses_nothing_that_is_recorded(path, executor):
    done = run(FULL, path)
    given, _, problem = done.stdout.partition(" ")
    assert "cannot be written" in problem and "What is recorded is kept" in problem and done.stderr == ""
    recorded = [outcome.value for outcome in Journal(path).outcomes()]
    assert recorded[: int(given)] == list(range(int(given)))
    again = list(executor.map(tasks.same, range(recorded[-1] + 10), journal=path))
    assert again == list(range(recorded[-1] + 10))


def test_what_is_answered_after_the_journal_broke_is_not_given(path, executor, monkeypatch):
    """It is not recorded, and so has to run again: nobody may have taken it for done."""
    broke = threading.Event()

    def write(self, rows):
        broke.set()
        raise JournalError(path, "cannot be written: broken on purpose")

    def item(number):
        return number if number or broke.wait(SECONDS) else None

    monkeypatch.setattr(store.Store, "write", write)
    before = set(threading.enumerate())
    results = executor.map(item, [0, 1], chunksize=1, journal=path)
    for thread in set(threading.enumerate()) - before:
        if thread.name == "parapluie-journal":
            thread.join(SECONDS)  # now the answer to item 0 has come to it, too
    with pytest.raises(JournalError, match="broken on purpose"):
        next(results)


def test_journal_says_what_made_it(path, executor):
    list(executor.map(tasks.square, [1], journal=path))
    with closing(store.Store(path)) as file:
        assert file.header() == {
            "function": "parapluie.testing.tasks.square",
            "python": ".".join(map(str, sys.version_info[:3])),
            "parapluie": parapluie.__version__,
        }


def test_no_thread_is_left(path, executor):
    assert list(executor.map(tasks.square, range(100), journal=path))
    assert "parapluie-journal" not in {thread.name for thread in threading.enumerate()}


# ---- values and errors ---------------------------------------------------------------------------------------------


class GoneError(Exception):
    pass


def test_error_whose_class_is_gone_can_be_read(path, executor, monkeypatch):
    def fail(item):
        raise GoneError("once upon a time", item)

    list(executor.map(fail, [1], on_error="collect", journal=path))
    monkeypatch.delattr(sys.modules[__name__], "GoneError")
    (outcome,) = Journal(path).outcomes()
    assert isinstance(outcome.error, RemoteError)
    assert outcome.error.type_name.endswith("GoneError") and "once upon a time" in str(outcome.error)
    assert "in fail" in str(outcome.error.__cause__)


class Value:
    pass


def test_value_whose_class_is_gone_is_an_error_of_its_item(path, executor, monkeypatch):
    list(executor.map(tasks.same, [Value(), 2], on_error="collect", journal=path))
    monkeypatch.delattr(sys.modules[__name__], "Value")
    first, second = Journal(path).outcomes()
    assert isinstance(first.error, JournalError) and "item 0 that cannot be read back" in str(first.error)
    assert second.value == 2


def test_value_that_is_too_large_is_an_error_of_its_item(path):
    with pytest.raises(JournalError, match=r"cannot record the result of item 7: it has 1,0\d\d bytes, of 1,000"):
        sealing.seal_value(b"x" * 1000, path, 7, 1000)


def test_error_that_cannot_be_pickled_is_recorded(path):
    error = ResultPicklingError(1, "a lock")
    error.lock = threading.Lock()
    value, found = sealing.open_sealed(sealing.seal_failure(error), path, 0, failed=True)
    assert value is None and type(found) is ResultPicklingError and str(found) == str(error)


# ---- what things are called ----------------------------------------------------------------------------------------

FINGERPRINTS = """
from fractions import Fraction
from parapluie.journal.sealing import fingerprint

values = [1, "text", {"a", "b", "c"}, {"b": [1.5, None]}, Fraction(1, 3), ["ab", "ab"], (True, b"x")]
for value in values:
    print(fingerprint(value).hex())
"""


def test_item_has_the_same_digest_in_every_run():
    runs = set()
    for seed in ("1", "2", "3"):
        command = [sys.executable, "-c", FINGERPRINTS]
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=SECONDS, env=environment)
        runs.add(done.stdout)
    assert len(runs) == 1
    assert len(set(runs.pop().split())) == 7


def test_digest_is_of_contents():
    text, equal = (bytes([97] * 100).decode() for _ in range(2))
    assert text is not equal
    assert sealing.fingerprint([text, text]) == sealing.fingerprint([text, equal])
    pair = functools.partial(tasks.add, text, equal)
    assert sealing.fingerprint(pair) == sealing.fingerprint(functools.partial(tasks.add, text, text))
    assert len({sealing.fingerprint(value) for value in (1, True, 1.0, "1", b"1", (1,), [1], {1})}) == 8
    import numpy as np

    assert sealing.fingerprint(np.zeros(2, "int64")) != sealing.fingerprint(np.zeros(2, "float64"))
    own = []
    own.append(own)
    assert sealing.fingerprint(own) not in {sealing.UNKNOWN, sealing.fingerprint([])}
    assert sealing.fingerprint(threading.Lock()) == sealing.UNKNOWN


def test_functions_are_called_by_where_they_are():
    assert sealing.name_of(tasks.square) == "parapluie.testing.tasks.square"
    assert sealing.name_of(tasks.Account(3).plus) == "parapluie.testing.tasks.Account.plus"
    assert sealing.name_of(len) == "builtins.len"
    one, two = (sealing.name_of(functools.partial(tasks.add, number)) for number in (1, 2))
    assert one != two and one.startswith("parapluie.testing.tasks.add(")
    assert sealing.name_of(functools.partial(map, tasks.square)) == "builtins.map(parapluie.testing.tasks.square)"


MAIN = """
from parapluie.journal.sealing import name_of


def square(number):
    return number * number


print(name_of(square))
"""


def test_function_of_the_main_file_is_called_by_the_files_name(tmp_path):
    (tmp_path / "squares.py").write_text(MAIN)
    for command in ([str(tmp_path / "squares.py")], ["-m", "squares"]):
        done = subprocess.run(
            [sys.executable, *command], capture_output=True, text=True, check=True, timeout=SECONDS, cwd=tmp_path
        )
        assert done.stdout.strip() == "squares.square"


def test_function_that_is_given_something_else_is_another_one(path, executor):
    list(executor.map(functools.partial(tasks.add, 1), [1], journal=path))
    with pytest.raises(JournalMismatchError, match=r"made by parapluie.testing.tasks.add\(\w+\), not by"):
        executor.map(functools.partial(tasks.add, 2), [1], journal=path)
