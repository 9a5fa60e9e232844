"""Every fault of the list costs its own task, which ends as the list says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from parapluie.testing.claims import requires
from parapluie.testing.faults import FAULTS, Fault

if TYPE_CHECKING:
    from collections.abc import Callable

    from parapluie.testing.fixtures import Row


class FaultTests:
    """Every fault of the list costs its own task, which ends as the list says."""


def _test_of(fault: Fault) -> Callable[[Any, Row], None]:
    def test(_self: object, backend: Row) -> None:
        assert fault.see(backend) == fault.ending

    return requires(*fault.requires)(test)


for _fault in FAULTS:
    setattr(FaultTests, f"test_fault_{_fault.inject.__name__}", _test_of(_fault))
