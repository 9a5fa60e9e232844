"""What a worker answers with: results and errors as segments, which are sure to be read back.

What cannot be is found here, where a failure harms nobody, and explained. Imports the standard library only.
"""

from __future__ import annotations

import pickle

from parapluie.call_format import ERROR, LARGE, PLAIN, SEGMENT, UNREADABLE, UNSENDABLE
from parapluie.words import HOSTILE, describe, text_of, type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

serializer = "auto"  # of the executor whose call runs; `worker.prepare` sets it


def seal_unreadable(error: BaseException, item: int, items: int, seconds: float) -> bytes:
    """Make the segment that answers what could not be unpickled here."""
    body = f"{describe(error)}\n{format_error(error)}".encode("utf-8", "replace")
    return SEGMENT.pack(UNREADABLE, item, items, seconds, len(body), 0) + body


def large_ones(buffers: list[pickle.PickleBuffer]) -> Callable[[pickle.PickleBuffer], bool]:
    """Return a `buffer_callback` that collects large buffers, and leaves small ones in band."""

    def is_small(buffer: pickle.PickleBuffer) -> bool:
        if memoryview(buffer).nbytes < LARGE:
            return True
        buffers.append(buffer)
        return False

    return is_small


def dumps(value: Any, out_of_band: list[memoryview] | None) -> bytes:
    """Pickle what this process sends: by the standard pickle, and where that fails, unless it is strict, by value.

    Args:
        out_of_band: gets the large buffers; None leaves them in band.
    """
    if type(value) in PLAIN:
        return pickle.dumps(value, 5)
    buffers: list[pickle.PickleBuffer] = []
    try:
        data = pickle.dumps(value, 5, buffer_callback=None if out_of_band is None else large_ones(buffers))
        if b"multiprocessing.connection" in data:
            from parapluie import pickling

            pickling.check_pipe_ends(value, data)
    except Exception:
        if serializer == "pickle":
            raise
        from parapluie import pickling

        buffers.clear()
        found = pickling.dumps_by_value(value, None if out_of_band is None else buffers.append)
        if found is None:
            raise
        data = found
    if out_of_band is not None:
        out_of_band.extend(buffer.raw() for buffer in buffers)  # raises if there are gaps in one
    return data


def seal(kind: int, value: Any, item: int, seconds: float) -> tuple[bytes, Sequence[memoryview]]:
    """Make the segment of one item: of its value, of the exception that it raised, or of why neither can travel."""
    out_of_band: list[memoryview] = []
    try:
        body = pickle.dumps(seal_error(value), 5) if kind == ERROR else dumps(value, out_of_band)
    except Exception as error:  # noqa: BLE001 - whatever pickling raised is explained to the parent
        from parapluie import pickling

        kind, out_of_band = UNSENDABLE, []
        body = pickle.dumps(pickling.explain(value, "result", error))
    except BaseException as error:  # noqa: BLE001 - a result may exit when pickled: then that is the answer
        kind, out_of_band = ERROR, []
        body = pickle.dumps(seal_error(error), 5)
    return SEGMENT.pack(kind, item, 1, seconds, len(body), len(out_of_band)) + body, out_of_band


def seal_error(error: BaseException) -> tuple[Any, ...]:
    """Turn an exception into plain data that surely survives: (pickled or None, type name, text, traceback, why).

    The exception is pickled and read back here, where a failure harms nobody: as it is; or else by its class,
    arguments and those attributes that survive, without calling `__init__`.
    """
    traceback_text = format_error(error)
    why = ""
    for attempt in (_pickle_error, _pickle_error_parts):
        try:
            data = attempt(error)
            if type(pickle.loads(data)) is type(error):
                return data, type_name(error), text_of(error), traceback_text, ""
            why = why or "it comes back as another type"
        except HOSTILE as problem:
            why = why or describe(problem)
    return None, type_name(error), text_of(error), traceback_text, why


def _pickle_error(error: BaseException) -> bytes:
    return pickle.dumps(error, 5)


def _pickle_error_parts(error: BaseException) -> bytes:
    # An attribute that cannot travel stays behind; the rest goes.
    state = {name: value for name, value in vars(error).items() if _travels(value)}
    args = tuple(value if _travels(value) else repr(value) for value in error.args)
    return pickle.dumps(_Parts(type(error), args, state), 5)


def _travels(value: Any) -> bool:
    try:
        pickle.loads(pickle.dumps(value, 5))
    except HOSTILE:  # the question is whether, not why
        return False
    return True


class _Parts:
    """Pickles as a call of `rebuild_error`."""

    def __init__(self, *parts: Any) -> None:
        self.parts = parts

    def __reduce__(self) -> tuple[Any, ...]:
        return rebuild_error, self.parts


def rebuild_error(cls: type[BaseException], args: tuple[Any, ...], state: dict[str, Any]) -> BaseException:
    """Make an exception whose `__init__` cannot be called with its `args`."""
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


def format_error(error: BaseException) -> str:
    """Return the traceback as text, with the chain of causes; without our own frames at its top."""
    import traceback

    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_globals.get("__name__") == "parapluie.worker":
        trace = trace.tb_next
    try:
        return "".join(traceback.format_exception(type(error), error, trace))
    except HOSTILE as problem:  # an exception whose __str__ raises still gets an answer
        return f"{type_name(error)}: its traceback cannot be formatted ({describe(problem)})\n"
