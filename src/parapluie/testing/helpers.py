"""What tests do again and again: wait, take outcomes, count how far an input was read, shut executors down."""

from __future__ import annotations

import concurrent.futures
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from parapluie import Executor, Retry
from parapluie.testing import processes
from parapluie.testing.patience import SECONDS

if TYPE_CHECKING:
    import pytest


def results_of(futures: Iterable[concurrent.futures.Future[Any]]) -> list[Any]:
    """Take the outcomes of futures, each in bounded time: values, and exceptions as they are."""
    return [_outcome(future) for future in futures]


def _outcome(future: concurrent.futures.Future[Any]) -> Any:
    try:
        return future.exception(SECONDS) or future.result()
    except concurrent.futures.CancelledError as error:
        return error


def until(condition: Callable[[], object]) -> None:
    """Wait for a condition of which nothing tells."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it has not come"
        time.sleep(0.005)


def at_once(attempts: int = 3, **kwargs: Any) -> Retry:
    """Make a retry policy that does not wait."""
    return Retry(attempts, **{"wait": 0, **kwargs})


class CountingInput(Iterator[Any]):
    """An input that counts how far it was read."""

    def __init__(self, items: Iterable[Any]) -> None:
        self._items = iter(items)
        self.read = 0

    def __next__(self) -> Any:
        item = next(self._items)
        self.read += 1
        return item


def end_server(executor: Executor) -> None:
    """Kill the server of an executor's shared state."""
    processes.kill(executor.shared.server_pid or 0)


def shut_down(executors: Iterable[Executor]) -> None:
    """Shut executors down, all at once, in bounded time."""
    threads = [
        threading.Thread(target=executor.shutdown, kwargs={"cancel_futures": True}, daemon=True)
        for executor in executors
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert not any(thread.is_alive() for thread in threads), f"the executor did not shut down within {SECONDS:g} s"


def defects(caplog: pytest.LogCaptureFixture, *phases: str) -> list[str]:
    """Return what the library logged as an error: a second answer, a function that failed in a thread of its own."""
    records = [record for phase in phases or ("call",) for record in caplog.get_records(phase)]  # type: ignore[arg-type]
    return [record.getMessage() for record in records if record.name == "parapluie" and record.levelno >= logging.ERROR]
