"""What a journal makes of items, values and errors: digests, bytes, and back.

The bytes are pickles: open only journals that you trust, as with every pickle.
"""

from __future__ import annotations

import functools
import io
import marshal
import pickle
import sys
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parapluie import answers, pickling
from parapluie.errors import JournalError
from parapluie.replies import open_error
from parapluie.words import describe

if TYPE_CHECKING:
    from collections.abc import Callable

_PLAIN_FORM = 2  # of marshal: the last one that is the same whether equal parts are one object or several
UNKNOWN = b""  # the digest of what cannot be pickled


def fingerprint(value: Any) -> bytes:
    """Return a digest that is the same in every run; UNKNOWN for what cannot be pickled.

    Values of the built-in types, and lists, tuples, dictionaries and sets of them, have that of their contents; objects
    that of their pickle, so that one whose pickle differs from run to run is taken for another one.
    """
    try:
        data = marshal.dumps(value, _PLAIN_FORM) if _is_plain(value) else _pickled(value)
    except Exception:  # noqa: BLE001 - a `__reduce__` may raise anything
        return UNKNOWN
    return blake2b(data, digest_size=16).digest()


def _is_plain(value: object) -> bool:
    """Say whether marshal makes the same of it everywhere; it takes arrays, too, but not their types."""
    try:
        return _has_plain_parts(value)
    except RecursionError:  # it holds itself
        return False


def _has_plain_parts(value: object) -> bool:
    kind = type(value)
    if kind in (str, int, float, bool, type(None), bytes):
        return True
    if kind in (list, tuple, set, frozenset):
        return all(map(_has_plain_parts, value))  # type: ignore[call-overload]
    return kind is dict and all(map(_has_plain_parts, value)) and all(map(_has_plain_parts, value.values()))  # type: ignore[call-overload,attr-defined]


def _pickled(value: object) -> bytes:
    buffer = io.BytesIO()
    pickler = pickle.Pickler(buffer, 4)
    pickler.fast = True  # writes what comes twice twice, whether it is one object or two that are equal
    try:
        pickler.dump(value)
    except (RecursionError, ValueError):  # it holds itself
        return pickle.dumps(value, 4)
    return buffer.getvalue()


def name_of(function: Callable[..., Any]) -> str:
    """Return what a function is called in a journal: its import path, with what `functools.partial` gave it."""
    if isinstance(function, functools.partial):
        given = [_argument(value) for value in function.args]
        given += [f"{name}={_argument(value)}" for name, value in function.keywords.items()]
        return f"{name_of(function.func)}({', '.join(given)})"
    named: Any = function if hasattr(function, "__qualname__") else type(function)
    module = getattr(named, "__module__", None)
    return f"{_main_name() if module == '__main__' else module}.{named.__qualname__}"


def _argument(value: object) -> str:
    if callable(value) and not isinstance(value, type) and hasattr(value, "__qualname__"):
        return name_of(value)
    return fingerprint(value).hex()[:16]


def _main_name() -> str:
    """Return the name under which others would import the main module: what is in it has the same name in each run."""
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    file = getattr(main, "__file__", None)
    return str(spec.name) if spec is not None else Path(file).stem if file else "__main__"


def seal_value(value: object, path: str, place: int, most: int) -> bytes:
    """Return a value as bytes.

    Raises:
        JournalError: if that cannot be, or if they are more than SQLite takes.
    """
    try:
        data = pickling.dumps_auto(value, None)
    except BaseException as error:  # in the recorder's thread, where an exit is the result's own
        problem, _, _ = pickling.explain(value, "result", error)
        raise JournalError(path, f"cannot record the result of item {place}: {problem}") from error
    if len(data) > most:
        raise JournalError(path, f"cannot record the result of item {place}: it has {len(data):,} bytes, of {most:,}")
    return data


def open_sealed(data: bytes, path: str, place: int, *, failed: bool) -> tuple[Any, BaseException | None]:
    """Return what was recorded: (value, None) or (None, error)."""
    try:
        if failed:
            return None, open_error(pickle.loads(data))
        return pickle.loads(data), None
    except Exception as error:  # noqa: BLE001 - its class may be gone, or raise anything
        problem = f"holds a result of item {place} that cannot be read back: {describe(error)}"
        failure = JournalError(path, problem)
        failure.__cause__ = error
        return None, failure


def seal_failure(error: BaseException) -> bytes:
    """Return an error as bytes that can be read even where its class is gone."""
    return pickle.dumps(answers.seal_error(error), 5)
