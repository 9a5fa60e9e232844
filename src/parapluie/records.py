"""Named tuples with types, as those of typing, without typing.

Importing typing takes two of the twenty milliseconds in which a program that forks has its first result. To a type
checker this is `typing.NamedTuple` itself.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple as NamedTuple  # noqa: PLC0414 - for those who import it from here
else:
    from collections import namedtuple

    class _Maker(type):
        """Makes a named tuple of what a class's annotations name; what else is in the class is added to it."""

        def __new__(cls, name: str, bases: tuple[type, ...], space: dict[str, object]) -> type:
            if not bases:
                return super().__new__(cls, name, bases, space)
            fields = space["__annotations__"]
            defaults = [space.pop(field) for field in fields if field in space]
            made = namedtuple(name, fields, defaults=defaults)  # noqa: PYI024 - that is what is made here
            return type(name, (made,), {**space, "__slots__": ()})

    class NamedTuple(metaclass=_Maker):
        """Inherit from this, and annotate the fields. Those with a default come last."""
