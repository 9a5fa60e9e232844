"""The process engine. `engine.py` is its parent side, `wire.py` what passes between, `loop.py` the worker."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from parapluie.backends.process.engine import ProcessBackend

__all__ = ["ProcessBackend"]


def __getattr__(name: str) -> object:
    # Not imported at once: a worker comes through here on its way to loop.py, and needs nothing of the parent's side.
    if name == "ProcessBackend":
        from parapluie.backends.process.engine import ProcessBackend

        return ProcessBackend
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
