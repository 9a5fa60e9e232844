"""The queue between an engine and its one worker. Touches what is private to `multiprocessing.SimpleQueue`."""

from __future__ import annotations

from multiprocessing.queues import SimpleQueue
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multiprocessing.context import BaseContext


class OneWayQueue(SimpleQueue[Any]):
    """A queue with one process at each end, of which this process can close the end that is the worker's.

    Pool and ProcessPoolExecutor keep both ends of every pipe open, so they never see the end of a dead worker's:
    half a reply keeps them reading for ever, and half a call keeps them writing. With only one holder of each end the
    kernel tells them. Touches `_reader` and `_writer`.
    """

    _reader: Any
    _writer: Any

    def __init__(self, *, ctx: BaseContext) -> None:
        super().__init__(ctx=ctx)

    def close_reader(self) -> None:
        """Leave reading to the worker. Pool's clean-up polls the reader, and is told that nothing is there."""
        self._reader.close()
        self._reader = _NothingToRead()

    def close_writer(self) -> None:
        """Leave writing to the worker."""
        self._writer.close()

    def put(self, obj: object) -> None:
        """Write, unless that is left to the worker: Pool's end marks for its own threads are then dropped.

        The end of the pipe comes in their place.
        """
        if not self._writer.closed:
            super().put(obj)


class _NothingToRead:
    """Stands where a closed reader was."""

    def poll(self) -> bool:
        return False

    def close(self) -> None:
        """Do nothing: it is closed."""


def close_reader(queue: Any) -> None:
    """Close this process's read end of a queue that only the worker reads (`Queue._reader`)."""
    if isinstance(queue, OneWayQueue):
        queue.close_reader()
    else:
        queue._reader.close()  # noqa: SLF001 - a queue that a standard engine has made
