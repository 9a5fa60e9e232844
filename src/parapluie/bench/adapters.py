"""Contenders behind one face, so that every workload is written once. Runs in the process of a measurement.

Each adapter takes the way that its library's documentation names first, with the library's own defaults, and adds as
little as it can: what is measured is the library. Libraries are imported as an adapter is made, which start-up counts.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

TYPE_CHECKING = False  # importing this module is part of what is timed at start-up
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from concurrent.futures import Executor as StandardExecutor
    from typing import Any

    from parapluie import Executor

    Function = Callable[[Any], Any]
    Done = Callable[[Any], object]

OURS = "parapluie:"  # begins the names of our own backends: a plugin may offer one that is called as its peer is
_ECHO = b"x" * 40  # about as long as a small pickled call


class Adapter(ABC):
    """A contender with its workers. Methods whose ability it lacks are not called."""

    @abstractmethod
    def call(self, function: Function, argument: Any) -> Any:
        """Run one task and return its result."""

    def submit(self, function: Function, argument: Any, done: Done | None = None) -> Any:
        """Submit one task and return what `results` takes; `done` is called as soon as it is answered."""
        raise NotImplementedError

    def results(self, handles: Iterable[Any]) -> list[Any]:
        """Wait for submitted tasks."""
        return [handle.result() for handle in handles]

    def map(self, function: Function, items: Sequence[Any], *, chunk: int | None = None) -> list[Any]:
        """Map over items that are all there; None leaves the chunk size to the library."""
        raise NotImplementedError

    def stream(self, function: Function, items: Iterator[Any], *, chunk: int) -> Iterator[Any]:
        """Map over an input of unknown length; `chunk` is for those that do not choose one by themselves."""
        raise NotImplementedError

    def each(self, function: Function, arguments: Iterable[Any]) -> list[Any]:
        """Run tasks one by one, at the same time."""
        return self.results([self.submit(function, argument) for argument in arguments])

    def counts(self) -> tuple[Any, Any]:
        """Return a dictionary that tasks can change, and the lock that changes need there; None if they need none."""
        raise NotImplementedError

    def flow(self, items: int, batch: int | None) -> float:
        """Send items from one task to another, one by one or so many at a time; return the seconds from first to last.

        A contender that has no batches sends them one by one.
        """
        raise NotImplementedError

    @abstractmethod
    def close(self) -> None:
        """End the workers."""


class _Futures(Adapter):
    """Whatever is a `concurrent.futures.Executor`."""

    def __init__(self, executor: StandardExecutor) -> None:
        self._executor = executor

    def call(self, function: Function, argument: Any) -> Any:
        return self._executor.submit(function, argument).result()

    def submit(self, function: Function, argument: Any, done: Done | None = None) -> Any:
        future = self._executor.submit(function, argument)
        if done is not None:
            future.add_done_callback(done)
        return future

    def map(self, function: Function, items: Sequence[Any], *, chunk: int | None = None) -> list[Any]:
        if chunk is None:
            return list(self._executor.map(function, items))
        return list(self._executor.map(function, items, chunksize=chunk))

    def stream(self, function: Function, items: Iterator[Any], *, chunk: int) -> Iterator[Any]:
        return self._executor.map(function, items, chunksize=chunk)

    def close(self) -> None:
        self._executor.shutdown()


class _Parapluie(_Futures):
    """A backend of ours; it takes the start method if it can choose one."""

    _executor: Executor

    def __init__(self, backend: str, workers: int, start_method: str | None) -> None:
        from parapluie import Config, Executor

        super().__init__(Executor(backend, workers, start_method=start_method, config=Config()))

    def counts(self) -> tuple[Any, Any]:
        return self._executor.shared.dict(n=0), None

    def flow(self, items: int, batch: int | None) -> float:
        from parapluie.bench import tasks

        channel = self._executor.channel()
        taking = self._executor.submit(tasks.take_items, channel)
        self._executor.submit(tasks.put_items, channel, items, batch).result()
        channel.close()
        return taking.result()

    def stream(self, function: Function, items: Iterator[Any], *, chunk: int) -> Iterator[Any]:
        del chunk
        return self._executor.map(function, items)


class _ProcessPoolExecutor(_Futures):
    def __init__(self, workers: int, start_method: str | None) -> None:
        from concurrent.futures import ProcessPoolExecutor
        from multiprocessing import get_context

        super().__init__(ProcessPoolExecutor(workers, mp_context=get_context(start_method)))


class _Loky(_Futures):
    def __init__(self, workers: int, start_method: str | None) -> None:
        del start_method  # it has its own, and is meant to be used with that
        import loky

        super().__init__(loky.ProcessPoolExecutor(max_workers=workers))


class _Pool(Adapter):
    def __init__(self, workers: int, start_method: str | None) -> None:
        from multiprocessing import get_context

        self._pool = get_context(start_method).Pool(workers)

    def call(self, function: Function, argument: Any) -> Any:
        return self._pool.apply_async(function, (argument,)).get()

    def submit(self, function: Function, argument: Any, done: Done | None = None) -> Any:
        return self._pool.apply_async(function, (argument,), callback=done)

    def results(self, handles: Iterable[Any]) -> list[Any]:
        return [handle.get() for handle in handles]

    def map(self, function: Function, items: Sequence[Any], *, chunk: int | None = None) -> list[Any]:
        return self._pool.map(function, items, chunk)

    def stream(self, function: Function, items: Iterator[Any], *, chunk: int) -> Iterator[Any]:
        return self._pool.imap(function, items, chunk)

    def close(self) -> None:
        self._pool.close()
        self._pool.join()


class _Manager(_Pool):
    def __init__(self, workers: int, start_method: str | None) -> None:
        from multiprocessing import get_context

        self._manager = get_context(start_method).Manager()
        super().__init__(workers, start_method)

    def counts(self) -> tuple[Any, Any]:
        return self._manager.dict(n=0), self._manager.Lock()

    def close(self) -> None:
        super().close()
        self._manager.shutdown()


class _Joblib(Adapter):
    def __init__(self, workers: int, start_method: str | None) -> None:
        del start_method  # it is loky's
        import joblib

        self._joblib = joblib
        self._workers = workers

    def _run(self, function: Function, items: Iterable[Any], **options: Any) -> Any:
        # All of them share the workers of one executor, which joblib keeps.
        call = self._joblib.delayed(function)
        return self._joblib.Parallel(n_jobs=self._workers, **options)(call(item) for item in items)

    def call(self, function: Function, argument: Any) -> Any:
        return self._run(function, [argument])[0]

    def map(self, function: Function, items: Sequence[Any], *, chunk: int | None = None) -> list[Any]:
        results: list[Any] = self._run(function, items, batch_size="auto" if chunk is None else chunk)
        return results

    def stream(self, function: Function, items: Iterator[Any], *, chunk: int) -> Iterator[Any]:
        del chunk
        results: Iterator[Any] = self._run(function, items, return_as="generator")
        return results

    def each(self, function: Function, arguments: Iterable[Any]) -> list[Any]:
        results: list[Any] = self._run(function, arguments, batch_size=1)
        return results

    def close(self) -> None:
        from joblib.externals.loky import get_reusable_executor

        get_reusable_executor().shutdown(wait=True)


class _Mpire(Adapter):
    def __init__(self, workers: int, start_method: str | None) -> None:
        import mpire

        self._pool = mpire.WorkerPool(n_jobs=workers, start_method=start_method, keep_alive=True)

    def call(self, function: Function, argument: Any) -> Any:
        return self._pool.apply(function, (argument,))

    def submit(self, function: Function, argument: Any, done: Done | None = None) -> Any:
        # It takes arguments apart that are tuples: one that is a tuple has to be wrapped.
        return self._pool.apply_async(function, (argument,), callback=done)

    def results(self, handles: Iterable[Any]) -> list[Any]:
        return [handle.get() for handle in handles]

    def map(self, function: Function, items: Sequence[Any], *, chunk: int | None = None) -> list[Any]:
        results: list[Any] = self._pool.map(function, items, chunk_size=chunk)
        return results

    def stream(self, function: Function, items: Iterator[Any], *, chunk: int) -> Iterator[Any]:
        results: Iterator[Any] = self._pool.imap(function, items, chunk_size=chunk)
        return results

    def close(self) -> None:
        self._pool.stop_and_join()


class _Pebble(Adapter):
    def __init__(self, workers: int, start_method: str | None) -> None:
        from multiprocessing import get_context

        import pebble

        self._pool = pebble.ProcessPool(max_workers=workers, context=get_context(start_method))

    def call(self, function: Function, argument: Any) -> Any:
        return self._pool.schedule(function, args=(argument,)).result()

    def submit(self, function: Function, argument: Any, done: Done | None = None) -> Any:
        future = self._pool.schedule(function, args=(argument,))
        if done is not None:
            future.add_done_callback(done)
        return future

    def map(self, function: Function, items: Sequence[Any], *, chunk: int | None = None) -> list[Any]:
        return list(self._pool.map(function, items, chunksize=chunk or 1).result())

    def stream(self, function: Function, items: Iterator[Any], *, chunk: int) -> Iterator[Any]:
        results: Iterator[Any] = self._pool.map(function, items, chunksize=chunk).result()
        return results

    def close(self) -> None:
        self._pool.close()
        self._pool.join()


class _Queue(Adapter):
    def __init__(self, workers: int, start_method: str | None) -> None:
        del workers  # one process puts, and one takes
        from multiprocessing import get_context

        self._context = get_context(start_method)

    def call(self, function: Function, argument: Any) -> Any:
        raise NotImplementedError

    def each(self, function: Function, arguments: Iterable[Any]) -> list[Any]:
        """Return as many different answers as there are workers to wait for: they start with each `flow`."""
        del function
        return list(range(len([*arguments])))

    def flow(self, items: int, batch: int | None) -> float:
        del batch  # it has none
        from parapluie.bench import tasks

        queue: Any = self._context.Queue()
        answer: Any = self._context.SimpleQueue()
        arguments = ((tasks.take_from_queue, (queue, answer)), (tasks.put_into_queue, (queue, items)))
        processes = [self._context.Process(target=target, args=args) for target, args in arguments]  # type: ignore[attr-defined]
        for process in processes:
            process.start()
        seconds: float = answer.get()
        for process in processes:
            process.join()
        return seconds

    def close(self) -> None:
        """Do nothing: its processes have ended."""


class _PipeEcho(Adapter):
    """The least that a round trip to another process can cost in Python."""

    def __init__(self, workers: int, start_method: str | None) -> None:
        del workers  # one end needs one other
        from multiprocessing import get_context

        context = get_context(start_method)
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_echo, args=(other,), daemon=True)  # type: ignore[attr-defined]
        self._process.start()
        other.close()

    def call(self, function: Function, argument: Any) -> Any:
        del function, argument
        self._pipe.send_bytes(_ECHO)
        return self._pipe.recv_bytes()

    def each(self, function: Function, arguments: Iterable[Any]) -> list[Any]:
        return [self.call(function, argument) for argument in arguments]

    def close(self) -> None:
        self._pipe.send_bytes(b"")  # a forked process holds our end, too, and so would never see that it is closed
        self._process.join()


def _echo(pipe: Any) -> None:
    while message := pipe.recv_bytes():
        pipe.send_bytes(message)


_PEERS: dict[str, Callable[[int, str | None], Adapter]] = {
    "ProcessPoolExecutor": _ProcessPoolExecutor,
    "Pool": _Pool,
    "loky": _Loky,
    "joblib": _Joblib,
    "mpire": _Mpire,
    "pebble": _Pebble,
    "Manager": _Manager,
    "Queue": _Queue,
    "pipe-echo": _PipeEcho,
}


def make(name: str, workers: int, start_method: str | None) -> Adapter:
    """Import a contender's library and make the contender.

    Args:
        name: of the contender.
        start_method: None where it has no such choice.
    """
    if name.startswith(OURS):
        return _Parapluie(name.removeprefix(OURS), workers, start_method)
    return _PEERS[name](workers, start_method)


def wait_for_workers(adapter: Adapter, workers: int) -> None:
    """Return when every worker has run a task, so that none is started while something is timed."""
    from parapluie.bench import tasks

    for _ in range(50):
        if len(set(adapter.each(tasks.who, [0.02] * (2 * workers)))) >= workers:
            return
