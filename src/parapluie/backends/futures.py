"""The `futures` backend: workers of `concurrent.futures.ProcessPoolExecutor`, in executors of one.

    dispatch ── work ids ──▶ manager thread ── feeder thread ── pipe ──▶ worker ── pipe ──▶ manager thread ──▶ host

A ProcessPoolExecutor of many ends with the first of its workers, and every call that it had with it.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ProcessPoolExecutor
from functools import partial
from typing import Any

from parapluie import stdlib_private
from parapluie.cell_engine import Engine, Job, joined
from parapluie.cell_process import run
from parapluie.cells import CellBackend


class FuturesEngine(Engine):
    """A ProcessPoolExecutor with one worker, which its first call starts."""

    def open(self) -> None:
        self._executor = ProcessPoolExecutor(1, mp_context=self.context)
        self._thread: threading.Thread | None = None
        self._answering: threading.Thread | None = None  # once, in its place
        self._submitting = 0  # the thread that is about to ask for a callback

    def submit(self, job: Job, args: tuple[Any, ...]) -> None:
        future = self._executor.submit(run, job.call_id, *args)
        if self._thread is None:
            self._thread = stdlib_private.manager_thread(self._executor)
            if self._thread is not None:
                self._thread.name = f"parapluie-{self.name}-{self._thread.name}"  # so that it is known for ours
        self._submitting = threading.get_ident()
        try:
            future.add_done_callback(partial(self._done, job))
        finally:
            self._submitting = 0

    def _done(self, job: Job, future: Future[Any]) -> None:
        # If the executor broke, this runs under its lock: nothing may be asked of it here. The watcher does the rest.
        error = future.exception()
        if error is not None:
            self.fail(job, error)
        elif threading.get_ident() != self._submitting:
            self.answered(job, future.result())
        else:
            self._answer_elsewhere(job, future)

    def _answer_elsewhere(self, job: Job, future: Future[Any]) -> None:
        """Answer a call that ended before its future was asked to call back, which it does in this thread then.

        The thread that submits is no place for the callbacks of users: they may wait for what it has yet to send, and
        what they raise would be taken for the program's own.
        """
        name = f"parapluie-{self.name}-answer"
        self._answering = threading.Thread(target=self.answered, args=(job, future.result()), name=name, daemon=True)
        try:
            self._answering.start()
        except RuntimeError:  # no more threads, as at the end of the interpreter: rather here than never
            self._answering = None
            self.answered(job, future.result())

    def close(self) -> None:
        self._executor.shutdown(wait=False)

    def wait_drained(self, seconds: float) -> bool:
        # The thread reads replies before it looks after the worker, whose death ends it.
        deadline = time.monotonic() + seconds
        return joined(self._thread, deadline) and joined(self._answering, deadline)

    def end_threads(self, seconds: float) -> bool:
        self._executor.shutdown(wait=False)
        return self.wait_drained(seconds)

    def abandon(self) -> None:
        self._abandoned = True


class FuturesBackend(CellBackend):
    """Carries calls to executors of one worker each."""

    engine_class = FuturesEngine
    prefix = "futures"
