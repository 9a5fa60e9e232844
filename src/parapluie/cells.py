"""Cells: an engine of one worker each, so that a worker's death has no bystanders.

    dispatch ──▶ cell "pool-0" ── engine ── worker process      one call at a time; its reply comes in a thread
             ──▶ cell "pool-1" ── engine ── worker process      of the engine, and goes to the host from there
    watcher  ◀── ready, or dead: every engine that has not been buried, in a cell or not

Engines start when a call needs them. One that dies, or is worn by `max_tasks_per_child`, leaves its cell at once; the
next call there starts another one, and the watcher buries the old one.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, ClassVar

from parapluie import call_format, stdlib_private
from parapluie.backend import Backend, Begun, Call, Host, Loss, Stop
from parapluie.cell_engine import Engine, Job, Reply
from parapluie.cell_watch import Watcher
from parapluie.evidence import OomKills, early_end, evidence_of
from parapluie.fork_threads import warn_of_threads
from parapluie.logs import log_pipe
from parapluie.main_guard import told_by_worker
from parapluie.starting import start_lock, threads_beside
from parapluie.words import describe

_log = logging.getLogger("parapluie")

_REPLY_SECONDS = 5.0  # that an engine has, after its worker's death, to hand over a reply that was sent before
_KILL_SECONDS = 10.0  # that the system has to end a process that was killed
_MOST_NOT_REACHED = 3  # workers that may die before they come to a call
_FIRST_KIND = call_format.REPLY.size  # where in a reply the kind of its first segment is


class Cell:
    """A place for one engine. The backend's lock guards its attributes."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.engine: Engine | None = None
        self.job: Job | None = None  # until it is answered, and the host knows


