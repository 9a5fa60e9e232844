"""Pickling by value, with one set of globals for all that a process sends to a worker.

    parent's __main__ ── each function, and {name: (version, value)} of what it refers to ──▶ worker's __main__

cloudpickle gives the functions of every message a globals dict of their own, so that an initializer could not leave
anything behind for a task. Here a function of the sender's `__main__` gets the receiver's `__main__` as its globals,
and the names that it refers to travel beside it. Every message carries them all, since workers start at any time; a
worker takes a name when it has not had it, and again when it has been rebound in the parent since. In between, what
a worker made of a name is its own.

What a process made itself always wins: in the parent, which reads replies, and in a worker that has imported the
parent's main module, names that exist are kept, and only missing ones are added.

Both sides use this module: the parent to write, and, through plain `pickle.loads`, the worker to read.
"""

from __future__ import annotations

import builtins
import functools
import io
import os
import sys
import threading
import types
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

import cloudpickle

from parapluie.pickling import refuse_pipe_end

if TYPE_CHECKING:
    import pickle
    from collections.abc import Callable

_MAIN = ("__main__", "__mp_main__")
_Cached = type(functools.lru_cache(repr))
_DYNAMIC = 6  # the length of cloudpickle's reductions of what it takes apart itself
# What a module is, as opposed to what it holds: never sent.
_OWN_NAMES = frozenset(vars(types.ModuleType("_"))) | {"__builtins__", "__file__", "__cached__", "__path__", "__dict__"}

_MADE_LATE = ("__slotnames__", "__annotations__", "__annotations_cache__")  # put into a class by its use


class _Origin(NamedTuple):
    """Where a function or class comes from: the sender's namespace, and its name there if it is at the top level."""

    token: str
    name: str | None
    reply: bool


class _Sent(NamedTuple):
    version: int
    value: object
    attributes: dict[str, object] | None  # of a class: a method that is replaced counts as a rebinding


class _Space:
    """A namespace shared by functions that travel by value, and what has been sent from it and received into it."""

    def __init__(self, names: dict[str, Any]) -> None:
        self.names = names
        self.token = uuid.uuid4().hex  # names this space, of this process, to receivers
        self.imported = names.get("__name__") == "__mp_main__"
        self.sent: dict[str, _Sent] = {}
        self.received: dict[str, int] = {}

    def version(self, name: str, value: object) -> int:
        """Count how often a name had another value when it was sent. The process's lock is held."""
        last = self.sent.get(name)
        attributes = _attributes(value) if isinstance(value, type) else None
        if last is None or last.value is not value or not _same(last.attributes, attributes):
            self.sent[name] = last = _Sent(last.version + 1 if last else 1, value, attributes)
        return last.version

    def is_native(self, name: str | None, *, keep: bool) -> bool:
        """Say whether this process made the name itself and that counts more than what is received."""
        return (keep or self.imported) and name in self.names and name not in self.received

    def receive(self, offered: dict[str, tuple[int, object]], *, keep: bool) -> None:
        """Take the names that are missing or newer; with keep, only the missing ones. The lock is held."""
        for name, (version, value) in offered.items():
            stale = version <= self.received.get(name, 0)
            if not stale and not self.is_native(name, keep=keep) and not (keep and name in self.names):
                self.names[name] = value
                self.received[name] = version


def _attributes(cls: type) -> dict[str, object]:
    return {name: value for name, value in vars(cls).items() if name not in _MADE_LATE}


def _same(old: dict[str, object] | None, new: dict[str, object] | None) -> bool:
    if old is None or new is None:
        return old is new
    return old.keys() == new.keys() and all(old[name] is value for name, value in new.items())


