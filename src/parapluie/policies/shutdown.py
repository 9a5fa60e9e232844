"""The shutdown policy: what happens to queued work, and how long workers have to end."""

from __future__ import annotations

from parapluie.errors import ConfigError
from parapluie.records import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self


class _Shutdown(NamedTuple):
    drain: bool = True
    grace: float = 5.0


class Shutdown(_Shutdown):
    """How an executor shuts down.

    Attributes:
        drain: True: everything that was submitted is run to its end first, however long that takes. False: what has
            not begun is cancelled, and what runs has the grace period to end.
        grace: seconds that each worker has to end after its sentinel; those that outstay it are terminated, and,
            when as many seconds have passed again, killed. What was forced is logged and counted in `stats()`.
    """

    __slots__ = ()

    def __new__(cls, *, drain: bool = True, grace: float = 5.0) -> Self:
        _check(drain, grace)
        return super().__new__(cls, drain, float(grace))


def _check(drain: object, grace: object) -> None:
    if not isinstance(drain, bool):
        raise ConfigError(f"Shutdown(drain={drain!r}) is not True or False")
    if isinstance(grace, bool) or not isinstance(grace, int | float) or not 0 <= grace < float("inf"):
        raise ConfigError(f"Shutdown(grace={grace!r}) is not a number of seconds from 0")
