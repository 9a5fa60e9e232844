"""Finds, validates, lists and explains backends and serialisers; the sole user of pluggy's PluginManager.

    find("process") ───────────────────────────────▶ builtin.BACKENDS, nothing else is imported
    find("ray") ─▶ entry points, one by one ─▶ PluginManager ─▶ hooks, plugin by plugin ─▶ offers, by name
                          └────────── what goes wrong here ───────────┘─▶ broken plugins, shown by explain()

The functions of this module, at its end, are the methods of one `Registry`, which serves the process.
"""

from __future__ import annotations

import copy
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from parapluie import builtin
from parapluie.backend import Backend, BackendInfo, Capabilities, NoOptions
from parapluie.builtin import BACKENDS, SERIALIZERS
from parapluie.errors import BackendError, ConfigError, PluginError, UnknownBackendError
from parapluie.plugins import (
    Source,
    check_backend,
    check_serializer,
    entry_points,
    import_path,
    missing,
    own_version,
)
from parapluie.serializer import SerializerInfo
from parapluie.words import describe, did_you_mean, nearest

if TYPE_CHECKING:
    from pluggy import HookImpl, PluginManager

Listener = tuple[str, Callable[[object], object]]  # how errors call a plugin, and its implementation of a hook
OBSERVED = (
    "parapluie_task_submitted",
    "parapluie_task_begun",
    "parapluie_task_retried",
    "parapluie_task_done",
    "parapluie_worker_started",
    "parapluie_worker_lost",
    "parapluie_worker_stopped",
)
Info = TypeVar("Info", BackendInfo, SerializerInfo)
Dumps = Callable[[Any, Callable[[Any], object] | None], bytes]


class Explanation(NamedTuple):
    """What is known of a backend, or of a plugin that is broken (then `name` is its entry point's).

    Attributes: name, distribution and version (None: registered by hand), available, why_not (empty if available),
        summary. The module of a plugin's backend is not imported to find out, so `available` is not a promise.
    """

    name: str
    distribution: str | None
    version: str | None
    available: bool
    why_not: str
    summary: str


class _Offer(NamedTuple, Generic[Info]):
    info: Info
    source: Source


class _Broken(NamedTuple):
    source: Source
    error: PluginError  # with the original as its cause; raised as a copy, since it may be raised in many places


