"""What the engine waits on and the ends of its pipes, as this platform has them.

Both `posix.py` and `windows.py` offer:

    Waiter              what the collector waits on: a selector that can be woken from any thread
    pipe(waiter)        a duplex pipe: the parent's end, and the end that travels to the worker as that is started
    parent's end        `fd`; `read(size)` and `write(data)`, which never block; `close()`
    worker's end        `fileno()`, a descriptor that blocks; `close()`
"""

from __future__ import annotations

import sys

if sys.platform == "win32":
    from parapluie.backends.process.windows import ParentEnd, Waiter, WorkerEnd, pipe
else:
    from parapluie.backends.process.posix import ParentEnd, Waiter, WorkerEnd, pipe

__all__ = ["ParentEnd", "Waiter", "WorkerEnd", "pipe"]
