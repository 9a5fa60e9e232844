"""Shows how far a `map` is: `progress=True`, a label, or a function that is told."""

from __future__ import annotations

import sys
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

from parapluie.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

SECONDS = 0.1  # between two looks
_LINE_SECONDS = 1.0  # between two lines


class Progress(NamedTuple):
    """How far a map is, as `map(progress=function)` tells its function.

    Attributes: done (items that are answered), failed (of these), retried (attempts that were repeated, of the items
    that are answered), restored (of those done, how many are answered by a journal of an earlier run), total (items of
    the input, or None where its length is not known), seconds (since the map began).
    """

    done: int
    failed: int
    retried: int
    restored: int
    total: int | None
    seconds: float


class Display:
    """Tells somebody now and then, in the consumer's thread."""

    def __init__(self, tell: Callable[[Progress], object], *, seconds: float = SECONDS) -> None:
        self._tell, self._seconds = tell, seconds
        self._next = 0.0

    def due(self) -> bool:
        """Say whether it is time to look again."""
        return monotonic() >= self._next

    def show(self, progress: Progress) -> None:
        self._next = monotonic() + self._seconds
        self._tell(progress)

    def close(self) -> None:
        """Leave what is shown as it is: nothing more comes."""


def as_display(progress: object) -> Display | None:
    """Take what `progress=` may be; None if nothing is to be shown.

    Raises:
        ConfigError: if it is something else.
    """
    if progress is False or progress is None:
        return None
    if callable(progress):
        return Display(progress)
    if progress is not True and not isinstance(progress, str):
        raise ConfigError(f"progress={progress!r} is neither True, False, a label nor a function")
    label = "" if progress is True else progress
    notebook = "ipykernel" in sys.modules
    if not notebook and not _is_terminal():
        return None
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return Display(_Lines(label), seconds=_LINE_SECONDS)
    return _Bar(tqdm, label)


def _is_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()


class _Bar(Display):
    """A bar of tqdm."""

    def __init__(self, tqdm: Any, label: str) -> None:
        super().__init__(self._update)
        self._tqdm, self._label = tqdm, label
        self._bar: Any = None

    def _update(self, progress: Progress) -> None:
        if self._bar is None:
            self._bar = self._tqdm(
                desc=self._label or None, total=progress.total, initial=progress.restored, unit="item"
            )
        if progress.failed or progress.retried:
            self._bar.set_postfix(failed=progress.failed, retried=progress.retried, refresh=False)
        self._bar.total = progress.total
        self._bar.update(progress.done - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


class _Lines:
    """Lines, where tqdm is not installed."""

    def __init__(self, label: str) -> None:
        self._label = f"{label}: " if label else ""
        self._last = ""

    def __call__(self, progress: Progress) -> None:
        line = self._label + text_of(progress)
        if line != self._last:
            self._last = line
            print(line, file=sys.stderr, flush=True)  # noqa: T201 - it talks to a person


def text_of(progress: Progress) -> str:
    """Say in a line how far a map is."""
    of = "" if progress.total is None else f" of {progress.total}"
    parts = [f"{progress.done}{of} items"]
    parts += [f"{progress.failed} failed"] if progress.failed else []
    parts += [f"{progress.retried} retried"] if progress.retried else []
    return f"{', '.join(parts)}, {progress.seconds:.0f} s"
