"""Validates what an executor is constructed with: everything that cannot be honoured is refused here."""

from __future__ import annotations

import math
import multiprocessing
import sys
from multiprocessing.context import BaseContext

from parapluie import builtin, pickling
from parapluie.backend import Backend, BackendInfo, Capabilities, NoOptions
from parapluie.builtin import SERIALIZERS
from parapluie.errors import CapabilityError, ConfigError, PluginError
from parapluie.records import NamedTuple
from parapluie.words import describe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from parapluie.pickling import Serializer

MOST_WORKERS = 100_000
LONGEST = 4_000_000.0  # seconds, 46 days: what the locks of every platform can wait for
PICKLE_CHECKS = ("auto", "raise")

# The parameters of Executor that are not options of a backend: what a misspelt option may have been meant to be.
PARAMETERS = (
    "backend",
    "max_workers",
    "mp_context",
    "start_method",
    "initializer",
    "initargs",
    "max_tasks_per_child",
    "retry",
    "task_timeout",
    "start_timeout",
    "shutdown",
    "capture_output",
    "observers",
    "pickle_check",
    "serializer",
    "config",
)


class Settings(NamedTuple):
    """What an executor works with; every value is valid, and the backend can honour it.

    Attributes:
        options: an instance of the backend's options class.
        context: for a backend that has no start methods to choose from, the platform's default one.
        start_method: None where the backend has no such choice.
    """

    info: BackendInfo
    capabilities: Capabilities
    options: object
    max_workers: int
    context: BaseContext
    start_method: str | None
    initializer: Callable[..., object] | None
    initargs: tuple[Any, ...]
    max_tasks_per_child: int | None
    task_timeout: float | None
    start_timeout: float
    pickle_check: str
    serializer: str


def resolve(
    backend: str | Backend,
    *,
    max_workers: int | None = None,
    mp_context: BaseContext | str | None = None,
    start_method: str | None = None,
    initializer: Callable[..., object] | None = None,
    initargs: Iterable[Any] = (),
    max_tasks_per_child: int | None = None,
    task_timeout: float | None = None,
    start_timeout: float = 60.0,
    pickle_check: str = "auto",
    serializer: str = "auto",
    options: Mapping[str, Any] | None = None,
) -> Settings:
    """Validate the parameters of an executor, together with the options of its backend.

    Raises:
        ConfigError: if a value is of the wrong type, out of range or unknown, or contradicts another one.
        UnknownBackendError: if there is no such backend.
        CapabilityError: if the backend cannot honour a setting.
        PluginError: if the backend or the serialiser is a plugin's that is broken.
        BackendError: if the class of the backend's options cannot be imported.
    """
    info, made = _find(backend, options or {})
    capabilities = capabilities_of(info, made)
    method, context = _start_method(info, capabilities, mp_context, start_method)
    if max_workers is None:
        max_workers = 1 if capabilities.runs_in_caller else _cpu_share()
    return Settings(
        info=info,
        capabilities=capabilities,
        options=made,
        max_workers=check_count("max_workers", max_workers, most=MOST_WORKERS),
        context=context,
        start_method=method,
        initializer=_check_initializer(initializer, info, capabilities),
        initargs=_check_initargs(initargs),
        max_tasks_per_child=_check_recycling(max_tasks_per_child, info, capabilities),
        task_timeout=check_task_timeout(task_timeout, info, capabilities),
        start_timeout=check_seconds("start_timeout", start_timeout),
        pickle_check=check_choice("pickle_check", pickle_check, PICKLE_CHECKS),
        serializer=_check_serializer(serializer),
    )


def serializer_of(name: str, *, imports_main: bool = True) -> Serializer:
    """Return a built-in serializer, or a plugin's; imports_main: workers import the program's main file.

    Raises:
        ConfigError: if there is none of that name.
        PluginError: if it is a plugin's that is broken.
    """
    if name in SERIALIZERS:
        return pickling.serializer(name, imports_main=imports_main)
    from parapluie import registry

    return registry.serializer(name)


