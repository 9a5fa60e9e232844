"""The shared objects of one executor, and who waits for what: a state machine under one lock.

    caller ── call(target, name, args) ──▶ operation of an object ──▶ value ──▶ caller
                                             │ cannot be done yet
                                             ▼
                                           Wait, in the object's line ── tried again behind every operation ──▶ caller

No thread waits in here. Whoever called goes on waiting where he is, for an answer or for the end of his patience; so a
process that dies while it waits leaves nothing behind, and what a dead process held is known and let go of.
"""

from __future__ import annotations

import logging
import threading
from itertools import count

from parapluie.state_errors import SharedStateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, ClassVar

_log = logging.getLogger("parapluie")

NOT_YET: Any = object()  # what an attempt returns that has to be made again


class Process:
    """A process that uses shared objects.

    Attributes:
        pid: its id. callers: how many of its callers are connected.
        concerns: the objects that are to be told of its end.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.callers = 0
        self.concerns: set[Served] = set()


class Caller:
    """Somebody who calls one operation at a time.

    Attributes:
        process: to which it belongs.
        undo: takes back what its last operation gave it; called if the caller says that it does not want that.
    """

    def __init__(self, process: Process) -> None:
        self.process = process
        self.undo: Callable[[], Served] | None = None

    def seal(self, value: Any) -> Any:
        """Make of a value what is given to the caller; called under the hub's lock, since values may change later."""
        return value

    def is_gone(self) -> bool:
        """Say whether nobody is there any more to take an answer. Called under the hub's lock."""
        return False

    def answered(self, sealed: Any, *, failed: bool) -> None:
        """Take the answer to an operation that had to wait; failed: sealed is an exception. Any thread, no lock."""
        raise NotImplementedError


class Wait:
    """An operation that cannot be done yet.

    Args:
        attempt: tries, and returns a value, or NOT_YET. It may raise.
        late: called when the caller's patience is at its end; returns a value, or NOT_YET, if it has to wait longer.
    """

    def __init__(self, attempt: Callable[[], Any], late: Callable[[], Any]) -> None:
        self.attempt, self.late = attempt, late
        self.caller: Caller
        self.served: Served
        self.name = ""  # of the operation
        self.over = False


class Served:
    """A shared object. Its operations are the methods named in `operations`, called with the caller first."""

    operations: ClassVar[frozenset[str]] = frozenset()

    def __init__(self) -> None:
        self.kind = self.label = ""  # the label is for messages; the hub names both
        self.line: list[Wait] = []  # first come, first served

    def perform(self, caller: Caller, name: str, args: Sequence[Any]) -> Any:
        """Do an operation; return its value, or a `Wait`."""
        if name not in self.operations:
            raise AttributeError(f"{self.label} has no operation {name!r}")
        return getattr(self, name)(caller, *args)

    def left(self, process: Process) -> str:
        """A process that this concerns has ended: let go of what it held. Return what is to be told of it, or ""."""
        del process
        return ""


Answers = list[tuple[Caller, "Any", bool]]


