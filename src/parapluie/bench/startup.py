"""One start of a contender in an interpreter that has imported nothing: `python -m parapluie.bench.startup`.

The clock starts before anything of the contender is imported. What this module needs itself is small, and no contender
needs it: everybody pays the same millisecond.
"""

from __future__ import annotations

import sys
import time

BEGAN = time.perf_counter()
PATIENCE = 20.0  # seconds, until workers that do not run at the same time are given up


def main(what: str, name: str, workers: str, start_method: str, folder: str) -> None:
    """Print how many milliseconds there are from here to the first result, or until all workers are busy.

    Args:
        what: "first" or "busy". workers: how many. start_method: empty where there is no choice.
        folder: an empty one, in which tasks meet.
    """
    from parapluie.bench import adapters, tasks

    adapter = adapters.make(name, int(workers), start_method or None)
    if what == "first":
        adapter.call(tasks.same, 0)
        reached = time.perf_counter()
    else:
        reached = max(adapter.each(tasks.meet, [(folder, int(workers), PATIENCE)] * int(workers)))
    sys.stdout.write(f"\n{(reached - BEGAN) * 1e3}\n")
    adapter.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
