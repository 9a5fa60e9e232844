"""A program of its own that uses a backend: for what happens when it ends, is interrupted or is killed.

The kit runs it with `python -m`; what it is to do comes as JSON.
"""

from __future__ import annotations

import importlib
import json
import signal
import sys
from typing import TYPE_CHECKING, Any

from parapluie import Config, Executor, Shutdown
from parapluie.testing import tasks
from parapluie.testing.patience import SECONDS

if TYPE_CHECKING:
    from parapluie.testing.fixtures import Row

LEFT = 20  # tasks that are not done when the program comes to its end


def command(row: Row, module: str, action: str, meeting: str | int, **options: Any) -> list[str]:
    """Return the command that runs it.

    Args:
        module: imported first, as it may register the backend. action: the name of a function below.
        meeting: the file or the gate that its tasks are given.
        options: what its executor is made with, and the grace period at its end.
    """
    made_with = {**row.options, **options}
    asked = {"backend": row.name, "options": made_with, "path": sys.path, "module": module, "meeting": meeting}
    return [sys.executable, "-m", __name__, action, json.dumps(asked)]


def hold(executor: Executor, port: int) -> None:
    """Have tasks at the gate that never end."""
    for future in [executor.submit(tasks.wait_for_ever, port) for _ in range(2)]:
        future.result()


def end(executor: Executor, path: str) -> None:
    """End without shutting down."""
    for number in range(LEFT):
        executor.submit(tasks.note_line, path, str(number))


def end_by_error(executor: Executor, path: str) -> None:
    """End by an error, without shutting down."""
    end(executor, path)
    raise LookupError("the program's own")


def of_this_file(path: str) -> None:
    """Be a task that the program's main file defines."""
    tasks.note(path)


def run_own(executor: Executor, path: str) -> None:
    """Run tasks that the main file defines."""
    executor.submit(of_this_file, path).result()
    for _ in executor.map(of_this_file, [path] * 2):
        continue


def hold_in_block(executor: Executor, port: int) -> None:
    """Have tasks at the gate that never end, in a `with` block."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may have it ignored
    with executor:
        hold(executor, port)


def main() -> None:
    """Do what was asked for."""
    action, asked = sys.argv[1], json.loads(sys.argv[2])
    sys.path[:] = asked["path"]
    importlib.import_module(asked["module"])
    shutdown = Shutdown(grace=asked["options"].pop("grace", SECONDS))  # to end, a worker has to have started
    executor = Executor(asked["backend"], 2, shutdown=shutdown, config=Config(), **asked["options"])
    globals()[action](executor, asked["meeting"])


if __name__ == "__main__":
    main()
