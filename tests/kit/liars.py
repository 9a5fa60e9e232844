"""Backends that lie on purpose, and the honest one that they are made from: what the kit has to tell apart.

Not collected with the other tests, since nearly all of this is to fail: test_liars.py runs it.
"""

from __future__ import annotations

import queue
import sys
import threading
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import pytest

from parapluie import registry
from parapluie.backend import Backend, BackendInfo, Capabilities, Loss
from parapluie.hookspecs import hookimpl
from parapluie.testing import BackendConformance
from parapluie.worker import run

CLAIMS = Capabilities()
released = threading.Event()  # what hangs on purpose may end


class Honest(Backend):
    """Runs calls in threads, from their bytes."""

    workers_more = 0

    def start(self, host):
        self.host = host
        self.queue = queue.SimpleQueue()
        self.pending = {}
        self.threads = [threading.Thread(target=self.work) for _ in range(host.max_workers + self.workers_more)]
        for thread in self.threads:
            thread.start()

    def dispatch(self, calls, /):
        for call in calls:
            self.pending[call.id] = call
            self.queue.put(call.id)
        return len(calls)

    def work(self):
        while (call_id := self.queue.get()) is not None:
            call = self.pending.pop(call_id, None)
            if call is not None:
                self.run(call)

    def run(self, call):
        self.answer(call, run(call.payload, call.buffers, call.select, self.host.bootstrap))

    def answer(self, call, reply):
        self.host.replied(call.id, *reply)

    def revoke(self, call_id, *, running=False, item=None):
        return self.pending.pop(call_id, None) is not None

    def stop(self, stop):
        for _ in self.threads:
            self.queue.put(None)
        for thread in self.threads:
            thread.join(stop.grace)


class AnswersTwice(Honest):
    def answer(self, call, reply):
        super().answer(call, reply)
        super().answer(call, reply)


class RunsTwice(Honest):
    def run(self, call):
        run(call.payload, call.buffers, call.select, self.host.bootstrap)
        super().run(call)


class SwapsAnswers(Honest):
    """Gives two calls each other's answers, whenever two are there."""

    held = None

    def answer(self, call, reply):
        lock = self.__dict__.setdefault("lock", threading.Lock())
        with lock:
            held, self.held = self.held, None
            if held is None and self.pending:
                self.held = (call, reply)
                return
        if held is None:
            super().answer(call, reply)
            return
        super().answer(call, held[1])
        super().answer(held[0], reply)


class LosesCalls(Honest):
    def answer(self, call, reply):
        if call.id % 7:
            super().answer(call, reply)


class ClaimsToKill(Honest):
    claims = CLAIMS._replace(kills_running_task=True)

    def answer(self, call, reply):
        if call.id not in self.__dict__.setdefault("ended", set()):
            super().answer(call, reply)

    def revoke(self, call_id, *, running=False, item=None):
        if super().revoke(call_id) or not running:
            return call_id not in self.pending and not running
        self.__dict__.setdefault("ended", set()).add(call_id)
        self.host.lost(call_id, Loss(began=True, why="it was ended, so they say"))
        return True


class CancelsAndRuns(Honest):
    def revoke(self, call_id, *, running=False, item=None):
        return True


class NeverStops(Honest):
    def stop(self, stop):
        released.wait()
        super().stop(stop)


class LeavesThreads(Honest):
    def stop(self, stop):
        threading.Thread(target=self.stop_later, args=(stop,), daemon=True).start()

    def stop_later(self, stop):
        released.wait()
        super().stop(stop)


class HasTooManyWorkers(Honest):
    workers_more = 1


class WaitsInDispatch(Honest):
    def dispatch(self, calls, /):
        for call in calls:
            self.run(call)
        return len(calls)


class ForgetsInitializer(Honest):
    def run(self, call):
        self.answer(call, run(call.payload, call.buffers, call.select, b""))


class ForgetsBuffers(Honest):
    def run(self, call):
        self.answer(call, run(call.payload, tuple(b"" for _ in call.buffers), call.select, self.host.bootstrap))


class ForgetsSelection(Honest):
    """Runs a chunk as a whole where a part was asked for."""

    def run(self, call):
        self.answer(call, run(call.payload, call.buffers, None, self.host.bootstrap))


class ClaimsToRecycle(Honest):
    claims = CLAIMS._replace(max_tasks_per_child=True)


class ClaimsToKnow(Honest):
    claims = CLAIMS._replace(knows_begun=True)


class ClaimsToSurvive(Honest):
    """Is one pool, which a dead worker breaks as a whole; it makes a new one then."""

    claims = CLAIMS._replace(survives_dead_worker=True)

    def start(self, host):
        self.host = host
        self.pool = ProcessPoolExecutor(host.max_workers, mp_context=host.context)
        self.threads = []

    def dispatch(self, calls, /):
        for call in calls:
            try:
                future = self.pool.submit(run, call.payload, call.buffers, call.select, self.host.bootstrap)
            except BrokenProcessPool:
                self.pool = ProcessPoolExecutor(self.host.max_workers, mp_context=self.host.context)
                future = self.pool.submit(run, call.payload, call.buffers, call.select, self.host.bootstrap)
            future.add_done_callback(lambda future, call=call: self.done(call, future))
        return len(calls)

    def done(self, call, future):
        if future.exception() is None:
            self.answer(call, future.result())
        else:
            self.host.lost(call.id, Loss(began=None, exit_code=0, why="the pool is broken"))

    def revoke(self, call_id, *, running=False, item=None):
        return False

    def stop(self, stop):
        self.pool.shutdown()


class ClaimsSessions(Honest):
    """Leaves the executor without a way to start processes, of which a session would be one."""

    claims = CLAIMS._replace(sessions=True)

    def start(self, host):
        super().start(host)
        host.context = StartsNothing(host.context)


class StartsNothing:
    def __init__(self, context):
        self.get_start_method = context.get_start_method

    def Process(self, **_kwargs):  # noqa: N802 - as multiprocessing calls it
        raise OSError("no processes here")


class ClaimsChannels(Honest):
    """Runs one task at a time, however many threads it has: who waits for another task waits for ever."""

    claims = CLAIMS._replace(shared_state=True, channels=True)

    def start(self, host):
        self.one = threading.Lock()
        super().start(host)

    def run(self, call):
        with self.one:
            super().run(call)


class ClaimsToSendLogs(ClaimsToSurvive):
    """Has no way for log records but the reply, which nothing is put into then."""

    claims = CLAIMS._replace(sends_logs=True)


LIARS = [cls for cls in vars(sys.modules[__name__]).values() if isinstance(cls, type) and issubclass(cls, Honest)]


def info_of(cls):
    claims = getattr(cls, "claims", CLAIMS)
    return BackendInfo(cls.__name__, "for tests", f"{__name__}:{cls.__name__}", lambda _options: claims)


class Plugin:
    @hookimpl
    def parapluie_backends(self):
        return [info_of(cls) for cls in LIARS]


registry.register(Plugin(), name="liars")


class Releases(BackendConformance):
    @pytest.fixture(autouse=True)
    @classmethod
    def _released(cls):
        """Let go, behind each test, of what hangs in it."""
        yield
        released.set()


for cls in LIARS:
    globals()[f"Test{cls.__name__}"] = type(f"Test{cls.__name__}", (Releases,), {"backend": cls.__name__})