class CellBackend(Backend):
    """What the backends over the standard library's engines share."""

    engine_class: ClassVar[type[Engine]]
    prefix: ClassVar[str]

    def start(self, host: Host) -> None:
        self._host = host
        self._lock = threading.RLock()  # re-entrant, for what interrupts us: signal handlers, finalizers
        self._cells = [Cell(f"{self.prefix}-{number}") for number in range(host.max_workers)]
        self._sending = 0  # calls that are being sent; guarded by _lock, as is the next one
        self._stopping = False
        self._unreached: dict[int, tuple[bytes | None, int]] = {}  # by the payload's id; its count
        self._method = host.context.get_start_method()
        self._oom_kills = OomKills()
        self._logs = log_pipe(host)
        name = f"parapluie-{self.prefix}-watch"
        try:
            self._watcher = Watcher(name, self._logs, ready=self._ready, ended=self._ended)
        except BaseException:
            self._logs.close()
            raise

    def workers(self) -> tuple[str, ...]:
        return tuple(cell.name for cell in self._cells if cell.engine is not None)

    def revoke(self, call_id: int, *, running: bool = False, item: int | None = None) -> bool:
        for cell in self._cells:
            job = cell.job
            if job is not None and job.call_id == call_id:  # it may begin at any moment, and only a death would end it
                return running and self._kill(cell, job, item)
        return True

    def _kill(self, cell: Cell, job: Job, item: int | None) -> bool:
        """End a call, and if an item is given only at that item, with its worker, which has no other call."""
        with self._lock:
            engine = cell.engine
            if engine is None or engine.job is not job or job.settled:
                return False
            if item is not None and ((marked := engine.begun(job)) is None or marked.item != item):
                return False
            job.doomed = True
        engine.why = engine.why or "it was killed to end the task"
        engine.kill()
        return True

    def begun(self, call_id: int) -> Begun | None:
        for cell in self._cells:  # without the lock: a signal handler may ask, in the midst of ours
            engine, job = cell.engine, cell.job
            if engine is not None and job is not None and job.call_id == call_id:
                marked = engine.begun(job)
                return None if marked is None else Begun(marked.item, marked.at)
        return None

    # ---- calls on their way out -------------------------------------------------------------------------------

    def dispatch(self, calls: Sequence[Call], /) -> int:
        taken = itertools.takewhile(self._take, calls)
        return sum(1 for _ in taken)

    def _take(self, call: Call) -> bool:
        job = Job(call.id, call.payload)
        claimed = self._claim(job)
        if claimed is None:
            return False
        cell, engine = claimed
        try:
            if engine is None and (threads := threads_beside(self._method)):
                warn_of_threads(threads, self._host)
            return self._send(cell, engine, job, (call.payload, call.buffers, call.select, self._host.bootstrap))
        except BaseException as error:  # Ctrl-C in the midst of it
            self._interrupted(cell, job, error)
            raise
        finally:
            with self._lock:
                self._sending -= 1

    def _claim(self, job: Job) -> tuple[Cell, Engine | None] | None:
        """Find a place for a call: a cell, and its idle worker; None for one whose worker is to be started."""
        with self._lock:
            free = [cell for cell in self._cells if cell.job is None]
            if not free or self._stopping:
                return None
            for cell in free:
                if cell.engine is not None and not cell.engine.is_alive():
                    cell.engine = None  # it died while it was idle, and the watcher is about to find out
            cell = next((cell for cell in free if cell.engine is not None), free[0])
            cell.job = job
            if cell.engine is not None:
                cell.engine.job = job  # while it cannot be detached: whoever finds its worker dead finds the call, too
            self._sending += 1
            return cell, cell.engine

    def _send(self, cell: Cell, engine: Engine | None, job: Job, args: tuple[Any, ...]) -> bool:
        if engine is not None:
            try:
                engine.send(job, args)
            except Exception as error:  # noqa: BLE001 - it broke a moment ago; what it raises is its own affair
                engine.refused = True
                engine.fail(job, error)  # the watcher reports the call, if it has not yet
            return True
        try:
            self._open(cell, job, args)
        except Exception as error:  # noqa: BLE001 - no process, no thread, no memory: the host decides
            return self._not_started(cell, job, error)
        return True

    def _open(self, cell: Cell, job: Job, args: tuple[Any, ...]) -> None:
        engine = self.engine_class(cell.name, self._host, self._logs, answer=self._replied)
        try:
            with start_lock():  # from the first pipe on: no worker may inherit another one's ends
                engine.open()
                cell.engine = engine
                engine.send(job, args)
        except BaseException as error:
            if engine.pid is None:
                cell.engine = None
                engine.discard()
                raise
            engine.fail(job, error)  # there is a worker: its end is the answer
            if not isinstance(error, Exception):
                raise
        finally:
            if engine.pid is not None:
                self._watcher.add(engine)
        if self._stopping:
            engine.told = True
            engine.close()

    def _not_started(self, cell: Cell, job: Job, error: Exception) -> bool:
        """Leave a call to the other workers if it is refused one of its own; without others the host is to know."""
        with self._lock:
            cell.job = None
            if any(other.job is not None for other in self._cells):
                return False  # room is announced when one of them is done
        why = f"no worker could be started: {describe(error)}"
        self._host.start_failed(why, error)
        self._host.lost(job.call_id, Loss(began=False, worker=cell.name, why=why))
        return True

    def _interrupted(self, cell: Cell, job: Job, error: BaseException) -> None:
        """Sort out a call whose sending was interrupted: if an engine may have it, its worker ends and tells."""
        engine = cell.engine
        if engine is not None and engine.job is job:
            engine.fail(job, error)
        elif self._settle(job):
            cell.job = None

    # ---- answers ----------------------------------------------------------------------------------------------

    def _settle(self, job: Job, *, replied: bool = False) -> bool:
        """Return True to the one caller that may answer the call.

        A reply that comes while its worker is being killed is dropped: who asked for that counts on the loss.
        """
        with self._lock:
            if job.settled or (replied and job.doomed):
                return False
            job.settled = True
            return True

    def _replied(self, engine: Engine, job: Job, reply: Reply) -> None:
        """Hand over a reply. Runs in the engine's thread, which reads no other reply until it returns."""
        if not self._settle(job, replied=True):
            return
        payload, buffers, logged = reply
        try:
            if logged:
                self._logs.drain()
            self._unreached.pop(id(job.payload), None)
            self._host.replied(job.call_id, payload, buffers)
        finally:  # whatever comes out of that, the worker has answered
            self._retire_if_worn(engine, refuses=payload[_FIRST_KIND] == call_format.INIT)
            self._free(job)
            self._host.room(1)

    def _retire_if_worn(self, engine: Engine, *, refuses: bool) -> None:
        """Count a call. A worker whose initializer failed will refuse the next one too, so it is replaced as well."""
        engine.job = None
        engine.calls += 1
        limit = self._host.max_tasks_per_child
        worn = limit is not None and engine.calls >= limit
        # At the end of the interpreter no other engine could be started: rather a worn one than none.
        if refuses or (worn and not stdlib_private.interpreter_is_ending()):
            self._detach(engine)
            engine.told = True
            engine.close()

    def _detach(self, engine: Engine) -> Job | None:
        """Give an engine no further call; return the one that it has."""
        with self._lock:
            for cell in self._cells:
                if cell.engine is engine:
                    cell.engine = None
            return engine.job

    def _free(self, job: Job) -> None:
        with self._lock:
            for cell in self._cells:
                if cell.job is job:
                    cell.job = None

    # ---- what the watcher tells, in its thread ----------------------------------------------------------------

    def _ready(self, engine: Engine) -> None:
        if engine.initialised:  # else its first call is answered with the initializer's failure
            self._host.started()
            self._host.worker_started(f"{self._host.backend}-{engine.pid}", engine.pid)

    def _ended(self, engine: Engine) -> None:
        """Answer for the call of a dead worker, unless its reply has come or is still to be read."""
        if engine.pid is not None:
            self._logs.worker_died(engine.pid)
        job = self._detach(engine)
        if job is not None and not job.settled:
            engine.wait_drained(_REPLY_SECONDS)
        unanswered = job is not None and self._settle(job)
        self._host.worker_ended(
            f"{self._host.backend}-{engine.pid}",
            engine.pid,
            exit_code=engine.exit_code,
            lost=unanswered or not engine.told,
            why=engine.why,
        )
        if job is not None and unanswered:
            self._report(engine, job)
            self._free(job)
            self._host.room(1)

    def _report(self, engine: Engine, job: Job) -> None:
        engine.job = None  # first, or else it looks as if a reply were being handed over, and nobody waits for that
        exit_code, why = engine.exit_code, engine.why
        found = evidence_of(exit_code, engine.context.dump, self._oom_kills, ours=bool(why))
        marked = engine.begun(job)
        began, items = self._begun(engine, job)
        if not (engine.ready or self._stopping or job.doomed):
            who = f"worker {engine.name} (pid {engine.pid})"
            cause = told_by_worker(engine.context.dump)
            self._host.start_failed(early_end(who, exit_code, found, why), cause)
        loss = Loss(
            began=began,
            items=items,
            exit_code=exit_code,
            worker=engine.name,
            pid=engine.pid,
            why=why,
            dump=found.dump,
            oom=found.oom,
            at=None if marked is None else marked.at,
        )
        self._host.lost(job.call_id, loss)

    def _begun(self, engine: Engine, job: Job) -> tuple[bool | None, range | None]:
        """Say whether a dead worker had begun its call, and which items of it.

        What had not begun is dispatched again. So that this has an end, a call that several workers did not come to,
        or that their engines could not carry, counts as one of which it is not known.
        """
        marked = engine.begun(job)
        if marked is None and (not engine.ready or engine.refused):
            return False, None  # a worker that was not ready has failed to start, which is counted
        key = id(job.payload)  # the call has another number each time
        _, count = self._unreached.pop(key, (None, 0))
        if marked is not None:
            return True, range(marked.stop)
        if count + 1 >= _MOST_NOT_REACHED:
            return None, None
        self._unreached[key] = job.payload, count + 1
        return False, None

    # ---- the end ----------------------------------------------------------------------------------------------

    def stop(self, stop: Stop) -> None:
        """End all engines. May be called again, and while it runs: with `kill` that hurries it."""
        with self._lock:
            self._stopping = True
        self._wait_sent(stop.grace)
        self._each("kill" if stop.kill else "close")
        if not stop.kill and not self._watcher.wait_gone(stop.grace):
            self._force("terminate", f"did not end within {stop.grace:g} seconds; terminated")
            if not self._watcher.wait_gone(stop.grace):
                self._force("kill", f"did not end within {2 * stop.grace:g} seconds; killed")
        if not self._watcher.wait_gone(_KILL_SECONDS):
            self._each("abandon")
        self._watcher.stop()

    def _wait_sent(self, seconds: float) -> None:
        """Wait for a thread that is starting a worker just now; rarely met, and milliseconds if it is."""
        deadline = time.monotonic() + seconds
        while self._sending and time.monotonic() < deadline:
            time.sleep(0.005)

    def _each(self, action: str) -> None:
        for engine in self._watcher.engines():
            engine.told = True
            with suppress(Exception):  # it may end at this very moment; the next step is harder
                getattr(engine, action)()

    def _force(self, action: str, why: str) -> None:
        for engine in self._watcher.engines():
            if engine.is_alive():
                who = f"worker {engine.name} (pid {engine.pid}) of backend {self._host.backend!r}"
                _log.warning("parapluie: %s %s", who, why)
                engine.why = engine.why or f"it {why} at shutdown"
        self._each(action)
