"""`FutureBackend`: the end, while calls are with the engine, or on their way."""

from __future__ import annotations

import logging
import threading

import future_engine
import pytest
from cell_helpers import SECONDS

from parapluie import (
    future_backend,
)
from parapluie.backend import Stop

driven, no_defect_logged = future_engine.driven, future_engine.no_defect_logged


@pytest.mark.parametrize("kill", [False, True])
def test_stop_without_calls(driven, kill):
    driven.backend.stop(Stop(SECONDS, kill=kill))
    assert driven.engine.ended == [kill]
    assert driven.send() == 0


def test_kill_ends_the_engine_and_loses_what_is_left_once(driven):
    driven.send(2)
    driven.backend.stop(Stop(SECONDS, kill=True))
    assert driven.engine.ended == [True]
    losses = [driven.host.answer() for _ in range(2)]
    assert {call_id for _, call_id, _ in losses} == {1, 2}
    assert {loss.began for *_, loss in losses} == {None}
    driven.engine.futures[0].run()  # too late
    driven.backend.stop(Stop(SECONDS, kill=True))
    assert driven.host.answers.empty() and driven.backend.revoke(1)


def test_stop_waits_for_what_ends_in_time(driven):
    driven.send()
    driven.engine.futures[0].set_running_or_notify_cancel()
    stopper = threading.Thread(target=driven.backend.stop, args=(Stop(SECONDS),))
    stopper.start()
    driven.engine.futures[0].run()
    stopper.join(SECONDS)
    assert driven.engine.ended == [False] and driven.host.value() == 7


def test_what_outstays_the_grace_period_is_ended_and_logged(driven, caplog):
    driven.send()
    with caplog.at_level(logging.WARNING):
        driven.backend.stop(Stop(0.05))
    assert driven.engine.ended == [True] and driven.host.answer()[2].began is None
    assert "did not stop within 0.05 seconds: 1 calls still running" in caplog.text


def test_kill_hurries_a_stop_that_waits_for_calls(driven):
    driven.send()
    stopper = threading.Thread(target=driven.backend.stop, args=(Stop(10 * SECONDS),))
    stopper.start()
    driven.backend.stop(Stop(0.0, kill=True))
    stopper.join(SECONDS)
    assert not stopper.is_alive()
    assert driven.engine.ended[0] and driven.host.answer()[2].began is None
    assert driven.host.answers.empty()


def test_kill_hurries_a_stop_that_waits_for_the_engine(driven):
    there, killed = threading.Event(), threading.Event()
    driven.engine.at_end = lambda kill: killed.set() if kill else (there.set(), killed.wait(SECONDS))
    stopper = threading.Thread(target=driven.backend.stop, args=(Stop(SECONDS),))
    stopper.start()
    assert there.wait(SECONDS)
    driven.backend.stop(Stop(0.0, kill=True))
    stopper.join(SECONDS / 2)
    assert not stopper.is_alive() and driven.engine.ended == [False, True]


def test_engine_that_ends_its_futures_when_it_is_ended(driven):
    driven.send(2)
    driven.engine.at_end = lambda _kill: (driven.engine.futures[0].run(), driven.engine.futures[1].cancel())
    driven.backend.stop(Stop(0.05))
    answers = sorted(driven.host.answers.get_nowait()[:2] for _ in range(2))
    assert answers == [("lost", 2), ("replied", 1)]
    assert driven.host.answers.empty() and driven.host.failures.empty()
    driven.engine.at_end = lambda _kill: None


def test_engine_that_fails_to_end(driven):
    driven.send()
    driven.engine.at_end = lambda _kill: {}["odd"]
    with pytest.raises(KeyError):
        driven.backend.stop(Stop(0.0))
    assert driven.host.answer()[2].began is None
    driven.engine.at_end = lambda _kill: None


@pytest.mark.parametrize("refused", [False, True])
def test_call_that_is_being_submitted_when_the_engine_ends(driven, refused):
    def at_once(_):
        driven.backend.stop(Stop(0.05))  # it does not wait for ever
        if refused:
            raise RuntimeError("cannot schedule new futures after shutdown")

    driven.engine.at_once = at_once
    assert driven.send(2) == 1
    assert driven.host.answer()[2].began is None
    assert driven.host.answers.empty()


def test_call_that_is_submitted_as_the_engine_has_ended(driven, monkeypatch):
    def flight(*args):
        driven.backend.stop(Stop(0.0, kill=True))  # in another thread it may come as late
        return made(*args)

    made = future_backend._Flight
    monkeypatch.setattr(future_backend, "_Flight", flight)
    driven.send()
    assert driven.host.answer()[2].began is None


def test_stop_waits_for_a_call_that_is_being_submitted(driven):
    submitting, go_on = threading.Event(), threading.Event()
    driven.engine.at_once = lambda _: (submitting.set(), go_on.wait(SECONDS))
    sender = threading.Thread(target=driven.send)
    sender.start()
    assert submitting.wait(SECONDS)
    stopper = threading.Thread(target=driven.backend.stop, args=(Stop(SECONDS, kill=True),))
    stopper.start()
    assert not driven.engine.ended
    go_on.set()
    stopper.join(SECONDS), sender.join(SECONDS)
    assert driven.engine.ended == [True] and driven.host.answer()[2].began is None


def test_stop_in_a_callback_of_a_user(driven):
    """A callback may wait for the end of the executor: the end does not wait for the callback."""
    ended = threading.Event()

    def replied(*_):
        stopper = threading.Thread(target=lambda: (driven.backend.stop(Stop(SECONDS)), ended.set()))
        stopper.start()
        assert ended.wait(SECONDS / 2)
        stopper.join(SECONDS)

    driven.host.replied = replied
    driven.send()
    driven.engine.futures[0].run()
    assert ended.wait(SECONDS)
    driven.backend._thread.join(SECONDS)
