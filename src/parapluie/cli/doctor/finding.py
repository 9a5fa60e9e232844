"""What the doctor reports."""

from __future__ import annotations

from typing import NamedTuple


class Finding(NamedTuple):
    """A mistake, or what will be one elsewhere.

    Attributes:
        rule: its kind, as `missing-main-guard`.
        file, line: where; None for what is no file's.
        what: what was found. why: what comes of it. remedy: what to do.
    """

    rule: str
    file: str | None
    line: int | None
    what: str
    why: str
    remedy: str
