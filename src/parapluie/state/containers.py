"""Shared values: containers whose own operations, and changes that depend on what is there, run where they are."""

from __future__ import annotations

from array import array

from parapluie.state.hub import Served

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    from parapluie.state.hub import Caller

MISSING: Any = ()  # stands for a default that was not given; a tuple, since it is compared by value after it travelled


class Container(Served):
    """A value whose own methods are operations, but for those that are defined here."""

    own: frozenset[str] = frozenset()

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value

    def perform(self, caller: Caller, name: str, args: Sequence[Any]) -> Any:
        if name in self.own:
            return getattr(self.value, name)(*args)
        return super().perform(caller, name, args)

    def add(self, _caller: Caller, key: Any, number: Any) -> Any:
        """Add to the value of a key; return the new one."""
        self.value[key] = new = self.value[key] + number
        return new

    def add_many(self, caller: Caller, numbers: Mapping[Any, Any]) -> None:
        for key, number in numbers.items():
            self.add(caller, key, number)

    def apply(self, _caller: Caller, key: Any, function: Callable[..., Any], args: Sequence[Any]) -> Any:
        self.value[key] = new = function(self.value[key], *args)
        return new

    def get_many(self, _caller: Caller, keys: Iterable[Any]) -> list[Any]:
        return [self.value[key] for key in keys]

    def update_many(self, _caller: Caller, values: Mapping[Any, Any]) -> None:
        for key, value in values.items():
            self.value[key] = value

    def length(self, _caller: Caller) -> int:
        return len(self.value)

    def copy(self, _caller: Caller) -> Any:
        return self.value[:]


_MANY = frozenset({"add", "add_many", "apply", "copy", "get_many", "length", "update_many"})
_ITEMS = frozenset({"__contains__", "__delitem__", "__getitem__", "__setitem__", "pop"})


class Dict(Container):
    """A dictionary. A key that is not there counts as 0 where something is added to it."""

    own = _ITEMS | {"clear", "get", "popitem", "setdefault", "update"}
    operations = _MANY | {"keys"}

    def add(self, _caller: Caller, key: Any, number: Any) -> Any:
        self.value[key] = new = self.value.get(key, 0) + number
        return new

    def apply(
        self, _caller: Caller, key: Any, function: Callable[..., Any], args: Sequence[Any], default: Any = MISSING
    ) -> Any:
        current = self.value[key] if default == MISSING else self.value.get(key, default[0])
        self.value[key] = new = function(current, *args)
        return new

    def get_many(self, _caller: Caller, keys: Iterable[Any], default: Any = None) -> list[Any]:
        return [self.value.get(key, default) for key in keys]

    def keys(self, _caller: Caller) -> list[Any]:
        return list(self.value)

    def copy(self, _caller: Caller) -> dict[Any, Any]:
        return dict(self.value)


class List(Container):
    """A list."""

    own = _ITEMS | {"append", "clear", "count", "extend", "index", "insert", "remove", "reverse"}
    operations = _MANY | {"sort"}

    def sort(self, _caller: Caller, key: Callable[[Any], Any] | None, reverse: bool) -> None:  # noqa: FBT001 - sent so
        self.value.sort(key=key, reverse=reverse)


class Array(Container):
    """Numbers of one type; their count stays."""

    own = frozenset({"__contains__", "__getitem__", "count", "index"})
    operations = _MANY | {"set"}

    def set(self, _caller: Caller, key: int | slice, value: Any) -> None:
        """Set a number, or as many as there were."""
        if isinstance(key, slice):
            values = array(self.value.typecode, value)
            if len(values) != len(range(*key.indices(len(self.value)))):
                raise ValueError(f"an array keeps its length: {len(values)} numbers do not fit into {key!r}")
            self.value[key] = values
        else:
            self.value[key] = value


class Value(Served):
    """One value of any type."""

    operations = frozenset({"add", "apply", "get", "set"})

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value

    def get(self, _caller: Caller) -> Any:
        return self.value

    def set(self, _caller: Caller, value: Any) -> Any:
        """Set it; return what it was."""
        before, self.value = self.value, value
        return before

    def add(self, _caller: Caller, number: Any) -> Any:
        self.value = self.value + number
        return self.value

    def apply(self, _caller: Caller, function: Callable[..., Any], args: Sequence[Any]) -> Any:
        self.value = function(self.value, *args)
        return self.value


class Counter(Value):
    """A number that is counted up and down."""


class Namespace(Container):
    """Attributes: a dictionary whose keys are names."""

    own = frozenset({"__delitem__", "__getitem__", "__setitem__"})
    operations = _MANY

    def copy(self, _caller: Caller) -> dict[str, Any]:
        return dict(self.value)
