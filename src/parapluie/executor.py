"""The executor: the one class that users meet. It checks what it is given and composes everything below.

    submit ─▶ preflight (pickling.py) ─▶ Task (work.py) ─▶ Dispatcher (dispatch.py) ─▶ Backend.dispatch ─▶ worker.run
    map ────▶ MapRun (mapping.py) ─▶ Chunk (chunks.py) ──────────▲        │
                                                                 └─ retry ┤ (policies/)
    Future ◀── replies.py opens the reply ◀── Host.replied, Host.lost ◀───┘

What users hold is a face: it can be collected while the dispatcher behind it ends in order.
"""

from __future__ import annotations

import concurrent.futures
import math
import os
import weakref
from contextlib import suppress

from parapluie import main_guard, pickling, worker
from parapluie.backend import NO_OPTIONS, Backend, CallOptions
from parapluie.builtin import BACKENDS, load
from parapluie.errors import ConfigError, TaskPicklingError
from parapluie.settings import resolve
from parapluie.starting import start_helpers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from multiprocessing.context import BaseContext
    from types import TracebackType
    from typing import Any, ParamSpec, TypeVar

    from parapluie.backend import BackendInfo
    from parapluie.dispatch import Dispatcher
    from parapluie.future import Future
    from parapluie.pickling import Serializer
    from parapluie.policies.retry import Retry
    from parapluie.policies.shutdown import Shutdown
    from parapluie.settings import Settings
    from parapluie.sharing.state import Shared
    from parapluie.stats import Stats
    from parapluie.work import Task

    P = ParamSpec("P")
    T = TypeVar("T")

_KEEP: Any = object()  # the default of `with_options`: as it is
_ON_ERROR = ("raise", "collect", "skip")


