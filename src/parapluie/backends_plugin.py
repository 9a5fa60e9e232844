"""The built-in backends, offered by the hook that any other plugin uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from parapluie.builtin import BACKENDS
from parapluie.hookspecs import hookimpl

if TYPE_CHECKING:
    from parapluie.backend import BackendInfo


@hookimpl
def parapluie_backends() -> tuple[BackendInfo, ...]:
    """Offer what is built in."""
    return BACKENDS
