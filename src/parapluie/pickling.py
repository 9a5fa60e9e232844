"""Preflight: bytes out, and the path to what cannot travel.

A serializer turns a value into bytes for `pickle.loads`, with large buffers out of band. Three are built in: `auto`
(the standard pickle, and by value what it cannot send), `pickle` (the standard one alone) and `cloudpickle` (by value
always). Their `buffer_callback` is called once pickling has succeeded, so that a buffer of a failed attempt is never
sent, and for large buffers alone; what it returns is ignored. Without one, everything is in band.

Workers load this module only to send what the standard pickle refuses, or to explain it.
"""

from __future__ import annotations

import pickle
import sys
from functools import partial
from pickle import dumps

from parapluie.answers import large_ones
from parapluie.main_guard import main_is_importable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from parapluie.culprit import Explanation

    BufferCallback = Callable[[pickle.PickleBuffer], object]
    Serializer = Callable[[object, BufferCallback | None], bytes]


def dumps_auto(value: object, buffer_callback: BufferCallback | None, *, imports_main: bool = True) -> bytes:
    """Pickle a task by the standard pickle, or by value where that fails or would not be found in the worker.

    Args:
        imports_main: workers import the program's main file, if it is one that can be imported.

    Raises:
        Exception: what the standard pickle raised, if neither can.
    """
    buffers: list[pickle.PickleBuffer] = []
    try:
        data = dumps(value, 5, buffer_callback=buffer_callback and large_ones(buffers))
        check_pipe_ends(value, data)
    except Exception as error:  # noqa: BLE001 - a `__reduce__` may raise anything
        try:
            return dumps_cloudpickle(value, buffer_callback)
        except Exception:  # noqa: BLE001 - what the standard pickle says is what users know
            raise error from None
    if b"__main__" in data and not (imports_main and main_is_importable()):
        return dumps_cloudpickle(value, buffer_callback)
    _hand_over(buffers, buffer_callback)
    return data


def dumps_strict(value: object, buffer_callback: BufferCallback | None, *, imports_main: bool = True) -> bytes:
    """Pickle a task by the standard pickle alone; imports_main as for `dumps_auto`.

    Raises:
        PicklingError: also if a function or class is in a `__main__` that workers do not import.
    """
    buffers: list[pickle.PickleBuffer] = []
    data = dumps(value, 5, buffer_callback=buffer_callback and large_ones(buffers))
    check_pipe_ends(value, data)
    if b"__main__" in data and not (imports_main and main_is_importable()):
        name = _name_in_main(data)
        if name is not None:
            raise pickle.PicklingError(f"{name!r} {HIDDEN_MAIN}")
    _hand_over(buffers, buffer_callback)
    return data


HIDDEN_MAIN = (
    "is defined in a __main__ that workers do not import (such as a prompt, a notebook or standard input); "
    "move it to a module or use serializer='auto'"
)


def _name_in_main(data: bytes) -> str | None:
    """Return the first name that the bytes look up in `__main__`; the text may also be mere data."""
    return next((name for module, name in names_in(data) if module == "__main__"), None)


def names_in(data: bytes) -> Iterator[tuple[str, str]]:
    """Yield what pickled bytes look up where they are read: the name of a module, and a name there."""
    from pickletools import genops

    strings: list[Any] = []  # what has been pushed lately, None for anything but a string
    memo: list[Any] = []
    argument: Any
    for code, argument, _ in genops(data):
        if code.name == "MEMOIZE":
            memo.append(strings[-1] if strings else None)
        elif code.name == "STACK_GLOBAL":
            if len(strings) > 1:
                yield str(strings[-2]), str(strings[-1])
            strings = [None]
        elif code.name.endswith("BINGET"):
            strings.append(memo[argument])
        elif code.name != "FRAME":
            strings.append(argument if "UNICODE" in code.name else None)


_PIPES = "multiprocessing.connection"
_PIPES_BYTES = _PIPES.encode()


def check_pipe_ends(value: object, data: bytes) -> None:
    """Refuse the end of a multiprocessing pipe in what the standard pickle has pickled, which takes it for plain data.

    What arrived would have the number of a descriptor that is another one there, and would close it in the end.

    Raises:
        PicklingError: if there is one.
    """
    if _PIPES in sys.modules and _PIPES_BYTES in data:  # it may also be a text, or the class
        _WithoutPipeEnds(_Nowhere(), 5, buffer_callback=lambda _: None).dump(value)


def refuse_pipe_end(value: object) -> None:
    """Raise PicklingError if a value is the end of a multiprocessing pipe."""
    kind = type(value)
    if kind.__module__ == _PIPES and kind.__name__ in {"Connection", "PipeConnection"}:
        raise pickle.PicklingError(f"cannot pickle {kind.__name__!r} object")


class _WithoutPipeEnds(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        refuse_pipe_end(value)
        return NotImplemented


class _Nowhere:
    def write(self, data: Any) -> int:
        return len(data)


def dumps_cloudpickle(value: object, buffer_callback: BufferCallback | None) -> bytes:
    """Pickle a task by value."""
    return _dumps_by_value(value, buffer_callback, reply=False)


def dumps_by_value(value: object, buffer_callback: BufferCallback | None) -> bytes | None:
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
_WITHOUT_MAIN: dict[str, Serializer] = {
    **_SERIALIZERS,
    "auto": partial(dumps_auto, imports_main=False),
    "pickle": partial(dumps_strict, imports_main=False),
}


def serializer(name: str, *, imports_main: bool = True) -> Serializer:
    """Return a built-in serializer, for workers that import the program's main file or do not.

    Raises:
        KeyError: if the name is none of "auto", "pickle" and "cloudpickle".
    """
    return (_SERIALIZERS if imports_main else _WITHOUT_MAIN)[name]


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
