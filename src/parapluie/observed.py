"""The task that tells observers what becomes of it: what an executor makes where there are some.

So that a task that nobody observes pays nothing, not even a question.
"""

from __future__ import annotations

import threading
from time import time

from parapluie import call_format
from parapluie.work import Task, since_epoch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from parapluie.backend import Loss
    from parapluie.observers import Observers


class ObservedTask(Task):
    """A task whose dispatcher has observers."""

    told_done = False

    @property
    def _observers(self) -> Observers:
        observers = self.dispatcher.observers
        assert observers is not None
        return observers

    def _tell_done(self, error: BaseException | None, *, cancelled: bool = False) -> None:
        """Tell that the task has ended; once, whoever ends it."""
        if not self.told_done and (cancelled or not self.future.done()):
            self.told_done = True
            self._observers.done(self.task_id, self.attempts, self.future.worker, error, cancelled=cancelled)

    def tell_submitted(self, observers: Observers) -> None:
        observers.submitted(self.task_id)

    def tell_cancelled(self) -> None:
        self._tell_done(None, cancelled=True)

    def run_here(self) -> None:
        self._observers.begun(self.task_id, self.attempts, threading.current_thread().name, time())
        super().run_here()

    def replied(self, payload: bytes | memoryview, buffers: Sequence[Any]) -> bool:
        pid, began, _, kind, _, _, _, _, _ = call_format.SINGLE.unpack_from(payload)
        if kind < call_format.INIT:  # it is the answer
            self._observers.begun(self.task_id, self.attempts, f"{self.dispatcher.backend}-{pid}", began)
        return super().replied(payload, buffers)

    def replied_here(self, payload: bytes | memoryview) -> bool:
        del payload
        return False  # who waits may be interrupted, and all of it be done twice

    def lost(self, loss: Loss) -> None:
        if loss.began:
            self._observers.begun(self.task_id, self.attempts, self.lost_worker(loss), since_epoch(loss.at))
        super().lost(loss)

    def again(self, error: BaseException, delay: float) -> None:
        self._observers.retried(self.task_id, self.attempts, error, delay)
        super().again(error, delay)

    def finish(self, value: Any) -> None:
        self._tell_done(None)
        super().finish(value)

    def failed(self, error: BaseException) -> None:
        self._tell_done(error)
        super().failed(error)
