"""The `thread` backend: calls run in threads of this process, those of the standard `ThreadPoolExecutor`."""

from __future__ import annotations

import concurrent.futures
import logging
import threading
from collections.abc import Sequence

from parapluie.backend import Backend, Call, Host, Stop

_log = logging.getLogger("parapluie")


class ThreadBackend(Backend):
    """Runs calls in up to max_workers threads. What runs cannot be killed: stopping waits for it."""

    def start(self, host: Host) -> None:
        self._host = host
        self._pool = concurrent.futures.ThreadPoolExecutor(host.max_workers, thread_name_prefix="parapluie-thread-worker")
        self._free = threading.Semaphore(2 * host.max_workers)
        self._futures: dict[int, concurrent.futures.Future[None]] = {}
        self._local = threading.local()

    def dispatch(self, calls: Sequence[Call], /) -> int:
        taken = 0
        for call in calls:
            if not self._free.acquire(blocking=False):
                break
            future = self._futures[call.id] = self._pool.submit(self._run, call)
            if future.done():  # it ended before it was noted
                self._futures.pop(call.id, None)
            taken += 1
        return taken

    def _run(self, call: Call) -> None:
        try:
            if self._prepared() and call.local is not None:
                call.local()
        finally:
            self._futures.pop(call.id, None)
            del call  # while room is made, the last reference to a task's arguments must not be here
            self._free.release()
            self._host.room(1)

    def _prepared(self) -> bool:
        if not hasattr(self._local, "ready"):
            self._local.ready = self._host.prepare()
        return bool(self._local.ready)

    def revoke(self, call_id: int, *, running: bool = False, item: int | None = None) -> bool:
        future = self._futures.get(call_id)
        if future is not None and future.cancel():
            self._futures.pop(call_id, None)
            self._free.release()
            return True
        return False

    def stop(self, stop: Stop) -> None:
        running = concurrent.futures.wait(list(self._futures.values()), 0 if stop.kill else stop.grace).not_done
        self._pool.shutdown(wait=not running, cancel_futures=True)
        if running:
            _log.warning(
                "parapluie: backend 'thread' did not stop within %s seconds: %d tasks still run, and threads cannot be "
                "killed", stop.grace, len(running),
            )  # fmt: skip

    def workers(self) -> tuple[str, ...]:
        return tuple(
            thread.name for thread in threading.enumerate() if thread.name.startswith("parapluie-thread-worker")
        )