class _Lease:
    """Held by every face of a dispatcher and by the iterators of its maps; closes it when nobody is left."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        weakref.finalize(self, dispatcher.ending.close_soon).atexit = False  # at exit, ending.py waits for what is open


class Executor(concurrent.futures.Executor):
    """Run functions in parallel, on any engine, with no lost task.

    Args:
        backend: the name of a backend, or an instance of one. None is "process".
        max_workers: the most workers; None is the number of CPUs that this process may really use.
        mp_context: a multiprocessing context, or the name of a start method, as `ProcessPoolExecutor` takes it.
        start_method: the same by name; None is the platform's safe one: "forkserver" on Linux, else "spawn".
        initializer: called as initializer(*initargs) once in each worker, before its first task.
        max_tasks_per_child: replace a worker after so many tasks (chunks, in a map); None: never.
        retry: a `Retry`, or a number of attempts. None: nothing runs twice.
        task_timeout: seconds that one attempt of a task (an item, in a map) may run; then its worker is killed.
        start_timeout: seconds that a worker may take to start, its initializer included.
        shutdown: a `Shutdown`; what happens to queued work and how long workers have to end.
        pickle_check: "auto": a task that cannot be sent fails through its future; "raise": `submit` raises it.
        serializer: "auto": the standard pickle, and by value (cloudpickle) what it cannot take; "pickle": the standard
            one alone; "cloudpickle"; or the name of a plugin's.
        **options: the backend's own options.

    Raises:
        ConfigError: if an option is unknown, of the wrong type or out of range.
        CapabilityError: if the backend cannot honour a setting; it names those that can.

    Thread safety: all methods, from any thread; `submit` also from callbacks, finalizers and signal handlers.
    """

    def __init__(
        self,
        backend: str | Backend | None = None,
        max_workers: int | None = None,
        *,
        mp_context: BaseContext | str | None = None,
        start_method: str | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        max_tasks_per_child: int | None = None,
        retry: Retry | int | None = None,
        task_timeout: float | None = None,
        start_timeout: float = 60.0,
        shutdown: Shutdown | None = None,
        pickle_check: str = "auto",
        serializer: str = "auto",
        **options: Any,
    ) -> None:
        settings = resolve(
            "process" if backend is None else backend,
            max_workers=max_workers,
            mp_context=mp_context,
            start_method=start_method,
            initializer=initializer,
            initargs=initargs,
            max_tasks_per_child=max_tasks_per_child,
            task_timeout=task_timeout,
            start_timeout=start_timeout,
            pickle_check=pickle_check,
            serializer=serializer,
            options=options,
        )
        if settings.start_method is not None:  # it starts processes, which import __main__ again
            main_guard.check_main_guard()
            start_helpers(settings.start_method)
        # The rest is imported now: it takes about as long as the helpers do to get ready, on another CPU.
        from parapluie.dispatch import Dispatcher
        from parapluie.policies.shutdown import Shutdown
        from parapluie.work import Task

        if shutdown is not None and not isinstance(shutdown, Shutdown):
            raise ConfigError(f"shutdown={shutdown!r} is not a parapluie.Shutdown")
        self._retry = _as_retry(retry)
        self._dumps = _serializer(settings.serializer)
        self._call_options = _call_options(settings.task_timeout)
        self._name: str | None = None
        self._shared: Shared | None = None
        self._task = Task  # what `submit` makes: found here, since it was imported here
        engine = backend if isinstance(backend, Backend) else _load(settings.info)(settings.options)
        self._dispatcher = Dispatcher(settings, engine, shutdown or Shutdown())
        self._pickle_check = settings.pickle_check
        try:
            self._dispatcher.start(_bootstrap(settings, self._dumps))
        except BaseException:
            self._dispatcher.ending.close(hurry=True)
            raise
        self._lease = _Lease(self._dispatcher)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run fn(*args, **kwargs) in a worker and return its future.

        The arguments are pickled here and now, where memory is not shared: changing them later changes nothing.

        Raises:
            ExecutorShutdownError: if the executor was shut down.
            WorkerInitError: if workers cannot start.
            TaskPicklingError: with `pickle_check="raise"`, if the task cannot be sent; otherwise through the future.
        """
        dispatcher = self._dispatcher
        if dispatcher.closing or dispatcher.error is not None:
            dispatcher.refuse()
        if not callable(fn):
            raise TypeError(f"submit: {fn!r} is a {type(fn).__name__}, which cannot be called")
        task = self._task(dispatcher, self._call_options, self._retry, self._name)
        if not dispatcher.isolated:
            task.function = (fn, args, kwargs)
        else:
            buffers: list[Any] = []
            try:
                task.payload = self._dumps((fn, args, kwargs), buffers.append)
                if buffers:
                    task.buffers = dispatcher.keep(buffers)
            except Exception as error:  # noqa: BLE001 - a __reduce__ may raise anything
                return self._unsendable(task, (fn, args, kwargs), error)
        future: Future[T] = task.future
        dispatcher.submit(task)
        return future

    def _unsendable(self, task: Task, parts: tuple[Any, ...], error: Exception) -> Future[Any]:
        from parapluie.work import submitted_at

        function, args, kwargs = parts
        problem, path, found = pickling.explain_task(function, args, kwargs, error)
        failure = TaskPicklingError(
            task.task_id, self._dispatcher.backend, problem, path=path, found=found, where=submitted_at()
        )
        failure.__cause__ = error
        if self._pickle_check == "raise":
            raise failure
        self._dispatcher.count("submitted")
        self._dispatcher.count("failed")
        task.failed(failure)
        return task.future

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
        ordered: bool = True,
        on_error: str = "raise",
    ) -> Iterator[T]:
        """Apply fn to the zipped items and yield results in input order.

        As many results as the shortest iterable has items. The input is read as results are taken, some way ahead of
        them. An iterator that nobody advances still has all its work done; one that is advanced and then dropped is
        cancelled.

        Args:
            timeout: seconds from this call to the last result; None waits for ever.
            chunksize: items that travel as one call; None measures and chooses.
            buffersize: items read and not yet yielded, at most; None chooses.
            ordered: False yields results as they come.
            on_error: "raise" raises an item's error in its place and ends; "skip" leaves failed items out;
                "collect" yields an `Outcome` for each item.

        Raises:
            TaskPicklingError: from the iterator, if fn or an item cannot be pickled.
            TimeoutError: from the iterator, if the time is up; what has not begun is cancelled.
            ExecutorShutdownError: from the iterator, if the executor ended before all of the input was read.

        Thread safety: any thread; the iterator belongs to one. Blocking: only the iterator.
        """
        from parapluie.mapping import MapIterator, MapRun, blocks_of  # a program that only submits starts without it
        from parapluie.work import submitted_at

        if self._dispatcher.closing or self._dispatcher.error is not None:
            self._dispatcher.refuse()
        if not callable(fn):
            raise TypeError(f"map: {fn!r} is a {type(fn).__name__}, which cannot be called")
        _check_count("chunksize", chunksize)
        _check_count("buffersize", buffersize)
        _check_timeout(timeout)
        if on_error not in _ON_ERROR:
            raise ConfigError(f"on_error={on_error!r} is not one of {', '.join(map(repr, _ON_ERROR))}")
        where, backend, unsendable = submitted_at(), self._dispatcher.backend, self._unsendable_item
        run = MapRun(
            self._dispatcher,
            fn,
            iterables,
            dumps=self._dumps,
            # Not `self`: the run is kept until its end, and must not keep an executor that nobody else holds.
            explain=lambda value, error, item: unsendable(value, error, item, fn, where, backend),
            options=self._call_options,
            retry=self._retry,
            name=self._name,
            chunksize=chunksize,
            buffersize=buffersize,
        )
        run.timed = on_error == "collect"
        lease = [self._lease]
        blocks = blocks_of(run, ordered=ordered, on_error=on_error, timeout=timeout, lease=lease)
        iterator = MapIterator(run, blocks, lease)
        run.feed()
        if run.exhausted:  # all is submitted: the iterator needs no open executor, and must not keep its workers alive
            lease.clear()
        return iterator

    @staticmethod
    def _unsendable_item(
        value: Any, error: BaseException, item: str, function: Callable[..., Any], where: str | None, backend: str
    ) -> TaskPicklingError:
        args = () if value is function else value
        problem, path, found = pickling.explain_task(function, args, {}, error)
        failure = TaskPicklingError(item, backend, problem, path=path, found=found, where=where)
        failure.__cause__ = error
        return failure

    def with_options(
        self,
        *,
        retry: Retry | int | None = _KEEP,
        task_timeout: float | None = _KEEP,
        name: str | None = _KEEP,
    ) -> Executor:
        """Return a view: an executor on the same workers whose tasks have other policies.

        Args:
            retry, task_timeout: as for the constructor. name: goes into task ids, and so into messages.

        Shutting down a view shuts down the workers of all.
        """
        view = object.__new__(type(self))
        view.__dict__.update(self.__dict__)
        if retry is not _KEEP:
            view._retry = _as_retry(retry)
        if task_timeout is not _KEEP:
            view._call_options = _call_options(self._checked_timeout(task_timeout))
        if name is not _KEEP:
            if name is not None and not isinstance(name, str):
                raise ConfigError(f"name={name!r} is not a string")
            view._name = name
        return view

    def _checked_timeout(self, task_timeout: float | None) -> float | None:
        from parapluie.settings import check_task_timeout

        settings = self._dispatcher.settings
        return check_task_timeout(task_timeout, settings.info, settings.capabilities)

    @property
    def shared(self) -> Shared:
        """Factories of shared state: `dict()`, `list()`, `queue()`, `lock()`, to be handed to tasks as arguments.

        Local objects where workers share our memory; else proxies of objects in a server process, which the `manager`
        backend starts with its workers and the others at first use.
        """
        if self._shared is None:
            self._shared = self._dispatcher.shared()
        return self._shared

    def stats(self) -> Stats:
        """Return a snapshot: workers, queued, running, done, failed, cancelled, retried, lost."""
        return self._dispatcher.stats()

    def shutdown(
        self,
        wait: bool = True,  # noqa: FBT001, FBT002 - the standard's signature
        *,
        cancel_futures: bool = False,
    ) -> None:
        """Take no more tasks, and end the workers when what was submitted has ended.

        Args:
            wait: return when everything has ended.
            cancel_futures: cancel what has not begun; what runs is awaited.

        With `Shutdown(drain=False)` what has not begun is cancelled and what runs has the grace period to end.
        """
        hurry = not self._dispatcher.shutdown.drain
        self._dispatcher.ending.close(wait=wait, cancel=cancel_futures or hurry, hurry=hurry)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        if isinstance(error, KeyboardInterrupt):
            with suppress(KeyboardInterrupt):  # a second one has killed what ran; the first one is raised
                self._dispatcher.ending.close(cancel=True, hurry=True)
        else:
            self.shutdown(wait=True)
        return None

    def __reduce__(self) -> Any:
        raise TypeError("an executor cannot be sent into a task; make one there")

    def __repr__(self) -> str:
        settings = self._dispatcher.settings
        state = "broken" if self._dispatcher.error else "shut down" if self._dispatcher.closing else "open"
        return f"<parapluie.Executor backend={settings.info.name!r} max_workers={settings.max_workers} {state}>"


