"""Hostile objects: they cannot be pickled, or not read back, or do harm when somebody tries."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from parapluie.testing import processes
from parapluie.testing.tasks import note, wait_at, wait_for_ever

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class NeedsTwo(Exception):  # noqa: N818
    """Cannot be made again from its args."""

    def __init__(self, name: str, place: str) -> None:
        super().__init__(f"{name} at {place}")
        self.name, self.place = name, place


def fail_needing_two() -> None:
    raise NeedsTwo("pump", "cellar")


class HoldsLock(Exception):  # noqa: N818
    """Has an attribute that cannot be pickled, and one that can."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock, self.code = threading.Lock(), 17


def fail_holding_lock() -> None:
    raise HoldsLock("held")


def fail_locally() -> None:
    class LocalError(Exception):
        pass

    raise LocalError("nobody can import me")


class Speechless(Exception):  # noqa: N818
    """Cannot say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no words")

    __repr__ = __str__


def fail_speechless() -> None:
    raise Speechless(1)


class Unreadable(Exception):  # noqa: N818
    """Can be pickled, and not be read back."""

    def __reduce__(self) -> Any:
        return explode, ("an exception",)


def fail_unreadably() -> None:
    raise Unreadable("the text")


class Client:
    """Holds a lock, deep inside of an argument."""

    def __init__(self) -> None:
        self._lock = threading.Lock()


class Holder:
    def __init__(self) -> None:
        self.client = Client()


def explode(what: str) -> None:
    raise LookupError(f"{what} is not to be read back")


class Bomb:
    """Can be pickled; reading it back raises."""

    def __reduce__(self) -> Any:
        return explode, ("a bomb",)


class ReadsBack:
    """Comes back as the gate's port; but the time of that number it never ends to be read."""

    def __init__(self, path: str, port: int, hangs: int) -> None:
        self.path, self.port, self.hangs = path, port, hangs

    def __reduce__(self) -> Any:
        return read_back, (self.path, self.port, self.hangs)


def read_back(path: str, port: int, hangs: int) -> Any:
    note(path)
    if Path(path).stat().st_size == hangs:
        wait_for_ever(port)
    return port


class ReadsBackLate:
    """Waits at the gate for the one that is first to read it back, and cannot be read then; is 1 for all others.

    Args: path (of a file that the first one makes).
    """

    def __init__(self, path: str, port: int) -> None:
        self.path, self.port = path, port

    def __reduce__(self) -> Any:
        return read_back_late, (self.path, self.port)


def read_back_late(path: str, port: int) -> Any:
    if _is_first(path):
        wait_at(port, "reading")
        explode("what waited")
    return 1


def _is_first(path: str) -> bool:
    """Say whether nobody asked before, in any process."""
    try:
        Path(path).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


class QuitsWhenPickled:
    def __reduce__(self) -> Any:
        raise SystemExit("pickled")


class Hostile:
    """A task, an argument or a result that does harm when it is pickled, or when it is read back.

    Args:
        when: "pickled" or "read back".
        harm: "error", "exit" or "crash".
    """

    def __init__(self, when: str, harm: str) -> None:
        self.when, self.harm = when, harm

    def __call__(self) -> None:
        """Do nothing: it is a task, too."""

    def __reduce__(self) -> Any:
        if self.when == "pickled":
            do(self.harm)
        return do, (self.harm,)


class HostileError(Exception):
    """An exception that does the same."""

    def __init__(self, when: str, harm: str) -> None:
        super().__init__(f"{harm} when {when}")
        self.when, self.harm = when, harm

    __reduce__ = Hostile.__reduce__


def do(harm: str) -> None:
    if harm == "error":
        raise LookupError("hostile")
    if harm == "exit":
        sys.exit("hostile")
    processes.crash()


def return_hostile(when: str, harm: str) -> Hostile:
    return Hostile(when, harm)


def raise_hostile(when: str, harm: str) -> None:
    raise HostileError(when, harm)


def give_lock() -> Any:
    return {"rows": [1, threading.Lock()]}


def give_bomb() -> Any:
    return Bomb()


def give_lambda() -> Any:
    return lambda number: number + 1


def lock_if_odd(number: int) -> Any:
    return threading.Lock() if number % 2 else number


def bomb_if_odd(number: int) -> Any:
    return Bomb() if number % 2 else number
