"""The standard future without what most futures never need: a condition is made when somebody comes to wait.

A `threading.Condition` is nine objects that the garbage collector has to look at again and again; with one in each of
20,000 pending futures that was nearly half of the time that submitting them took. Most futures of a large batch are
answered before anybody waits for them, so they need none.

Touches what is private to `concurrent.futures.Future`: `_condition`, `_state`, `_result`, `_exception`, `_waiters` and
`_done_callbacks`, which `concurrent.futures.wait` and `as_completed` use from outside, too. They all take the
condition before they look at the rest. And `_invoke_callbacks`, which lets a callback's exit through.
`tests/unit/test_light_future.py` fails when a new Python changes that.
"""

from __future__ import annotations

import concurrent.futures
import threading

from parapluie.condition import Condition
from parapluie.exits import may_be_the_programs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    T = TypeVar("T")

_PENDING = concurrent.futures._base.PENDING  # noqa: SLF001
_FINISHED = concurrent.futures._base.FINISHED  # noqa: SLF001

_LOGGER = concurrent.futures._base.LOGGER  # noqa: SLF001

# Held for the few instructions in which a future gets a condition of its own or ends without one, so that the two
# cannot happen at once. Re-entrant, since a finalizer or signal handler may come in between.
_changing = threading.RLock()


class _Settled:
    """Stands for the condition of a future that has ended: nobody ever waits on it, and what it guards is final."""

    def __enter__(self) -> bool:
        return True

    acquire = __enter__

    def __exit__(self, *_: object) -> None:
        """Do nothing."""

    release = notify_all = __exit__


_settled: Any = _Settled()


class LightFuture(concurrent.futures.Future["T"]):
    """A `concurrent.futures.Future` that costs less; it behaves the same."""

    # On the class until somebody asks for the condition, or the future ends.
    _state: str = _PENDING
    _result: T | None = None
    _exception: BaseException | None = None
    _has_condition: bool = False

    def __init__(self) -> None:
        """Make a pending future. The standard class's own `__init__` would make what is made late here."""

    def __getattr__(self, name: str) -> Any:
        """Make what is not there yet."""
        if name == "_condition":
            with _changing:
                if not self._has_condition:
                    self._condition = Condition()
                    self._has_condition = True
                return self._condition
        if name in {"_waiters", "_done_callbacks"}:  # always under the condition
            made: list[Any] = []
            setattr(self, name, made)
            return made
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def set_result(self, result: T) -> None:
        if not self.end_alone(result, None):
            super().set_result(result)

    def set_exception(self, exception: BaseException | None) -> None:
        if not self.end_alone(None, exception):
            super().set_exception(exception)

    def end_alone(self, result: T | None, exception: BaseException | None = None) -> bool:
        """End, if nobody has asked for the condition; a future without one is pending, since all else takes it."""
        with _changing:
            if self._has_condition:
                return False
            self._result, self._exception = result, exception
            self._state = _FINISHED
            self._condition = _settled
            self._has_condition = True
        return True

    def _invoke_callbacks(self) -> None:
        for callback in self._done_callbacks:
            try:
                callback(self)
            except BaseException as error:
                if may_be_the_programs(error):
                    raise
                _LOGGER.exception("exception calling callback for %r", self)

    def result(self, timeout: float | None = None) -> T:
        if self._state == _FINISHED and self._exception is None:  # it is final, and needs no lock to be seen
            return self._result  # type: ignore[return-value]
        return super().result(timeout)

    def __reduce__(self) -> Any:
        raise TypeError(f"cannot pickle {type(self).__name__!r} object")
