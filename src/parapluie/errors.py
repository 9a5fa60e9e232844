"""The exceptions of parapluie.

    ParapluieError
    ├── ConfigError                  (ValueError)       a setting that cannot be honoured
    │   ├── UnknownBackendError      (LookupError)
    │   ├── ConfigFileError                             a configuration file with problems
    │   ├── CapabilityError                             the backend cannot do what was asked
    │   └── MissingMainGuardError    (RuntimeError)     a script that starts workers when it is imported
    ├── PluginError                                     a plugin that cannot be used
    ├── ExecutorShutdownError        (RuntimeError)     submit after shutdown
    ├── JournalError                                    a journal that cannot be used, or a value that it cannot hold
    │   └── JournalMismatchError                        it is of another function, or of other input
    ├── ChannelBrokenError                              nobody is left to put into a channel, or to take out of it
    ├── ChannelClosedError                              it takes no more items, or gives none any more
    ├── SharedStateError             (LookupError)      a shared object that cannot be used
    ├── SharedStateLostError         (ConnectionError)  the server of shared objects is gone
    ├── TooManyFailuresError                            a `map` stopped, since more items failed than were allowed
    ├── SessionClosedError           (BrokenPipeError)  a message to a session that takes no more
    ├── MessagePicklingError         (PicklingError)    a message that cannot be sent
    ├── MessageUnpicklingError       (UnpicklingError)  a message that arrived and cannot be read back
    ├── BackendError                                    the engine as a whole
    │   ├── BackendBrokenError       (BrokenProcessPool)
    │   └── WorkerInitError          (BrokenProcessPool)
    └── TaskError                                       one task; carries `task_id`
        ├── TaskPicklingError        (PicklingError)    cannot be sent: raised by preflight
        ├── TaskUnpicklingError      (BrokenProcessPool, UnpicklingError)   not readable in the worker
        ├── ResultPicklingError      (PicklingError)    the worker could not send the result
        ├── ResultUnpicklingError    (BrokenProcessPool, UnpicklingError)   not readable here
        ├── WorkerLostError          (BrokenProcessPool)
        ├── TaskTimeoutError         (TimeoutError)
        └── RemoteError                                 stands in for an exception that cannot travel

    ForkWithThreadsWarning           (RuntimeWarning)   workers are forked beside other threads

The second bases are what callers of the standard library already catch. Constructors take facts, build the
sentence, and keep the facts as attributes; every exception here survives a pickle round trip with them.

Those that are `BrokenProcessPool`s are in pool_errors.py, those of shared state in state_errors.py.
"""

from __future__ import annotations

import pickle
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Self


def _rebuild(cls: type[ParapluieError], args: tuple[Any, ...], kwargs: dict[str, Any]) -> ParapluieError:
    return cls(*args, **kwargs)


class ParapluieError(Exception):
    """The root of every exception that parapluie raises of its own."""

    _made_with: tuple[tuple[Any, ...], dict[str, Any]]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        self = super().__new__(cls, *args)
        self._made_with = (args, kwargs)
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        state = {name: value for name, value in self.__dict__.items() if name != "_made_with"}
        return _rebuild, (type(self), *self._made_with), state


class ConfigError(ParapluieError, ValueError):
    """A setting is unknown, of the wrong type, out of range, or contradicts another one."""


class ConfigFileError(ConfigError):
    """A configuration file cannot be used; the message lists all that is wrong with it.

    Attributes: path (as text), problems (each with key, text, line or None; str() of one is a line of the message).
    """

    def __init__(self, path: str, problems: Sequence[Any]) -> None:
        self.path, self.problems = path, tuple(problems)
        if len(self.problems) == 1:
            super().__init__(f"{path}: {self.problems[0]}")
        else:
            lines = "".join(f"\n  {problem}" for problem in self.problems)
            super().__init__(f"{path} has {len(self.problems)} problems:{lines}")


class UnknownBackendError(ConfigError, LookupError):
    """No backend of that name is registered.

    Attributes: name, available (sorted names), suggestion (the nearest name or None).
    """

    def __init__(self, name: str, *, available: tuple[str, ...] = (), suggestion: str | None = None) -> None:
        self.name, self.available, self.suggestion = name, available, suggestion
        hint = f". Did you mean {suggestion!r}?" if suggestion else ""
        super().__init__(f"unknown backend {name!r}; available: {', '.join(available)}{hint}")


class CapabilityError(ConfigError):
    """The chosen backend cannot honour a setting.

    Attributes: backend, setting (as it was asked for), able (names of backends that can).
    """

    def __init__(self, backend: str, setting: str, why: str, *, able: tuple[str, ...] = ()) -> None:
        self.backend, self.setting, self.able = backend, setting, able
        hint = f"; backends that can: {', '.join(able)}" if able else ""
        super().__init__(f"backend {backend!r} cannot honour {setting}: {why}{hint}")


