"""The kinds of shared objects, by the names under which they are asked for."""

from __future__ import annotations

from array import array

from parapluie.state import channels, containers, locks, queues

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from parapluie.state.hub import Served


def _array(typecode: str, values: Any) -> Served:
    return containers.Array(array(typecode, [0]) * values if isinstance(values, int) else array(typecode, values))


KINDS: dict[str, Callable[..., Served]] = {
    "array": _array,
    "barrier": locks.Barrier,
    "channel": channels.Channel,
    "condition": locks.Condition,
    "counter": containers.Counter,
    "dict": containers.Dict,
    "event": locks.Event,
    "list": containers.List,
    "lock": locks.Lock,
    "namespace": containers.Namespace,
    "queue": queues.Queue,
    "rlock": locks.RLock,
    "semaphore": locks.Semaphore,
    "value": containers.Value,
}


def make(kind: str, args: Sequence[Any]) -> Served:
    """Make an object that is served."""
    return KINDS[kind](*args)
