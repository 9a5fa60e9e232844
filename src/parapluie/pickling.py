"""Preflight: bytes out, and the path to what cannot travel.

A serializer turns a value into bytes for `pickle.loads`, with large buffers out of band. Three are built in: `auto`
(the standard pickle, and by value what it cannot send), `pickle` (the standard one alone) and `cloudpickle` (by value
always). Their `buffer_callback` is called once pickling has succeeded, so that a buffer of a failed attempt is never
sent, and for large buffers alone; what it returns is ignored. Without one, everything is in band.

Workers load this module only to send what the standard pickle refuses, or to explain it.
"""

from __future__ import annotations

import pickle
from pickle import dumps

from parapluie.main_guard import main_is_importable
from parapluie.worker import large_ones

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from parapluie.culprit import Explanation

    BufferCallback = Callable[[pickle.PickleBuffer], object]
    Serializer = Callable[[object, BufferCallback | None], bytes]


def dumps_auto(value: object, buffer_callback: BufferCallback | None) -> bytes:
    """Pickle a task by the standard pickle, or by value where that fails or would not be found in the worker.

    Raises:
        Exception: what the standard pickle raised, if neither can.
    """
    buffers: list[pickle.PickleBuffer] = []
    try:
        data = dumps(value, 5, buffer_callback=buffer_callback and large_ones(buffers))
    except Exception as error:  # noqa: BLE001 - a `__reduce__` may raise anything
        try:
            return dumps_cloudpickle(value, buffer_callback)
        except Exception:  # noqa: BLE001 - what the standard pickle says is what users know
            raise error from None
    if b"__main__" in data and not main_is_importable():
        return dumps_cloudpickle(value, buffer_callback)
    _hand_over(buffers, buffer_callback)
    return data


def dumps_strict(value: object, buffer_callback: BufferCallback | None) -> bytes:
    """Pickle a task by the standard pickle alone.

    Raises:
        PicklingError: also if a function or class is in a `__main__` that workers cannot import.
    """
    buffers: list[pickle.PickleBuffer] = []
    data = dumps(value, 5, buffer_callback=buffer_callback and large_ones(buffers))
    if b"__main__" in data and not main_is_importable():
        name = _name_in_main(data)
        if name is not None:
            raise pickle.PicklingError(f"{name!r} {HIDDEN_MAIN}")
    _hand_over(buffers, buffer_callback)
    return data


HIDDEN_MAIN = (
    "is defined in a __main__ that workers cannot import (a prompt, a notebook or standard input); "
    "move it to a module or use serializer='auto'"
)


def _name_in_main(data: bytes) -> str | None:
    """Return the first name that the bytes look up in `__main__`; the text may also be mere data."""
    from pickletools import genops

    strings: list[Any] = []  # what has been pushed lately, None for anything but a string
    memo: list[Any] = []
    argument: Any
    for code, argument, _ in genops(data):
        if code.name == "MEMOIZE":
            memo.append(strings[-1] if strings else None)
        elif code.name == "STACK_GLOBAL":
            if strings[-2:-1] == ["__main__"]:
                return str(strings[-1])
            strings = [None]
        elif code.name.endswith("BINGET"):
            strings.append(memo[argument])
        elif code.name != "FRAME":
            strings.append(argument if "UNICODE" in code.name else None)
    return None


def dumps_cloudpickle(value: object, buffer_callback: BufferCallback | None) -> bytes:
    """Pickle a task by value."""
    return _dumps_by_value(value, buffer_callback, reply=False)


def dumps_by_value(value: object, buffer_callback: BufferCallback) -> bytes | None:
    """Pickle a result by value; None if that cannot be. Where it arrives, names of `__main__` keep their values."""
    try:
        return _dumps_by_value(value, buffer_callback, reply=True)
    except Exception:  # noqa: BLE001 - the caller has the standard pickle's error, which is the one to show
        return None


def _dumps_by_value(value: object, buffer_callback: BufferCallback | None, *, reply: bool) -> bytes:
    from parapluie import by_value

    buffers: list[pickle.PickleBuffer] = []
    data = by_value.dumps(value, buffer_callback and large_ones(buffers), reply=reply)
    _hand_over(buffers, buffer_callback)
    return data


def _hand_over(buffers: list[pickle.PickleBuffer], buffer_callback: BufferCallback | None) -> None:
    if buffer_callback is not None:
        for buffer in buffers:
            buffer_callback(buffer)


_SERIALIZERS: dict[str, Serializer] = {"auto": dumps_auto, "pickle": dumps_strict, "cloudpickle": dumps_cloudpickle}


def serializer(name: str) -> Serializer:
    """Return a built-in serializer.

    Raises:
        KeyError: if the name is none of "auto", "pickle" and "cloudpickle".
    """
    return _SERIALIZERS[name]


def explain(value: object, root: str, error: BaseException) -> Explanation:
    """Say why a value cannot be pickled: (problem, path, found), the path as `result.rows[3]`.

    Path and found (the type there) are None where no culprit can be found. Takes about a second at most, and raises
    nothing but KeyboardInterrupt.

    Args:
        value: what could not be pickled.
        root: what it is called in the path.
        error: what pickling it raised; quoted where no culprit can be found.
    """
    from parapluie.culprit import explain_parts

    return explain_parts([(root, value)], error)


def explain_task(
    function: object, args: tuple[object, ...], kwargs: dict[str, object], error: BaseException
) -> Explanation:
    """Say why a task cannot be pickled, as `explain`; the path begins with function, args[0] or kwargs['name']."""
    from parapluie.culprit import explain_parts

    parts = [("function", function)]
    parts += [(f"args[{index}]", value) for index, value in enumerate(args)]
    parts += [(f"kwargs[{name!r}]", value) for name, value in kwargs.items()]
    return explain_parts(parts, error)


def explain_item(item: object, index: int, error: BaseException) -> Explanation:
    """Say why an item of `map` cannot be pickled, as `explain`; the path begins with `item 17`."""
    return explain(item, f"item {index}", error)
