"""Takes a thing apart as pickle would, and names the parts by how one gets to them."""

from __future__ import annotations

import copyreg
import types
from functools import partial
from typing import TYPE_CHECKING, Any

from parapluie.words import type_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

Part = tuple[str, Any]  # what to append to the path, and the part


def split(value: Any, reducers: Mapping[type, Callable[[Any], Any]], *, by_value: bool) -> Iterable[Part]:
    """Yield the parts of a value. What its methods raise comes from the iterator.

    Args:
        value: anything, hostile objects included.
        reducers: the pickler's dispatch table.
        by_value: whether functions and classes have parts too.
    """
    if isinstance(value, type):
        yield from _class_parts(value) if by_value else ()
    elif type(value) is types.FunctionType:
        yield from _function_parts(value) if by_value else ()
    elif type(value) in _SPLITTERS:
        yield from _SPLITTERS[type(value)](value)
    elif type(value) is types.BuiltinMethodType and not isinstance(value.__self__, types.ModuleType | None):
        yield ".__self__", value.__self__
    else:
        yield from _object_parts(value, reducers.get(type(value)))


def _object_parts(value: Any, reduce: Callable[[Any], Any] | None) -> Iterable[Part]:
    reduced = reduce(value) if reduce else value.__reduce_ex__(5)
    if isinstance(reduced, tuple):
        padded: tuple[Any, ...] = (*reduced, None, None, None, None)
        make, arguments, state, items, pairs = padded[:5]
        yield from _state_parts(state)
        yield from _items(items or ())
        yield from _pairs(pairs or ())
        yield from _argument_parts(value, make, arguments)


def _items(values: Iterable[Any]) -> Iterable[Part]:
    return ((f"[{index}]", value) for index, value in enumerate(values))


def _pairs(pairs: Iterable[tuple[Any, Any]]) -> Iterable[Part]:
    for key, value in pairs:
        yield "{key}", key
        yield f"[{_key(key)}]", value


def _key(key: object) -> str:
    """Return a key as it is written; that of a type whose repr cannot be trusted, by its type."""
    return repr(key) if type(key) in (str, int, float, bool, bytes, type(None)) else f"<{type_name(key)}>"


def _state_parts(state: Any) -> list[Part]:
    states = state if type(state) is tuple else (state,)  # (of __dict__, of __slots__)
    if not all(type(part) is dict or part is None for part in states):
        return [(".__getstate__()", state)]
    return [(f".{name}", value) for part in states if part for name, value in part.items()]


def _argument_parts(value: Any, make: Any, arguments: Any) -> list[Part]:
    """Name what an object is made from: its class, and the arguments of its constructor."""
    if make is copyreg.__newobj__:  # type: ignore[attr-defined]
        cls, *rest = arguments
        return [(".__class__", cls), *((f".__getnewargs__()[{i}]", part) for i, part in enumerate(rest))]
    if isinstance(value, BaseException) and make is type(value):
        return [(".__class__", make), *((f".args[{i}]", part) for i, part in enumerate(arguments))]
    parts = [(".__reduce__()[0]", make)]
    return parts + [(f".__reduce__()[1][{i}]", part) for i, part in enumerate(arguments)]


def _class_parts(cls: type) -> list[Part]:
    """Name what a class that travels by value takes along; two slots of every class lead back to it."""
    return [(f".{name}", part) for name, part in vars(cls).items() if name not in ("__dict__", "__weakref__")]


def _function_parts(function: types.FunctionType) -> list[Part]:
    """Name what a function that travels by value takes along."""
    from parapluie.by_value import globals_of

    parts = [(f".__globals__[{name!r}]", value) for name, value in globals_of(function).items()]
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            parts.append((f".__closure__[{name!r}]", cell.cell_contents))
        except ValueError:  # not bound yet
            continue
    parts += [(f".__defaults__[{i}]", part) for i, part in enumerate(function.__defaults__ or ())]
    parts += [(f".__kwdefaults__[{name!r}]", part) for name, part in (function.__kwdefaults__ or {}).items()]
    return parts + [(f".{name}", part) for name, part in vars(function).items()]


def _partial_parts(value: partial[Any]) -> Iterable[Part]:
    yield ".func", value.func
    yield from ((f".args[{index}]", part) for index, part in enumerate(value.args))
    yield from ((f".keywords[{name!r}]", part) for name, part in value.keywords.items())


def _elements(values: Iterable[Any]) -> Iterable[Part]:
    return (("{element}", value) for value in values)


_SPLITTERS: dict[type, Callable[[Any], Iterable[Part]]] = {
    list: _items,
    tuple: _items,
    set: _elements,
    frozenset: _elements,
    dict: lambda value: _pairs(value.items()),
    partial: _partial_parts,
    types.MethodType: lambda value: ((".__self__", value.__self__), (".__func__", value.__func__)),
}
