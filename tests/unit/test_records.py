"""Our named tuples are those of typing."""

from __future__ import annotations

import copy
import pickle
from typing import NamedTuple

import pytest

from parapluie import backend, records, work


class Ours(records.NamedTuple):
    """A point."""

    x: int
    y: int = 2

    def total(self) -> int:
        return self.x + self.y


class Typings(NamedTuple):
    """A point."""

    x: int
    y: int = 2

    def total(self) -> int:
        return self.x + self.y


@pytest.mark.parametrize("kind", [Ours, Typings])
def test_named_tuple(kind):
    point = kind(1)
    assert (point, point.x, point.y, point.total()) == ((1, 2), 1, 2, 3)
    assert point == kind(x=1, y=2) and point._replace(y=5) == (1, 5)
    assert repr(point) == f"{kind.__name__}(x=1, y=2)"
    assert (kind._fields, kind._field_defaults) == (("x", "y"), {"y": 2})
    assert (kind.__doc__, kind.__module__, kind.__qualname__) == ("A point.", __name__, kind.__name__)
    assert kind.__annotations__ == {"x": "int", "y": "int"} or kind is Typings
    assert type(pickle.loads(pickle.dumps(point))) is kind and copy.copy(point) == point
    with pytest.raises(TypeError):
        kind()
    with pytest.raises(AttributeError):
        point.z = 3
    with pytest.raises(AttributeError):
        point.x = 3


def test_what_plugins_are_given_are_named_tuples():
    assert backend.Loss(began=True)._replace(pid=7).pid == 7
    assert issubclass(backend.Call, tuple)
    assert work.NO_OPTIONS.task_timeout is None