class Registry:
    """The plugins of a process and what they offer. Thread safety: any thread."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # guards all below; re-entrant, for plugins that ask while they are loaded
        self.reset()

    def reset(self) -> None:
        """Forget every plugin; entry points are read again when they are next needed."""
        with self._lock:
            self._manager: PluginManager | None = None
            builtin.plugins_are_loaded = False
            self._scanned = False
            self._backends: dict[str, list[_Offer[BackendInfo]]] = {}
            self._serializers: dict[str, list[_Offer[SerializerInfo]]] = {}
            self._broken: list[_Broken] = []

    def find(self, name: str) -> BackendInfo:
        """Return the description of a backend. For a built-in name nothing is imported and no plugin is loaded.

        Raises:
            UnknownBackendError: if nobody offers it; broken plugins are named in its notes.
            PluginError: if several plugins offer it, or if the plugin of that name is broken.
        """
        with self._lock:
            built_in = builtin.find(name)
            if built_in is not None:
                return built_in
            offers = self._offers(self._backends, name)
            if not offers:
                self._raise_if_broken(name)
                suggestion = nearest(name, self._backends)
                error = UnknownBackendError(name, available=tuple(sorted(self._backends)), suggestion=suggestion)
                raise self._mention_broken(error)
            return _only("backend", name, offers)

    def serializer(self, name: str) -> Dumps:
        """Return the function of a plugin's serialiser.

        Raises:
            ConfigError: if nobody offers it. The built-in ones are not offered here.
            PluginError: if it is offered twice, or cannot be imported, or if the plugin of that name is broken.
        """
        with self._lock:
            offers = self._offers(self._serializers, name)
            if not offers:
                self._raise_if_broken(name)
                names = sorted({*SERIALIZERS, *self._serializers})
                hint = did_you_mean(name, names)
                raise self._mention_broken(
                    ConfigError(f"unknown serializer {name!r}; available: {', '.join(names)}{hint}")
                )
            info, source = _only("serializer", name, offers), offers[0].source
        try:
            function: Dumps = import_path(info.path)
        except Exception as error:
            raise source.error(error) from error
        if not callable(function):
            raise source.error(TypeError(f"{info.path} is not callable"))
        return function

    def infos(self, *, scan: bool = True) -> tuple[BackendInfo, ...]:
        """Return the descriptions of all backends that can be chosen, the built-in ones first.

        Args:
            scan: False to look at those plugins only that are loaded already.
        """
        with self._lock:
            if scan:
                self._scan()
            if self._manager is None:
                return BACKENDS
            return tuple(offers[0].info for offers in self._backends.values() if len(offers) == 1)

    def explain(self) -> list[Explanation]:
        """Return a line for each backend, and one for each broken plugin."""
        with self._lock:
            self._scan()
            lines = []
            for name, offers in self._backends.items():
                clash = _clash("backend", name, offers) if len(offers) > 1 else ""
                for info, source in offers:
                    why_not = clash or missing(info)
                    lines.append(Explanation(name, *source[1:], not why_not, why_not, info.summary))
            for source, error in self._broken:
                lines.append(Explanation(*source, available=False, why_not=str(error), summary=""))
            return lines

    def info_of(self, backend: Backend) -> BackendInfo:
        """Return the description of a backend that exists already, by its class.

        A class that nobody describes, nor one that it inherits from, is taken to be able to do what `Capabilities()`
        says: no more than each must.
        """
        cls = type(backend)
        known = self.infos(scan=False)
        for base in cls.__mro__:
            for info in known:
                module, _, name = info.path.partition(":")
                if getattr(sys.modules.get(module), name, None) is base:
                    return info
        return BackendInfo(
            cls.__name__, "made by hand", f"{cls.__module__}:{cls.__qualname__}", lambda _options: Capabilities()
        )

    def load(self, info: BackendInfo) -> type[Backend]:
        """Import the class of a backend.

        Raises:
            BackendError: if the import fails; it says what to install.
            PluginError: if what is imported is no complete `Backend`.
        """
        cls: type[Backend] = self._import_of(info, info.path)
        if not issubclass(cls, Backend):
            raise self._misdescribed(info, f"{info.path} is not a subclass of parapluie.backend.Backend")
        if cls.__abstractmethods__:
            lacking = ", ".join(sorted(cls.__abstractmethods__))
            raise self._misdescribed(info, f"{info.path} does not implement {lacking}")
        return cls

    def options_class(self, info: BackendInfo) -> type:
        """Import the options class of a backend; `NoOptions` if it has none. Raises what `load` raises."""
        return self._import_of(info, info.options) if info.options else NoOptions

    def listeners(self, given: Sequence[object]) -> dict[str, Sequence[Listener]]:
        """Return what plugins implement of the hooks for observers: those that are loaded, and those that are given.

        Args:
            given: plugins, or names of entry points, for which all of them are loaded.

        Raises:
            ConfigError: if a name is nobody's.
            PluginError: if one of them is broken, or implements none of these hooks.
        """
        with self._lock:
            for name in given:
                if isinstance(name, str):
                    self._check_observer(name)
            loaded = _new_manager() if self._manager is None else self._manager
            more = _new_manager()
            for plugin in given:
                if not (isinstance(plugin, str) or loaded.is_registered(plugin) or more.is_registered(plugin)):
                    _register_observer(more, plugin)
            found, extra = _listeners(loaded), _listeners(more)
        return {hook: (*found[hook], *extra[hook]) for hook in OBSERVED}

    def _check_observer(self, name: str) -> None:
        self._scan()
        manager = self._started()
        plugins = {str(key).rpartition(": ")[2]: plugin for key, plugin in manager.list_name_plugin() if plugin}
        if name not in plugins:
            self._raise_if_broken(name)
            hint = did_you_mean(name, plugins)
            raise self._mention_broken(
                ConfigError(f"unknown observer {name!r}; plugins: {', '.join(sorted(plugins))}{hint}")
            )
        if not _observes(manager, plugins[name]):
            raise Source(name).error(TypeError("it implements no hook for observers"))

    def register(self, plugin: object, name: str | None = None) -> None:
        """Add a plugin that has no entry point.

        Args:
            plugin: a module or another object that has hook implementations.
            name: how errors call it; by default the module's name.

        Raises:
            PluginError: if there is anything wrong with it.
        """
        source = Source(name or _name_of(plugin))
        with self._lock:
            self._add(self._started(), lambda: plugin, source)

    def unregister(self, plugin: object) -> None:
        """Remove a plugin that was added by `register`; nothing happens if it was not."""
        with self._lock:
            key = self._manager.get_name(plugin) if self._manager else None
            if self._manager and key:
                self._manager.unregister(name=key)
                _withdraw(self._backends, key)
                _withdraw(self._serializers, key)

    def _started(self) -> PluginManager:
        if self._manager is None:
            from parapluie import backends_plugin

            manager = _new_manager()
            self._add(manager, lambda: backends_plugin, Source("builtin", "parapluie", own_version()))
            self._manager = manager
            builtin.plugins_are_loaded = True
        return self._manager

    def _offers(self, by_name: dict[str, list[_Offer[Info]]], name: str) -> list[_Offer[Info]]:
        if name not in by_name:
            self._scan()
        return by_name.get(name, [])

    def _scan(self) -> None:
        """Load the entry points, each guarded. What is broken is recorded."""
        if self._scanned:
            return
        self._scanned = True  # now, since a plugin may ask for a backend while it is imported
        manager = self._started()
        for source, load_plugin in entry_points():
            try:
                self._add(manager, load_plugin, source)
            except PluginError as error:
                self._broken.append(_Broken(source, error))

    def _add(self, manager: PluginManager, load_plugin: Callable[[], object], source: Source) -> None:
        """Import and register a plugin and take what it offers, or refuse it as a whole."""
        key, hook = source.key, None
        if manager.has_plugin(key):
            raise source.error(ValueError("a plugin of that name is registered already"))
        try:
            plugin = load_plugin()
            _register(manager, plugin, key)
            hook = "parapluie_backends"
            backends = list(_call(manager, plugin, hook, BackendInfo, check_backend))
            hook = "parapluie_serializers"
            serializers = list(_call(manager, plugin, hook, SerializerInfo, check_serializer))
        except (Exception, SystemExit) as error:
            if manager.has_plugin(key):
                manager.unregister(name=key)
            raise source.error(error, hook) from error
        for info in backends:
            self._backends.setdefault(info.name, []).append(_Offer(info, source))
        for serializer in serializers:
            self._serializers.setdefault(serializer.name, []).append(_Offer(serializer, source))

    def _raise_if_broken(self, name: str) -> None:
        for source, error in self._broken:
            if source.plugin == name:
                raise copy.copy(error) from error.__cause__

    def _mention_broken(self, error: ConfigError) -> ConfigError:
        for _, broken in self._broken:
            error.add_note(str(broken))
        return error

    def _import_of(self, info: BackendInfo, path: str) -> Any:
        who = self._who(info)
        try:
            value = import_path(path)
        except ImportError as error:
            problem, install = describe(error), info.extra
            if isinstance(error, ModuleNotFoundError) and error.name:
                problem = f"module {error.name!r} is not installed"
                install = install or error.name.partition(".")[0]
            hint = f"; install {install}" if install else ""
            raise BackendError(f"{who} cannot start: {problem}{hint}", backend=info.name) from error
        except Exception as error:
            raise BackendError(f"{who} cannot start: importing {path} raised {describe(error)}") from error
        if not isinstance(value, type):
            raise self._misdescribed(info, f"{path} is not a class")
        return value

    def _misdescribed(self, info: BackendInfo, problem: str) -> PluginError:
        return PluginError(f"{self._who(info)} cannot be used: {problem}", plugin=info.name)

    def _who(self, info: BackendInfo) -> str:
        for offer in self._backends.get(info.name, ()):
            if offer.info is info and offer.source.distribution != "parapluie":
                return f"backend {info.name!r} ({offer.source.label})"
        return f"backend {info.name!r}"


def _new_manager() -> PluginManager:
    from pluggy import PluginManager

    from parapluie import hookspecs

    manager = PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    return manager


def _register_observer(manager: PluginManager, plugin: object) -> None:
    source = Source(_name_of(plugin))
    try:
        _register(manager, plugin, f"{source.plugin} {id(plugin)}")
    except Exception as error:
        raise source.error(error) from error
    if not _observes(manager, plugin):
        raise source.error(TypeError("it implements no hook for observers"))


def _name_of(plugin: object) -> str:
    return getattr(plugin, "__name__", None) or type(plugin).__name__


def _observes(manager: PluginManager, plugin: object) -> bool:
    return any(caller.name in OBSERVED for caller in manager.get_hookcallers(plugin) or ())


def _listeners(manager: PluginManager) -> dict[str, Sequence[Listener]]:
    return {hook: [_listener(one) for one in getattr(manager.hook, hook).get_hookimpls()] for hook in OBSERVED}


def _listener(implementation: HookImpl) -> Listener:
    function = implementation.function
    label = f"observer {_name_of(implementation.plugin)!r}"
    return label, function if implementation.argnames else lambda _event: function()


def _register(manager: PluginManager, plugin: object, key: str) -> None:
    if manager.is_registered(plugin):
        raise ValueError("it is registered already, under another name")
    manager.register(plugin, key)
    manager.check_pending()
    callers = manager.get_hookcallers(plugin)
    if not callers:
        raise TypeError("it implements no hook of parapluie")
    for caller in callers:
        implementations = [one for one in caller.get_hookimpls() if one.plugin is plugin]
        if caller.name in OBSERVED and any(one.wrapper or one.hookwrapper for one in implementations):
            raise TypeError(f"{caller.name} is for observers, and cannot be implemented by a wrapper")


def _withdraw(by_name: dict[str, list[_Offer[Info]]], key: str) -> None:
    for name, offers in list(by_name.items()):
        offers[:] = [offer for offer in offers if offer.source.key != key]
        if not offers:
            del by_name[name]


def _call(
    manager: PluginManager, plugin: object, hook: str, kind: type[Info], check: Callable[[Info], None]
) -> Iterator[Info]:
    """Call a hook of one plugin, and check what it returns.

    The function itself is called, since `subset_hook_caller` of pluggy 1.5 takes in the implementations of other
    plugins that have a name of their own (`specname`). Removable when the oldest pluggy allowed is 1.7.
    """
    for implementation in getattr(manager.hook, hook).get_hookimpls():
        if implementation.plugin is not plugin:
            continue
        for info in implementation.function():
            if not isinstance(info, kind):
                raise TypeError(f"it returned {info!r}, which is not a {kind.__name__}")
            check(info)
            yield info


def _only(kind: str, name: str, offers: Sequence[_Offer[Info]]) -> Info:
    if len(offers) > 1:
        raise PluginError(_clash(kind, name, offers), plugin=name)
    return offers[0].info


def _clash(kind: str, name: str, offers: Sequence[_Offer[Info]]) -> str:
    labels = [offer.source.label for offer in offers]
    both = "all" if labels[2:] else "both"
    return f"{', '.join(labels[:-1])} and {labels[-1]} {both} offer {kind} {name!r}; remove or disable one"


_registry = Registry()
find = _registry.find
serializer = _registry.serializer
infos = _registry.infos
info_of = _registry.info_of
explain = _registry.explain
load = _registry.load
options_class = _registry.options_class
register = _registry.register
listeners = _registry.listeners
unregister = _registry.unregister
reset = _registry.reset