def capabilities_with(backend: str | Backend, options: Mapping[str, Any]) -> Capabilities:
    """Return what a backend can do with its options as they were given; raise what `resolve` would raise of them."""
    return capabilities_of(*_find(backend, options))


def check_task_timeout(value: float | None, info: BackendInfo, capabilities: Capabilities) -> float | None:
    """Return the limit as a float, or None; raise ConfigError, or CapabilityError if the backend cannot kill."""
    if value is None:
        return None
    seconds = check_seconds("task_timeout", value)
    need(info, capabilities, "kills_running_task", f"task_timeout={value!r}", "it cannot stop a task that runs")
    return seconds


def check_count(name: str, value: Any, *, most: int | None = None) -> int:
    """Return value as an int if it is a positive integer, a bool being none; otherwise raise ConfigError."""
    if isinstance(value, bool) or not _is_number(value, "Integral"):
        raise ConfigError(f"{name}={value!r} is not a positive integer")
    count = int(value)
    _check_range(name, value, above_zero=count > 0, in_reach=most is None or count <= most, most=most)
    return count


def check_seconds(name: str, value: Any) -> float:
    """Return value as a float if it is a number of seconds above zero; otherwise raise ConfigError."""
    try:
        seconds = float(value) if _is_number(value, "Real") and not isinstance(value, bool) else math.nan
    except OverflowError:
        seconds = math.inf
    if math.isnan(seconds):
        raise ConfigError(f"{name}={value!r} is not a positive number of seconds")
    _check_range(name, value, above_zero=seconds > 0, in_reach=seconds <= LONGEST, most=f"{LONGEST:.0f} seconds")
    return seconds


def check_choice(name: str, value: object, allowed: Iterable[str]) -> str:
    """Return value if it is one of the allowed words; otherwise raise ConfigError."""
    allowed = tuple(allowed)
    if isinstance(value, str) and value in allowed:
        return value
    from parapluie.words import did_you_mean

    hint = did_you_mean(value, allowed) if isinstance(value, str) else ""
    raise ConfigError(f"{name}={value!r} is not allowed; allowed: {', '.join(map(repr, allowed))}{hint}")


def _is_number(value: object, kind: str) -> bool:
    """Tell whether a value is a number of a kind, "Integral" or "Real"; those of numpy are, too."""
    if isinstance(value, int) or (isinstance(value, float) and kind == "Real"):
        return True
    import numbers

    return isinstance(value, getattr(numbers, kind))


def _cpu_share() -> int:
    from parapluie.cpus import cpu_share

    return cpu_share()


def _check_range(name: str, value: object, *, above_zero: bool, in_reach: bool, most: object) -> None:
    if not above_zero:
        raise ConfigError(f"{name}={value!r} is out of range: {name} must be greater than 0")
    if not in_reach:
        raise ConfigError(f"{name}={value!r} is out of range: {name} must be at most {most}")


def _find(backend: str | Backend, given: Mapping[str, Any]) -> tuple[BackendInfo, object]:
    """Return the description and the options of a backend that is chosen by its name, or that exists already."""
    if isinstance(backend, str):
        info = builtin.find(backend) or _registered(backend)
        return info, _make_options(info, given)
    if not isinstance(backend, Backend):
        raise ConfigError(f"backend={backend!r} is neither the name of a backend nor a Backend")
    if given:
        raise ConfigError(f"options {dict(given)!r} came too late for {backend!r}, which is made with its own")
    from parapluie import registry

    return registry.info_of(backend), NoOptions() if backend.options is None else backend.options


def _registered(name: str) -> BackendInfo:
    from parapluie import registry

    return registry.find(name)


def _make_options(info: BackendInfo, given: Mapping[str, Any]) -> object:
    if info.options is None and not given:
        return NoOptions()
    from parapluie.options import make_options

    return make_options(info, given, PARAMETERS)


