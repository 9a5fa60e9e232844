"""What the parent keeps of one worker: its process, its wire, its page, and the calls that it was given."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from time import monotonic

from parapluie import orphans
from parapluie.backend import Begun, Buffers, Call, Loss
from parapluie.backends.process import loop
from parapluie.backends.process.ports import pipe
from parapluie.backends.process.wire import STOP, Page, Wire, call_frame, frame
from parapluie.cpu_peers import cpu_peers
from parapluie.dumps import DumpFile
from parapluie.logs import log_settings
from parapluie.memory import peak_memory
from parapluie.shared_memory import shared_file
from parapluie.starting import ask_for_descriptors, start_lock, starting, wait_for_exit_code

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from parapluie.backend import Host
    from parapluie.backends.process.ports import Waiter
    from parapluie.backends.process.store import ReplyReader
    from parapluie.evidence import Evidence
    from parapluie.logs import LogPipe
    from parapluie.shared_memory import SharedFile

_QUIET_SECONDS = 0.005  # a worker with calls that is quiet for so long is looked after,
_QUIET_CHUNK_SECONDS = 0.01  # and one that runs a chunk after this, which is longer than a chunk that map has sized
_MOMENT = 0.01  # for which its lock is waited for where that may as well be done later
_LOCK_SECONDS = 0.2  # a worker holds its page's lock for microseconds; one that is stopped there never lets go


class Handle:
    """One worker, seen from the parent. Guarded by the engine's lock, but for what is said otherwise.

    Attributes:
        calls: given and not answered, by id, in the order in which the worker takes them. Ids grow from call to call.
        lent: the buffers of calls that it may hold, by the call's id.
        has_read: the parent has read buffers of its replies, and not told it yet.
        given: how many calls it was ever given. last: the id of the last one. last_cut: of the last that was cut.
        heard: when it last answered, or was looked after. last_given: when it last got something to do.
        behind: there may be something behind what it runs. patience: seconds of quiet until that is looked after.
        stuck: what it runs takes so long that the calls behind that were taken back; it gets none until it answers.
        ready: it has started and run its initializer.
        retiring: it gets no more calls.
        told: it was sent the sentinel. killed: by us, and why.
        news: frames that came, and that the host is told of before answers: READY, and LOGGED for log records.
        watched: the collector watches its pipe, but for what a caller attends. receiving: the collector reads from it.
        attendant: stands for the caller who waits at its pipe, if one does.
        dump: where its fault handler writes. peak_memory: in bytes, as it was last seen.
    """

    def __init__(
        self,
        number: int,
        host: Host,
        waiter: Waiter,
        calls: SharedFile | None,
        others: Sequence[Handle],
        logs: LogPipe,
    ) -> None:
        self.number = number
        context: Any = host.context
        method = context.get_start_method()
        with ExitStack() as undo:
            self.page = Page(method)
            undo.callback(self.page.close)
            ours, theirs = pipe(waiter)
            undo.callback(ours.close)
            self.dump = DumpFile()
            undo.callback(self.dump.close)
            self._reply_file = shared_file()
            inherited: list[int] = []
            if method == "fork":
                inherited += (*waiter.descriptors, *logs.descriptors, ours.fd)
                for other in others:
                    inherited += other.descriptors
            self.process: Any = context.Process(
                target=loop.main,
                # The dump file first: where the guard is missing, the rest may need a main module that is not there.
                args=(self.dump, theirs, self.page, host.bootstrap, inherited, (calls, self._reply_file)),
                kwargs={"peers": cpu_peers() * host.max_workers, "logs": (log_settings(), logs.end)},
                name=f"parapluie-process-{number}",
            )
            try:
                with starting(method):
                    ask_for_descriptors(ours.fd)
                    self.process.start()
                    orphans.bind(self.process)
            finally:
                theirs.close()
                self.page.sent()
            undo.pop_all()
        self.wire: Wire = Wire(ours)
        self.sentinel: int = self.process.sentinel
        self.pid: int = self.process.pid
        self.started = self.heard = self.last_given = monotonic()
        self.calls: dict[int, Call] = {}
        self.lent: dict[int, Buffers] = {}
        self._reader: ReplyReader | None = None
        self.has_read = False
        self.given = self.last = self.last_cut = 0
        self.serial = 0  # of the last reply that was taken
        self.ready = self.retiring = self.told = self.behind = self.stuck = False
        self.watched = self.receiving = False
        self.news: list[int] = []
        self.attendant: object = None
        self.killed = ""
        self.peak_memory: int | None = None
        self.patience = _QUIET_SECONDS
        self.pause = 0.0  # seconds between looks while it cannot be asked

    @property
    def name(self) -> str:
        """How messages call it."""
        return f"process-{self.pid}"

    @property
    def descriptors(self) -> tuple[int, ...]:
        """Those that another worker, if it is forked, need not hold."""
        return (self.wire.fd, *self._reply_file.descriptors)

    @property
    def active(self) -> bool:
        """Say whether it counts as one of the most workers that may run."""
        return bool(self.calls) or not self.retiring

    def give(self, calls: Sequence[Call]) -> bool:
        """Send calls in one write; False if something is left to flush."""
        if not self.calls:
            self._be_patient_with(calls[0])
        pieces: list[Any] = []
        for call in calls:
            self.calls[call.id] = call
            if call.buffers:
                self.lent[call.id] = call.buffers
            pieces += call_frame(call.id, call)
        self.given += len(calls)
        self.last = call.id
        return self.wire.send(pieces)

    def answered(self, now: float) -> None:
        """Note that it has answered."""
        self.heard = now
        self.stuck = False
        self.behind = self.has_more()
        for call in self.calls.values():
            self._be_patient_with(call)
            break

    def _be_patient_with(self, call: Call) -> None:
        self.patience = _QUIET_SECONDS if call.items == 1 else _QUIET_CHUNK_SECONDS

    def has_more(self) -> bool:
        """Say whether there may be sealed replies, or calls that have not begun, behind what the worker runs."""
        calls = self.calls
        return len(calls) > 1 or any(call.items > 1 and number != self.last_cut for number, call in calls.items())

    @property
    def attendable(self) -> bool:
        """Say whether a caller may wait at its pipe: for the answer to its only call, with nothing else in the way."""
        return (
            len(self.calls) == 1
            and self.ready
            and self.watched
            and not (self.receiving or self.retiring or self.wire.torn or self.wire.unsent or self.wire.in_a_frame)
        )

    def busy_for(self, now: float) -> float | None:
        """Return for how many seconds the worker has been at the call that it runs; None if it runs none."""
        number, _, _, began = self.page.mark()
        return now - began if number in self.calls else None

    def send_sentinel(self) -> bool:
        """Tell it to end behind what it was given; False if something is left to flush."""
        self.told = self.retiring = True
        return self.wire.send([frame(STOP)])

    def begun(self, number: int) -> Begun | None:
        """Read the mark of a call. Any thread, no lock: a worker's own mark is written in one go."""
        begun, item, _, at = self.page.mark()
        return Begun(item, at) if begun == number and number in self.calls else None

    def take_back(self) -> dict[int, Call]:
        """Withdraw all that has not begun, and return it; nothing if the worker cannot be asked."""
        if not self.page.lock.acquire(timeout=_LOCK_SECONDS):
            return {}
        try:
            begun = self.page.mark()[0]
            self.page.withdraw(self.last)
        finally:
            self.page.lock.release()
        taken = {number: call for number, call in self.calls.items() if number > begun}
        for number in taken:
            del self.calls[number]
            self.lent.pop(number, None)
        return taken

    def freed(self, numbers: Iterable[int]) -> None:
        """Note that the worker holds nothing of these calls' buffers any more."""
        for number in numbers:
            self.lent.pop(number, None)

    def read_buffers(self, buffers: Iterable[Any]) -> list[bytearray]:
        """Copy the buffers of a reply out of shared memory. Takes its time: not under the engine's lock."""
        if self._reader is None:
            from parapluie.backends.process.store import ReplyReader

            self._reader = ReplyReader(self._reply_file)
        self.has_read = True
        return self._reader.read(buffers)

    def tell_read(self) -> None:
        """Tell the worker that it may use the memory of all replies that were taken."""
        self.has_read = False
        if self.page.lock.acquire(timeout=_MOMENT):  # else the next reply says it
            try:
                self.page.have_read(self.serial)
            finally:
                self.page.lock.release()
        if not self.calls and self._reader is not None:
            self._reader.tidy()

    def cut(self, number: int | None = None) -> tuple[int, int] | None:
        """Have the chunk that runs end before the items that have not begun.

        Args: number: only if it is that call.
        Returns: the call and the first of those items; None if there are none, or if the worker cannot be asked.
        """
        if all(call.items == 1 for call in self.calls.values()) or not self.page.lock.acquire(timeout=_LOCK_SECONDS):
            return None
        try:
            begun, _, stop, _ = self.page.mark()
            call = self.calls.get(begun)
            if call is None or begun == self.last_cut or (number is not None and begun != number):
                return None
            # Items run in ascending order, in the ranges of a selection as well.
            if stop >= (call.select[-1].stop if call.select else call.items):
                return None
            self.page.cut(begun, stop)
        finally:
            self.page.lock.release()
        self.last_cut = begun
        return begun, stop

    def kill_at(self, number: int, item: int | None, why: str) -> bool:
        """Kill the worker if it is at that call, and at that item if one is given."""
        locked = self.page.lock.acquire(timeout=_LOCK_SECONDS)  # else it was stopped in there, and cannot go on either
        try:
            begun, at_item, _, _ = self.page.mark()
            if begun != number or number not in self.calls or (item is not None and at_item != item):
                return False
            self.killed = why
            self.process.kill()
            return True
        finally:
            if locked:
                self.page.lock.release()

    def sealed_replies(self, patience: float = _LOCK_SECONDS) -> bytes | None:
        """Return the frames that the worker has sealed and perhaps not written; None if it cannot be asked."""
        locked = self.page.lock.acquire(timeout=patience)
        try:
            return self.page.replies() if locked or not self.process.is_alive() else None
        finally:
            if locked:
                self.page.lock.release()

    def note_memory(self) -> None:
        """Note how much memory it has used at most; not while it is only being started. Any thread, no lock."""
        if self.ready:
            self.peak_memory = peak_memory(self.pid) or self.peak_memory

    def losses(self, evidence: Evidence) -> list[tuple[Call, Loss]]:
        """Say what became of the calls that a dead worker leaves; the last given first, so they go back in order."""
        begun, _, stop, at = self.page.mark()
        exit_code = self.process.exitcode
        lost = []
        for number, call in reversed(self.calls.items()):
            if number > begun:
                loss = Loss(began=False, worker=self.name, pid=self.pid, exit_code=exit_code)
            else:
                loss = Loss(
                    began=True,
                    items=range(stop),
                    exit_code=exit_code,
                    worker=self.name,
                    pid=self.pid,
                    why=self.killed,
                    peak_memory=self.peak_memory,
                    dump=evidence.dump,
                    oom=evidence.oom,
                    at=at,
                )
            lost.append((call, loss))
        self.calls.clear()
        return lost

    def reap(self) -> None:
        """Wait for the end of a worker that is dead or dying, and for its exit code.

        Each start of a process, in any thread, polls all children. Of two that poll at a time, one gets nothing, and
        with forkserver a wrong exit code; so none of ours may start meanwhile, and for those of others there is a wait.
        """
        with start_lock():
            self.process.join()
        wait_for_exit_code(self.process)

    def close(self) -> None:
        """Let go of a worker that has ended."""
        # Its semaphore goes now, and not with the handle, which a traceback may hold: what is collected as garbage some
        # time later may be so in the middle of the resource tracker, which refuses that.
        self.page.close()
        self.lent.clear()
        self._reader = None
        del self._reply_file
        self.wire.close()
        self.dump.close()
        with suppress(ValueError):  # somebody else has taken its exit code, so it is believed to be alive
            self.process.close()
