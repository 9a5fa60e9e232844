"""The trap of too few workers: all of them wait in channels, for tasks that wait for a worker.

A look once a second, while tasks that hold channels have not ended, finds it. Nobody is told before it has lasted; a
warning then says what to change. While the executor is being shut down nothing but its tasks could still help, so that
those that wait fail then, and what is queued runs.
"""

from __future__ import annotations

import logging
import time
from collections import Counter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from parapluie.dispatch import Dispatcher
    from parapluie.policies.clock import Clock
    from parapluie.sharing.inside import Inside
    from parapluie.work import Work

_log = logging.getLogger("parapluie")
_LOOK_SECONDS = 1.0
_LOOKS = 2  # in a row that find the same, until it is told


class Starvation:
    """Looks for the trap in one executor."""

    def __init__(self, dispatcher: Dispatcher, inside: Inside, works: dict[int, Work], clock: Clock) -> None:
        """Make one; works: the dispatcher's own container of all that is open."""
        self._dispatcher, self._inside, self._works, self._clock = dispatcher, inside, works, clock
        self._looks = 0
        self._will_look = self._told = False

    def look_soon(self) -> None:
        """Begin to look, unless it has begun."""
        if not self._will_look:
            self._will_look = True
            self._clock.at(time.monotonic() + _LOOK_SECONDS, self._look)

    def _look(self) -> None:
        self._will_look = False
        if not self._inside.held:
            return
        self.look_soon()
        starved = self._starved()
        self._looks = self._looks + 1 if starved else 0
        if self._looks < _LOOKS:
            return
        channels = ", ".join(f"channel {target}" for target in sorted(starved))
        workers = f"all {self._dispatcher.max_workers} workers of backend {self._dispatcher.backend!r}"
        task = min(starved.values(), key=str)
        why = f"{workers} wait in channels ({channels}), and task {task}, which could help them, waits for a worker"
        if self._dispatcher.closing:
            for target in starved:
                self._inside.starve(target, why)
        elif not self._told:
            self._told = True
            _log.warning("parapluie: %s. Submit first what others wait for, or have more workers", why)

    def _starved(self) -> dict[int, int | str]:
        """Return the channels in which tasks wait, each with a task that has it and cannot begin; {} if all is well."""
        open_works = Counter(work.inside.ticket for work in list(self._works.values()) if work.inside is not None)
        if open_works.total() <= self._dispatcher.max_workers:
            return {}  # nobody waits for a worker
        # Lists, since other threads make channels and submit meanwhile.
        waiting = {target: self._inside.waiting(target) for target in list(self._inside.channels)}
        waits = Counter(ticket for tickets in waiting.values() for ticket in tickets if ticket is not None)
        # Who waits runs. A task may wait in several threads, and a map in several tasks.
        running = sum(min(count, open_works[ticket]) for ticket, count in waits.items())
        if running < self._dispatcher.max_workers:
            return {}
        starved: dict[int, int | str] = {}
        for ticket, targets in list(self._inside.held.items()):
            if open_works[ticket] > waits[ticket]:
                starved |= {target: ticket for target in list(targets) if waiting.get(target) and target not in starved}
        return starved
