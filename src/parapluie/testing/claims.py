"""Claims: which tests concern a backend, by what it says of itself in its `Capabilities`.

    @requires("kills_running_task")     only for backends that claim it
    @lacks("runs_in_caller")            only for backends that do not
    @proves("survives_dead_worker")     as `requires`; and it is this test that shows the claim to be true

What is claimed is tested, so a claim that is not kept is red; what is not claimed is not collected.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from parapluie.backend import Capabilities

Test = TypeVar("Test", bound=Callable[..., Any])


def requires(*names: str) -> Callable[[Test], Test]:
    """Mark a test that is for backends which claim all of these capabilities."""
    return _marking("requires", names)


def lacks(*names: str) -> Callable[[Test], Test]:
    """Mark a test that is for backends which claim none of these capabilities."""
    return _marking("lacks", names)


def proves(fact: str) -> Callable[[Test], Test]:
    """Mark a test that shows a claim to be true."""

    def mark(test: Test) -> Test:
        test.__dict__["proves"] = (*test.__dict__.get("proves", ()), fact)
        return requires(fact)(test)

    return mark


def _marking(kind: str, names: tuple[str, ...]) -> Callable[[Test], Test]:
    def mark(test: Test) -> Test:
        test.__dict__[kind] = (*test.__dict__.get(kind, ()), *names)
        return test

    return mark


def concerns(test: object, capabilities: Capabilities) -> bool:
    """Say whether a test is about what a backend claims."""
    wanted, unwanted = getattr(test, "requires", ()), getattr(test, "lacks", ())
    return all(getattr(capabilities, name) for name in wanted) and not any(
        getattr(capabilities, name) for name in unwanted
    )


class LeftOut:
    """Stands in a class for a test that does not concern its backend; pytest does not collect it."""

    def __init__(self, test: Callable[..., Any]) -> None:
        self.test = test


def leave_out(cls: type, capabilities: Capabilities) -> None:
    """Leave out those tests of a class, its own or inherited, that are not about what is claimed."""
    for name in {name for base in cls.__mro__ for name in vars(base) if name.startswith("test_")}:
        found = getattr(cls, name)
        test = found.test if isinstance(found, LeftOut) else found
        wanted = test if concerns(test, capabilities) else LeftOut(test)
        if type(wanted) is not type(found):  # a base may be about another backend, or other options
            setattr(cls, name, wanted)


def facts_proven(cls: type) -> set[str]:
    """Return the capabilities that the tests of a class show to be true."""
    return {fact for name in dir(cls) if name.startswith("test_") for fact in getattr(getattr(cls, name), "proves", ())}
