"""What a parent and one worker have in common: a lock, and some bytes. How they get to the worker is all in here.

multiprocessing has both, in `synchronize` and `heap`; but these import tempfile, and with it random, shutil, bz2 and
lzma, which takes four milliseconds in the parent and in each worker that is spawned. The lock is the same one.
"""

from __future__ import annotations

import mmap
import os
import sys

# What `multiprocessing.Lock` is made of; tests/unit/test_shared.py fails when a new Python changes it.
from _multiprocessing import SemLock  # type: ignore[import-not-found]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_SEMAPHORE = 1  # the kind: anybody may release it


class SharedLock:
    """A lock whose holder may die: it has to be taken with a time-out.

    Attributes: acquire, release: as those of `multiprocessing.Lock`.
    """

    def __init__(self, method: str) -> None:
        forked = method == "fork"
        name = f"/parapluie-{os.urandom(8).hex()}"
        self._use(SemLock(_SEMAPHORE, 1, 1, name, forked or sys.platform == "win32"))
        if self._semaphore.name is not None:  # the worker finds it by its name, which must not outlive us
            from multiprocessing.resource_tracker import register

            register(self._semaphore.name, "semaphore")

    def _use(self, semaphore: SemLock) -> None:
        self._semaphore = semaphore
        self.acquire, self.release = semaphore.acquire, semaphore.release

    def __reduce__(self) -> tuple[Any, ...]:
        semaphore, handle = self._semaphore, self._semaphore.handle
        if sys.platform == "win32":
            handle = _duplicated(handle)
        return _arrived_lock, (handle, semaphore.kind, semaphore.maxvalue, semaphore.name)

    def close(self) -> None:
        """Remove its name; called by the parent, once, when nobody has to find it any more."""
        if self._semaphore.name is not None:
            from _multiprocessing import sem_unlink
            from multiprocessing.resource_tracker import unregister

            sem_unlink(self._semaphore.name)
            unregister(self._semaphore.name, "semaphore")


def _arrived_lock(*state: Any) -> SharedLock:
    lock = SharedLock.__new__(SharedLock)
    lock._use(SemLock._rebuild(*state))  # noqa: SLF001 - it is being made
    return lock


class SharedBytes:
    """Memory, all zero at first. It is there until nobody holds `view` any more, whoever dies before.

    Attributes: view: to read and to write it.
    """

    def __init__(self, size: int, method: str) -> None:
        self._fd: int | None = None
        self._tag: str | None = None
        if sys.platform == "win32":
            self._tag = f"parapluie-{os.urandom(16).hex()}"
            self.view = memoryview(mmap.mmap(-1, size, tagname=self._tag))
        elif method == "fork":
            self.view = memoryview(mmap.mmap(-1, size))
        else:
            self._fd = _file_without_name()
            try:
                os.ftruncate(self._fd, size)
                self.view = memoryview(mmap.mmap(self._fd, size))
            except BaseException:
                self.sent()
                raise

    def __reduce__(self) -> tuple[Any, ...]:
        size = len(self.view)
        if self._fd is None:
            return _arrived_bytes, (size, self._tag)
        from multiprocessing.reduction import DupFd

        return _arrived_file, (size, DupFd(self._fd))

    def sent(self) -> None:
        """Let go of what only the start of the worker needs."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def _arrived_bytes(size: int, tag: str) -> memoryview:
    tagged: Any = mmap.mmap  # `tagname` exists on Windows alone
    return memoryview(tagged(-1, size, tagname=tag))


def _arrived_file(size: int, sent: Any) -> memoryview:
    fd = sent.detach()
    try:
        return memoryview(mmap.mmap(fd, size))
    finally:
        os.close(fd)


def _file_without_name() -> int:
    if sys.platform == "linux" and hasattr(os, "memfd_create"):
        try:
            return os.memfd_create("parapluie-page")
        except OSError:  # a sandbox; or there are too many files open, and then the next try says so
            pass
    import tempfile

    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _duplicated(handle: int) -> Any:
    from multiprocessing.context import get_spawning_popen

    popen: Any = get_spawning_popen()
    return popen.duplicate_for_child(handle)
