"""Shared objects by name: how a task finds those of the executor that runs it."""

from __future__ import annotations

from importlib import import_module

from parapluie.sharing.inside import current_link
from parapluie.state_errors import SharedStateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from parapluie.state.link import Link

_MODULES = {
    "array": ("values", "SharedArray"),
    "barrier": ("locks", "SharedBarrier"),
    "channel": ("channel", "Channel"),
    "condition": ("locks", "SharedCondition"),
    "counter": ("values", "SharedCounter"),
    "dict": ("values", "SharedDict"),
    "event": ("locks", "SharedEvent"),
    "list": ("values", "SharedList"),
    "lock": ("locks", "SharedLock"),
    "namespace": ("values", "SharedNamespace"),
    "queue": ("queue", "SharedQueue"),
    "rlock": ("locks", "SharedRLock"),
    "semaphore": ("locks", "SharedSemaphore"),
    "value": ("values", "SharedValue"),
}


def lookup(name: str) -> Any:
    """Return the shared object that the executor of this task was asked for by `executor.shared.…(name=…)`.

    To be called in a task, or in a thread that a task has started. It takes a round trip; keep what it returns.

    Raises:
        SharedStateError: if there is none of this name, or had been none when the task was submitted; or if this is
            not a task: then `executor.shared.lookup` is to be asked.
    """
    link = current_link()
    if link is None:
        raise SharedStateError(
            f"lookup({name!r}): no shared object had a name when this task was submitted, or this is no task of an "
            "executor; make the objects first, and outside of tasks use executor.shared.lookup"
        )
    return found(link, name)


def found(link: Link, name: str) -> Any:
    """Return a proxy of a named object."""
    kind, target = link.find(name)
    module, proxy = _MODULES[kind]
    return getattr(import_module(f"parapluie.sharing.{module}"), proxy)(link, target, name)
