"""What passes between a process and the server of shared objects.

    who ─────▶ pickled (token of the process, pid)    WELCOME ◀─
    request ─▶ pickled (target, name, args)           answer ◀─ a kind, and a pickle
    LATE ────▶ the caller waits no longer             (the request's answer follows, whatever it is)
    UNDO ────▶ the caller was interrupted: what his last operation gave him is taken back, and the connection closed
    ALONE ───▶ nothing runs beside the caller: if he has to wait, it is for ever, and an error (the answer, then)
    ONE_WAY and a request ─▶ as a request (no answer)
    FLUSH ───▶                                        answer ◀─ what one-way requests failed with since the last one

Both sides prove to each other that they have the key before anything is unpickled. It is multiprocessing's own: it
reaches children through the pipe by which they are started, and no other way.
"""

from __future__ import annotations

import pickle
from contextlib import suppress

from parapluie.answers import seal_error
from parapluie.replies import open_error
from parapluie.words import describe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LATE = b"L"
UNDO = b"U"
WELCOME = b"W"
ALONE = b"A"
ONE_WAY = b"O"
FLUSH = b"F"
_VALUE, _ERROR, _PLAIN_ERROR = b"V", b"E", b"P"
_VALUE_KIND, _PLAIN_KIND = _VALUE[0], _PLAIN_ERROR[0]

# Operations of the hub itself: its number is no object's.
HUB = 0


def seal_value(value: Any) -> bytes:
    """Make an answer of a value."""
    return _VALUE + pickle.dumps(value, 5)


def seal_failure(error: BaseException) -> bytes:
    """Make an answer of an exception; with its traceback if code of the user's has raised it."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    raised_by = "" if trace is None else str(trace.tb_frame.f_globals.get("__name__"))
    if raised_by.startswith("parapluie.state"):
        with suppress(Exception):  # the key of a KeyError may be anything
            return _PLAIN_ERROR + pickle.dumps(error)
    return _ERROR + pickle.dumps(seal_error(error))


def open_answer(answer: bytes) -> Any:
    """Return what an answer says, or raise it.

    Raises:
        Exception: what the operation raised; or what is raised here when its value is read back.
    """
    body = memoryview(answer)[1:]
    if answer[0] == _VALUE_KIND:
        return pickle.loads(body)
    if answer[0] == _PLAIN_KIND:
        raise pickle.loads(body)
    raise open_error(pickle.loads(body))


def failure_text(answer: bytes) -> str:
    """Say in a line what an answer fails with."""
    try:
        open_answer(answer)
    except Exception as error:  # noqa: BLE001 - that is what is asked for
        return describe(error)
    return ""
