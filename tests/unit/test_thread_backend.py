"""What the kit cannot time: a worker of `thread` that is started while its backend stops."""

from __future__ import annotations

from parapluie import Executor
from parapluie.backend import Stop
from parapluie.testing.patience import SECONDS


def test_worker_that_stop_has_not_seen_ends():
    with Executor("thread", 1) as executor:
        backend = executor._dispatcher.engine

        class SeenLate(list):
            def append(self, thread):
                backend.stop(Stop(SECONDS))
                super().append(thread)

        backend._threads = SeenLate()
        assert executor.submit(abs, -1).result(SECONDS) == 1
        (worker,) = backend._threads
        worker.join(SECONDS)
        assert not worker.is_alive()
