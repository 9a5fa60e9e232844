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

from parapluie import builtin, log_ways, main_guard, pickling, worker
from parapluie import config as configuration
from parapluie.backend import NO_OPTIONS, Backend, CallOptions
from parapluie.builtin import BACKENDS, load
from parapluie.errors import ConfigError, TaskPicklingError
from parapluie.settings import resolve, serializer_of
from parapluie.starting import start_helpers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from multiprocessing.context import BaseContext
    from types import TracebackType
    from typing import Any, Literal, ParamSpec, Self, TypeVar, overload

    from parapluie.backend import BackendInfo
    from parapluie.config import Config
    from parapluie.dispatch import Dispatcher
    from parapluie.future import Future
    from parapluie.journal import Journal
    from parapluie.mapping import Outcome
    from parapluie.observers import Observers
    from parapluie.pickling import Serializer
    from parapluie.policies.retry import Retry
    from parapluie.policies.shutdown import Shutdown
    from parapluie.progress import Progress
    from parapluie.settings import Settings
    from parapluie.sharing.channel import Channel
    from parapluie.sharing.session import Session
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

    Settings that are not given (None) come from the environment and from a configuration file, as `Config.find` has
    them; the defaults named here hold where these say nothing either.

    Args:
        backend: the name of a backend, or an instance of one. Default: "process".
        max_workers: the most workers; None is the number of CPUs that this process may really use. In a task, it is
            a worker's share: that number divided by the workers of the executor that runs the task, at least 1.
        mp_context: a multiprocessing context, or the name of a start method, as `ProcessPoolExecutor` takes it.
        start_method: the same by name; None is the platform's safe one: "forkserver" on Linux, else "spawn".
        initializer: called as initializer(*initargs) once in each worker, before its first task.
        max_tasks_per_child: replace a worker after so many tasks (chunks, in a map); None: never.
        retry: a `Retry`, or a number of attempts. None: nothing runs twice.
        task_timeout: seconds that one attempt of a task (an item, in a map) may run; then its worker is killed.
        start_timeout: seconds that a worker may take to start, its initializer included. Default: 60.
        shutdown: a `Shutdown`; what happens to queued work and how long workers have to end.
        capture_output: what tasks print with `submit` goes to their futures, see `Future.output`. Default: False.
        pickle_check: "auto" (the default): a task that cannot be sent fails through its future; "raise": `submit`
            raises it.
        observers: plugins that are told of tasks and workers, or the names of their entry points; see hookspecs.py.
        serializer: "auto" (the default): the standard pickle, and by value (cloudpickle) what it cannot take; "pickle":
            the standard one alone; "cloudpickle"; or the name of a plugin's.
        config: where to take settings from that are not given: a `Config`; `Config()` for nobody but this code.
        **options: the backend's own options.

    Raises:
        ConfigError: if an option is unknown, of the wrong type or out of range, or the configuration is wrong.
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
        start_timeout: float | None = None,
        shutdown: Shutdown | None = None,
        capture_output: bool | None = None,
        observers: Sequence[object] | None = None,
        pickle_check: str | None = None,
        serializer: str | None = None,
        config: Config | None = None,
        **options: Any,
    ) -> None:
        given = {
            "backend": backend,
            "max_workers": max_workers,
            "start_method": start_method,
            "max_tasks_per_child": max_tasks_per_child,
            "retry": retry,
            "task_timeout": task_timeout,
            "start_timeout": start_timeout,
            "shutdown": shutdown,
            "capture_output": capture_output,
            "observers": observers,
            "pickle_check": pickle_check,
            "serializer": serializer,
            "options": options or None,
        }
        settled = configuration.settle(given, config, decided=() if mp_context is None else ("start_method",))
        values = {name: setting.value for name, setting in settled.settings.items()}
        retry, shutdown = values.pop("retry", None), values.pop("shutdown", None)
        capture_output, observers = values.pop("capture_output", False), values.pop("observers", ())
        try:
            settings = resolve(**values, mp_context=mp_context, initializer=initializer, initargs=initargs)
        except ConfigError as error:
            configuration.explain(error, settled)
            raise
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
        self._dumps = serializer_of(settings.serializer, imports_main=settings.capabilities.imports_main)
        self._call_options = _call_options(settings.task_timeout)
        self._capture = _checked_capture(capture_output)
        self._name: str | None = None
        self._shared: Shared | None = None
        self._task = Task  # what `submit` makes: found here, since it was imported here
        told = _observers(observers, settings)
        if told is not None:
            from parapluie.observed import ObservedTask

            self._task = ObservedTask
        engine = backend if isinstance(backend, Backend) else _load(settings.info)(settings.options)
        self._dispatcher = Dispatcher(settings, engine, shutdown or Shutdown(), told)
        self._pickle_check = settings.pickle_check
        try:
            self._dispatcher.start(_bootstrap(settings, self._dumps))
        except BaseException:
            self._dispatcher.ending.close(hurry=True)
            raise
        self._lease = _Lease(self._dispatcher)
        configuration.tell(settled)

    @classmethod
    def from_config(
        cls, profile: str | None = None, *, path: str | os.PathLike[str] | None = None, **overrides: Any
    ) -> Self:
        """Make an executor from a profile of a configuration file.

        Args:
            profile: its name; None: the one that PARAPLUIE_PROFILE names, or the file's settings outside of profiles.
            path: the file; None finds it, as `Config.find` does.
            **overrides: arguments of the constructor, which have more to say than the environment and the file.

        Raises:
            ConfigError: as for the constructor; also if there is no such profile.
        """
        return cls(config=configuration.Config.find(profile, path=path), **overrides)

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
        call: Callable[..., T] = fn
        dumps = self._dumps
        if dispatcher.inside is not None:
            call = dispatcher.inside.of_task(task, fn, args, kwargs)
            dumps = call.noting(dumps)
        if not dispatcher.isolated:
            task.function = (call, args, kwargs) if not self._capture else task.captured(call, args, kwargs)
        else:
            buffers: list[Any] = []
            try:
                task.payload = dumps((call, args, kwargs), buffers.append)
                if self._capture:
                    task.payload = task.captured_payload(task.payload)
                if buffers:
                    task.buffers = dispatcher.keep(buffers)
            except Exception as error:  # noqa: BLE001 - a __reduce__ may raise anything
                return self._unsendable(task, (fn, args, kwargs), error)
        future: Future[T] = task.future
        try:
            dispatcher.submit(task)
        except BaseException as error:
            task.refused(error)
            raise
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
        if self._dispatcher.observers is not None:
            task.tell_submitted(self._dispatcher.observers)
        task.failed(failure)
        return task.future

    if TYPE_CHECKING:

        @overload
        def map(
            self,
            fn: Callable[..., T],
            *iterables: Iterable[Any],
            timeout: float | None = None,
            chunksize: int | None = None,
            buffersize: int | None = None,
            ordered: bool = True,
            on_error: Literal["collect"],
            max_failures: int | str | None = None,
            progress: bool | str | Callable[[Progress], object] = False,
            journal: str | os.PathLike[str] | Journal | None = None,
        ) -> Iterator[Outcome[T]]: ...

        @overload
        def map(
            self,
            fn: Callable[..., T],
            *iterables: Iterable[Any],
            timeout: float | None = None,
            chunksize: int | None = None,
            buffersize: int | None = None,
            ordered: bool = True,
            on_error: str = "raise",
            max_failures: int | str | None = None,
            progress: bool | str | Callable[[Progress], object] = False,
            journal: str | os.PathLike[str] | Journal | None = None,
        ) -> Iterator[T]: ...

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
        ordered: bool = True,
        on_error: str = "raise",
        max_failures: int | str | None = None,
        progress: bool | str | Callable[[Progress], object] = False,
        journal: str | os.PathLike[str] | Journal | None = None,
    ) -> Iterator[Any]:
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
            max_failures: with "skip" or "collect": once more items than that have failed, what has not begun is
                cancelled, what is done is yielded, and then it raises. A number, or a share of the input as "5%"; where
                the length of that is not known, of the items answered so far, from the hundredth on.
            progress: True, or a label, shows a bar if standard error is a terminal. A function is called with a
                `Progress` ten times a second at most while results are taken, in the thread that takes them, and at the
                end; what it raises ends the map.
            journal: the path of a file, or a `Journal`: items are recorded there, and the same map goes on where it
                was. What is recorded does not run again; what was running does. Nothing is yielded before it is
                recorded so that it survives a power cut.

        Raises:
            TaskPicklingError: from the iterator, if fn or an item cannot be pickled.
            TimeoutError: from the iterator, if the time is up; what has not begun is cancelled.
            ExecutorShutdownError: from the iterator, if the executor ended before all of the input was read.
            TooManyFailuresError: from the iterator, see max_failures.
            JournalMismatchError: if the journal is of another function; from the iterator, if it is of other input.
            JournalError: if the journal cannot be used, or is in use; from the iterator, if it cannot be written.

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
        make_run: Callable[..., MapRun] = MapRun
        if max_failures is not None or progress is not False or journal is not None:
            from parapluie.watched import watched_run

            make_run = watched_run(max_failures=max_failures, progress=progress, journal=journal, on_error=on_error)
        run = make_run(
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
        run.timed = run.timed or on_error == "collect"
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
        capture_output: bool = _KEEP,
    ) -> Executor:
        """Return a view: an executor on the same workers whose tasks have other policies.

        Args:
            retry, task_timeout, capture_output: as for the constructor. name: goes into task ids, and so into messages.

        Shutting down a view shuts down the workers of all.
        """
        view = object.__new__(type(self))
        view.__dict__.update(self.__dict__)
        if retry is not _KEEP:
            view._retry = _as_retry(retry)
        if task_timeout is not _KEEP:
            view._call_options = _call_options(self._checked_timeout(task_timeout))
        if capture_output is not _KEEP:
            view._capture = _checked_capture(capture_output)
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
        """Factories of shared state, to be handed to tasks as arguments, or found by `parapluie.lookup(name)`.

        `dict`, `list`, `value`, `array`, `counter`, `queue`, `lock`, `rlock`, `semaphore`, `event`, `condition`,
        `barrier`, `namespace`. Local objects where workers share our memory; else proxies of objects in a server
        process, which the `manager` backend starts with its workers and the others at first use.
        """
        if self._shared is None:
            self._shared = self._dispatcher.shared()
        return self._shared

    def session(self, fn: Callable[..., object], /, *args: Any, **kwargs: Any) -> Session:
        """Run fn(connection, *args, **kwargs) in a worker of its own, for a conversation, and return this side of it.

        The worker is one more than max_workers, a process that is started as workers are and has run the initializer;
        where workers share our memory, a thread. It is no task: no retry, no `task_timeout`, nothing in `stats`.

        Raises:
            CapabilityError: if the backend has no sessions; it names those that have.
            ExecutorShutdownError: if the executor was shut down.
            WorkerInitError: if the worker cannot start.
            TaskPicklingError: if fn or an argument cannot be sent; TaskUnpicklingError: if it cannot be read there.

        Thread safety: any thread. Blocking: until the function is about to be called.
        """
        from parapluie.sharing.session import open_session
        from parapluie.work import submitted_at

        return open_session(self._dispatcher, self._dumps, self._lease, submitted_at, (fn, args, kwargs))

    def channel(self, maxsize: int = 0, *, name: str | None = None) -> Channel[Any]:
        """Make a queue that ends, to be handed to tasks as an argument, or found by `parapluie.lookup(name)`.

        Args:
            maxsize: items that may be in it at a time; producers wait for room. 0: no limit. On `serial`, where nobody
                could make room meanwhile, it has no effect.

        Raises:
            CapabilityError: if the backend has no channels.
            ConfigError: if maxsize is not a whole number from 0.
            SharedStateError: if there is a shared object of that name.

        Thread safety: any thread. Blocking: while the server of shared state starts, and for a round trip.
        """
        return self._dispatcher.channel(maxsize, name)

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
            failure = self._dispatcher.error
            if kind is None and failure is not None and main_guard.is_unseen(failure):
                raise failure  # nobody asked for a result, and nothing was done
        return None

    def __reduce__(self) -> Any:
        raise TypeError("an executor cannot be pickled, and so not be sent into a task; make one there")

    def __repr__(self) -> str:
        settings = self._dispatcher.settings
        state = "broken" if self._dispatcher.error else "shut down" if self._dispatcher.closing else "open"
        return f"<parapluie.Executor backend={settings.info.name!r} max_workers={settings.max_workers} {state}>"


