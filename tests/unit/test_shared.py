"""The lock and the bytes that a parent and one worker share, by each start method."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from functools import partial

import pytest

from parapluie.shared_memory import SharedBytes, SharedLock
from parapluie.stdlib_private import can_be_inherited
from parapluie.testing import processes

SIZE = 1 << 12
SECONDS = 30


def write(shared, where, text):
    view = getattr(shared, "view", shared)
    view[where : where + len(text)] = text


def take_and_die(lock):
    lock.acquire()
    os._exit(3)


def give_back(lock):
    lock.release()


@pytest.fixture(params=multiprocessing.get_all_start_methods())
def method(request):
    return request.param


@pytest.fixture
def lock(method):
    lock = SharedLock(method)
    yield lock
    lock.close()


@pytest.fixture
def run(method):
    return partial(processes.run, method)


def descriptors():
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a count


def test_bytes_are_zero_at_first_and_shared(method, run):
    shared = SharedBytes(SIZE, method)
    assert bytes(shared.view) == bytes(SIZE)
    assert run(write, shared, 17, b"abc") == 0
    shared.sent()
    assert bytes(shared.view[16:21]) == b"\0abc\0"


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="descriptors cannot be counted")  # noqa: PTH112
def test_bytes_leave_no_descriptor(method):
    before = descriptors()
    shared = SharedBytes(SIZE, method)
    shared.sent()
    shared.sent()
    view = shared.view
    del shared
    view[0] = 1  # they are there as long as somebody holds them
    del view
    assert descriptors() == before


def test_bytes_without_memory_files(monkeypatch, run):
    monkeypatch.delattr(os, "memfd_create", raising=False)
    method = "spawn"
    context = multiprocessing.get_context(method)
    shared = SharedBytes(SIZE, method)
    process = context.Process(target=write, args=(shared, 0, b"abc"))
    process.start()
    process.join(SECONDS)
    shared.sent()
    assert bytes(shared.view[:3]) == b"abc"


def test_lock_is_held_by_a_dead_worker(lock, run):
    assert run(take_and_die, lock) == 3
    began = time.monotonic()
    assert not lock.acquire(timeout=0.1)
    assert time.monotonic() - began >= 0.09


def test_lock_may_be_released_by_the_other_side(lock, run):
    assert lock.acquire(timeout=1)
    assert run(give_back, lock) == 0
    assert lock.acquire(timeout=1)
    lock.release()
    with pytest.raises(ValueError, match="released too many times"):
        lock.release()


def test_both_travel_only_to_a_process_that_is_being_started(lock, method):
    assert can_be_inherited((lock, SharedBytes(SIZE, method)), method)


@pytest.mark.skipif(sys.platform != "linux", reason="semaphores have no files")
@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_closed_lock_leaves_no_name(method):
    def names():
        return {name for name in os.listdir("/dev/shm") if "parapluie" in name}  # noqa: PTH208, S108 - to look into

    before = names()
    lock = SharedLock(method)
    assert len(names() - before) == (method != "fork")
    lock.close()
    assert names() <= before
