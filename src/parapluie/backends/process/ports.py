"""What the engine waits on and the ends of its pipes, as this platform has them.

Both `posix.py` and `windows.py` offer:

    Waiter              what the collector waits on: a poller (see poller.py) that can be woken from any thread
    pipe(waiter)        a duplex pipe: the parent's end, and the end that travels to the worker as that is started
    parent's end        `fd`; `read(size)` and `write(data)`, which never block; `close()`; on POSIX, where a caller
                        may attend (see attend.py), `arrives(seconds)` and `peek(size)` as well
    worker's end        `fileno()`, a descriptor that blocks; `close()`
    looker(descriptor)  what looks at the worker's end for something to read, without sleeping, for some time
"""

from __future__ import annotations

import sys

from parapluie.backends.process.poller import READ, WRITE

if sys.platform == "win32":
    from parapluie.backends.process.windows import ParentEnd, Waiter, WorkerEnd, looker, pipe
else:
    from parapluie.backends.process.posix import ParentEnd, Waiter, WorkerEnd, looker, pipe

__all__ = ["READ", "WRITE", "ParentEnd", "Waiter", "WorkerEnd", "looker", "pipe"]
