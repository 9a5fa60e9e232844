"""How figures are written."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from parapluie.bench.workloads import Figure


def number(value: float, digits: int = 0) -> str:
    """Return a number with so many digits after the point, and commas between thousands."""
    return f"{value:,.{digits}f}"


def with_unit(value: float, figure: Figure) -> str:
    """Return a figure's value with its unit."""
    return f"{number(value, figure.digits)} {figure.unit}".rstrip()


def ratio(value: float) -> str:
    """Return a ratio with two digits that say something."""
    return f"{value:,.2f}" if abs(value) >= 0.1 else f"{value:.2g}"  # noqa: PLR2004 - where two digits are not enough