class _Process:
    """What this process knows of its own `__main__` and of those that have sent to it. The lock guards all of it."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.lock = threading.RLock()
        self._main_module: types.ModuleType | None = None
        self._main: _Space | None = None
        self._senders: dict[str, _Space] = {}
        self.dressed: WeakKeyDictionary[type, int] = WeakKeyDictionary()  # classes complete here, and their versions

    def main(self) -> _Space:
        module = sys.modules["__main__"]
        if self._main is None or module is not self._main_module:
            self._main_module, self._main = module, _Space(_main_names(module))
        return self._main

    def space_of(self, function: types.FunctionType) -> _Space | None:
        """Return the shared namespace that is the function's globals."""
        spaces = (self.main(), *self._senders.values())
        return next((space for space in spaces if space.names is function.__globals__), None)

    def receiver(self, origin: _Origin) -> tuple[_Space, bool]:
        """Return the namespace for what arrives, and whether names that exist in it are to be kept.

        The first sender shares `__main__`. Another one (an engine's worker may serve several programs) gets a
        namespace of its own: their functions of the same name must not meet.
        """
        main = self.main()
        if origin.reply or origin.token == main.token:
            return main, True
        space = self._senders.get(origin.token)
        if space is None:
            taken = any(other is main for other in self._senders.values())
            space = _Space({"__name__": "__main__", "__builtins__": builtins}) if taken else main
            self._senders[origin.token] = space
        return space, False


def _main_names(main: types.ModuleType) -> dict[str, Any]:
    """Return the globals of the main module's functions.

    Where multiprocessing imported it, they are not the module's: runpy runs the file in one namespace, and
    multiprocessing puts a copy of that into the module.
    """
    names = vars(main)
    if names.get("__name__") == "__mp_main__":
        held = tuple(names.values())
        methods = (method for cls in held if isinstance(cls, type) for method in tuple(vars(cls).values()))
        for value in (*held, *methods):
            if isinstance(value, types.FunctionType) and value.__globals__.get("__name__") == "__mp_main__":
                return value.__globals__
    return names


_process = _Process()


def _here() -> _Process:
    """Return the state of this process; a forked child begins anew, since to its parent it is a receiver."""
    global _process  # noqa: PLW0603 - there is one for the whole process
    if _process.pid != os.getpid():
        _process = _Process()
    return _process


class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """cloudpickle's pickler, with the shared namespace.

    What it relies on of cloudpickle's private side (3.0 to 3.1) is the shape of two reductions, which a test checks:
    a function's is `(make, (code, globals, name, defaults, closure), (dict, slots), None, None, set_state)` with
    `slots["__globals__"]` the names that it refers to; a class's is `(make, arguments, state, None, None, set_state)`.
    """

    def __init__(
        self, file: Any, buffer_callback: Callable[[pickle.PickleBuffer], object] | None = None, *, reply: bool = False
    ) -> None:
        super().__init__(file, protocol=5, buffer_callback=buffer_callback)
        self._reply = reply

    def reducer_override(self, value: Any) -> Any:
        refuse_pipe_end(value)
        if type(value) is _Cached and value.__module__ in _MAIN:
            # It would go by reference, to a name that the receiver may not have.
            return make_cached, (value.__wrapped__, value.cache_parameters())
        reduced = super().reducer_override(value)
        if type(reduced) is not tuple or len(reduced) != _DYNAMIC:
            return reduced
        here = _here()
        with here.lock:
            if isinstance(value, types.FunctionType):
                return self._share_function(here.space_of(value), value, reduced)
            return self._share_class(here, value, reduced)

    def _share_function(self, space: _Space | None, function: types.FunctionType, reduced: Any) -> Any:
        if space is None:
            return reduced
        _, (code, _, _, _, closure), (attributes, slots), _, _, set_state = reduced
        offered = {}
        for name in slots["__globals__"]:
            if name not in _OWN_NAMES and name in space.names:
                value = space.names[name]  # as it is now, under the lock: versions and values keep their order
                offered[name] = (space.version(name, value), value)
        if package := space.names.get("__package__"):  # `python -m package`: for imports inside of functions
            offered["__package__"] = (1, package)
        origin = self._origin(space, function)
        state = (origin, offered, set_state, (attributes, {**slots, "__globals__": {}}))
        return make_function, (origin, code, closure), state, None, None, set_function

    def _share_class(self, here: _Process, cls: type, reduced: Any) -> Any:
        space = here.main()
        origin = self._origin(space, cls)
        if origin.name is None:
            return reduced
        make, arguments, state, _, _, set_state = reduced
        version = space.version(origin.name, cls)
        here.dressed.setdefault(cls, version)
        return make_class, (origin, make, arguments), (origin, version, set_state, state), None, None, set_class

    def _origin(self, space: _Space, value: Any) -> _Origin:
        top_level = value.__module__ in _MAIN and space.names.get(value.__qualname__) is value
        return _Origin(space.token, value.__qualname__ if top_level else None, self._reply)


