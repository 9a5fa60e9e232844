"""One measurement, in an interpreter of its own: `python -m parapluie.bench.measure FOLDER`.

    isolate.py ── FOLDER/request.json ──▶ this process ── opens a contender, runs a workload, closes
               ◀── FOLDER/answer.json ───   │
                                            └── what is printed goes to FOLDER/printed

Answers go through files, since a contender may print, and its workers may keep a pipe open that nobody waits for.
Workers that are spawned import this module as their main one, so it imports nothing that it does not need for that.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

REQUEST, ANSWER, PRINTED = "request.json", "answer.json", "printed"


def main(folder: str) -> None:
    """Read the request, measure, and write the answer: figures and notes, or an error."""
    import json

    from parapluie.bench.memory import limit_address_space
    from parapluie.bench.workloads.stage import Request

    with open(os.path.join(folder, REQUEST), encoding="utf-8") as file:  # noqa: PTH118, PTH123 - pathlib is imported late
        request = Request(**json.load(file))
    limit_address_space(request.address_space)
    _end_with_parent()
    try:
        answer = _measure(request, folder)
    except Exception as error:
        answer = {"error": " ".join(f"{type(error).__name__}: {error}".split())}
        _write(folder, answer)
        raise  # for the traceback in what it printed
    _write(folder, answer)


def _end_with_parent() -> None:
    """See to it that nothing of this measurement is left a second after the benchmark itself was killed."""
    if os.name == "nt":
        return
    import signal
    import threading
    import time

    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.killpg(0, signal.SIGKILL)  # isolate.py has made this process the leader of its group

    threading.Thread(target=watch, name="parapluie-bench-parent", daemon=True).start()


def _measure(request: Any, folder: str) -> dict[str, Any]:
    from parapluie.bench.workloads.stage import Stage
    from parapluie.plugins import import_path

    run = import_path(request.function)
    stage = Stage(request, folder)
    try:
        figures = run(stage)
    except BaseException:
        stage.abandon()
        raise
    stage.close()
    return {"figures": figures, "notes": stage.notes}


def _write(folder: str, answer: dict[str, Any]) -> None:
    """Write the answer so that it is there as a whole or not at all."""
    import json

    path = os.path.join(folder, ANSWER)  # noqa: PTH118 - see above
    with open(path + ".part", "w", encoding="utf-8") as file:  # noqa: PTH123
        json.dump(answer, file)
    os.replace(path + ".part", path)  # noqa: PTH105


if __name__ == "__main__":
    main(sys.argv[1])