def _as_retry(retry: Retry | int | None) -> Retry | None:
    if retry is None:
        return None
    from parapluie.policies.retry import as_retry  # tenacity is imported only where something is retried

    return as_retry(retry)


def _call_options(task_timeout: float | None) -> CallOptions:
    return NO_OPTIONS if task_timeout is None else CallOptions(task_timeout)


def _serializer(name: str) -> Serializer:
    try:
        return pickling.serializer(name)
    except KeyError:
        from parapluie import registry

        return registry.serializer(name)


def _load(info: BackendInfo) -> type[Backend]:
    if info in BACKENDS:
        with suppress(ImportError):  # the registry says why
            return load(info)
    from parapluie import registry

    return registry.load(info)


def _bootstrap(settings: Settings, dumps: Serializer) -> bytes:
    """Make what each worker is told before its first call."""
    if not settings.capabilities.isolated_memory:
        return b""
    initializer = inherited = None
    if settings.initializer is not None:
        parts = (settings.initializer, tuple(settings.initargs))
        try:
            initializer = dumps(parts, None)
        except Exception as error:
            from parapluie.stdlib_private import can_be_inherited

            if settings.start_method is None or not can_be_inherited(parts, settings.start_method):
                from parapluie.work import submitted_at

                problem, path, found = pickling.explain_task(*parts, {}, error)
                raise TaskPicklingError(
                    "initializer", settings.info.name, problem, path=path, found=found, where=submitted_at()
                ) from error
            inherited = parts
    if settings.initializer is None and settings.serializer == "auto":
        return b""
    import pickle

    # The number tells executors apart that share a worker's process and have the same initializer.
    data = pickle.dumps({"serializer": settings.serializer, "initializer": initializer, "executor": os.urandom(8)})
    return data if inherited is None else worker.inherit(data, inherited)


def _check_count(name: str, value: object) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise ConfigError(f"{name}={value!r} is not a whole number from 1")


def _check_timeout(value: object) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value)):
        raise ConfigError(f"timeout={value!r} is not a number of seconds")
