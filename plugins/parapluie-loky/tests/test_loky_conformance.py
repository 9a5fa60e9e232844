"""The `loky` backend passes the conformance kit of parapluie, however its workers start."""

from __future__ import annotations

from parapluie.testing import BackendConformance

MUST_CLAIM = ("isolated_memory", "initializer", "shared_state", "sessions", "channels")


class TestWithoutMainFile(BackendConformance):
    backend = "loky"
    must_claim = MUST_CLAIM


class TestWithMainFile(BackendConformance):
    backend = "loky"
    options = {"context": "loky_init_main"}  # noqa: RUF012 - nobody writes to it
    must_claim = (*MUST_CLAIM, "imports_main")


class TestSpawned(BackendConformance):
    backend = "loky"
    options = {"context": "spawn"}  # noqa: RUF012
    must_claim = (*MUST_CLAIM, "imports_main")
