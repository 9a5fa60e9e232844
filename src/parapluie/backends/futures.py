"""The `futures` backend: workers of `concurrent.futures.ProcessPoolExecutor`, in executors of one.

    dispatch ── work ids ──▶ manager thread ── feeder thread ── pipe ──▶ worker ── pipe ──▶ manager thread ──▶ host

A ProcessPoolExecutor of many ends with the first of its workers, and every call that it had with it.
"""

from __future__ import annotations

import time
from concurrent.futures import Future, ProcessPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

from parapluie import stdlib_private
from parapluie.cell_engine import Engine, Job, joined
from parapluie.cell_process import run
from parapluie.cells import CellBackend

if TYPE_CHECKING:
    import threading


class FuturesEngine(Engine):
    """A ProcessPoolExecutor with one worker, which its first call starts."""

    def open(self) -> None:
        self._executor = ProcessPoolExecutor(1, mp_context=self.context)
        self._thread: threading.Thread | None = None

    def submit(self, job: Job, args: tuple[Any, ...]) -> None:
        future = self._executor.submit(run, job.call_id, *args)
        if self._thread is None:
            self._thread = stdlib_private.manager_thread(self._executor)
            if self._thread is not None:
                self._thread.name = f"parapluie-{self.name}-{self._thread.name}"  # so that it is known for ours
        future.add_done_callback(partial(self._done, job))

    def _done(self, job: Job, future: Future[Any]) -> None:
        # If the executor broke, this runs under its lock: nothing may be asked of it here. The watcher does the rest.
        error = future.exception()
        if error is None:
            self.answered(job, future.result())
        else:
            self.fail(job, error)

    def close(self) -> None:
        self._executor.shutdown(wait=False)

    def wait_drained(self, seconds: float) -> bool:
        # The thread reads replies before it looks after the worker, whose death ends it.
        return joined(self._thread, time.monotonic() + seconds)

    def end_threads(self, seconds: float) -> bool:
        self._executor.shutdown(wait=False)
        return self.wait_drained(seconds)

    def abandon(self) -> None:
        self._abandoned = True


class FuturesBackend(CellBackend):
    """Carries calls to executors of one worker each."""

    engine_class = FuturesEngine
    prefix = "futures"
