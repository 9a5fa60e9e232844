"""Fake distributions on disk: what the registry finds when other people's packages are installed."""

from __future__ import annotations

import sys
import textwrap

import pytest

from parapluie import registry

PLUGIN = """
from parapluie.backend import BackendInfo, Capabilities
from parapluie.hookspecs import hookimpl


def capabilities(options):
    return Capabilities()


@hookimpl
def parapluie_backends():
    return [BackendInfo({backend!r}, "for tests", "{module}_engine:Engine", capabilities, extra={extra!r})]
"""

ENGINE = """
from parapluie.backend import Backend


class Engine(Backend):
    def start(self, host): ...
    def dispatch(self, calls, /): ...
    def revoke(self, call_id, *, running=False, item=None): ...
    def stop(self, stop): ...
"""


@pytest.fixture(autouse=True)
def _fresh_registry():
    before = set(sys.modules)
    registry.reset()
    yield
    registry.reset()
    for name in set(sys.modules) - before:
        if name.startswith("fake_"):
            del sys.modules[name]


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install a distribution: its modules' sources, and its entry points as the text below `[parapluie]`."""

    def install(name, version, entry_points, **modules):
        site = tmp_path / f"{name}-{version}"
        info = site / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")
        (info / "entry_points.txt").write_text(f"[parapluie]\n{entry_points}\n", encoding="utf-8")
        for module, source in modules.items():
            (site / f"{module}.py").write_text(textwrap.dedent(source), encoding="utf-8")
        monkeypatch.syspath_prepend(site)
        return info

    return install


@pytest.fixture
def install_fine(install):
    """Install a distribution that offers one backend, named as its entry point is."""

    def install_fine(backend="fine", name="parapluie-fine", version="1.2", extra=None):
        module = f"fake_{name.replace('-', '_')}"
        sources = {module: PLUGIN.format(backend=backend, module=module, extra=extra), f"{module}_engine": ENGINE}
        install(name, version, f"{backend} = {module}", **sources)
        return module

    return install_fine
