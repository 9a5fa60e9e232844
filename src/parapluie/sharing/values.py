"""Shared values, as users hold them: dictionaries, lists, arrays, single values, counters, namespaces."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping, MutableSequence, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from parapluie.sharing.proxy import Proxy

if TYPE_CHECKING:
    from array import array
    from collections.abc import Callable, Iterable, Mapping
    from typing import Self

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")
_MISSING: Any = object()


class SharedDict(Proxy, MutableMapping[K, V]):
    """A dictionary.

    `d[key] += 1` reads, and then writes: what others write meanwhile is lost. `add` and `apply` do both at once. Values
    that are read are copies where the dictionary lives in a server: `d[key].append(x)` changes nothing there.
    """

    kind = "dict"

    def __getitem__(self, key: K, /) -> V:
        value: V = self._do("__getitem__", key)
        return value

    def __setitem__(self, key: K, value: V, /) -> None:
        self._do("__setitem__", key, value)

    def __delitem__(self, key: K, /) -> None:
        self._do("__delitem__", key)

    def __contains__(self, key: object, /) -> bool:
        return bool(self._do("__contains__", key))

    def __len__(self) -> int:
        return int(self._do("length"))

    def __iter__(self) -> Iterator[K]:
        """Iterate over the keys that there are now."""
        return iter(self._do("keys"))

    def get(self, key: K, default: Any = None, /) -> Any:
        return self._do("get", key, default)

    def setdefault(self, key: K, default: Any = None, /) -> Any:
        return self._do("setdefault", key, default)

    def pop(self, key: K, default: Any = _MISSING, /) -> Any:
        return self._do("pop", key) if default is _MISSING else self._do("pop", key, default)

    def popitem(self) -> tuple[K, V]:
        pair: tuple[K, V] = self._do("popitem")
        return pair

    def clear(self) -> None:
        self._do("clear")

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Take over keys and values, all at once."""
        self._do("update", dict(*args, **kwargs))

    update_many = update

    def copy(self) -> dict[K, V]:
        """Return a plain dictionary of what there is now."""
        copied: dict[K, V] = self._do("copy")
        return copied

    def keys(self) -> Any:
        """Return the keys that there are now."""
        return self.copy().keys()

    def values(self) -> Any:
        """Return the values that there are now."""
        return self.copy().values()

    def items(self) -> Any:
        """Return the keys and values that there are now."""
        return self.copy().items()

    def get_many(self, keys: Iterable[K], default: Any = None) -> list[Any]:
        """Return the values of several keys, in their order, all of the same moment."""
        values: list[Any] = self._do("get_many", list(keys), default)
        return values

    def add(self, key: K, number: Any = 1) -> Any:
        """Add to a key's value, which is 0 if there is none; return the new value. No update is lost."""
        return self._do("add", key, number)

    def add_many(self, numbers: Mapping[K, Any]) -> None:
        """Add to the values of several keys, as `add` does, in one round trip."""
        self._do("add_many", dict(numbers))

    def apply(self, key: K, function: Callable[..., V], /, *args: Any, default: Any = _MISSING) -> V:
        """Replace a key's value by function(value, *args); return the new value. No update is lost.

        The function runs where the dictionary is, while nothing else there does; so it should be short.

        Args:
            default: stands for the value of a key that is not there; without it that is a KeyError.
        """
        value: V = self._do("apply", key, function, args, () if default is _MISSING else (default,))
        return value

    def __eq__(self, other: object) -> bool:
        return self.copy() == (other.copy() if isinstance(other, SharedDict) else other)

    __hash__ = None  # type: ignore[assignment]


class _Sequence(Proxy, Generic[V]):
    """What lists and arrays have in common."""

    def __getitem__(self, index: Any, /) -> Any:
        return self._do("__getitem__", index)

    def __setitem__(self, index: Any, value: Any, /) -> None:
        self._do("__setitem__", index, value)

    def __contains__(self, value: object, /) -> bool:
        return bool(self._do("__contains__", value))

    def __len__(self) -> int:
        return int(self._do("length"))

    def __iter__(self) -> Iterator[V]:
        """Iterate over the items that there are now."""
        return iter(self._do("copy"))

    def __reversed__(self) -> Iterator[V]:
        copied: list[V] = self._do("copy")
        return reversed(copied)

    def index(self, value: Any, *bounds: int) -> int:
        return int(self._do("index", value, *bounds))

    def count(self, value: Any) -> int:
        return int(self._do("count", value))

    def get_many(self, indices: Iterable[int]) -> list[V]:
        """Return several items, in the order of their indices, all of the same moment."""
        items: list[V] = self._do("get_many", list(indices))
        return items

    def update_many(self, items: Mapping[int, V]) -> None:
        """Set several items, by their indices, in one round trip."""
        self._do("update_many", dict(items))

    def add(self, index: int, number: Any = 1) -> Any:
        """Add to an item; return the new one. No update is lost."""
        return self._do("add", index, number)

    def add_many(self, numbers: Mapping[int, Any]) -> None:
        """Add to several items, by their indices, in one round trip."""
        self._do("add_many", dict(numbers))

    def apply(self, index: int, function: Callable[..., V], /, *args: Any) -> V:
        """Replace an item by function(item, *args), as `SharedDict.apply` does; return the new one."""
        value: V = self._do("apply", index, function, args)
        return value

    def __eq__(self, other: object) -> bool:
        copied = self._do("copy")
        return bool(copied == (other._do("copy") if isinstance(other, _Sequence) else other))

    __hash__ = None  # type: ignore[assignment]


