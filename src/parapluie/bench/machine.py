"""Where and with what a run was made: what a reader needs to compare two tables, and nothing that tells on a person."""

from __future__ import annotations

import datetime as dt
import os
import platform
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from parapluie.cpus import usable_cpus


class Machine(NamedTuple):
    """A machine and its Python.

    Attributes:
        python: implementation and version. system: operating system, release and architecture.
        processor: its model, as far as it can be told. cpus: that this process may use.
        load: the load average over a minute as the run began; None where there is none.
        date: of the run, ISO, with the offset of its time zone.
    """

    python: str
    system: str
    processor: str
    cpus: int
    load: float | None
    date: str


def this_machine() -> Machine:
    """Describe this machine, now."""
    load = None
    with suppress(AttributeError, OSError):  # Windows has none
        load = round(os.getloadavg()[0], 2)
    return Machine(
        f"{platform.python_implementation()} {platform.python_version()}",
        f"{platform.system()} {platform.release()} {platform.machine()}",
        _processor(),
        usable_cpus(),
        load,
        dt.datetime.now().astimezone().isoformat(timespec="minutes"),
    )


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor()
