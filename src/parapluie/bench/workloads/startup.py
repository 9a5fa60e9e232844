"""What it takes until work is done, from a fresh interpreter."""

from __future__ import annotations

import compileall
import os
import statistics
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

import parapluie
from parapluie.bench.contenders import MAP

if TYPE_CHECKING:
    from parapluie.bench.workloads.rates import Figures
    from parapluie.bench.workloads.stage import Stage


def startup(stage: Stage) -> Figures:
    """Start fresh interpreters, some for the first result and some until all workers are busy: medians."""
    # As it is when it is installed. A checkout may have no bytecode, and never get any (PYTHONDONTWRITEBYTECODE): then
    # it would be compiled at every start, and what is measured is the compiler.
    compileall.compile_dir(os.path.dirname(parapluie.__file__), quiet=2)  # noqa: PTH120 - a name is all it needs
    figures: Figures = {"first": _median(stage, "first")}
    if stage.can(MAP):
        figures["busy"] = _median(stage, "busy")
    return figures


def _median(stage: Stage, what: str) -> float:
    return statistics.median(_once(stage, what) for _ in range(stage.sizes.startup_repeats))


def _once(stage: Stage, what: str) -> float:
    request = stage.request
    with tempfile.TemporaryDirectory(dir=stage.folder) as place:
        command = [sys.executable, "-m", "parapluie.bench.startup", what]
        command += [request.contender, str(request.workers), request.start_method or "", place]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603 - our own module
    return float(done.stdout.split()[-1])
