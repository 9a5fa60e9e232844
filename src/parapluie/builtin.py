"""What is built in: descriptions that can be read without importing any engine, or pluggy."""

from __future__ import annotations

from parapluie.backend import BackendInfo, Capabilities

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from parapluie.backend import Backend

SERIALIZERS = ("auto", "cloudpickle", "pickle")

plugins_are_loaded = False  # set by the registry, which then has to be asked: a plugin may offer the same name


def _start_methods() -> tuple[str, ...]:
    from multiprocessing import get_all_start_methods

    return tuple(get_all_start_methods())


def _serial(options: Any) -> Capabilities:
    return Capabilities(
        isolated_memory=getattr(options, "pickle_round_trip", False),
        shared_state=True,
        sessions=True,
        channels=True,
        runs_in_caller=True,
    )


def _thread(options: Any) -> Capabilities:
    del options
    return Capabilities(isolated_memory=False, shared_state=True, sessions=True, channels=True, knows_begun=True)


def _own_processes(options: Any) -> Capabilities:
    del options
    return Capabilities(
        survives_dead_worker=True,
        kills_running_task=True,
        max_tasks_per_child=True,
        start_methods=_start_methods(),
        shared_state=True,
        sessions=True,
        channels=True,
        knows_begun=True,
        takes_back_items=True,
        sends_logs=True,
    )


def _foreign_processes(options: Any) -> Capabilities:
    """Say what the standard library's engines can do."""
    return _own_processes(options)._replace(takes_back_items=False)


BACKENDS = (
    BackendInfo(
        "serial",
        "one task after the other in the calling thread, for debuggers and profilers",
        "parapluie.backends.serial:SerialBackend",
        _serial,
        options="parapluie.backends.serial:SerialOptions",
    ),
    BackendInfo("thread", "threads of this process", "parapluie.backends.thread:ThreadBackend", _thread),
    BackendInfo(
        "process",
        "worker processes with a pipe each: fast, and able to kill a single task",
        "parapluie.backends.process:ProcessBackend",
        _own_processes,
    ),
    BackendInfo(
        "pool", "worker processes of a multiprocessing.Pool", "parapluie.backends.pool:PoolBackend", _foreign_processes
    ),
    BackendInfo(
        "futures",
        "worker processes of a concurrent.futures.ProcessPoolExecutor",
        "parapluie.backends.futures:FuturesBackend",
        _foreign_processes,
    ),
    BackendInfo(
        "manager",
        "worker processes beside a multiprocessing Manager, whose server holds their shared state",
        "parapluie.backends.manager:ManagerBackend",
        _own_processes,
    ),
)


def find(name: str) -> BackendInfo | None:
    """Return the description of a built-in backend; None if there is none of that name, or if plugins are loaded."""
    if plugins_are_loaded:
        return None
    return next((info for info in BACKENDS if info.name == name), None)


def load(info: BackendInfo) -> type[Backend]:
    """Import the class of a built-in backend; raise what the import raises."""
    from importlib import import_module

    module, _, name = info.path.partition(":")
    cls: type[Backend] = getattr(import_module(module), name)
    return cls