class Hub:
    """All shared objects of an executor.

    Thread safety: any thread. Blocking: for the lock, which is held for one operation; user code that is applied to a
    value runs under it.
    """

    def __init__(self, tell: Callable[[str], None] = _log.warning) -> None:
        """Make one; tell: called with what somebody should know of a process that ended."""
        self._lock = threading.Lock()
        self.tell = tell
        self._numbers = count(1)
        self._objects: dict[int, Served] = {}
        self._names: dict[str, int] = {}

    # ---- objects ----------------------------------------------------------------------------------------------

    def add(self, kind: str, served: Served, name: str | None = None) -> int:
        """Take an object of a kind, under a name if it has one; return its number."""
        with self._lock:
            if name is not None and name in self._names:
                raise SharedStateError(f"there is a shared object named {name!r} already")
            target = next(self._numbers)
            self._objects[target] = served
            served.kind = kind
            served.label = f"{kind} {target}" if name is None else f"{kind} {name!r}"
            if name is not None:
                self._names[name] = target
            return target

    def find(self, name: str) -> tuple[str, int]:
        """Return the kind and the number of a named object."""
        with self._lock:
            target = self._names.get(name)
            if target is None:
                known = ", ".join(map(repr, sorted(self._names))) or "none"
                raise SharedStateError(f"there is no shared object named {name!r}; named objects: {known}")
            return self._objects[target].kind, target

    def drop(self, target: int) -> None:
        """Let go of an object; who waits for it is told."""
        with self._lock:
            served = self._objects.pop(target, None)
            self._names = {name: number for name, number in self._names.items() if number != target}
            waits = [] if served is None else served.line[:]
            for wait in waits:
                _leave(wait)
        for wait in waits:
            wait.caller.answered(_dropped(wait.served.label), failed=True)

    # ---- operations -------------------------------------------------------------------------------------------

    def call(self, caller: Caller, target: int, name: str, args: Sequence[Any]) -> Any:
        """Do an operation for a caller; return what it has sealed, or a `Wait`, whose answer it will be given.

        Raises:
            SharedStateError: if the object was dropped.
            Exception: what the operation raises.
        """
        answers: Answers = []
        try:
            with self._lock:
                caller.undo = None
                served = self._objects.get(target)
                if served is None:
                    raise _dropped(f"shared object {target}")
                try:
                    outcome = served.perform(caller, name, args)
                    if not isinstance(outcome, Wait):
                        return caller.seal(outcome)
                    outcome.caller, outcome.served, outcome.name = caller, served, name
                    served.line.append(outcome)
                    return outcome
                finally:  # what fails may let go of something, too
                    if served.line:
                        _settle(served, answers)
        finally:
            _give(answers)

    def give_up(self, wait: Wait) -> None:
        """Have an operation answered that its caller waits for no longer; what has been answered by now stays so."""
        answers: Answers = []
        with self._lock:
            if not wait.over:
                _answer(wait, wait.late, answers)
                _settle(wait.served, answers)
        _give(answers)

    def forget(self, wait: Wait) -> None:
        """Forget what a caller waits for, who is gone."""
        answers: Answers = []
        with self._lock:
            if not wait.over:
                _answer(wait, wait.late, [])  # a barrier breaks, for one
            if not wait.over:
                _leave(wait)
            _settle(wait.served, answers)
        _give(answers)

    def endless(self, wait: Wait) -> SharedStateError | None:
        """Forget what a caller waits for, beside whom nothing runs; return the error for him, or None if it is over."""
        if wait.over:
            return None
        self.forget(wait)
        return SharedStateError(
            f"{wait.name}() of {wait.served.label} would wait for ever: nothing else runs in this program that could "
            "end the wait. On backend 'serial' tasks run one after another; use another one, or a timeout"
        )

    def undo(self, caller: Caller) -> None:
        """Take back what a caller's last operation gave it, who was interrupted before he could take it."""
        answers: Answers = []
        with self._lock:
            if caller.undo is not None:
                served = caller.undo()
                caller.undo = None
                _settle(served, answers)
        _give(answers)

    def left(self, process: Process) -> None:
        """Let go of all that a process held, which has ended."""
        answers: Answers = []
        told = []
        with self._lock:
            for served in list(process.concerns):
                news = served.left(process)
                if news:
                    told.append(news)
                _settle(served, answers)
            process.concerns.clear()
        _give(answers)
        for news in told:
            self.tell(news)


def _settle(served: Served, answers: Answers) -> None:
    """Try what waits, in order, again and again until nothing of it can be done."""
    again = True
    while again:
        again = False
        for wait in served.line[:]:
            if not wait.over:
                again = _answer(wait, wait.attempt, answers) or again


def _answer(wait: Wait, attempt: Callable[[], Any], answers: Answers) -> bool:
    """Make an attempt; if it comes to an end, so does the wait."""
    failed = False
    try:
        value = attempt()
        if value is NOT_YET:
            return False
        caller = wait.caller
        if caller.undo is not None and caller.is_gone():  # the news of it is still on its way
            caller.undo()
            _leave(wait)
            return True
        value = caller.seal(value)
    except Exception as error:  # noqa: BLE001 - it is the caller's
        value, failed = error, True
    _leave(wait)
    answers.append((wait.caller, value, failed))
    return True


def _leave(wait: Wait) -> None:
    wait.over = True
    wait.served.line.remove(wait)


def _give(answers: Answers) -> None:
    """Give answers, outside of the lock: to write to a connection may take a while."""
    for caller, value, failed in answers:
        caller.answered(value, failed=failed)


def _dropped(label: str) -> SharedStateError:
    return SharedStateError(f"{label} was dropped, or was made by another executor")
