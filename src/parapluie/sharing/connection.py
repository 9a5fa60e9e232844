"""What both ends of a session have in common: messages that come and go."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from time import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

END: Any = object()  # in place of a message: there are no more; nothing that a user sends is this


def until(timeout: float | None) -> float | None:
    """Return when a time is up, as `time.monotonic` will say; None for never.

    Raises:
        ValueError: if it is not a number of seconds.
    """
    if timeout is None:
        return None
    seconds: Any = timeout
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or math.isnan(seconds):
        raise ValueError(f"timeout={timeout!r} is not a number of seconds")
    return monotonic() + timeout


class Connection(ABC):
    """One end of a session: what the session's function is given; on the other side it is the `Session`.

        def add_up(connection, total):
            for number in connection:  # until the other side closes
                total += number
                connection.send(total)
            return total

    Thread safety: any method from any thread, but not from a signal handler or a finalizer, which may interrupt one of
    them. Messages of one thread arrive in their order; each is received once.
    """

    @abstractmethod
    def send(self, message: Any, *, timeout: float | None = None) -> None:
        """Send a message: any value that pickles, None included.

        It is sent by value: later changes change nothing. Where memory is shared it is handed over as it is.

        Args:
            timeout: seconds to wait for room, should the other side not receive; None waits for ever.

        Raises:
            MessagePicklingError: if it cannot be pickled; nothing was sent.
            TimeoutError: if the time is up; nothing of it arrives, and the next message may be sent.
            SessionClosedError: if nobody will receive it any more.

        Blocking: while the other side has not received what was sent before, and there is no room for more.
        """

    def recv(self, timeout: float | None = None) -> Any:
        """Return the next message.

        Args:
            timeout: seconds to wait; None waits for ever.

        Raises:
            TimeoutError: if none has come by then; nothing is lost.
            EOFError: if no more will come.
            MessageUnpicklingError: if it arrived and cannot be read back here; the next one can be received.
        """
        message = self._take(timeout)
        if message is END:
            raise EOFError(f"{self!r} has ended: there are no more messages")
        return message

    @abstractmethod
    def _take(self, timeout: float | None) -> Any:
        """Return the next message, or END."""

    @abstractmethod
    def poll(self, timeout: float | None = 0.0) -> bool:
        """Say whether `recv` would return or raise at once; wait so many seconds for that, or for ever (None)."""

    def __iter__(self) -> Iterator[Any]:
        """Yield messages until the other side ends."""
        while (message := self._take(None)) is not END:
            yield message
