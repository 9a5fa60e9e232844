"""Observers: plugins that are told what becomes of tasks and workers. Imported only where there are some.

    Dispatcher, Task, Chunk ── is there anybody? ──▶ Observers ──▶ each implementation of the hook, one after another
    engines ── host.worker_started, worker_ended ─────▲              what one of them raises is logged

The hooks are in hookspecs.py, and say when each is told, and in which thread; what they are told is defined here.
"""

from __future__ import annotations

import logging
import time

from parapluie import registry
from parapluie.errors import ConfigError
from parapluie.exits import may_be_the_programs
from parapluie.records import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from parapluie.registry import Listener

_log = logging.getLogger("parapluie")

TaskId = int | str


class TaskSubmitted(NamedTuple):
    """A task, or an item of a `map`, was taken on. Attributes: at: seconds since the epoch, as in all of these."""

    backend: str
    task_id: TaskId
    at: float


class TaskBegun(NamedTuple):
    """A worker began an attempt.

    Attributes: worker: as `Future.worker` says it; at: when it began; None if that is not known.
    """

    backend: str
    task_id: TaskId
    attempt: int
    worker: str | None
    at: float | None


class TaskRetried(NamedTuple):
    """An attempt failed, and there will be another one. Attributes: attempt: that failed; delay: seconds until then."""

    backend: str
    task_id: TaskId
    attempt: int
    error: BaseException
    delay: float
    at: float


class TaskDone(NamedTuple):
    """A task has ended.

    Attributes: attempts: that were made; 0 if it never left. worker: that answered last. outcome: "value", "error" or
    "cancelled". error: what its future raises, None if that has a value.
    """

    backend: str
    task_id: TaskId
    attempts: int
    worker: str | None
    outcome: str
    error: BaseException | None
    at: float


class WorkerStarted(NamedTuple):
    """A worker is ready. Attributes: pid: None for a thread."""

    backend: str
    worker: str
    pid: int | None
    at: float


class WorkerLost(NamedTuple):
    """A worker ended that was not told to, or that left a task unfinished.

    Attributes: exit_code: minus the signal's number where a signal ended it; why: what else is known.
    """

    backend: str
    worker: str
    pid: int | None
    exit_code: int | None
    why: str
    at: float


class WorkerStopped(NamedTuple):
    """A worker ended, as it was told to."""

    backend: str
    worker: str
    pid: int | None
    exit_code: int | None
    at: float


class Observers:
    """Tells the observers of one executor. Thread safety: any thread; raises nothing."""

    def __init__(self, backend: str, listeners: dict[str, Sequence[Listener]]) -> None:
        self._backend = backend
        self._listeners = listeners

    def _tell(self, hook: str, event: object) -> None:
        for label, listen in self._listeners[hook]:
            try:
                listen(event)
            except BaseException as error:  # an observer's trouble is not the task's
                if may_be_the_programs(error):
                    raise
                _log.exception("parapluie: %s failed in %s", label, hook)

    def submitted(self, task_id: TaskId) -> None:
        self._tell("parapluie_task_submitted", TaskSubmitted(self._backend, task_id, time.time()))

    def begun(self, task_id: TaskId, attempt: int, worker: str | None, at: float | None) -> None:
        self._tell("parapluie_task_begun", TaskBegun(self._backend, task_id, attempt, worker, at))

    def retried(self, task_id: TaskId, attempt: int, error: BaseException, delay: float) -> None:
        event = TaskRetried(self._backend, task_id, attempt, error, delay, time.time())
        self._tell("parapluie_task_retried", event)

    def done(
        self,
        task_id: TaskId,
        attempts: int,
        worker: str | None,
        error: BaseException | None,
        *,
        cancelled: bool = False,
    ) -> None:
        outcome = "cancelled" if cancelled else "value" if error is None else "error"
        event = TaskDone(self._backend, task_id, attempts, worker, outcome, error, time.time())
        self._tell("parapluie_task_done", event)

    def worker_started(self, worker: str, pid: int | None) -> None:
        self._tell("parapluie_worker_started", WorkerStarted(self._backend, worker, pid, time.time()))

    def worker_lost(self, worker: str, pid: int | None, exit_code: int | None, why: str) -> None:
        event = WorkerLost(self._backend, worker, pid, exit_code, why, time.time())
        self._tell("parapluie_worker_lost", event)

    def worker_stopped(self, worker: str, pid: int | None, exit_code: int | None) -> None:
        self._tell("parapluie_worker_stopped", WorkerStopped(self._backend, worker, pid, exit_code, time.time()))


def find(backend: str, given: Sequence[object]) -> Observers | None:
    """Return the observers of an executor: plugins that are loaded, and what it was given; None if there are none.

    Raises:
        ConfigError: if what was given is no sequence, or names nothing that is installed.
        PluginError: if one of them is broken, or observes nothing.
    """
    if isinstance(given, str) or not isinstance(given, list | tuple):
        raise ConfigError(f"observers={given!r} is not a list of plugins, or of names of their entry points")
    listeners = registry.listeners(given)
    return Observers(backend, listeners) if any(listeners.values()) else None
