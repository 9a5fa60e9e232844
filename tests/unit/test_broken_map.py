"""A map whose executor breaks: each item is told so once, whatever the engine still has to say of its call."""

from __future__ import annotations

import pickle

import pytest

from parapluie import Backend, BackendBrokenError, Config, Executor, Loss, worker


class Stub(Backend):
    """Takes every call and answers none; the test does that."""

    def start(self, host):
        self.host, self.calls = host, []

    def dispatch(self, calls, /):
        self.calls += calls
        return len(calls)

    def revoke(self, call_id, *, running=False, item=None):
        return False

    def stop(self, stop):
        """There is nothing to be ended."""


def lose(host, call):
    host.lost(call.id, Loss(began=None, why="the engine was ended"))


def reply(host, call):
    host.replied(call.id, *worker.run(call.payload))


@pytest.mark.parametrize("late", [lose, reply])
def test_item_is_told_once(late):
    engine = Stub()
    with Executor(engine, 1, config=Config()) as executor:
        outcomes = executor.map(pickle.dumps, range(3), chunksize=3, on_error="collect")
        (call,) = engine.calls
        engine.host.broken(BackendBrokenError("broken on purpose", backend="stub"))
        late(engine.host, call)
        assert [str(outcome.error) for outcome in outcomes] == ["broken on purpose"] * 3
