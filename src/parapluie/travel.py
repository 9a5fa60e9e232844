"""Open files without a name, and how they get to a process that is being started: the one place where that differs.

Descriptors travel on POSIX, as each start method has it; on Windows it is handles, which are duplicated into the
process that is being made. What is pickled with a process object is sent in here, and nowhere else.
"""

from __future__ import annotations

import errno
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_TOO_MANY = frozenset({errno.EMFILE, errno.ENFILE})


def file_without_name(name: str) -> int:
    """Open a file that is in memory, where the platform has such files, or else a temporary one; return a descriptor.

    It is gone when its last descriptor is closed, whoever dies before.

    Raises:
        OSError: if there are too many open files, or no place for one.
    """
    if hasattr(os, "memfd_create"):
        try:
            return os.memfd_create(name)
        except OSError as error:
            if error.errno in _TOO_MANY:
                raise
            # else a sandbox does not allow it
    import tempfile

    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


if sys.platform == "win32":
    import msvcrt
    from contextlib import contextmanager

    if TYPE_CHECKING:
        from collections.abc import Iterator

    @contextmanager
    def connections_sent_whole() -> Iterator[None]:
        """Have the process that is started in here own what it is sent of connections from the beginning.

        multiprocessing makes a duplicate in this process, which the other one takes away from here. If that one dies
        before, while it still imports, the duplicate stays, and whoever reads the pipe waits for its end for ever.
        Under the lock of all starts of ours; what other threads send meanwhile travels as ever.
        """
        from multiprocessing.connection import PipeConnection, reduce_pipe_connection
        from multiprocessing.context import get_spawning_popen
        from multiprocessing.reduction import ForkingPickler

        def reduced(connection: PipeConnection) -> tuple[Any, ...]:
            if get_spawning_popen() is None:
                return reduce_pipe_connection(connection)
            return PipeConnection, (sent_handle(connection.fileno()), connection.readable, connection.writable)

        ForkingPickler.register(PipeConnection, reduced)
        try:
            yield
        finally:
            ForkingPickler.register(PipeConnection, reduce_pipe_connection)

    def sent_handle(handle: int) -> int:
        """Duplicate a handle into the process that is being started; return what it is called there."""
        from multiprocessing.context import get_spawning_popen

        popen: Any = get_spawning_popen()
        duplicate: int = popen.duplicate_for_child(handle)
        return duplicate

    def sent(fd: int) -> Any:
        """Return what travels to the process that is being started, and gives a descriptor of the same file there."""
        return sent_handle(msvcrt.get_osfhandle(fd))

    def received(travelled: Any) -> int:
        """Return the descriptor, in that process."""
        return msvcrt.open_osfhandle(travelled, os.O_APPEND)

    def sent_end(handle: int) -> Any:
        """Return what travels for an end of a pipe of multiprocessing, which is a handle here, else a descriptor."""
        return sent_handle(handle)

    def received_end(travelled: Any) -> int:
        """Return that end, in the process that was started."""
        handle: int = travelled
        return handle

else:
    from contextlib import nullcontext

    connections_sent_whole = nullcontext  # the standard way leaves nothing behind here

    def sent(fd: int) -> Any:  # noqa: D103 - see above
        from multiprocessing.reduction import DupFd

        return DupFd(fd)

    def received(travelled: Any) -> int:  # noqa: D103 - see above
        fd: int = travelled.detach()
        return fd

    sent_end = sent

    def received_end(travelled: Any) -> int:  # noqa: D103 - see above
        fd = received(travelled)
        os.set_inheritable(fd, False)  # noqa: FBT003 - the programs that tasks start get none
        return fd