class MissingMainGuardError(ConfigError, RuntimeError):
    """The main module makes an executor while a worker is importing it; or, where it is frozen, while it runs it.

    Attributes: file, line and statement: what has to move under the guard; None where it is not known.
    frozen: the program is a frozen one, which has not called `multiprocessing.freeze_support()`.
    """

    def __init__(
        self, file: str | None = None, line: int | None = None, statement: str | None = None, *, frozen: bool = False
    ) -> None:
        self.file, self.line, self.statement, self.frozen = file, line, statement, frozen
        place = f"{file}, line {line}," if file else "the main module"
        if frozen:
            super().__init__(
                f"{place} starts workers in a process that is to be a worker itself: a frozen program starts itself "
                "again for each. Call freeze_support() before anything else, where it then becomes one:\n\n"
                '    if __name__ == "__main__":\n        multiprocessing.freeze_support()\n        main()\n'
            )
            return
        super().__init__(
            f"{place} starts workers whenever it is imported, and every worker imports it. Move that line under a "
            f'guard, so that it runs in the first process only:\n\n    if __name__ == "__main__":\n'
            f"        {statement or 'main()'}\n"
        )


class ForkWithThreadsWarning(RuntimeWarning):
    """Workers are forked while other threads of the program run. Attribute: threads (their names, some of many)."""

    def __init__(self, threads: tuple[str, ...]) -> None:
        self.threads = threads
        super().__init__(
            f"workers are forked (start_method='fork') beside other threads: {', '.join(threads)}. A lock that one of "
            "them holds at that moment is locked in the worker for ever, and a task that needs it hangs; use "
            "start_method='forkserver' or 'spawn', or have the workers start before the threads"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.threads,), vars(self)


class PluginError(ParapluieError):
    """A plugin failed to load, offered something invalid, or clashes with another one.

    Attributes: plugin, distribution (name and version, or None), hook (or None).
    """

    def __init__(
        self, message: str, *, plugin: str | None = None, distribution: str | None = None, hook: str | None = None
    ) -> None:
        self.plugin, self.distribution, self.hook = plugin, distribution, hook
        super().__init__(message)


class ExecutorShutdownError(ParapluieError, RuntimeError):
    """Work was handed to an executor that has been shut down."""

    def __init__(self, backend: str | None = None, when: str = "after shutdown") -> None:
        self.backend = backend
        super().__init__(f"cannot schedule new futures {when} (executor on backend {backend!r})")


class JournalError(ParapluieError):
    """A journal cannot be read or written, is in use, or cannot hold a value. Attributes: path, problem."""

    def __init__(self, path: str, problem: str) -> None:
        self.path, self.problem = path, problem
        super().__init__(f"journal {path!r} {problem}")


class JournalMismatchError(JournalError):
    """A journal was made by another function, or of other input. Attributes: path, problem."""


class TooManyFailuresError(ParapluieError):
    """More items of a `map` have failed than `max_failures` allows. The last of their errors is the `__cause__`.

    Attributes: failed, answered (items, the failed ones among them), limit (as it was given).
    """

    def __init__(self, failed: int, answered: int, limit: int | str) -> None:
        self.failed, self.answered, self.limit = failed, answered, limit
        super().__init__(
            f"{failed} of {answered} items failed, which is more than max_failures={limit!r} allows; "
            "what had not begun was cancelled"
        )


class SessionClosedError(ParapluieError, BrokenPipeError):
    """A message was sent that nobody will receive. Attributes: session (as `session 1`), why."""

    def __init__(self, session: str, *, why: str) -> None:
        self.session, self.why = session, why
        message = f"nothing more can be sent in {session}: {why}"
        super().__init__(message)
        self.args = (message,)  # OSError takes what its __new__ was given, which are our facts


class MessagePicklingError(ParapluieError, pickle.PicklingError):
    """A message cannot be sent. Attributes: session, path (as `message.client._lock`), found (the type there)."""

    def __init__(self, session: str, problem: str, *, path: str | None = None, found: str | None = None) -> None:
        self.session, self.path, self.found = session, path, found
        super().__init__(f"a message cannot be sent in {session}: {problem}")


class MessageUnpicklingError(ParapluieError, pickle.UnpicklingError):
    """A message arrived, and reading it back failed here. Attribute: session."""

    def __init__(self, session: str, problem: str) -> None:
        self.session = session
        super().__init__(f"a message in {session} arrived and could not be read back: {problem}")


class BackendError(ParapluieError):
    """The engine failed as a whole. Attribute: backend."""

    def __init__(self, message: str, *, backend: str | None = None) -> None:
        self.backend = backend
        super().__init__(message)


class TaskError(ParapluieError):
    """One task failed for a reason of ours, not because it raised. Attribute: task_id."""

    task_id: int | str | None = None


def called(task_id: int | str | None) -> str:
    """Say which task it is; a session, which has a function of its own, is named as that: `session 1`."""
    return task_id if isinstance(task_id, str) and task_id.startswith("session ") else f"task {task_id}"


