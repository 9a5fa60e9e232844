"""Opening replies: what the worker sealed becomes values and exceptions of this process, inside a guard."""

from __future__ import annotations

import pickle
from collections.abc import Sequence

from parapluie import answers, call_format
from parapluie.errors import RemoteError, RemoteTraceback, ResultPicklingError
from parapluie.records import NamedTuple
from parapluie.words import describe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


TaskId = int | str | None


class Failure(NamedTuple):
    """An item's failure.

    Attributes:
        error: the exception for the caller.
        raised: True if the task raised it, so that a retry policy's `on` decides about it.
        undone: True if the item did not come to its end: it was cancelled, or its executor ended or broke.
    """

    error: BaseException
    raised: bool = False
    undone: bool = False


def open_value(body: memoryview, buffers: Sequence[Any], task_id: TaskId) -> Any:
    """Unpickle a result, or return the `Failure` that says why that cannot be."""
    try:
        return pickle.loads(body, buffers=buffers)
    except BaseException as error:  # noqa: BLE001 - a result may raise, or exit, when read; it harms its own task only
        from parapluie.pool_errors import ResultUnpicklingError

        failure = ResultUnpicklingError(task_id, describe(error))
        failure.add_note(answers.format_error(error).rstrip())
        # Without its frames: they hold those of the engine's thread, and with them its pipes and semaphores.
        failure.__cause__ = error.with_traceback(None)
        return Failure(failure)


def open_failure(kind: int, body: memoryview, task_id: TaskId) -> Failure:
    """Open a segment that is not a value."""
    if kind == call_format.ERROR:
        return Failure(open_error(pickle.loads(body), task_id), raised=True)
    if kind == call_format.UNSENDABLE:
        problem, path, found = pickle.loads(body)
        return Failure(ResultPicklingError(task_id, problem, path=path, found=found))
    text = bytes(body).decode("utf-8", "replace")
    problem, _, trace = text.partition("\n")
    from parapluie.pool_errors import TaskUnpicklingError

    failure = TaskUnpicklingError(task_id, problem)
    failure.__cause__ = RemoteTraceback(trace)
    return Failure(failure)


def open_error(sealed: tuple[Any, ...], task_id: TaskId = None) -> BaseException:
    """Rebuild an exception that `answers.seal_error` sealed, with the worker's traceback as its cause."""
    data, name, text, trace, why = sealed
    error: BaseException | None = None
    if data is not None:
        try:
            error = pickle.loads(data)
        except BaseException as problem:  # noqa: BLE001 - it could be read back there and cannot here
            why = describe(problem)
    if not isinstance(error, BaseException):
        error = RemoteError(name, text, why, task_id=task_id)
    error.__cause__ = RemoteTraceback(trace)
    return error


_NOTE = "parapluie: "


def annotate(error: BaseException, text: str) -> None:
    """Add a note of ours, in place of an earlier one: one exception object may end several attempts."""
    notes = getattr(error, "__notes__", None)
    if isinstance(notes, list):
        notes[:] = [note for note in notes if not (isinstance(note, str) and note.startswith(_NOTE))]
    try:
        error.add_note(_NOTE + text)
    except (TypeError, AttributeError):  # an exception that refuses attributes goes without
        return
