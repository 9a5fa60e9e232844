"""The `pool` backend: workers of `multiprocessing.Pool`, in pools of one.

    dispatch ── task queue ──▶ task thread ── pipe ──▶ worker ── pipe ──▶ result thread ──▶ host.replied
                                              worker thread: would replace the worker, and gets a vacancy

A Pool of many never answers for a call whose worker died, and a worker that is killed may take with it the lock of
the queue that all of them read.
"""

from __future__ import annotations

import time
from functools import partial
from multiprocessing.pool import Pool
from typing import TYPE_CHECKING, Any

from parapluie import stdlib_private
from parapluie.cell_engine import Engine, Job, joined
from parapluie.cell_process import run
from parapluie.cells import CellBackend

if TYPE_CHECKING:
    from multiprocessing.pool import AsyncResult


class PoolEngine(Engine):
    """A Pool with one worker."""

    def open(self) -> None:
        self._result: AsyncResult[Any] | None = None
        self._pool = Pool(1, context=self.context)
        for thread in stdlib_private.pool_threads(self._pool):
            thread.name = f"parapluie-{self.name}-{thread.name}"  # so that it is known for ours
        self.note_pid()

    def submit(self, job: Job, args: tuple[Any, ...]) -> None:
        self._result = self._pool.apply_async(
            run,
            (job.call_id, *args),
            callback=partial(self.answered, job),
            error_callback=partial(self._failed, job),
        )

    def _failed(self, job: Job, error: BaseException) -> None:
        # Its traceback holds the call's bytes and a view of them, in a cycle that cannot be collected without noise.
        error.__traceback__ = None
        self.fail(job, error)

    def close(self) -> None:
        self._pool.close()

    def wait_drained(self, seconds: float) -> bool:
        # The worker held the only other end of the pipe, so the thread reads what is in it, then its end, and ends.
        reader, *_ = stdlib_private.pool_threads(self._pool)
        return joined(reader, time.monotonic() + seconds)

    def end_threads(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        if not self.wait_drained(seconds):
            return False
        if self._result is not None:
            stdlib_private.give_up(self._result)
        self._pool.close()
        if not all(joined(thread, deadline) for thread in stdlib_private.pool_threads(self._pool)):
            return False
        self._pool.terminate()  # which has nothing left to end, and to wait for
        return True

    def abandon(self) -> None:
        self._abandoned = True
        stdlib_private.forget_at_exit(self._pool)


class PoolBackend(CellBackend):
    """Carries calls to pools of one worker each."""

    engine_class = PoolEngine
    prefix = "pool"