def _observers(given: Sequence[object], settings: Settings) -> Observers | None:
    if not builtin.plugins_are_loaded and given == ():
        return None
    from parapluie import observers

    return observers.find(settings.info.name, given)


def _as_retry(retry: Retry | int | None) -> Retry | None:
    if retry is None:
        return None
    from parapluie.policies.retry import as_retry  # tenacity is imported only where something is retried

    return as_retry(retry)


def _call_options(task_timeout: float | None) -> CallOptions:
    return NO_OPTIONS if task_timeout is None else CallOptions(task_timeout)


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
    wanted = None
    if not settings.capabilities.sends_logs:  # an engine that has no way for them: `worker.run` sends them with replies
        from parapluie.logs import log_settings

        wanted = log_ways.identity(), log_settings()
    if settings.initializer is None and settings.serializer == "auto" and wanted is None:
        return b""
    import pickle

    # The number tells executors apart that share a worker's process and have the same initializer.
    told = {"serializer": settings.serializer, "initializer": initializer, "logs": wanted, "executor": os.urandom(8)}
    data = pickle.dumps(told)
    return data if inherited is None else worker.inherit(data, inherited)


def _checked_capture(value: object) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"capture_output={value!r} is neither True nor False")
    return value


def _check_count(name: str, value: object) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise ConfigError(f"{name}={value!r} is not a whole number from 1")


def _check_timeout(value: object) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value)):
        raise ConfigError(f"timeout={value!r} is not a number of seconds")
