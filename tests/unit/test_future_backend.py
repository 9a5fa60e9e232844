"""`FutureBackend`: calls on their way to an engine and back, over one whose futures end when the test says so."""

from __future__ import annotations

import sys
import threading
import weakref
from concurrent.futures import BrokenExecutor, Future
from multiprocessing import current_process

import future_engine
import pytest
from cell_helpers import SECONDS
from future_engine import Driven

from parapluie import (
    MissingMainGuardError,
    worker,
)
from parapluie.backend import Loss, Stop

driven, no_defect_logged = future_engine.driven, future_engine.no_defect_logged


# ---- calls and answers --------------------------------------------------------------------------------------------


def test_reply_of_a_worker_is_the_answer_and_makes_room(driven):
    assert driven.send() == 1
    driven.engine.futures[0].run()
    assert driven.host.value() == 7
    driven.host.wait_room()
    assert driven.host.ready.acquire(blocking=False)
    assert driven.silent()


def test_engine_gets_so_many_calls_ahead_and_no_more(driven):
    assert driven.send(5) == 2
    assert driven.send() == 0
    for _ in range(4):
        driven.engine.futures[-2].run()
        driven.host.value()
        driven.host.wait_room()
        assert driven.send(5) == 1
    assert len(driven.engine.futures) == 6


def test_no_place_is_lost_whatever_becomes_of_a_call(driven):
    driven.send(2)
    driven.engine.futures[0].cancel()
    driven.engine.futures[1].set_exception(OSError())
    driven.host.answer(), driven.host.answer()
    driven.host.wait_room(), driven.host.wait_room()
    driven.engine.refusals = [RuntimeError()]
    assert driven.send(3) == 3
    driven.host.answer()
    assert driven.backend.revoke(4)
    assert driven.send(5) == 1
    assert driven.backend.revoke(5)
    assert driven.send(5) == 1


def test_future_that_ends_within_submit(driven):
    driven.engine.at_once = lambda future: future.run()
    assert driven.send(2) == 2
    assert [driven.host.value(), driven.host.value()] == [7, 7]
    assert driven.silent()


def test_future_that_ends_in_another_thread_while_calls_are_still_dispatched(driven):
    answered = []

    def at_once(future):
        if len(driven.engine.futures) == 2:
            other = threading.Thread(target=driven.engine.futures[0].run)
            other.start()
            other.join(SECONDS)
            answered.append(driven.host.value())
        future.run()

    driven.engine.at_once = lambda future: None if len(driven.engine.futures) == 1 else at_once(future)
    assert driven.send(2) == 2
    assert (answered, driven.host.value()) == ([7], 7)
    assert driven.silent()


def test_answer_is_told_in_a_thread_that_holds_no_lock_of_the_engine(driven):
    """ProcessPoolExecutor ends its futures under the lock that its `submit` takes."""
    lock, told = threading.Lock(), []
    driven.host.room = lambda _n: (lock.acquire(timeout=SECONDS), told.append(driven.send()))
    driven.send()
    with lock:
        driven.engine.futures[0].run()
    assert driven.host.value() == 7
    driven.backend.stop(Stop(0.0, kill=True))
    assert told == [1]


@pytest.mark.parametrize("result", [None, 7, b"", (), (b"", ()) * 2, ("text", ()), (None, ()), (b"", None)])
def test_result_that_is_no_reply_is_a_loss(driven, result):
    driven.send()
    driven.engine.futures[0].set_result(result)
    what, _, loss = driven.host.answer()
    assert (what, loss.began) == ("lost", None)
    assert f"the engine answered with a {type(result).__name__} object" in loss.why
    assert driven.silent()


def test_error_of_the_engine_is_a_loss_that_may_have_begun(driven):
    driven.send()
    driven.engine.futures[0].set_exception(BrokenExecutor("gone"))
    assert driven.host.answer() == ("lost", 1, Loss(began=None, why="the engine answered BrokenExecutor: gone"))
    assert driven.host.failures.empty()
    assert driven.silent()


