"""The `thread` backend: calls run in threads of this process.

    dispatch ─▶ pending (to withdraw is to pop it here) and queue ─▶ worker threads ─▶ Call.local

Its threads are its own, and not those of `ThreadPoolExecutor`, because that one refuses work at interpreter exit
before what was submitted is done.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Sequence
from queue import SimpleQueue
from time import monotonic

from parapluie.backend import Backend, Call, Host, Stop
from parapluie.cpu_peers import cpu_peers, share_cpus

_log = logging.getLogger("parapluie")
_executors = itertools.count(1)


class ThreadBackend(Backend):
    """Runs calls in up to max_workers threads, started as they are needed. What runs cannot be killed."""

    def start(self, host: Host) -> None:
        self._host = host
        self._name = f"parapluie-worker-{next(_executors)}"
        self._queue: SimpleQueue[int | None] = SimpleQueue()  # call ids; None ends a thread
        self._pending: dict[int, Call] = {}  # queued and not begun
        self._threads: list[threading.Thread] = []  # appended to by dispatch alone
        self._free = threading.Semaphore(2 * host.max_workers)
        self._idle = threading.Semaphore(0)  # threads that wait for a call, minus calls on their way to them
        self._peers = cpu_peers() * host.max_workers
        self._stopping = False

    def dispatch(self, calls: Sequence[Call], /) -> int:
        taken = 0
        for call in calls:
            if self._stopping or not self._free.acquire(blocking=False):
                break
            self._pending[call.id] = call
            self._queue.put(call.id)
            taken += 1
            if not self._idle.acquire(blocking=False) and len(self._threads) < self._host.max_workers:
                self._start_thread()
        return taken

    def _start_thread(self) -> None:
        thread = threading.Thread(target=self._work, name=f"{self._name}_{len(self._threads)}", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # too many, or the interpreter is ending: those that there are go on
            if not self._threads:
                self._host.start_failed(f"a thread could not be started: {error}", error)
        else:
            self._threads.append(thread)
            if self._stopping:  # `stop` may not have seen it
                self._queue.put(None)

    def _work(self) -> None:
        share_cpus(self._peers, thread=True)
        if not self._host.prepare():
            return
        name = threading.current_thread().name
        self._host.worker_started(name)
        while (call_id := self._queue.get()) is not None:
            call = self._pending.pop(call_id, None)
            if call is not None and call.local is not None:
                call.local()
                del call  # whoever waits for room must not find a task's arguments alive here
                self._free.release()
            self._idle.release()
            self._host.room(1)
        self._host.worker_ended(name)

    def revoke(self, call_id: int, *, running: bool = False, item: int | None = None) -> bool:
        del running, item  # threads cannot be killed
        if self._pending.pop(call_id, None) is None:
            return False
        self._free.release()
        return True

    def stop(self, stop: Stop) -> None:
        self._stopping = True
        for _ in self._threads:
            self._queue.put(None)
        deadline = monotonic() + (0.0 if stop.kill else stop.grace)
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, deadline - monotonic()))
        running = sum(thread.is_alive() for thread in self._threads)
        if running and not stop.kill:
            _log.warning(
                "parapluie: backend 'thread' did not stop within %s seconds: %d of %d workers still running; "
                "threads cannot be killed", stop.grace, running, len(self._threads),
            )  # fmt: skip

    def workers(self) -> tuple[str, ...]:
        return tuple(thread.name for thread in self._threads if thread.is_alive())