def dumps(
    value: object,
    buffer_callback: Callable[[pickle.PickleBuffer], object] | None = None,
    *,
    reply: bool = False,
) -> bytes:
    """Pickle by value; with reply, for where the work came from, which keeps its own globals."""
    with io.BytesIO() as file:
        Pickler(file, buffer_callback, reply=reply).dump(value)
        return file.getvalue()


def globals_of(function: types.FunctionType) -> dict[str, Any]:
    """Return the globals that a function takes along when it travels by value; none where it goes by reference."""
    reduced = cloudpickle.Pickler(io.BytesIO()).reducer_override(function)
    return {} if reduced is NotImplemented else dict(reduced[2][1]["__globals__"])


# What follows is called by `pickle.loads`, in the order make, set_state. A function that refers to itself, or to one
# that refers back, is met again between the two.


def make_function(origin: _Origin, code: types.CodeType, closure: Any) -> types.FunctionType:
    """Return this process's own function if it is the same one, or a new one that shares the receiver's globals."""
    here = _here()
    with here.lock:
        space, keep = here.receiver(origin)
        own = space.names.get(origin.name) if origin.name else None
        if isinstance(own, types.FunctionType) and own.__code__ == code and space.is_native(origin.name, keep=keep):
            return own
        return types.FunctionType(code, space.names, None, None, closure)


def set_function(function: types.FunctionType, state: Any) -> None:
    """Complete a function, unless it is this process's own, and take the names that it refers to."""
    origin, offered, set_state, plain = state
    here = _here()
    with here.lock:
        space, keep = here.receiver(origin)
        if space.names.get(origin.name) is function and space.is_native(origin.name, keep=keep):
            return
        package = offered.pop("__package__", None)
        if package and not space.names.get("__package__"):
            space.names["__package__"] = package[1]
        kept = space.names.get("__builtins__", builtins)
        set_state(function, plain)
        space.names["__builtins__"] = kept  # cloudpickle puts its own module's there
        space.receive(offered, keep=keep)


def make_class(origin: _Origin, make: Callable[..., type], arguments: tuple[Any, ...]) -> type:
    """Return the class that this process has imported under the name, or what cloudpickle finds or makes."""
    here = _here()
    with here.lock:
        space, keep = here.receiver(origin)
        own = space.names.get(origin.name or "")
        if not keep and isinstance(own, type) and space.is_native(origin.name, keep=keep):
            return own
    return make(*arguments)  # in the sender itself, cloudpickle finds the class by the id that it gave it


def set_class(cls: type, state: Any) -> None:
    """Complete a class if it is new here, or has been changed by the sender since, and take its name."""
    origin, version, set_state, plain = state
    here = _here()
    with here.lock:
        space, keep = here.receiver(origin)
        own = space.names.get(origin.name)
        if not keep and own is cls and space.is_native(origin.name, keep=keep):
            return
        had = here.dressed.get(cls, 0)
        if had == 0 or (not keep and version > had):
            here.dressed[cls] = version
            set_state(cls, plain)
        space.receive({origin.name: (version, cls)}, keep=keep)


def make_cached(function: Callable[..., Any], parameters: dict[str, Any]) -> Any:
    """Make a cached function."""
    return functools.lru_cache(**parameters)(function)
