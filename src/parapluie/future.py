"""The future of a task: the standard one, and what that cannot say."""

from __future__ import annotations

from parapluie.light_future import LightFuture

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    from parapluie.work import Task

    T = TypeVar("T")

_MOMENT = 0.001  # who waits less than this gets no help


class Future(LightFuture["T"]):
    """A `concurrent.futures.Future` that knows its task.

    The base state stays pending until the task's answer; `running()` reads the mark that the worker makes when it
    begins.

    Attributes:
        task_id: the task's number in its executor, or `name-number` if the executor was named by `with_options`.
        attempts: attempts begun so far; 1 for a task that was not repeated.
        worker: the worker that ran the last attempt that was answered, as `process-4711` (backend and process id)
            or the name of a thread; None while there is none.
        output: with `capture_output`, what the last attempt that was answered printed to `sys.stdout` and `sys.stderr`,
            in that order in which it came; "" until then. None where nothing is captured.
    """

    # On the class, since each task has a future and few need them all.
    task_id: int | str | None = None
    attempts: int = 0
    output: str | None = None
    _task: Task | None = None
    _worker: tuple[str, int] | str | None = None

    def belongs_to(self, task: Task | None) -> None:
        """Tie the future to its task; called by the task alone, with None once it is answered."""
        self._task = task

    @property
    def worker(self) -> str | None:
        worker = self._worker
        return f"{worker[0]}-{worker[1]}" if isinstance(worker, tuple) else worker

    def ran_in(self, worker: tuple[str, int] | str) -> None:
        """Note who ran the last attempt: backend and process id, or the name of a thread; called by the task alone."""
        self._worker = worker

    def result(self, timeout: float | None = None) -> T:
        self._attend(timeout)
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        self._attend(timeout)
        return super().exception(timeout)

    def _attend(self, timeout: float | None) -> None:
        task = self._task
        if task is not None and (timeout is None or timeout >= _MOMENT):
            task.dispatcher.attend(task)

    def running(self) -> bool:
        """Say whether a worker has begun the task and not ended it yet."""
        task = self._task
        return (task is not None and task.running()) or super().running()

    def cancel(self, *, running: bool = False) -> bool:
        """Withdraw the task; True means that it will never run (again), and that the future is cancelled.

        Args:
            running: end a task that has begun too, by killing its worker, where the backend can.

        Thread safety: any thread; from a signal handler or finalizer it may answer False for a task that was just
        being dispatched.
        """
        task = self._task
        if task is None or self.done():
            return super().cancel()
        return task.cancel(running=running) or self.cancelled()
