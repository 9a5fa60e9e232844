"""What parapluie reads to know of the backend. loky is imported when somebody chooses it."""

from __future__ import annotations

from collections.abc import Sequence

from parapluie.backend import BackendInfo, Capabilities
from parapluie.hookspecs import hookimpl


def capabilities(options: object) -> Capabilities:
    """Say what loky can do. It ends all its workers with the first that dies, and knows not what they were at."""
    imports_main = getattr(options, "context", "loky") != "loky"
    return Capabilities(shared_state=True, sessions=True, channels=True, imports_main=imports_main)


@hookimpl
def parapluie_backends() -> Sequence[BackendInfo]:
    """Describe the backend."""
    return [
        BackendInfo(
            "loky",
            "worker processes of a loky executor",
            "parapluie_loky.backend:LokyBackend",
            capabilities,
            options="parapluie_loky.backend:LokyOptions",
            extra="parapluie-loky",
        )
    ]