class TaskPicklingError(TaskError, pickle.PicklingError):
    """A task cannot be sent to a worker.

    Attributes: task_id, backend, path (as `args[1].client._lock`), found (the type there), where (submission place).
    """

    def __init__(
        self,
        task_id: int | str | None,
        backend: str,
        problem: str,
        *,
        path: str | None = None,
        found: str | None = None,
        where: str | None = None,
    ) -> None:
        self.task_id, self.backend, self.path, self.found, self.where = task_id, backend, path, found, where
        place = f"; submitted at {where}" if where else ""
        super().__init__(f"{called(task_id)} cannot be sent to backend {backend!r}: {problem}{place}")


class ResultPicklingError(TaskError, pickle.PicklingError):
    """A task ran, and what it returned cannot be sent back.

    Attributes: task_id, path (as `result.rows[3]`), found (the type there).
    """

    def __init__(
        self, task_id: int | str | None, problem: str, *, path: str | None = None, found: str | None = None
    ) -> None:
        self.task_id, self.path, self.found = task_id, path, found
        super().__init__(f"the result of {called(task_id)} cannot be sent back: {problem}")


_LARGEST_EXIT_CODE = 0x7FFFFFFF
_NTSTATUS = {
    0x80000003: "STATUS_BREAKPOINT",
    0xC0000005: "STATUS_ACCESS_VIOLATION",
    0xC0000006: "STATUS_IN_PAGE_ERROR",
    0xC0000017: "STATUS_NO_MEMORY",
    0xC000001D: "STATUS_ILLEGAL_INSTRUCTION",
    0xC0000025: "STATUS_NONCONTINUABLE_EXCEPTION",
    0xC000008E: "STATUS_FLOAT_DIVIDE_BY_ZERO",
    0xC0000094: "STATUS_INTEGER_DIVIDE_BY_ZERO",
    0xC0000096: "STATUS_PRIVILEGED_INSTRUCTION",
    0xC00000FD: "STATUS_STACK_OVERFLOW",
    0xC0000135: "STATUS_DLL_NOT_FOUND",
    0xC0000139: "STATUS_ENTRYPOINT_NOT_FOUND",
    0xC000013A: "STATUS_CONTROL_C_EXIT",
    0xC0000142: "STATUS_DLL_INIT_FAILED",
    0xC0000374: "STATUS_HEAP_CORRUPTION",
    0xC0000409: "STATUS_STACK_BUFFER_OVERRUN",
}


def exit_reason(exit_code: int | None, *, oom: bool = False) -> str:
    """Say in words how a process ended: by which signal, or with which exit code; by whom, where that is known."""
    if exit_code is None:
        return "died"
    if oom:
        return f"was killed by the kernel's out-of-memory killer ({signal.Signals(-exit_code).name})"
    if exit_code < 0:
        try:
            return f"was killed by {signal.Signals(-exit_code).name}"
        except ValueError:
            return f"was killed by signal {-exit_code}"
    if exit_code > _LARGEST_EXIT_CODE:  # an NTSTATUS: Windows reports crashes so
        name = _NTSTATUS.get(exit_code)
        return f"ended with {name} (0x{exit_code:08X})" if name else f"ended with NTSTATUS 0x{exit_code:08X}"
    return f"ended with exit code {exit_code}"


class TaskTimeoutError(TaskError, TimeoutError):
    """An attempt ran longer than `task_timeout`, and its worker was killed.

    Attributes: task_id, attempt, limit (seconds).
    """

    def __init__(
        self, task_id: int | str | None, *, limit: float, attempt: int = 1, backend: str | None = None
    ) -> None:
        self.task_id, self.limit, self.attempt, self.backend = task_id, limit, attempt, backend
        message = (
            f"task {task_id} (attempt {attempt}) ran longer than task_timeout={limit:g} seconds on backend "
            f"{backend!r}; its worker was killed"
        )
        super().__init__(message)
        self.args = (message,)  # OSError takes what its __new__ was given, which are our facts


class RemoteError(TaskError):
    """Stands in for an exception of a task that cannot travel, or not be rebuilt.

    Attributes: task_id, type_name (with its module), text (its str()), why (what stopped it).
    """

    def __init__(self, type_name: str, text: str, why: str, *, task_id: int | str | None = None) -> None:
        self.type_name, self.text, self.why, self.task_id = type_name, text, why, task_id
        super().__init__(f"{type_name}: {text} (the exception itself could not travel: {why})")


class RemoteTraceback(Exception):  # noqa: N818 - it is no error, but the cause of one
    """The traceback of a worker, as text; the `__cause__` of an exception that came from one. Attribute: tb."""

    def __init__(self, tb: str) -> None:
        self.tb = tb
        super().__init__(tb)

    def __str__(self) -> str:
        return f'\n"""\n{self.tb}"""'
