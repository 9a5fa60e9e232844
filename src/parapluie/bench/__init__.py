"""The benchmark: which backend suits this machine, and whether parapluie keeps its goals beside its peers.

    python -m parapluie.bench                       one process, which starts nothing but measurements
      __main__.py    arguments
      run.py         rounds ─▶ workloads ─▶ contenders, each measurement alone on the machine
        isolate.py     starts one, watches its time and memory; group.py ends it with all that it started
          ┌──────────────────────────────────────────────────────────────┐
          │ measure.py     a fresh interpreter for every measurement     │
          │   adapters.py    one contender behind one face               │
          │   workloads/     what is done with it, and timed             │
          │     tasks.py       what its workers run                      │
          └──────────────────────────────────────────────────────────────┘
      report.py, goals.py, plot.py     medians ─▶ table, verdicts, JSON, picture

Peers are imported where they are measured and nowhere else.
"""

from __future__ import annotations

TYPE_CHECKING = False  # what `typing` costs would be counted as a part of start-up
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None, *, prog: str = "python -m parapluie.bench") -> int:
    """Run the benchmark as the command line does, whose name is prog, and return its exit code."""
    from parapluie.bench.__main__ import main as run

    return run(arguments, prog=prog)
