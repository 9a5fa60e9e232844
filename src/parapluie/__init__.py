"""parapluie: one executor, any engine, no lost task."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from parapluie.backend import Backend, BackendInfo, Call, Capabilities, Loss, Stop
    from parapluie.config import Config
    from parapluie.errors import (
        BackendError,
        CapabilityError,
        ConfigError,
        ConfigFileError,
        ExecutorShutdownError,
        ForkWithThreadsWarning,
        JournalError,
        JournalMismatchError,
        MessagePicklingError,
        MessageUnpicklingError,
        MissingMainGuardError,
        ParapluieError,
        PluginError,
        RemoteError,
        RemoteTraceback,
        ResultPicklingError,
        SessionClosedError,
        TaskError,
        TaskPicklingError,
        TaskTimeoutError,
        TooManyFailuresError,
        UnknownBackendError,
    )
    from parapluie.executor import Executor
    from parapluie.future import Future
    from parapluie.journal import Journal
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
    from parapluie.progress import Progress
    from parapluie.sharing.channel import Channel
    from parapluie.sharing.connection import Connection
    from parapluie.sharing.lookup import lookup
    from parapluie.sharing.session import Session
    from parapluie.state_errors import ChannelBrokenError, ChannelClosedError, SharedStateError, SharedStateLostError

# Where each public name lives. They are imported at first use, so that a worker, which imports this package to
# find `parapluie.worker`, pays for none of them.
_HOMES = {
    "parapluie.backend": ("Backend", "BackendInfo", "Call", "Capabilities", "Loss", "Stop"),
    "parapluie.config": ("Config",),
    "parapluie.errors": (
        "BackendError",
        "CapabilityError",
        "ConfigError",
        "ConfigFileError",
        "ExecutorShutdownError",
        "ForkWithThreadsWarning",
        "JournalError",
        "JournalMismatchError",
        "MessagePicklingError",
        "MessageUnpicklingError",
        "MissingMainGuardError",
        "ParapluieError",
        "PluginError",
        "RemoteError",
        "RemoteTraceback",
        "ResultPicklingError",
        "SessionClosedError",
        "TaskError",
        "TaskPicklingError",
        "TaskTimeoutError",
        "TooManyFailuresError",
        "UnknownBackendError",
    ),
    "parapluie.executor": ("Executor",),
    "parapluie.future": ("Future",),
    "parapluie.journal": ("Journal",),
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
    "parapluie.progress": ("Progress",),
    "parapluie.sharing.channel": ("Channel",),
    "parapluie.sharing.lookup": ("lookup",),
    "parapluie.sharing.connection": ("Connection",),
    "parapluie.sharing.session": ("Session",),
    "parapluie.state_errors": ("ChannelBrokenError", "ChannelClosedError", "SharedStateError", "SharedStateLostError"),
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
    "Channel",
    "ChannelBrokenError",
    "ChannelClosedError",
    "Config",
    "ConfigError",
    "ConfigFileError",
    "Connection",
    "Executor",
    "ExecutorShutdownError",
    "ForkWithThreadsWarning",
    "Future",
    "Journal",
    "JournalError",
    "JournalMismatchError",
    "Loss",
    "MessagePicklingError",
    "MessageUnpicklingError",
    "MissingMainGuardError",
    "Outcome",
    "ParapluieError",
    "PluginError",
    "Progress",
    "RemoteError",
    "RemoteTraceback",
    "ResultPicklingError",
    "ResultUnpicklingError",
    "Retry",
    "Session",
    "SessionClosedError",
    "SharedStateError",
    "SharedStateLostError",
    "Shutdown",
    "Stop",
    "TaskError",
    "TaskPicklingError",
    "TaskTimeoutError",
    "TaskUnpicklingError",
    "TooManyFailuresError",
    "UnknownBackendError",
    "WorkerInitError",
    "WorkerLostError",
    "__version__",
    "lookup",
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
