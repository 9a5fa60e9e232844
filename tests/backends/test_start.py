"""Our own engines start workers as they are needed; a third party's may start all of them at once."""

from __future__ import annotations

from every_backend import on_every_backend

from parapluie.testing import tasks
from parapluie.testing.helpers import SECONDS


class StartTests:
    def test_workers_start_as_they_are_needed(self, make_executor):
        executor = make_executor(max_workers=10_000)
        assert executor.stats().workers == 0
        assert executor.submit(tasks.add, 1, 2).result(SECONDS) == 3
        assert executor.stats().workers <= 2


globals().update(on_every_backend(StartTests))
