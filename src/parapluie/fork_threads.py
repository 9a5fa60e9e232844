"""The warning about workers that are forked while other threads run.

A forked process has a copy of every lock, and of the threads that hold them only the one that forked. A lock that
another thread held at that moment stays locked there for ever, and nobody can know what the threads of a program hold.

Imported where there are such threads; `starting.threads_beside` looks for them.
"""

from __future__ import annotations

import sys
import warnings
from weakref import WeakSet

from parapluie.errors import ForkWithThreadsWarning

TYPE_CHECKING = False
if TYPE_CHECKING:
    import threading
    from collections.abc import Sequence
    from types import FrameType

_MOST_NAMES = 5  # that are shown
_PACKAGES = frozenset({"parapluie", "concurrent", "multiprocessing", "threading"})  # that stand between us and the user

_warned: WeakSet[object] = WeakSet()  # those for whom it was said


def warn_of_threads(threads: Sequence[threading.Thread], owner: object) -> None:
    """Warn of threads beside which a worker is being forked; once for an owner.

    Args:
        threads: what `starting.threads_beside` returned.
        owner: what stands for the executor.

    Raises:
        ForkWithThreadsWarning: where warnings are errors.
    """
    if owner in _warned:
        return
    _warned.add(owner)
    warning = ForkWithThreadsWarning(_names_of(threads))
    frame = _user_frame()
    if frame is None:
        warnings.warn(warning, stacklevel=2)
    else:
        code, names_there = frame.f_code, frame.f_globals
        warnings.warn_explicit(
            warning,
            ForkWithThreadsWarning,
            code.co_filename,
            frame.f_lineno,
            names_there.get("__name__"),
            names_there.setdefault("__warningregistry__", {}),
        )


def _names_of(threads: Sequence[threading.Thread]) -> tuple[str, ...]:
    names = sorted(thread.name for thread in threads)
    more = len(names) - _MOST_NAMES
    return (*names[:_MOST_NAMES], f"{more} more") if more > 0 else tuple(names)


def _user_frame() -> FrameType | None:
    """Return the nearest frame that is not part of what stands between us and the user."""
    frame: FrameType | None = sys._getframe()  # noqa: SLF001 - public in all but name
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _PACKAGES:
        frame = frame.f_back
    return frame
