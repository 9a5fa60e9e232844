"""parapluie: one executor, any engine, no lost task."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from parapluie.backend import Backend, BackendInfo, Call, Capabilities, Loss, Stop
    from parapluie.errors import (
        BackendError,
        CapabilityError,
        ConfigError,
        ExecutorShutdownError,
        MissingMainGuardError,
        ParapluieError,
        PluginError,
        RemoteError,
        RemoteTraceback,
        ResultPicklingError,
        TaskError,
        TaskPicklingError,
        TaskTimeoutError,
        UnknownBackendError,
    )
    from parapluie.executor import Executor
    from parapluie.future import Future
    from parapluie.mapping import Outcome
    from parapluie.policies.retry import Retry
    from parapluie.policies.shutdown import Shutdown
    from parapluie.pool_errors import (
        BackendBrokenError,
        ResultUnpicklingError,
        TaskUnpicklingError,
        WorkerInitError,
        WorkerLostError,
    )

# Where each public name lives. They are imported at first use, so that a worker, which imports this package to
# find `parapluie.worker`, pays for none of them.
_HOMES = {
    "parapluie.backend": ("Backend", "BackendInfo", "Call", "Capabilities", "Loss", "Stop"),
    "parapluie.errors": (
        "BackendError",
        "CapabilityError",
        "ConfigError",
        "ExecutorShutdownError",
        "MissingMainGuardError",
        "ParapluieError",
        "PluginError",
        "RemoteError",
        "RemoteTraceback",
        "ResultPicklingError",
        "TaskError",
        "TaskPicklingError",
        "TaskTimeoutError",
        "UnknownBackendError",
    ),
    "parapluie.executor": ("Executor",),
    "parapluie.future": ("Future",),
    "parapluie.mapping": ("Outcome",),
    "parapluie.policies.retry": ("Retry",),
    "parapluie.policies.shutdown": ("Shutdown",),
    "parapluie.pool_errors": (
        "BackendBrokenError",
        "ResultUnpicklingError",
        "TaskUnpicklingError",
        "WorkerInitError",
        "WorkerLostError",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Backend",
    "BackendBrokenError",
    "BackendError",
    "BackendInfo",
    "Call",
    "Capabilities",
    "CapabilityError",
    "ConfigError",
    "Executor",
    "ExecutorShutdownError",
    "Future",
    "Loss",
    "MissingMainGuardError",
    "Outcome",
    "ParapluieError",
    "PluginError",
    "RemoteError",
    "RemoteTraceback",
    "ResultPicklingError",
    "ResultUnpicklingError",
    "Retry",
    "Shutdown",
    "Stop",
    "TaskError",
    "TaskPicklingError",
    "TaskTimeoutError",
    "TaskUnpicklingError",
    "UnknownBackendError",
    "WorkerInitError",
    "WorkerLostError",
    "__version__",
]


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("parapluie")
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'parapluie' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
