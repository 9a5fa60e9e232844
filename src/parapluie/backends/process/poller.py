"""Waiting for many descriptors: the platform's own call, without the layers above it that each wait would pay for."""

from __future__ import annotations

import select
from contextlib import suppress

READ, WRITE = 1, 2  # as those of selectors


class _Epoll:
    """Linux: what a wait costs does not depend on how many workers there are.

    The kernel alone knows what is watched, so an interrupt in the middle of a method leaves nothing half done.

    Attributes:
        pauses: what is watched may be changed at any time, in a thread that may be interrupted.
    """

    pauses = True

    def __init__(self) -> None:
        self._epoll = select.epoll()

    def watch(self, fd: int, events: int) -> None:
        """Watch a descriptor for reading, for writing, or both; with 0 for its end alone."""
        mask = (select.EPOLLIN if events & READ else 0) | (select.EPOLLOUT if events & WRITE else 0)
        try:
            self._epoll.modify(fd, mask)
        except FileNotFoundError:
            self._epoll.register(fd, mask)

    def forget(self, fd: int) -> None:
        """Watch a descriptor no longer."""
        with suppress(FileNotFoundError):
            self._epoll.unregister(fd)

    def wait(self, seconds: float | None) -> list[tuple[int, int]]:
        """Return descriptors and what they are ready for; the end is something to read."""
        found = self._epoll.poll(seconds)
        if len(found) == 1 and found[0][1] == select.EPOLLIN:
            return found  # as numbers, EPOLLIN is READ
        return [
            (fd, (READ if mask & ~select.EPOLLOUT else 0) | (WRITE if mask & ~select.EPOLLIN else 0))
            for fd, mask in found
        ]

    def close(self) -> None:
        self._epoll.close()


class _Selector:
    """Elsewhere."""

    pauses = False

    def __init__(self) -> None:
        import selectors

        self._selector = selectors.DefaultSelector()

    def watch(self, fd: int, events: int) -> None:
        if not events:
            self.forget(fd)
        elif fd in self._selector.get_map():
            self._selector.modify(fd, events)
        else:
            self._selector.register(fd, events)

    def forget(self, fd: int) -> None:
        if fd in self._selector.get_map():
            self._selector.unregister(fd)

    def wait(self, seconds: float | None) -> list[tuple[int, int]]:
        return [(key.fd, events) for key, events in self._selector.select(seconds)]

    def close(self) -> None:
        self._selector.close()


Poller = _Epoll if hasattr(select, "epoll") else _Selector
