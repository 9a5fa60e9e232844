"""Large buffers in shared memory: whose part is whose, when it is free again, and what goes where there is no room."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import sys
import threading
from bisect import bisect
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parapluie.backends.process.store import CallStore, Kept, Ranges, ReplyReader, WorkerStore
from parapluie.call_format import LARGE
from parapluie.shared_memory import shared_file
from parapluie.testing import processes

pytestmark = pytest.mark.windows
SECONDS = 30
PAGE = 1 << 16  # a multiple of the page's size everywhere


# ---- parts of a file --------------------------------------------------------------------------------------------


@given(st.lists(st.one_of(st.integers(1, 5 * PAGE), st.floats(0, 0.999)), max_size=60))
def test_parts_do_not_overlap_and_come_back_whole(steps):
    """A whole number takes so many bytes; a fraction gives back one of those that were taken."""
    ranges, taken = Ranges(), []
    for step in steps:
        if isinstance(step, int):
            start = ranges.take(step)
            index = bisect(taken, (start, step))
            assert start >= 0
            assert index == 0 or sum(taken[index - 1]) <= start
            assert index == len(taken) or start + step <= taken[index][0]
            taken.insert(index, (start, step))
        elif taken:
            ranges.give(*taken.pop(int(step * len(taken))))
    for part in taken:
        ranges.give(*part)
    assert ranges.take(1 << 40) == 0


def test_lowest_part_that_is_large_enough_is_used_again():
    ranges = Ranges()
    first, second, third = (ranges.take(2 * PAGE) for _ in range(3))
    ranges.give(second, 2 * PAGE)
    assert ranges.take(3 * PAGE) == third + 2 * PAGE
    assert ranges.take(PAGE) == second
    assert ranges.take(PAGE) == second + PAGE
    ranges.give(first, 2 * PAGE)
    assert ranges.take(PAGE) == first


def test_file_is_cut_behind_what_is_in_use():
    ranges = Ranges()
    size = 1 << 30
    first, second = ranges.take(PAGE), ranges.take(size)
    assert ranges.too_long() is None
    ranges.give(second, size)
    assert PAGE < ranges.too_long() < size
    assert ranges.too_long() is None  # it is that short now
    ranges.give(first, PAGE)


# ---- the parent's calls -----------------------------------------------------------------------------------------


@pytest.fixture
def store():
    return CallStore(shared_file())


def test_memory_is_free_when_nobody_holds_what_was_kept(store):
    data = memoryview(bytearray(3 * LARGE))
    first, second = store.keep(data), store.keep(data)
    assert first.ref[0] == 0 < second.ref[0]
    again = first
    del first
    assert store.keep(data).ref[0] > second.ref[0]  # and is not kept
    del again
    assert store.keep(data).ref[0] == 0


def test_small_buffers_and_those_of_a_closed_store_are_copied(store):
    small = bytearray(b"small")
    kept = store.keep(memoryview(small))
    small[:] = b"other"
    assert kept == b"small"
    large = bytearray(LARGE)
    store.close()
    assert store.keep(memoryview(large)) == large


def test_threads_keep_at_the_same_time(store):
    kept, errors = [], []

    def keep(seed):
        try:
            for number in range(60):
                data = bytes([seed, number]) * (LARGE // 2 + 100 * seed)
                kept.append((store.keep(memoryview(data)), data))
                if number % 3 == 0:
                    kept.pop(0)
                store.tidy()
        except BaseException as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=keep, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert not errors and len(kept) == 4 * 40
    worker = WorkerStore(store._file, shared_file())
    for number, (item, data) in enumerate(kept):
        assert type(item) is Kept
        assert worker.open(number, [item.ref])[0] == data


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this platform has no timer that interrupts")
def test_signal_handler_keeps_in_the_midst_of_it(store):
    """It must neither wait for the thread that it has interrupted, nor be given the same memory."""
    kept = []
    data = memoryview(bytearray(LARGE))

    def handler(_signal, _frame):
        kept.append(store.keep(data))

    previous = signal.signal(signal.SIGALRM, handler)
    try:
        for number in range(300):
            # Once each: a timer that rings again and again may leave no time for anything but its handler.
            signal.setitimer(signal.ITIMER_REAL, 1e-6 * (1 + number % 50))
            kept.append(store.keep(data))
            store.tidy()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    places = [item.ref[0] for item in kept if type(item) is Kept]
    assert len(set(places)) == len(places)


# ---- from process to process ------------------------------------------------------------------------------------


@pytest.fixture(params=multiprocessing.get_all_start_methods())
def run(request):
    return partial(processes.run, request.param)


def change(calls, ref):
    store = WorkerStore(calls, calls)
    (view,) = store.open(1, [ref])
    assert view == b"a" * LARGE
    view[:] = b"b" * LARGE
    assert store.let_go() == []
    inner = view[5:7]
    del view
    assert store.let_go() == [] and inner == b"bb"
    del inner
    assert store.let_go() == [1]
    os._exit(0)


def put_and_die(replies):
    store = WorkerStore(replies, replies)
    first = store.put(1, [memoryview(b"1" * LARGE), memoryview(b"2" * LARGE)], lambda: 0)
    second = store.put(2, [memoryview(b"3" * LARGE)], lambda: 0)  # the first ones are not read yet
    third = store.put(3, [memoryview(b"4" * LARGE)], lambda: 1)
    assert [*first, *second, *third] == [(0, LARGE), (LARGE, LARGE), (2 * LARGE, LARGE), (0, LARGE)]
    os._exit(7)


def test_what_a_worker_writes_to_is_its_own(run):
    calls = shared_file()
    store = CallStore(calls)
    kept = store.keep(memoryview(b"a" * LARGE))
    assert run(change, calls, kept.ref) == 0
    assert WorkerStore(calls, calls).open(1, [kept.ref])[0] == b"a" * LARGE


@pytest.mark.skipif(sys.platform == "win32", reason="what a process has put there goes with it: results use the pipe")
def test_what_a_worker_has_put_survives_it(run):
    replies = shared_file()
    assert run(put_and_die, replies) == 7
    read = ReplyReader(replies).read([(0, LARGE), (LARGE, LARGE), (2 * LARGE, LARGE), bytearray(b"here")])
    assert [bytes(data[:4]) for data in read] == [b"4444", b"2222", b"3333", b"here"]
    read[0][:] = b"!" * LARGE
    assert ReplyReader(replies).read([(0, 2)]) == [b"44"]


@pytest.mark.skipif(sys.platform == "win32", reason="each piece is a mapping there")
@pytest.mark.parametrize("has_preadv", [True, False])
def test_what_is_not_there_is_no_endless_wait(monkeypatch, has_preadv):
    if not has_preadv:
        monkeypatch.delattr(os, "preadv", raising=False)
    file = shared_file()
    file.write(PAGE, memoryview(b"abc" * 1000))
    assert file.read(PAGE, 3000) == b"abc" * 1000
    with pytest.raises(EOFError, match="there are only 2990"):
        file.read(PAGE + 10, 3000)


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="descriptors cannot be counted")  # noqa: PTH112
def test_file_goes_with_the_last_who_holds_it():
    gc.collect()
    before = os.listdir("/proc/self/fd")  # noqa: PTH208 - names
    file = shared_file()
    store = CallStore(file)
    kept = store.keep(memoryview(bytes(LARGE)))
    view = WorkerStore(file, file).open(1, [kept.ref])[0]
    del file
    store.close()
    assert view[0] == 0 and len(os.listdir("/proc/self/fd")) > len(before)  # noqa: PTH208
    del view
    assert os.listdir("/proc/self/fd") == before  # noqa: PTH208
