"""The retry policy: which failures are repeated, how often, and after what wait. The only importer of tenacity.

It runs in the parent and decides from facts alone (the error, the attempts so far), so that a lost worker counts and
nothing of tenacity is ever pickled. Waiting is not done here: the executor is told for how long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any, NamedTuple, TypeGuard

import tenacity
from tenacity.retry import retry_base
from tenacity.stop import stop_base
from tenacity.wait import wait_base

from parapluie.errors import ConfigError, TaskTimeoutError
from parapluie.pool_errors import WorkerLostError

On = type[BaseException] | Iterable[type[BaseException]] | Callable[[BaseException], bool] | retry_base
_DEFAULT_WAIT = tenacity.wait_exponential(multiplier=0.1, max=30.0) + tenacity.wait_random(0.0, 0.1)


class Retry:
    """Repeat failed tasks.

    Two budgets: `attempts` is for tasks that raised, `lost` for those whose worker died or that overran
    `task_timeout`, so that a task which kills worker after worker is stopped and named.

    Args:
        attempts: how often a task may run and raise, the first time included.
        on: which exceptions of a task are repeated: a type, several types, a function from the exception to a bool,
            or a tenacity retry object.
        wait: seconds between attempts: a number, "exponential" (0.1 s doubled each time up to 30 s, with jitter; also
            what None means), or a tenacity wait object.
        stop: what may end it before `attempts` are used up: seconds since the first attempt began, after which none
            begins, or a tenacity stop object.
        lost: how many lost attempts may be repeated; 0 for none, None for `attempts - 1`.

    Raises:
        ConfigError: if an argument is out of range, or `on` holds an error that the `lost` budget is for.
    """

    def __init__(
        self,
        attempts: int = 3,
        *,
        on: On = Exception,
        wait: float | str | wait_base | None = None,
        stop: float | stop_base | None = None,
        lost: int | None = None,
    ) -> None:
        self.attempts = _count("attempts", attempts, 1)
        self.lost = self.attempts - 1 if lost is None else _count("lost", lost, 0)
        retry, self.on = _predicate(on), on
        self._rules = _Rules(retry, _waiting(wait), _stopping(stop))
        self.wait, self.stop = wait, stop

    def __repr__(self) -> str:
        on = self.on if isinstance(self.on, retry_base) else _names(self.on)
        return f"Retry(attempts={self.attempts}, on={on}, wait={self.wait!r}, stop={self.stop!r}, lost={self.lost})"

    def begin(self) -> Attempts:
        """Return the book that is kept of one task (or item), from its first attempt on."""
        return Attempts(self, self._rules)


class _Rules(NamedTuple):
    retry: retry_base
    wait: wait_base
    stop: stop_base | None


class Attempts:
    """What happened to one task so far. Not thread-safe: a task has one attempt at a time.

    Attributes:
        tries: attempts that failed; raised: because the task raised; lost: that were repeated from the other budget.
        started: when the first began (`time.monotonic`).
    """

    __slots__ = ("_policy", "_rules", "_state", "lost", "raised", "started", "tries")

    def __init__(self, policy: Retry, rules: _Rules) -> None:
        self._policy, self._rules = policy, rules
        self._state = tenacity.RetryCallState(tenacity.Retrying(), None, (), {})
        self.tries = self.raised = self.lost = 0
        self.started = monotonic()

    def failed(self, error: BaseException, *, lost: bool = False, culprit: bool = True) -> float | None:
        """Note a failed attempt; return the seconds to wait before the next one, or None if there is none.

        Args:
            error: what the attempt ended with.
            lost: its worker died, or it overran its time: it spends the other budget.
            culprit: False for an attempt that was ended beside the one at fault: it spends nothing.
        """
        self.tries += 1
        if lost:
            if self._policy.lost == 0 or (culprit and self.lost >= self._policy.lost):
                return None
            self.lost += culprit
        else:
            self.raised += 1
        state = self._state
        state.attempt_number = max(1, self.raised + (self.lost if lost else 0))
        state.set_exception((type(error), error, error.__traceback__))
        try:
            if not lost and not self._rules.retry(state):
                return None
            state.upcoming_sleep = delay = max(0.0, float(self._rules.wait(state)))
            if (not lost and self.raised >= self._policy.attempts) or (self._rules.stop and self._rules.stop(state)):
                return None
        finally:
            state.outcome = None  # it would keep the traceback, and with it the frames, alive
        state.idle_for += delay
        return delay


def as_retry(value: object) -> Retry | None:
    """Take what `retry=` may be; 3 is short for three attempts with exponential waits."""
    if value is None or isinstance(value, Retry):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return Retry(value)
    raise ConfigError(f"retry={value!r} is not a Retry, a number of attempts, or None")


def _names(on: Any) -> str:
    """Write exception types as code does, and anything else as it is."""
    if isinstance(on, type):
        return on.__name__
    return f"({', '.join(map(_names, on))})" if isinstance(on, tuple | list) else repr(on)


def _count(name: str, value: object, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"Retry({name}={value!r}) is not a whole number from {least}")
    return value


def _predicate(on: Any) -> retry_base:
    if isinstance(on, retry_base):
        return on
    if isinstance(on, type):
        on = (on,)
    elif callable(on):
        return tenacity.retry_if_exception(on)
    types: tuple[object, ...] = tuple(on) if isinstance(on, Iterable) else (on,)
    for kind in types:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise ConfigError(f"Retry(on={on!r}): {kind!r} is not an exception type")
        if issubclass(kind, WorkerLostError | TaskTimeoutError):
            raise ConfigError(
                f"Retry(on=...) names {kind.__name__}, which is not raised by a task; lost workers and overrun tasks "
                "have a budget of their own: lost="
            )
    return tenacity.retry_if_exception_type(tuple(kind for kind in types if isinstance(kind, type)))


def _waiting(wait: object) -> wait_base:
    if wait is None or wait == "exponential":
        return _DEFAULT_WAIT
    if isinstance(wait, wait_base):
        return wait
    if _is_seconds(wait):
        return tenacity.wait_fixed(wait)
    raise ConfigError(
        f"Retry(wait={wait!r}) is not a number of seconds from 0, 'exponential', or a tenacity wait object"
    )


def _stopping(stop: object) -> stop_base | None:
    if stop is None or isinstance(stop, stop_base):
        return stop
    if _is_seconds(stop):
        return tenacity.stop_after_delay(stop)
    raise ConfigError(f"Retry(stop={stop!r}) is not a number of seconds from 0, or a tenacity stop object")


def _is_seconds(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf")
