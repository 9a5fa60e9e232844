"""The thread that waits for all workers of the cells at once: for their getting ready, and for their death."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing import Pipe
from typing import TYPE_CHECKING, Any

from parapluie import waits

if TYPE_CHECKING:
    from parapluie.cell_engine import Engine
    from parapluie.logs import LogPipe

_log = logging.getLogger("parapluie")

_BURY_SECONDS = 0.5  # that the watcher lends to the threads of one engine at a time
_AGAIN_SECONDS = 0.1  # until it looks again after those that needed longer


class Watcher:
    """Watches engines from their start until they are buried.

    Args:
        logs: drained when there is something in it, and closed at the end.
        ready: called in the watcher's thread with an engine whose worker has become ready.
        ended: called with an engine whose worker is dead, before it is buried.
    """

    def __init__(
        self,
        name: str,
        logs: LogPipe,
        *,
        ready: Callable[[Engine], None],
        ended: Callable[[Engine], None],
    ) -> None:
        self._logs, self._ready, self._ended = logs, ready, ended
        self._changed = threading.Condition(threading.RLock())  # guards the next five
        self._engines: list[Engine] = []
        self._woken = False
        self._ending = False
        self._closed = False
        self._wake_reader, self._wake_writer = Pipe(duplex=False)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()  # from the start: at interpreter exit there are no new threads

    def engines(self) -> tuple[Engine, ...]:
        """Return the engines that are not buried."""
        with self._changed:
            return tuple(self._engines)

    def add(self, engine: Engine) -> None:
        """Watch another engine."""
        with self._changed:
            self._engines.append(engine)
            self._wake()

    def wait_gone(self, seconds: float) -> bool:
        """Wait until every worker has ended and every engine is buried.

        Not for an engine whose thread is in a callback of the user's, who may be waiting for this very end.
        """
        with self._changed:
            return self._changed.wait_for(self._gone, seconds)

    def _gone(self) -> bool:
        return all(engine.ended and engine.is_answering() for engine in self._engines)

    def stop(self) -> None:
        """End the thread, once nothing is left to watch."""
        with self._changed:
            self._ending = True
            self._wake()
            lingering = bool(self._engines)
        if not lingering and threading.current_thread() is not self._thread:
            self._thread.join()

    def _wake(self) -> None:
        if not self._woken and not self._closed:
            self._woken = True
            self._wake_writer.send_bytes(b"")

    def _run(self) -> None:
        while self._engines or not self._ending:
            try:
                self._round()
            except Exception:  # noqa: BLE001 - without its watcher the backend would lose calls
                _log.exception("parapluie: the watcher of workers failed; it goes on")
                time.sleep(_AGAIN_SECONDS)
        with self._changed:
            self._closed = True
            self._wake_reader.close()
            self._wake_writer.close()
        self._logs.close()

    def _round(self) -> None:
        engines = self.engines()
        handles: list[Any] = [self._wake_reader]
        handles += [engine.process.sentinel for engine in engines if not engine.ended]
        if self._logs.reader is not None:
            handles.append(self._logs.reader)
        handles += [engine.context.ready for engine in engines if engine.context.ready is not None]
        ready = set(waits.wait(handles, self._patience(engines)))
        if self._wake_reader in ready:
            with self._changed:
                self._wake_reader.recv_bytes()
                self._woken = False
        if self._logs.reader in ready:  # None is not
            self._logs.drain()
        for engine in engines:
            self._look_after(engine, ready)

    def _patience(self, engines: Sequence[Engine]) -> float | None:
        if any(engine.ended for engine in engines):
            return _AGAIN_SECONDS
        deadlines = [engine.deadline for engine in engines if engine.context.ready is not None]
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None

    def _look_after(self, engine: Engine, ready: set[Any]) -> None:
        if not engine.ended:
            died = engine.process.sentinel in ready
            if engine.note_ready():
                self._ready(engine)
            if not died:
                engine.kill_if_late(time.monotonic())
                return
            engine.reap()
            self._ended(engine)
            with self._changed:
                self._changed.notify_all()
        if engine.bury(_BURY_SECONDS):
            with self._changed:
                self._engines.remove(engine)
                self._changed.notify_all()