def need(info: BackendInfo, capabilities: Capabilities, fact: str, setting: str, why: str) -> None:
    """Raise CapabilityError, with the names of backends that can, if the capability of that name is missing."""
    if not getattr(capabilities, fact):
        from parapluie import registry

        able = (other.name for other in registry.infos(scan=False) if _claims(other, fact))
        raise CapabilityError(info.name, setting, why, able=tuple(able))


def _claims(info: BackendInfo, fact: str) -> bool:
    try:
        return bool(getattr(capabilities_of(info, None), fact))
    except PluginError:
        return False


def capabilities_of(info: BackendInfo, options: object) -> Capabilities:
    """Return what a backend claims with these options (None: the defaults); raise PluginError if it cannot be told."""
    try:
        capabilities = info.capabilities(options)
    except Exception as error:
        raise PluginError(
            f"the capabilities of backend {info.name!r} cannot be told: {describe(error)}", plugin=info.name
        ) from error
    if not isinstance(capabilities, Capabilities):
        raise PluginError(
            f"the capabilities of backend {info.name!r} are {capabilities!r}, not Capabilities", plugin=info.name
        )
    return capabilities


def _start_method(
    info: BackendInfo,
    capabilities: Capabilities,
    mp_context: BaseContext | str | None,
    start_method: str | None,
) -> tuple[str | None, BaseContext]:
    """Return the start method, or None where the backend has none, and a context that has it."""
    methods = capabilities.start_methods
    for name, value in (("start_method", start_method), ("mp_context", mp_context)):
        if value is None:
            continue
        need(info, capabilities, "start_methods", f"{name}={value!r}", "it has no start methods to choose from")
        if name == "start_method" or not isinstance(value, BaseContext):
            check_choice(name, value, methods)
    of_context: str | None
    if isinstance(mp_context, BaseContext):
        of_context = check_choice("the start method of mp_context", mp_context.get_start_method(), methods)
    else:
        of_context = mp_context
    if start_method and of_context and start_method != of_context:
        raise ConfigError(f"{start_method=} contradicts {mp_context=}, whose start method is {of_context!r}")
    method = start_method or of_context or default_start_method(methods)
    context = mp_context if isinstance(mp_context, BaseContext) else multiprocessing.get_context(method)
    return method if methods else None, context


def default_start_method(methods: tuple[str, ...]) -> str:
    """Return the safe one: never fork, which copies locks that other threads hold."""
    available = methods or tuple(multiprocessing.get_all_start_methods())
    if sys.platform in ("win32", "darwin"):
        wanted = "spawn"
    else:
        wanted = "forkserver" if "forkserver" in available else "spawn"
    return wanted if wanted in available else available[0]


def _check_initializer(
    initializer: Callable[..., object] | None, info: BackendInfo, capabilities: Capabilities
) -> Callable[..., object] | None:
    if initializer is not None:
        if not callable(initializer):
            raise ConfigError(f"initializer={initializer!r} is not callable")
        need(info, capabilities, "initializer", f"initializer={initializer!r}", "its workers run none")
    return initializer


def _check_initargs(initargs: Iterable[Any]) -> tuple[Any, ...]:
    try:
        return tuple(initargs)
    except TypeError as error:
        raise ConfigError(f"initargs={initargs!r} is not iterable; allowed: the initializer's arguments") from error


def _check_recycling(value: int | None, info: BackendInfo, capabilities: Capabilities) -> int | None:
    if value is None:
        return None
    count = check_count("max_tasks_per_child", value)
    need(info, capabilities, "max_tasks_per_child", f"max_tasks_per_child={value!r}", "it cannot replace a worker")
    return count


def _check_serializer(name: str) -> str:
    if not isinstance(name, str):
        raise ConfigError(f"serializer={name!r} is not the name of a serializer")
    if name not in SERIALIZERS:
        from parapluie import registry

        registry.serializer(name)
    return name
