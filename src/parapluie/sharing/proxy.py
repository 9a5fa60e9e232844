"""What users hold of a shared object: it knows the object's number, and asks for each operation where that is.

A proxy may be used by any number of threads, and be an argument of any task of a local backend. Each operation is one
round trip to the server of shared state, or a call under a lock where the objects are local.
"""

from __future__ import annotations

import pickle

from parapluie.call_format import PLAIN
from parapluie.state.link import ServerLink, link_to

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from parapluie.state.link import Link


class Proxy:
    """A shared object, as a process sees it. `kind` is the name of its factory."""

    kind: str

    def __init__(self, link: Link, target: int, name: str | None = None) -> None:
        self._link, self._target, self._name = link, target, name

    def _do(self, operation: str, *args: Any, timeout: float | None = None) -> Any:
        return self._link.call(self._target, operation, args, timeout)

    def key(self) -> tuple[Link, int]:
        """Return what tells the object from every other one."""
        return self._link, self._target

    def __reduce__(self) -> tuple[Any, ...]:
        if not isinstance(self._link, ServerLink):
            raise pickle.PicklingError(
                f"{self!r} lives in this process, as the workers of its executor do; it cannot be sent to another one"
            )
        return _arrived, (type(self), self._link.address, self._target, self._name)

    def __repr__(self) -> str:
        name = "" if self._name is None else f" {self._name!r}"
        return f"<parapluie {type(self).__name__}{name}>"


class ItemProxy(Proxy):
    """A shared object that carries items, of which nobody but its users has to read anything."""

    def __init__(self, link: Link, target: int, name: str | None = None) -> None:
        super().__init__(link, target, name)
        self._served = isinstance(link, ServerLink)

    def _pack(self, item: Any) -> Any:
        """Make of an item what the server keeps; local ones stay as they are."""
        if not self._served:
            return item
        if type(item) in PLAIN:
            return pickle.dumps(item, 5)
        from parapluie.pickling import dumps_auto

        return dumps_auto(item, None)

    def _unpack(self, packed: Any) -> Any:
        return pickle.loads(packed) if self._served else packed


def _arrived(kind: type[Proxy], address: str, target: int, name: str | None) -> Proxy:
    return kind(link_to(address), target, name)
