"""The exceptions that are a `BrokenProcessPool` too. Where they are in the tree is drawn in errors.py.

Apart from the others since that class is at home in `concurrent.futures.process`: importing it, with all that it brings
along, takes a quarter of the time until a small program has its first result. They are imported where they are raised.
"""

from __future__ import annotations

import pickle

from parapluie.errors import BackendError, TaskError, called, exit_reason

try:
    from concurrent.futures.process import BrokenProcessPool
except RuntimeError:  # the interpreter is ending, and that module cannot be imported any more: nobody knows this class
    from concurrent.futures import BrokenExecutor as BrokenProcessPool  # type: ignore[assignment]


class BackendBrokenError(BackendError, BrokenProcessPool):
    """The engine is gone and cannot be rebuilt; pending tasks end with this."""


class WorkerInitError(BackendError, BrokenProcessPool):
    """Workers could not start: the initializer raised, died, or outlasted `start_timeout`.

    After the tries are spent every pending future gets it, and `submit` raises it. What the initializer raised
    is the `__cause__`, with the worker's traceback.
    """

    def __init__(self, backend: str, why: str, *, tries: int = 1) -> None:
        self.tries = tries
        super().__init__(
            f"workers of backend {backend!r} could not start after {tries} {'try' if tries == 1 else 'tries'}: {why}",
            backend=backend,
        )


class TaskUnpicklingError(TaskError, BrokenProcessPool, pickle.UnpicklingError):
    """The worker could not read a task back: an import that fails there, or an object that raises."""

    def __init__(self, task_id: int | str | None, problem: str) -> None:
        self.task_id = task_id
        super().__init__(f"{called(task_id)} could not be read back in the worker: {problem}")


class ResultUnpicklingError(TaskError, BrokenProcessPool, pickle.UnpicklingError):
    """A task ran and its result arrived, but reading it back failed in this process."""

    def __init__(self, task_id: int | str | None, problem: str) -> None:
        self.task_id = task_id
        super().__init__(f"the result of {called(task_id)} arrived and could not be read back: {problem}")


class WorkerLostError(TaskError, BrokenProcessPool):
    """The worker died while it ran the task, or may have run it.

    Attributes: task_id, attempt, backend, worker, pid, exit_code (negative: minus the signal), began (None: unknown),
    peak_memory (in bytes, of the worker; at least, since it is what was last seen; None: not known), dump (the last
    lines that the worker's fault handler wrote, the innermost frame first; or ""), oom (True: it was killed by the
    kernel's out-of-memory killer). Peak memory and dump are notes, too.
    """

    def __init__(
        self,
        task_id: int | str | None,
        *,
        attempt: int = 1,
        backend: str | None = None,
        worker: str | None = None,
        pid: int | None = None,
        exit_code: int | None = None,
        began: bool | None = True,
        why: str = "",
        peak_memory: int | None = None,
        dump: str = "",
        oom: bool = False,
    ) -> None:
        self.task_id, self.attempt, self.backend = task_id, attempt, backend
        self.worker, self.pid, self.exit_code, self.began = worker, pid, exit_code, began
        self.peak_memory, self.dump, self.oom = peak_memory, dump, oom
        who = f"worker {worker}" if worker else "the worker"
        who += f" (pid {pid})" if pid else ""
        doing = "while running it" if began else "while it may have been running it"
        extra = f"; {why}" if why else ""
        what = called(task_id)
        if what != task_id:  # it is a task
            what += f" (attempt {attempt})"
        super().__init__(
            f"{what} was lost: {who} of backend {backend!r} {exit_reason(exit_code, oom=oom)} {doing}{extra}"
        )
        if peak_memory is not None:
            self.add_note(f"the worker's memory peaked at {peak_memory / 1e6:,.0f} MB or more")
        if dump:
            self.add_note(f"the worker's fault handler wrote (innermost frame first):\n{dump}")
