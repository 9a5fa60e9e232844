"""The timeout policy: an attempt that runs longer than `task_timeout` is ended with its worker.

Counted from when the worker began it, by the worker's mark, so that waiting in a queue costs nothing. Nothing is sent
for it: a call's mark is looked at when it could have overrun at the earliest, and again when it would.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from parapluie.backend import Begun
    from parapluie.policies.clock import Clock


class Timeouts:
    """Watches dispatched calls that have a time limit.

    Args:
        clock: calls the looks.
        open_call: says whether a call is still unanswered.
        begun: reads a call's mark.
        overran: ends a call at an item; False if it had just gone on, so that a new look is needed.
    """

    _AGAIN = 0.005  # seconds until the next look, where a kill could not be confirmed

    def __init__(
        self,
        clock: Clock,
        *,
        open_call: Callable[[int], bool],
        begun: Callable[[int], Begun | None],
        overran: Callable[[int, int, float], bool],
    ) -> None:
        self._clock, self._open, self._begun, self._overran = clock, open_call, begun, overran

    def watch(self, call_id: int, limit: float) -> None:
        """Watch a call that has just been dispatched; limit in seconds for each of its items."""
        self._clock.at(monotonic() + limit, self._look, call_id, limit)

    def _look(self, call_id: int, limit: float) -> None:
        if not self._open(call_id):
            return
        begun = self._begun(call_id)
        now = monotonic()
        due = now + limit if begun is None else begun.at + limit
        if begun is not None and due <= now:
            if self._overran(call_id, begun.item, limit):
                return
            due = now + self._AGAIN
        self._clock.at(due, self._look, call_id, limit)
