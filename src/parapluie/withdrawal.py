"""The withdrawal of work: it is taken back from wherever it is, being cancelled, or ended for its time limit.

    Task.cancel, ChunkPart.cancel ─▶ withdraw ─┬─ waits or rests: pop it from _queued
                                               ├─ in flight: Backend.revoke, and pop it from _in_flight
                                               └─ begun: it is to be awaited, or is killed with its worker ──▶ lost
    Dispatcher._fill ─▶ watch ─▶ policies/timeout.py, on the clock ─▶ _overran: killed with its worker ──────▶ lost

Both containers are the dispatcher's: who pops work from one of them has it to himself, so nothing here takes a lock.
Work whose worker is killed comes back as lost, and carries a note of why (`withdrawn`, `overrun`).
"""

from __future__ import annotations

import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from parapluie.dispatch import Dispatcher
    from parapluie.policies.timeout import Timeouts
    from parapluie.work import Work


class Withdrawal:
    """Takes work back, from the dispatcher's queue and from its backend.

    Args:
        queued, in_flight: the dispatcher's own containers.

    Thread safety: `withdraw`, from any thread; it may wait for another one that is just handing over the work.
    """

    def __init__(self, dispatcher: Dispatcher, queued: dict[int, Work], in_flight: dict[int, Work]) -> None:
        self._dispatcher, self._engine = dispatcher, dispatcher.engine
        self._queued, self._in_flight = queued, in_flight
        self._timeouts: Timeouts | None = None  # made when the first task has a limit

    def withdraw(self, work: Work, *, running: bool = False) -> bool:
        """Take work back from wherever it is; True if it will not run again and nobody else will end it."""
        while self._queued.pop(work.id, None) is None:
            call_id = work.call_id  # read once: it is another one as soon as the work is dispatched again
            if call_id not in self._in_flight:
                if work.id not in self._queued and work.call_id == call_id:
                    return False
            elif work.sent:
                withdrawn = self._withdraw_sent(work, call_id, running=running)
                if withdrawn is not None:
                    return withdrawn
            elif self._dispatcher.filler == threading.get_ident():
                return False  # this very thread was interrupted in the middle of dispatching it
            else:
                time.sleep(0.0002)  # another thread is just handing it to the backend
        return True

    def _withdraw_sent(self, work: Work, call_id: int, *, running: bool) -> bool | None:
        """Withdraw work from the backend; None if it has just come back from there, and has to be looked for again."""
        if self._engine.revoke(call_id):
            if self._in_flight.pop(call_id, None) is None:
                return None
            self._dispatcher.room(1)
            return True
        if not running:
            return False
        work.withdrawn = True  # before the kill, so that the loss that it makes is not taken for one to be repeated
        if self._kill(call_id):
            return True
        work.withdrawn = False
        if call_id in self._in_flight:
            return False
        self._queued.pop(work.id, None)  # it was answered, or lost, in this very moment: no further attempt
        return True

    def _kill(self, call_id: int) -> bool:
        if not self._dispatcher.settings.capabilities.kills_running_task:
            return False
        return self._engine.revoke(call_id, running=True) and call_id in self._in_flight

    def watch(self, call_id: int, limit: float) -> None:
        """End a call that was just dispatched when one of its items has run for longer than limit, in seconds."""
        if self._timeouts is None:
            if self._dispatcher.clock is None:
                return  # it runs in the caller: nobody can end it
            from parapluie.policies.timeout import Timeouts

            self._timeouts = Timeouts(
                self._dispatcher.clock,
                open_call=self._in_flight.__contains__,
                begun=self._dispatcher.begun,
                overran=self._overran,
            )
        self._timeouts.watch(call_id, limit)

    def _overran(self, call_id: int, item: int, limit: float) -> bool:
        work = self._in_flight.get(call_id)
        if work is None or work.withdrawn:
            return True
        work.overrun = (item, limit)
        if self._engine.revoke(call_id, running=True, item=item):
            return True
        work.overrun = None
        return False