def test_backend_may_know_more_of_an_error(driven):
    driven.backend.loss = lambda error: Loss(began=True, culprit=False, why=str(error))
    driven.send()
    driven.engine.futures[0].set_exception(BrokenExecutor("gone"))
    assert driven.host.answer() == ("lost", 1, Loss(began=True, culprit=False, why="gone"))


@pytest.mark.parametrize("problem", [LookupError("odd"), KeyboardInterrupt("odd")])
@pytest.mark.parametrize("method", ["cancelled", "exception", "result"])
def test_future_that_raises_is_a_loss(driven, method, problem):
    def odd():
        raise problem

    driven.send()
    setattr(driven.engine.futures[0], method, odd)
    driven.engine.futures[0].run()
    _, _, loss = driven.host.answer()
    assert loss.began is None and loss.why.endswith(f"raised {type(problem).__name__}: odd")
    assert driven.silent()


def test_callback_of_a_user_that_exits_stops_no_other_answer(driven, caplog):
    def replied(*_):
        driven.host.replied = type(driven.host).replied.__get__(driven.host)
        raise SystemExit

    driven.host.replied = replied
    driven.send(2)
    for future in driven.engine.futures:
        future.run()
    assert driven.host.value() == 7
    assert driven.silent()
    assert "goes on after" in caplog.text
    caplog.clear()


def test_result_is_not_kept(driven):
    driven.send()
    driven.engine.futures[0].run()
    driven.host.value()
    driven.host.wait_room()
    kept = weakref.ref(driven.engine.futures.pop())
    assert kept() is None


def test_engine_is_not_started_by_the_import_of_a_main_module(monkeypatch):
    monkeypatch.setattr(current_process(), "_inheriting", True, raising=False)
    with pytest.raises(MissingMainGuardError):
        Driven()


# ---- engines that do not take calls, or give them back ------------------------------------------------------------


def test_call_that_is_not_taken_is_to_be_dispatched_again(driven):
    driven.engine.refusals = [RuntimeError("not now")]
    assert driven.send() == 1
    what, _, loss = driven.host.answer()
    assert (what, loss.began) == ("lost", False)
    why, cause = driven.host.failures.get_nowait()
    assert why == loss.why == "the engine took no call: RuntimeError: not now" and str(cause) == "not now"
    assert driven.host.failures.empty()
    assert driven.send() == 1


def test_call_that_is_not_taken_waits_for_an_answer_to_others(driven):
    driven.send()
    driven.engine.refusals = [RuntimeError("not now")]
    assert driven.send() == 0
    assert driven.host.failures.empty() and driven.host.answers.empty()
    driven.engine.futures[0].run()
    driven.host.value()
    driven.host.wait_room()
    assert driven.send(5) == 2


def test_engine_that_gives_all_back_has_failed_once(driven):
    driven.send(2)
    for future in driven.engine.futures:
        future.cancel()
    losses = [driven.host.answer()[2] for _ in range(2)]
    assert losses == [Loss(began=False, why="the engine cancelled it")] * 2
    assert driven.host.failures.qsize() == 1
    driven.host.wait_room()
    driven.send()
    driven.engine.futures[-1].cancel()
    driven.host.answer()
    assert driven.host.failures.qsize() == 2


def test_worker_that_refuses_is_no_good_answer():
    driven = Driven(initializer=(int, ("a",)))
    driven.send()
    driven.engine.futures[0].run()
    what, _, kind, *_ = driven.host.answer()
    assert (what, kind) == ("replied", worker.INIT)
    assert driven.silent()
    assert not driven.host.ready.acquire(blocking=False)


def test_future_that_takes_no_callback_is_a_loss(driven):
    def odd(_):
        raise LookupError("odd")

    driven.engine.at_once = lambda future: setattr(future, "add_done_callback", odd)
    assert driven.send() == 1
    assert driven.host.answer()[2] == Loss(None, why="the engine's future takes no callback: LookupError: odd")
    assert driven.silent()


def test_interrupt_while_the_engine_is_given_a_call(driven):
    driven.engine.refusals = [KeyboardInterrupt()]
    with pytest.raises(KeyboardInterrupt):
        driven.send()
    assert driven.host.answer()[2].began is None  # it may have it
    assert driven.silent()


