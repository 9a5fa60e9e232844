"""What several of these files ask for."""

from __future__ import annotations

import multiprocessing

import pytest

from parapluie.state.server import StateServer


@pytest.fixture
def server():
    """A server of shared objects, which starts with the first of them."""
    server = StateServer(multiprocessing.get_context())
    yield server
    server.close()
