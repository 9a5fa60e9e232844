"""Fake contenders: backends of distributions on disk, which the processes of measurements find as well."""

from __future__ import annotations

import os

import pytest

from parapluie import registry

PLUGIN = """
from parapluie.backend import BackendInfo, Capabilities
from parapluie.hookspecs import hookimpl


@hookimpl
def parapluie_backends():
    return [BackendInfo({backend!r}, "for tests", "fake_{backend}_engine:Engine", lambda options: Capabilities())]
"""

ENGINE = """
import os, subprocess, sys, time
from pathlib import Path
from parapluie.backend import Backend


class Engine(Backend):
    def start(self, host):
        {start}

    def dispatch(self, calls, /): ...
    def revoke(self, call_id, *, running=False, item=None): ...
    def stop(self, stop): ...
"""


@pytest.fixture
def install_backend(tmp_path, monkeypatch):
    """Install a backend whose `start` is one line of code."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)
    paths = [str(site), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))

    def install_backend(backend, start):
        info = site / f"parapluie_{backend}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: parapluie-{backend}\nVersion: 1.0\n", encoding="utf-8"
        )
        (info / "entry_points.txt").write_text(f"[parapluie]\n{backend} = fake_{backend}\n", encoding="utf-8")
        (site / f"fake_{backend}.py").write_text(PLUGIN.format(backend=backend), encoding="utf-8")
        (site / f"fake_{backend}_engine.py").write_text(ENGINE.format(start=start), encoding="utf-8")
        registry.reset()

    registry.reset()
    yield install_backend
    registry.reset()


@pytest.fixture
def install_hanging(install_backend, tmp_path):
    """Install the backend `hanging`, which starts a process and never returns; return the file with its pid."""
    file = tmp_path / "pid"
    program = "import time; time.sleep(600)"
    install_backend(
        "hanging",
        f"child = subprocess.Popen([sys.executable, '-c', {program!r}]); "
        f"Path({str(file) + '.part'!r}).write_text(str(child.pid)); "
        f"os.replace({str(file) + '.part'!r}, {str(file)!r}); time.sleep(600)",
    )
    return file
