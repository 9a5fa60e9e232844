"""Waiting for many descriptors: the platform's own call, without the layers above it that each wait would pay for."""

from __future__ import annotations

import select
import selectors

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class _Epoll:
    """Linux: what a wait costs does not depend on how many workers there are."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._watched: set[int] = set()

    def watch(self, fd: int, events: int) -> None:
        """Watch a descriptor for reading (which its end is, too), for writing, or both; 0 ends it."""
        if not events:
            if fd in self._watched:
                self._watched.remove(fd)
                self._epoll.unregister(fd)
            return
        mask = (select.EPOLLIN if events & READ else 0) | (select.EPOLLOUT if events & WRITE else 0)
        if fd in self._watched:
            self._epoll.modify(fd, mask)
        else:
            self._epoll.register(fd, mask)
            self._watched.add(fd)

    def wait(self, seconds: float | None) -> list[tuple[int, int]]:
        """Return descriptors and what they are ready for."""
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

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def watch(self, fd: int, events: int) -> None:
        known = fd in self._selector.get_map()
        if not events:
            if known:
                self._selector.unregister(fd)
        elif known:
            self._selector.modify(fd, events)
        else:
            self._selector.register(fd, events)

    def wait(self, seconds: float | None) -> list[tuple[int, int]]:
        return [(key.fd, events) for key, events in self._selector.select(seconds)]

    def close(self) -> None:
        self._selector.close()


Poller = _Epoll if hasattr(select, "epoll") else _Selector