class SharedList(_Sequence[V], MutableSequence[V]):
    """A list. Its items are copies, as a `SharedDict`'s values are."""

    kind = "list"

    def __delitem__(self, index: Any, /) -> None:
        self._do("__delitem__", index)

    def insert(self, index: int, value: V) -> None:
        self._do("insert", index, value)

    def append(self, value: V) -> None:
        self._do("append", value)

    def extend(self, values: Iterable[V]) -> None:
        self._do("extend", list(values))

    def __iadd__(self, values: Iterable[V]) -> Self:
        self.extend(values)
        return self

    def pop(self, index: int = -1) -> V:
        value: V = self._do("pop", index)
        return value

    def remove(self, value: V) -> None:
        self._do("remove", value)

    def clear(self) -> None:
        self._do("clear")

    def reverse(self) -> None:
        self._do("reverse")

    def sort(self, *, key: Callable[[V], Any] | None = None, reverse: bool = False) -> None:
        self._do("sort", key, reverse)

    def copy(self) -> list[V]:
        """Return a plain list of what there is now."""
        copied: list[V] = self._do("copy")
        return copied


class SharedArray(_Sequence[V], Sequence[V]):
    """Numbers of one type, as `array.array` holds them. Their count stays."""

    kind = "array"

    def __setitem__(self, index: Any, value: Any, /) -> None:
        """Set a number, or a slice of as many as there were."""
        self._do("set", index, value)

    if TYPE_CHECKING:

        @overload
        def __getitem__(self, index: int, /) -> V: ...
        @overload
        def __getitem__(self, index: slice, /) -> array[Any]: ...
        def __getitem__(self, index: Any, /) -> Any: ...

    def copy(self) -> array[Any]:
        """Return an array of what there is now."""
        copied: array[Any] = self._do("copy")
        return copied

    def tolist(self) -> list[V]:
        """Return a plain list of what there is now."""
        return list(self._do("copy"))


class SharedValue(Proxy, Generic[T]):
    """One value."""

    kind = "value"

    @property
    def value(self) -> T:
        """What it is now. `v.value += 1` reads, and then writes; `add` and `apply` do both at once."""
        return self.get()

    @value.setter
    def value(self, value: T) -> None:
        self._do("set", value)

    def get(self) -> T:
        """Return it."""
        value: T = self._do("get")
        return value

    def set(self, value: T) -> T:
        """Set it; return what it was before."""
        before: T = self._do("set", value)
        return before

    def add(self, number: Any = 1) -> T:
        """Add to it; return the new value. No update is lost."""
        value: T = self._do("add", number)
        return value

    def apply(self, function: Callable[..., T], /, *args: Any) -> T:
        """Replace it by function(value, *args), as `SharedDict.apply` does; return the new value."""
        value: T = self._do("apply", function, args)
        return value


class SharedCounter(SharedValue[int]):
    """A number that is counted up and down, by `add`."""

    kind = "counter"

    def __int__(self) -> int:
        return self.get()

    __index__ = __int__


class SharedNamespace(Proxy):
    """Attributes. Names that begin with an underscore are the proxy's own."""

    kind = "namespace"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} has no attribute {name!r}")
        try:
            return self._do("__getitem__", name)
        except KeyError:
            raise AttributeError(f"{self!r} has no attribute {name!r}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            object.__setattr__(self, name, value)
        else:
            self._do("__setitem__", name, value)

    def __delattr__(self, name: str) -> None:
        try:
            self._do("__delitem__", name)
        except KeyError:
            raise AttributeError(f"{self!r} has no attribute {name!r}") from None

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._do("copy")})
