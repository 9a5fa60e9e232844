"""The future without a condition: it behaves as the standard one, whoever comes first."""

from __future__ import annotations

import concurrent.futures
import gc
import inspect
import pickle
import sys
import threading
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, Future, InvalidStateError
from functools import partial

import pytest

from parapluie.light_future import LightFuture

SECONDS = 20


@pytest.fixture
def quick_switches():
    """Have threads take turns all the time, so that they meet in the middle of everything."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def in_turn(*functions):
    """Run functions in threads that begin together; return what they return."""
    together = threading.Barrier(len(functions))
    results = [None] * len(functions)

    def run(number, function):
        together.wait()
        results[number] = function()

    threads = [threading.Thread(target=run, args=item) for item in enumerate(functions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
        assert not thread.is_alive()
    return results


def ends(future):
    """Say whether it takes a result."""
    try:
        future.set_result(1)
    except InvalidStateError:
        return False
    return True


def test_it_touches_what_the_standard_future_has():
    assert {name for name in vars(Future()) if name.startswith("_")} == {
        "_condition", "_state", "_result", "_exception", "_waiters", "_done_callbacks"
    }  # fmt: skip


@pytest.mark.parametrize("name", ["result", "exception", "cancel", "cancelled", "done", "add_done_callback"])
def test_the_standard_future_takes_its_condition_before_it_looks(name):
    source = inspect.getsource(getattr(Future, name))
    assert "self._" not in source[: source.index("with self._condition:")]


def test_pending_future_that_nobody_waits_for_is_a_single_object():
    future: LightFuture[int] = LightFuture()
    assert [thing for thing in gc.get_referents(future) if gc.is_tracked(thing) and thing is not LightFuture] == []


@pytest.mark.parametrize("late", [True, False])
def test_result_is_had_before_and_after(late):
    future: LightFuture[int] = LightFuture()
    if not late:
        assert not future.done()  # it has its condition now
    future.set_result(7)
    assert future.done() and not future.running() and not future.cancelled() and not future.cancel()
    assert future.result(0) == 7 and future.exception(0) is None


@pytest.mark.parametrize("late", [True, False])
def test_exception_is_had_before_and_after(late):
    future: LightFuture[int] = LightFuture()
    if not late:
        assert not future.done()
    error = ValueError("no")
    future.set_exception(error)
    assert future.done() and future.exception(0) is error
    with pytest.raises(ValueError, match="no"):
        future.result(0)


@pytest.mark.parametrize("looked_at", [True, False])
def test_it_ends_once(looked_at):
    future: LightFuture[int] = LightFuture()
    if looked_at:
        assert not future.done()
    future.set_result(1)
    for again in (lambda: future.set_result(2), lambda: future.set_exception(ValueError())):
        with pytest.raises(InvalidStateError):
            again()
    assert future.result(0) == 1


def test_cancelled_one_takes_no_result():
    future: LightFuture[int] = LightFuture()
    assert future.cancel() and future.cancelled()
    with pytest.raises(InvalidStateError):
        future.set_result(1)


def test_it_cannot_be_pickled():
    with pytest.raises(TypeError, match="cannot pickle 'LightFuture' object"):
        pickle.dumps(LightFuture())


def test_unknown_attribute_is_an_error():
    with pytest.raises(AttributeError, match="'LightFuture' object has no attribute 'resutl'"):
        LightFuture().resutl  # noqa: B018


def test_callbacks_are_called_once_whether_early_or_late():
    called = []
    for early in (True, False):
        future: LightFuture[int] = LightFuture()
        if early:
            future.add_done_callback(called.append)
        future.set_result(1)
        if not early:
            future.add_done_callback(called.append)
        assert called.pop() is future and called == []


def test_wait_and_as_completed_take_a_mixture_of_ended_and_pending_ones():
    futures = [LightFuture() for _ in range(6)]
    for future in futures[::2]:
        future.set_result(1)
    done, pending = concurrent.futures.wait(futures, SECONDS, FIRST_COMPLETED)
    assert done == set(futures[::2]) and pending == set(futures[1::2])
    ends = threading.Timer(0.01, lambda: [future.set_result(2) for future in pending])
    ends.start()
    assert set(concurrent.futures.as_completed(futures, SECONDS)) == set(futures)
    assert concurrent.futures.wait(futures, SECONDS, ALL_COMPLETED).not_done == set()
    ends.join()


@pytest.mark.deadline(120)
def test_whoever_waits_while_it_ends_gets_the_result(quick_switches):
    for number in range(1500):
        future: LightFuture[int] = LightFuture()
        results = in_turn(partial(future.result, SECONDS), partial(future.set_result, number))
        assert results[0] == number


@pytest.mark.deadline(120)
def test_wait_for_all_returns_only_when_all_have_ended(quick_switches):
    for _ in range(400):
        futures = [LightFuture() for _ in range(4)]
        ending = [partial(future.set_result, 1) for future in futures]
        done, pending = in_turn(partial(concurrent.futures.wait, futures, SECONDS), *ending)[0]
        assert len(done) == 4 and not pending


@pytest.mark.deadline(120)
def test_callback_that_is_added_while_it_ends_is_called_once(quick_switches):
    for _ in range(1500):
        future: LightFuture[int] = LightFuture()
        called = []
        in_turn(partial(future.add_done_callback, called.append), partial(future.set_result, 1))
        assert called == [future]


@pytest.mark.deadline(120)
def test_of_a_result_and_a_cancellation_one_wins(quick_switches):
    for _ in range(1500):
        future: LightFuture[int] = LightFuture()
        ended, cancelled = in_turn(partial(ends, future), future.cancel)
        assert ended is not cancelled and future.cancelled() is cancelled
