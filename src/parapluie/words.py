"""Words for error messages. A worker imports it: the standard library only, and what takes long where it is needed."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# What a hostile exception may raise when it is looked at. Not KeyboardInterrupt: that is never its doing.
HOSTILE = (Exception, SystemExit, GeneratorExit)


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Return the one of names that name was probably meant to be, or None if none is like it."""
    from difflib import get_close_matches  # only errors need it

    return next(iter(get_close_matches(name, list(names), n=1)), None)


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return a question that suggests the nearest of names, to be put behind a sentence; empty if none is like it."""
    suggestion = nearest(name, names)
    return f". Did you mean {suggestion!r}?" if suggestion else ""


def type_name(value: object) -> str:
    """Return the full name of a value's type."""
    cls = type(value)
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def text_of(error: BaseException) -> str:
    """Return what an exception says."""
    try:
        return str(error)
    except HOSTILE:  # a hostile __str__
        return "<its __str__ raises>"


def describe(error: BaseException) -> str:
    """Return an exception as one line: type and text."""
    return f"{type(error).__name__}: {text_of(error)}"
