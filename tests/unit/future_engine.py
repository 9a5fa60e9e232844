"""An engine whose futures end when the test says so, and `FutureBackend` over it."""

from __future__ import annotations

import pickle
import threading
from concurrent.futures import Future

import pytest
from cell_helpers import RecordingHost

from parapluie.backend import Call, FutureBackend, Stop
from parapluie.testing.helpers import defects


class CallFuture(Future):
    def __init__(self, function, args):
        super().__init__()
        self.call = function, args

    def run(self):
        function, args = self.call
        self.set_result(function(*args))


class Engine:
    """Hands out futures, which the test ends; `futures` holds them with what they are to run."""

    def __init__(self):
        self.futures = []
        self.refusals = []  # what `submit` raises
        self.at_once = lambda _future: None  # called within `submit`
        self.ended = []  # with or without kill, for each time
        self.at_end = lambda _kill: None

    def submit(self, function, args):
        if self.refusals:
            raise self.refusals.pop(0)
        future = CallFuture(function, args)
        self.futures.append(future)
        self.at_once(future)
        return future

    def shut_down(self, kill):
        self.ended.append(kill)
        self.at_end(kill)


class EngineBackend(FutureBackend):
    ahead = 2

    def start(self, host):
        super().start(host)
        self.engine = Engine()

    def submit(self, function, /, *args):
        return self.engine.submit(function, args)

    def shut_down(self, *, kill):
        self.engine.shut_down(kill)


class Driven:
    """A started backend, its engine, and a host that records."""

    def __init__(self, **settings):
        self.host = RecordingHost("spawn", **settings)
        self.backend = EngineBackend()
        self.backend.start(self.host)
        self.engine = self.backend.engine
        self._ids = iter(range(1, 1000))

    def send(self, count=1, function=abs, args=(-7,)):
        """Dispatch calls; return how many were taken."""
        payload = pickle.dumps((function, args, {}))
        return self.backend.dispatch([Call(next(self._ids), payload) for _ in range(count)])

    def silent(self):
        """Say that no further answer has come, or comes of what has ended."""
        self.backend.stop(Stop(0.0, kill=True))
        return self.host.answers.empty()


@pytest.fixture(autouse=True)
def no_defect_logged(caplog):
    threads = set(threading.enumerate())
    yield
    assert defects(caplog) == []
    assert set(threading.enumerate()) == threads


@pytest.fixture
def driven():
    made = Driven()
    yield made
    made.backend.stop(Stop(0.0, kill=True))
