"""What a parent and its workers have in common: locks, bytes, files, as the platform has them.

multiprocessing has both, in `synchronize` and `heap`; but these import tempfile, and with it random, shutil, bz2 and
lzma, which takes four milliseconds in the parent and in each worker that is spawned. The lock is the same one.
"""

from __future__ import annotations

import mmap
import os
import sys

# What `multiprocessing.Lock` is made of; tests/unit/test_shared.py fails when a new Python changes it.
from _multiprocessing import SemLock  # type: ignore[import-not-found]

from parapluie import travel

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
            handle = travel.sent_handle(handle)
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
            self._fd = travel.file_without_name("parapluie-page")
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
        return _arrived_file, (size, travel.sent(self._fd))

    def sent(self) -> None:
        """Let go of what only the start of the worker needs."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def _arrived_bytes(size: int, tag: str) -> memoryview:
    tagged: Any = mmap.mmap  # `tagname` exists on Windows alone
    return memoryview(tagged(-1, size, tagname=tag))


def _arrived_file(size: int, sent: Any) -> memoryview:
    fd = travel.received(sent)
    try:
        return memoryview(mmap.mmap(fd, size))
    finally:
        os.close(fd)


class _PosixFile:
    """A file without a name: memory, where the platform has such files, or else a temporary file.

    It is gone when its last descriptor is closed, whoever dies before; the parent's is, with the last reference.

    Attributes: outlives_writer: what a process has written is still there when it has died.
    Thread safety: any thread, on ranges that nobody else uses.
    """

    outlives_writer = True

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._owner = os.getpid()

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrived_posix_file, (travel.sent(self._fd),)

    def __del__(self) -> None:
        if self._owner == os.getpid():  # a forked child may have closed it long ago
            os.close(self._fd)

    @property
    def descriptors(self) -> tuple[int, ...]:
        """Those that a forked worker need not hold."""
        return (self._fd,)

    def write(self, offset: int, data: memoryview) -> None:
        """Write all of data. The GIL is not held meanwhile."""
        while data:
            written = os.pwrite(self._fd, data, offset)
            offset, data = offset + written, data[written:]

    def read(self, offset: int, size: int) -> bytearray:
        """Return a copy of what was written."""
        data = bytearray(size)
        with memoryview(data) as view:
            done = 0
            while done < size:  # a system reads two gigabytes at a time, at most
                count = _read_into(self._fd, view[done:], offset + done)
                if not count:
                    raise EOFError(f"{size} bytes were to be read from shared memory, and there are only {done}")
                done += count
        return data

    def map(self, offset: int, size: int) -> mmap.mmap:
        """Map what was written: to write to it is seen by nobody else."""
        return mmap.mmap(self._fd, size, access=mmap.ACCESS_COPY, offset=offset)

    def cut(self, size: int) -> None:
        """Let go of what lies behind so many bytes."""
        os.ftruncate(self._fd, size)

    def drop(self, offset: int) -> None:
        """Note that what begins there is not needed any more."""


def _read_into(fd: int, view: memoryview, offset: int) -> int:
    if hasattr(os, "preadv"):
        return os.preadv(fd, [view], offset)
    data = os.pread(fd, len(view), offset)  # an old macOS
    view[: len(data)] = data
    return len(data)


def _arrived_posix_file(sent: Any) -> _PosixFile:
    return _PosixFile(travel.received(sent))


class _WindowsFile:
    """As `_PosixFile`, made of memory with names: each write makes a piece of its own, which goes with its writer."""

    outlives_writer = False
    descriptors: tuple[int, ...] = ()

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._pieces: dict[int, mmap.mmap] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return _WindowsFile, (self._prefix,)

    def _piece(self, offset: int, size: int, access: int) -> mmap.mmap:
        tagged: Any = mmap.mmap  # `tagname` exists on Windows alone
        piece: mmap.mmap = tagged(-1, size, tagname=f"{self._prefix}-{offset}", access=access)
        return piece

    def write(self, offset: int, data: memoryview) -> None:
        self._pieces[offset] = piece = self._piece(offset, data.nbytes, mmap.ACCESS_WRITE)
        piece[:] = data

    def read(self, offset: int, size: int) -> bytearray:
        with self._piece(offset, size, mmap.ACCESS_READ) as piece:
            return bytearray(piece)

    def map(self, offset: int, size: int) -> mmap.mmap:
        return self._piece(offset, size, mmap.ACCESS_COPY)

    def cut(self, size: int) -> None:
        """There is nothing to let go of: pieces end by `drop`."""

    def drop(self, offset: int) -> None:
        piece = self._pieces.pop(offset, None)  # none, if it could not be written
        if piece is not None:
            piece.close()


SharedFile = _PosixFile | _WindowsFile


def shared_file() -> SharedFile:
    """Make a file that workers get as they are started."""
    if sys.platform == "win32":
        return _WindowsFile(f"parapluie-{os.urandom(16).hex()}")
    return _PosixFile(travel.file_without_name("parapluie-buffers"))