def test_interrupt_when_the_engine_has_a_call(driven):
    def interrupted(_):
        del driven.engine.futures[0].add_done_callback
        raise KeyboardInterrupt

    driven.engine.at_once = lambda future: setattr(future, "add_done_callback", interrupted)
    with pytest.raises(KeyboardInterrupt):
        driven.send()
    driven.engine.futures[0].run()
    assert driven.host.value() == 7
    assert driven.silent()


# ---- withdrawing --------------------------------------------------------------------------------------------------


def test_withdrawn_call_is_cancelled_and_not_answered(driven):
    driven.send(2)
    assert driven.backend.revoke(1) and driven.engine.futures[0].cancelled()
    assert driven.backend.revoke(1)  # not known any more
    driven.engine.futures[1].run()
    assert driven.host.answer()[1] == 2
    assert driven.silent()


def test_call_that_runs_is_not_withdrawn(driven):
    driven.send()
    driven.engine.futures[0].set_running_or_notify_cancel()
    assert not driven.backend.revoke(1) and not driven.backend.revoke(1, running=True)
    driven.engine.futures[0].run()
    assert driven.host.value() == 7
    assert driven.silent()


def test_call_that_could_not_be_withdrawn_and_is_cancelled_later_is_answered(driven):
    driven.send()
    future = driven.engine.futures[0]
    future.cancel = lambda: False
    assert not driven.backend.revoke(1)
    Future.cancel(future)
    assert driven.host.answer()[2].began is False


@pytest.mark.parametrize("cancelled", [False, True])
def test_future_that_ends_while_it_is_being_cancelled(driven, cancelled):
    """The answering thread then finds the call claimed."""
    driven.send()
    future = driven.engine.futures[0]

    def cancel():
        future.run()
        driven.backend._answers.put(None)
        driven.backend._thread.join(SECONDS)  # it has looked at the call
        driven.backend._thread = None
        driven.backend._start_thread()
        return cancelled

    future.cancel = cancel
    assert driven.backend.revoke(1) is cancelled
    if not cancelled:
        assert driven.host.value() == 7
    assert driven.silent()


def test_answer_on_its_way_cannot_be_withdrawn(driven):
    at_host, go_on, withdrawn = threading.Event(), threading.Event(), []

    def replied(*_):
        withdrawn.append(driven.backend.revoke(1))  # from a callback of a user's
        at_host.set()
        go_on.wait(SECONDS)

    driven.host.replied = replied
    driven.send()
    driven.engine.futures[0].run()
    assert at_host.wait(SECONDS)
    withdrawn.append(driven.backend.revoke(1))
    go_on.set()
    driven.host.wait_room()
    assert withdrawn == [False, False]
    assert driven.backend.revoke(1)


def test_call_that_is_being_submitted_cannot_be_withdrawn(driven):
    withdrawn = []
    driven.engine.at_once = lambda _: withdrawn.append(driven.backend.revoke(1))
    driven.send()
    assert withdrawn == [False]


def test_engine_that_fails_to_cancel(driven, caplog):
    driven.send()
    future = driven.engine.futures[0]
    future.cancel = lambda: {}["odd"]
    assert not driven.backend.revoke(1)
    assert "could not cancel call 1" in caplog.text
    caplog.clear()
    future.run()
    assert driven.host.value() == 7


def test_each_call_is_either_answered_or_withdrawn(driven):
    interval = sys.getswitchinterval()
    driven.backend._room = 500
    driven.send(500)
    start = threading.Barrier(3)

    def withdraw():
        start.wait(SECONDS)
        for number in range(1, 501):
            driven.backend.revoke(number)

    def run():
        start.wait(SECONDS)
        for future in reversed(driven.engine.futures):
            if future.set_running_or_notify_cancel():
                future.run()

    threads = [threading.Thread(target=target) for target in (withdraw, withdraw, run)]
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SECONDS)
    finally:
        sys.setswitchinterval(interval)
    driven.backend.stop(Stop(SECONDS))
    answered = [driven.host.answers.get_nowait()[1] for _ in range(driven.host.answers.qsize())]
    withdrawn = [number for number, future in enumerate(driven.engine.futures, 1) if future.cancelled()]
    assert sorted(answered + withdrawn) == list(range(1, 501))
