"""Every private thing of the standard library that backends and shared state touch.

Not that of the process engine's pipes and of memory, which is in its `windows.py` and in `shared_memory.py`. Each has a
test in `tests/unit/test_stdlib_private.py` that fails when a new Python changes it.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing.pool import ApplyResult, Pool
    from typing import Any


def worker_queues(args: Sequence[Any]) -> tuple[Any, Any]:
    """Return, of the arguments of an engine's worker, the queue that the worker reads and the one that it writes.

    They are the first two arguments of both `multiprocessing.pool.worker` and
    `concurrent.futures.process._process_worker`.
    """
    return args[0], args[1]


def close_both_ends(queue: Any) -> None:
    """Close a queue's pipe in this process, without what `Queue.close` does besides (`Queue._reader`, `._writer`)."""
    queue._reader.close()
    queue._writer.close()


def pool_threads(pool: Pool) -> tuple[threading.Thread, ...]:
    """Return the threads of a pool: the one that reads replies, then the other two.

    `Pool.join` waits for them without a limit.
    """
    private: Any = pool
    return private._result_handler, private._worker_handler, private._task_handler


def give_up(result: ApplyResult[Any]) -> None:
    """Answer a call that Pool still waits for (`ApplyResult._set`): with one open it never closes."""
    private: Any = result
    if not result.ready():
        private._set(0, (False, EOFError("its worker is gone")))


def forget_at_exit(pool: Pool) -> None:
    """Keep a pool that cannot be ended from being ended again when it is collected (`Pool._terminate`)."""
    private: Any = pool
    private._terminate.cancel()


def manager_thread(executor: ProcessPoolExecutor) -> threading.Thread | None:
    """Return the thread of a ProcessPoolExecutor, which `shutdown(wait=True)` waits for without a limit."""
    private: Any = executor
    thread: threading.Thread | None = private._executor_manager_thread
    return thread


def allow_children() -> None:
    """Let tasks start processes: Pool makes its workers daemons, which may not (`Process._config`)."""
    from multiprocessing import current_process

    private: Any = current_process()
    private._config["daemon"] = False


def interpreter_is_ending() -> bool:
    """Return whether no thread can be started any more (`threading._SHUTTING_DOWN`, from before its exit hooks)."""
    return bool(getattr(threading, "_SHUTTING_DOWN", False))


def forget_parents_business() -> None:
    """In a forked child: forget what the other threads of its parent were at, and whose child the fork server is."""
    forget_unfinished_imports()
    forget_fork_server()


def forget_unfinished_imports() -> None:
    """In a forked child: have what other threads were importing just then imported anew, once it is wanted here.

    Those threads are not here, but their locks are, and whoever imports the same module would wait for them for ever
    (`importlib._bootstrap._module_locks`).
    """
    private: Any = importlib
    locks = private._bootstrap._module_locks
    me = threading.get_ident()
    for name, reference in list(locks.items()):
        lock = reference()
        if lock is not None and lock.owner not in {None, me}:
            locks.pop(name, None)
            sys.modules.pop(name, None)  # as far as it has come


def forget_fork_server() -> None:
    """In a forked child: have a server of start method forkserver started anew, once it is wanted here.

    The one that there was is its parent's child, for which multiprocessing would wait as for one of its own
    (`multiprocessing.forkserver._forkserver`). Another thread may have held its lock.
    """
    module: Any = sys.modules.get("multiprocessing.forkserver")
    if module is None:
        return
    server = module._forkserver
    server._lock = threading.Lock()
    if server._forkserver_pid is not None:
        os.close(server._forkserver_alive_fd)
        server._forkserver_address = server._forkserver_alive_fd = server._forkserver_pid = None


def before_threads_end(function: Callable[[], None]) -> None:
    """Call a function at interpreter exit, before others that were registered so (last in, first out).

    To ask again has it called before those that have come since, too. concurrent.futures closes its executors there,
    as loky does; an `atexit` handler comes too late for them (`threading._register_atexit`, `._threading_atexits`).
    """
    private: Any = threading
    hooks = private._threading_atexits
    if interpreter_is_ending() or (hooks and hooks[-1] is _hooks.get(function)):
        return
    private._register_atexit(function)
    _hooks[function] = hooks[-1]


_hooks: dict[Callable[[], None], object] = {}  # what threading has kept last for each


def make_temporary_directory() -> None:
    """Have multiprocessing make its folder for sockets in this process, which removes it at exit.

    Children inherit its name. A server that made one of its own would leave it behind when it is killed
    (`multiprocessing.util.get_temp_dir`).
    """
    from multiprocessing import util

    private: Any = util
    private.get_temp_dir()


def can_be_inherited(value: object, method: str) -> bool:
    """Say whether a process can be given a value as it starts: anything by fork, else what pickles at that time.

    Locks and queues of multiprocessing do, and at no other (`multiprocessing.context.set_spawning_popen`).
    """
    if method == "fork":
        return True
    from multiprocessing import context
    from multiprocessing.reduction import ForkingPickler

    private: Any = context
    private.set_spawning_popen(_Starting)
    try:
        ForkingPickler.dumps(value)
    except Exception:  # noqa: BLE001 - a `__reduce__` may raise anything; the caller explains what
        return False
    finally:
        private.set_spawning_popen(None)
    return True


def rest_of_start() -> Any:
    """In a process that is importing the main module as it starts: return the file of what it was sent behind that.

    That is its own process object, pickled. `multiprocessing.spawn._main` imports the main module first (`prepare`),
    and then reads on from `from_parent`; it waits for ever if somebody else has. None if this is not such a process.
    """
    from multiprocessing import spawn

    private: Any = spawn
    frame: Any = sys._getframe()
    preparing = False
    while frame is not None:
        preparing = preparing or frame.f_code is private.prepare.__code__
        if preparing and frame.f_code is private._main.__code__:
            return frame.f_locals["from_parent"]
        frame = frame.f_back
    return None


def receive_start() -> None:
    """In a frozen program that is to be a worker: receive what a worker is sent, without becoming one. Then it ends.

    `multiprocessing.spawn.freeze_support` finds the pipe, and calls `_main` with its descriptor.
    """
    from multiprocessing import spawn

    private: Any = spawn
    private._main = _receive
    with suppress(SystemExit):  # which follows
        private.freeze_support()


def _receive(descriptor: int, _sentinel: object) -> None:
    import pickle
    from multiprocessing import current_process, spawn

    process: Any = current_process()
    process._inheriting = True  # what arrives may be for processes that start alone
    with os.fdopen(descriptor, "rb") as file:
        spawn.prepare(pickle.load(file))
        pickle.load(file)


class _Starting:
    """Stands for a process that is being started, to which descriptors and handles can be sent."""

    @staticmethod
    def duplicate_for_child(handle: int) -> int:
        return handle

    DupFd = duplicate_for_child
