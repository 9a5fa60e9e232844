"""Relief of workers: what one of them has not begun is taken back, for others to run, or for nobody.

    caller ── revoke ───────────────────▶┐        ┌── calls ──▶ _returning ──▶ host.lost, unless revoked meanwhile
                                         ├─ page ─┤
    collector ── look_after, end_torn ──▶┘        └── items ──▶ _cut ──▶ collector ──▶ host.returned
    collector ── dead ── what a dead worker leaves ──▶ _returning, or telling if it has begun ──▶ host.lost

Between taking a call off a worker and telling the host there is a moment in which no worker has it. It is nowhere lost:
it is in one of these containers then, where `revoke` looks too. What is in `telling` has begun, its answer is on its
way, and it cannot be withdrawn any more; what is in `_returning` has not begun, and can.
"""

from __future__ import annotations

from parapluie.backend import Loss

TYPE_CHECKING = False
if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from parapluie.backend import Call, Host
    from parapluie.backends.process.handle import Handle
    from parapluie.backends.process.workers import Workers

_IDLE_SECONDS = 0.1  # a worker that begins nothing for so long is relieved by one that is idle
_LOOK_SECONDS = 0.02  # for which a quiet worker's lock is waited for
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0  # between two looks at a worker that was stopped where it holds its lock


class Relief:
    """Takes back what workers have not begun. Guarded by the engine's lock; the host is told outside of it.

    Attributes:
        telling: calls whose answer the host is just being told; the collector's to change.

    Args:
        take_page: takes the replies that were found in a worker's page.
        seconds: returns how long calls take. surprised: is told that one takes longer than that.
        want_room: has the engine announce room, since there are calls that wait for it. wake: wakes the collector.
    """

    def __init__(
        self,
        lock: threading.RLock,
        host: Host,
        workers: Workers,
        *,
        take_page: Callable[[Handle, bytes | None], None],
        seconds: Callable[[], float],
        surprised: Callable[[], None],
        want_room: Callable[[], None],
        wake: Callable[[], None],
    ) -> None:
        self._lock, self._host, self._workers = lock, host, workers
        self._take_page, self._seconds, self._surprised = take_page, seconds, surprised
        self._want_room, self._wake = want_room, wake
        self.telling: list[int] = []
        self._returning: dict[int, Call] = {}  # taken back, and the host not told yet
        self._cut: dict[int, int] = {}  # calls that end before an item, and the host not told yet

    # ---- for who cancels --------------------------------------------------------------------------------------

    def revoke(self, call_id: int, *, running: bool = False, item: int | None = None) -> bool:
        """Withdraw a call, or end it with its worker; see `Backend.revoke`."""
        with self._lock:
            if call_id in self.telling:
                return False
            handle = self._workers.holder(call_id)
            if handle is None:
                self._returning.pop(call_id, None)
                return True
            if running and handle.kill_at(call_id, item, "killed on purpose"):
                return True
            taken = self._take_back(handle)
            withdrawn = self._returning.pop(call_id, None) is not None
            if not withdrawn and not running:
                self._cut_short(handle, call_id)
        self._return(taken)  # also if that one has begun: what was taken back with it is not the worker's any more
        return withdrawn

    # ---- calls, and items of a chunk --------------------------------------------------------------------------

    def _take_back(self, handle: Handle) -> list[Call]:
        taken = handle.take_back()
        self._returning.update(taken)
        return list(taken.values())

    def _return(self, calls: list[Call]) -> None:
        """Give calls that have not begun back to the host, the last first, so that they keep their order."""
        for call in reversed(calls):
            if self._returning.pop(call.id, None) is not None:  # else it was revoked meanwhile
                self._host.lost(call.id, Loss(began=False, why="taken back"))
        if calls:
            self._want_room()

    def _cut_short(self, handle: Handle, call_id: int | None = None) -> bool:
        """Take back what has not begun of the chunk that a worker runs; the collector tells the host."""
        cut = handle.cut(call_id)
        if cut is None:
            return False
        self._cut[cut[0]] = cut[1]
        self._wake()
        return True

    def tell_cut(self) -> None:
        """Tell the host what was taken back of begun chunks. The collector's, so that it is before their last reply."""
        while self._cut:
            self._host.returned(*self._cut.popitem())

    # ---- for the collector ------------------------------------------------------------------------------------

    def look_after(self, handle: Handle, now: float) -> None:
        """Read a quiet worker's sealed replies, and take back what is held up behind what it runs."""
        if handle.ready:
            replies = handle.sealed_replies(_LOOK_SECONDS)
            if replies is None:  # stopped just where it holds its lock: to ask takes time that others need
                handle.pause = min(2 * handle.pause or _FIRST_PAUSE, _LONGEST_PAUSE)
                handle.heard = now + handle.pause
                return
            handle.pause = 0.0
            self._take_page(handle, replies)
        with self._lock:
            handle.heard = now
            handle.behind = not handle.ready or handle.has_more()
            held_up = handle.behind and self._holds_up(handle, now)
            taken = self._take_back(handle) if held_up else []
            cut = held_up and self._cut_short(handle)
            if taken or cut:
                handle.stuck = True
                self._surprised()
            if taken or cut or (held_up and handle.ready and len(handle.calls) == 1):  # else there is nothing to take
                handle.behind = False
        if held_up and handle.ready:  # it may have sealed more before it was asked, and from now on nobody looks
            self._take_page(handle, handle.sealed_replies(_LOOK_SECONDS))
        self.tell_cut()
        self._return(taken)

    def _holds_up(self, handle: Handle, now: float) -> bool:
        """Say whether what a quiet worker has not begun had better run elsewhere.

        That is where others have nothing to do, and else when the call, or the item of a chunk, takes longer than calls
        did so far. One that has begun nothing of what it was given is starting, reading, or was not let run: it is only
        relieved by another one that is ready, and never in the middle of a message, which would have to be written once
        more.
        """
        idle, active = False, 0
        for other in self._workers.handles.values():
            idle = idle or (other.ready and not other.calls and not other.retiring)
            active += other.active
        seconds = handle.busy_for(now)
        if seconds is not None:
            return idle or active < self._host.max_workers or seconds > 2 * self._seconds()
        patience = _IDLE_SECONDS if handle.ready else 0.0
        return idle and not handle.wire.unsent and now - handle.last_given > patience

    def end_torn(self, handle: Handle) -> None:
        """End a worker whose stream is broken off in the middle of a frame: it must not read any further."""
        with self._lock:
            taken = self._take_back(handle)
            if not handle.calls:
                handle.told = True
                handle.killed = "its stream was interrupted"
                handle.process.kill()
        self._return(taken)

    def dead(self, losses: list[tuple[Call, Loss]]) -> None:
        """Take what a dead worker leaves, under the lock; `tell_losses` follows."""
        self.telling[:] = [call.id for call, loss in losses if loss.began]
        self._returning.update((call.id, call) for call, loss in losses if not loss.began)

    def tell_losses(self, losses: list[tuple[Call, Loss]]) -> None:
        """Tell the host what a dead worker leaves."""
        self.tell_cut()
        for call, loss in losses:
            if loss.began or self._returning.pop(call.id, None) is not None:
                self._host.lost(call.id, loss)
        self.telling.clear()
