"""The file that a worker leaves its last words in: those of its fault handler, or a note."""

from __future__ import annotations

import os
import pickle

import pytest

from parapluie import dumps, main_guard
from parapluie.errors import MissingMainGuardError

pytestmark = pytest.mark.windows


@pytest.fixture
def file():
    made = dumps.DumpFile()
    yield made
    made.close()


@pytest.mark.parametrize("data", [b"", b"text\n", bytes(range(256)) * 100])
def test_note_comes_back(file, data):
    assert file.note(data)
    assert file.noted() == data


def test_file_without_a_note_has_none(file):
    assert file.noted() is None
    os.write(file._fd, b"Fatal Python error: Aborted\n\nCurrent thread")
    assert file.noted() is None
    assert main_guard.told_by_worker(file) is None
    assert main_guard.told_by_worker(None) is None


def test_process_without_a_file_can_leave_no_note(monkeypatch):
    monkeypatch.setattr(dumps, "_file_without_name", lambda: None)
    file = dumps.DumpFile()
    assert not file.note(b"x")
    assert file.noted() is None


def test_error_that_a_worker_leaves_is_the_same_here(file):
    file.note(pickle.dumps(MissingMainGuardError("naïve\udc80.py", 3, "main()")))
    error = main_guard.told_by_worker(file)
    assert (error.file, error.line, error.statement) == ("naïve\udc80.py", 3, "main()")
    assert main_guard.is_unseen(error)
    with pytest.raises(MissingMainGuardError):
        raise error
    assert not main_guard.is_unseen(error)
    assert not main_guard.is_unseen(None)
    assert not main_guard.is_unseen(ValueError())


def test_note_is_left_as_soon_as_the_file_comes_though_the_rest_cannot_be_read(file, monkeypatch):
    monkeypatch.setattr(dumps.travel, "received", lambda sent: sent)
    monkeypatch.setattr(dumps, "_noted", False)
    seen = []

    def arrive():
        seen.append(file.noted())
        dumps._arrived(os.dup(file._fd))
        seen.append(file.noted())
        raise AttributeError("no such function yet")

    try:
        assert dumps.note_on_arrival(b"x", arrive)
        assert seen == [None, b"x"]
    finally:
        monkeypatch.setattr(dumps, "_to_note", None)


def test_no_note_where_no_file_comes(monkeypatch):
    try:
        assert not dumps.note_on_arrival(b"x", list)
    finally:
        monkeypatch.setattr(dumps, "_to_note", None)
