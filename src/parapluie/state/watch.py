"""A thread of this process for what may be put off a moment, and no longer: it does it if nobody else has by then."""

from __future__ import annotations

import logging
import os
import threading
from time import sleep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class PutOff(Protocol):
        """What is looked after."""

        def moment_passed(self) -> bool:
            """Do what has been put off for long enough; return whether nothing is left to look after."""

        def forget(self) -> None:
            """In a forked child: what was put off is the parent's."""


_log = logging.getLogger("parapluie")
_SECONDS = 0.001
_IDLE_SECONDS = 0.1  # with nothing to look after, until the thread ends


class Watch:
    """Looks after things, in a thread that is there while there are some."""

    def __init__(self) -> None:
        self._all: set[PutOff] = set()
        self._asked: PutOff | None = None  # it may be of them, or not, while it is asked
        self._some = threading.Event()
        self._lock = threading.RLock()  # guards the next ones; re-entrant, since a signal handler may come in between
        self._thread: threading.Thread | None = None
        self._possible = True

    def is_possible(self) -> bool:
        """Say whether things can be looked after."""
        if self._thread is None and self._possible:
            self._start()
        return self._possible

    def _start(self) -> None:
        with self._lock:
            if self._thread is not None:
                return
            thread = threading.Thread(target=self._run, name="parapluie-channels", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the interpreter is ending, or there are too many: then nothing is put off
                self._possible = False
            else:
                self._thread = thread

    def look_after(self, thing: PutOff) -> bool:
        """Have a thing asked, about every millisecond, until nothing is left; False if that is not possible."""
        self._all.add(thing)
        self._some.set()
        return self.is_possible()

    def _run(self) -> None:
        while self._some.wait(_IDLE_SECONDS) or not self._is_over():
            self._some.clear()
            while self._all:
                sleep(_SECONDS)
                for thing in list(self._all):
                    self._ask(thing)

    def _is_over(self) -> bool:
        with self._lock:
            if not self._all:  # who adds to them now finds no thread, and starts another one
                self._thread = None
            return self._thread is None

    def _ask(self, thing: PutOff) -> None:
        self._asked = thing
        self._all.discard(thing)  # before it is asked: it may be added again meanwhile
        try:
            done = thing.moment_passed()
        except Exception:  # noqa: BLE001 - a defect of ours must not keep the others from their time
            _log.exception("parapluie: %r failed in the channels' thread", thing)
            done = True
        if not done:
            self._all.add(thing)
        self._asked = None

    def forked(self) -> None:
        """In a forked child, which has no such thread: forget all."""
        for thing in (*self._all, self._asked):
            if thing is not None:
                thing.forget()
        self.__init__()  # type: ignore[misc]


watch = Watch()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=watch.forked)
