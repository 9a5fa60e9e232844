"""Words for error messages."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Return the one of names that name was probably meant to be, or None if none is like it."""
    from difflib import get_close_matches  # only errors need it

    return next(iter(get_close_matches(name, list(names), n=1)), None)


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return a question that suggests the nearest of names, to be put behind a sentence; empty if none is like it."""
    suggestion = nearest(name, names)
    return f". Did you mean {suggestion!r}?" if suggestion else ""
