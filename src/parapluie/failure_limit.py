"""How many items of a `map` may fail: `max_failures`."""

from __future__ import annotations

import re

from parapluie.errors import ConfigError

_LEAST = 100  # answers from which a share says something, where the length of the input is not known

_PERCENT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*%\s*")


class FailureLimit:
    """A number of items, or a share of them as "5%".

    Raises:
        ConfigError: if it is neither.
    """

    def __init__(self, given: int | str) -> None:
        self.given = given
        self._count, self._share = 0, 0.0
        if isinstance(given, str):
            found = _PERCENT.fullmatch(given)
            if not found or float(found[1]) > 100:  # noqa: PLR2004 - that is what percent means
                raise ConfigError(f"max_failures={given!r} is neither a whole number from 0 nor a share such as '5%'")
            self._share = float(found[1]) / 100
        elif _is_count(given):
            self._count = given
        else:
            raise ConfigError(f"max_failures={given!r} is neither a whole number from 0 nor a share such as '5%'")

    def exceeded(self, failed: int, answered: int, total: int | None) -> bool:
        """Say whether too many have failed; total: the length of the input, if that is known."""
        if not isinstance(self.given, str):
            return failed > self._count
        if total is not None:
            return failed > self._share * total
        return answered >= _LEAST and failed > self._share * answered


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
