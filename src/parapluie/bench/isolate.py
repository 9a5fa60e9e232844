"""A measurement in processes of its own, of which nothing is left when it is over.

run.py ─▶ measure() ── starts ─▶ measure.py, leader of a new process group ── starts ─▶ workers, servers, trackers
             │ every 50 ms: has it ended, is it over its time, is it over its memory?
             └ at the end, whatever it was: group.py ends what is left of it
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from parapluie.bench.group import end
from parapluie.bench.measure import ANSWER, PRINTED, REQUEST
from parapluie.bench.memory import MB, resident
from parapluie.bench.sizes import MEMORY_LIMIT

if TYPE_CHECKING:
    from parapluie.bench.workloads.stage import Request

MEASURED, TIME_LIMIT, MEMORY_LIMIT_REACHED, FAILED, ABSENT = (
    "measured",
    "time limit",
    "memory limit",
    "failed",
    "absent",
)
_POLL = 0.05  # seconds


class Outcome(NamedTuple):
    """What came of one measurement.

    Attributes:
        status: MEASURED, TIME_LIMIT, MEMORY_LIMIT_REACHED, FAILED or ABSENT (there is nothing to measure).
        figures: by name; None where the platform cannot tell.
        notes: what a reader of the figures has to know.
        why: what happened, unless it was measured.
    """

    status: str
    figures: dict[str, float | None] = {}  # noqa: RUF012 - a default that nobody changes
    notes: tuple[str, ...] = ()
    why: str = ""


def measure(request: Request, time_limit: float, memory_limit: int = MEMORY_LIMIT) -> Outcome:
    """Measure in a fresh interpreter; kill it with all that it started when it exceeds a limit.

    Args:
        time_limit: seconds. memory_limit: bytes.

    Raises:
        KeyboardInterrupt: at once; nothing is left behind then, either.
    """
    with tempfile.TemporaryDirectory(prefix="parapluie-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / REQUEST).write_text(json.dumps(request._asdict()), encoding="utf-8")
        with (folder / PRINTED).open("wb") as printed:
            process = _start(folder, printed.fileno())
        try:
            exceeded = _watch(process, time_limit, memory_limit)
        finally:
            end(process)
        return exceeded or _read(folder, process.returncode)


def _start(folder: Path, printed: int) -> subprocess.Popen[bytes]:
    # A group of its own: to be killed as one, and Ctrl-C is for this process alone.
    flags = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
    return subprocess.Popen(  # noqa: S603 - our own module
        [sys.executable, "-m", "parapluie.bench.measure", str(folder)],
        stdin=subprocess.DEVNULL,
        stdout=printed,
        stderr=printed,
        start_new_session=os.name != "nt",
        creationflags=flags,
    )


def _watch(process: subprocess.Popen[bytes], time_limit: float, memory_limit: int) -> Outcome | None:
    """Wait for the end; return what it has exceeded, or None if it has ended by itself."""
    deadline = time.monotonic() + time_limit
    while True:
        with suppress(subprocess.TimeoutExpired):
            process.wait(_POLL)
            return None
        if time.monotonic() > deadline:
            return Outcome(TIME_LIMIT, why=f"not done within {time_limit:g} seconds; killed")
        if (resident(process.pid) or 0) > memory_limit:
            return Outcome(MEMORY_LIMIT_REACHED, why=f"more than {memory_limit // MB:,} MB in memory; killed")


def _read(folder: Path, exit_code: int) -> Outcome:
    """Return what a measurement answered, or how it ended without an answer."""
    try:
        answer = json.loads((folder / ANSWER).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Outcome(FAILED, why=f"its process ended with exit code {exit_code}{_last_line(folder)}")
    if "error" in answer:
        return Outcome(FAILED, why=answer["error"])
    return Outcome(MEASURED, answer["figures"], tuple(answer["notes"]))


def _last_line(folder: Path) -> str:
    lines = (folder / PRINTED).read_text(encoding="utf-8", errors="replace").split("\n")
    text = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f": {text}" if text else ""
