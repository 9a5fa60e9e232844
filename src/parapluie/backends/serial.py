"""The `serial` backend: calls run in the thread that submits, before `submit` returns; made for debuggers."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence

import attrs

from parapluie import worker
from parapluie.backend import Backend, Call, Host, Stop


@attrs.frozen
class SerialOptions:
    """The options of `serial`.

    Attributes:
        pickle_round_trip: pickle tasks and results, as a backend with workers would, to find what cannot travel.
    """

    pickle_round_trip: bool = attrs.field(default=False, validator=attrs.validators.instance_of(bool))


class SerialBackend(Backend):
    """Runs calls in the caller, in order; those submitted by a running task run inside it."""

    Options = SerialOptions

    def start(self, host: Host) -> None:
        self._host = host
        self._queue: deque[Call] = deque()
        self._ready = False
        self._preparing = threading.Lock()

    def dispatch(self, calls: Sequence[Call], /) -> int:
        self._queue.extend(calls)
        return len(calls)

    def run_queued(self) -> None:
        if self._queue and not self._prepare():
            return
        while self._queue:
            try:
                call = self._queue.popleft()
            except IndexError:  # another thread took it
                return
            if call.local is not None:
                call.local()
            else:
                assert call.payload is not None
                reply = worker.run(call.payload, call.buffers, call.select, self._host.bootstrap)
                self._host.replied(call.id, *reply)
            self._host.room(1)

    def _prepare(self) -> bool:
        with self._preparing:
            if not self._ready and not self._host.bootstrap:
                self._ready = True
                return self._host.prepare()
        return True

    def revoke(self, call_id: int, *, running: bool = False, item: int | None = None) -> bool:
        del running, item  # what runs, runs in its caller
        for call in list(self._queue):
            if call.id == call_id:
                try:
                    self._queue.remove(call)
                except ValueError:  # it has just begun
                    return False
                return True
        return False

    def stop(self, stop: Stop) -> None:
        """End; nothing runs but in its caller."""
