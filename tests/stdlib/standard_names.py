"""parapluie's executor with the standard executors' parameters and what CPython's suites peek at, for each backend.

The suites' scripts import it too, in place of `concurrent.futures`.
"""

from __future__ import annotations

import multiprocessing
from types import SimpleNamespace
from typing import ClassVar

from parapluie import Executor


class _StandardExecutor(Executor):
    """What the suites read of both standard executors."""

    @property
    def _max_workers(self):
        return self._dispatcher.max_workers

    @property
    def _broken(self):
        return self._dispatcher.error


class ThreadPoolExecutor(_StandardExecutor):
    def __init__(self, max_workers=None, thread_name_prefix="", initializer=None, initargs=()):
        super().__init__("thread", max_workers, initializer=initializer, initargs=initargs)
        if thread_name_prefix:
            self._dispatcher.engine._name = thread_name_prefix

    @property
    def _threads(self):
        return list(self._dispatcher.engine._threads)


class _ProcessPoolExecutor(_StandardExecutor):
    backend: ClassVar[str]

    def __init__(self, max_workers=None, mp_context=None, initializer=None, initargs=(), *, max_tasks_per_child=None):
        super().__init__(
            self.backend,
            max_workers,
            # The standard's default is multiprocessing's; ours is never fork, unless somebody has asked for it.
            mp_context=getattr(mp_context, "real", mp_context) or multiprocessing.get_start_method(allow_none=True),
            initializer=initializer,
            initargs=initargs,
            max_tasks_per_child=max_tasks_per_child,
        )

    @property
    def _processes(self):
        return {process.pid: Worker(process) for process in self._worker_processes()}

    @property
    def _mp_context(self):
        return self._dispatcher.context

    @property
    def _executor_manager_thread(self):
        return self._watching_thread()

    @property
    def _call_queue(self):
        return SimpleNamespace(join_thread=self._dispatcher.clock.thread.join)


class ProcessExecutor(_ProcessPoolExecutor):
    backend = "process"

    def _worker_processes(self):
        handles = list(self._dispatcher.engine._handles.values())
        return [handle.process for handle in handles if not handle.retiring]  # its successor starts while it ends

    def _watching_thread(self):
        return self._dispatcher.engine._collector


class ManagerExecutor(ProcessExecutor):
    backend = "manager"


class PoolExecutor(_ProcessPoolExecutor):
    backend = "pool"

    def _worker_processes(self):
        engines = [cell.engine for cell in self._dispatcher.engine._cells]
        return [engine.process for engine in engines if engine is not None]

    def _watching_thread(self):
        return self._dispatcher.engine._watcher._thread


class FuturesExecutor(PoolExecutor):
    backend = "futures"


class Worker:
    """A worker process that may be joined when the executor has already done so."""

    def __init__(self, process):
        self._process, self.terminate = process, process.terminate

    def join(self):
        try:
            self._process.join()
        except ValueError:
            return  # closed, and before that it was joined
