"""What runs in the workers: the user's function, from a value of JSON to JSON.

A result is made into JSON there, so that one which JSON cannot hold is an error of its item.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class NotJSONError(TypeError):
    """A function returned what JSON cannot hold."""


class JSONCall:
    """Calls a function and returns its result as JSON; a journal knows it by the function's name.

    Args:
        star: hand an array to it as arguments, and an object as keyword arguments.
    """

    def __init__(self, function: Callable[..., Any], *, star: bool) -> None:
        self._function, self._star = function, star
        named: Any = function if hasattr(function, "__qualname__") else type(function)
        self.__module__ = named.__module__
        self.__qualname__ = f"{named.__qualname__} --star" if star else named.__qualname__

    def __call__(self, item: Any) -> str:
        if self._star and isinstance(item, list):
            result = self._function(*item)
        elif self._star and isinstance(item, dict):
            result = self._function(**item)
        else:
            result = self._function(item)
        try:
            text = json.dumps(result, ensure_ascii=False, allow_nan=False)
            text.encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise NotJSONError(f"the function returned what JSON cannot hold: {error}") from None
        return text


def worth_another_attempt(error: BaseException) -> bool:
    """Say whether an item may end differently the next time, for `--retry`."""
    return isinstance(error, Exception) and not isinstance(error, NotJSONError)
