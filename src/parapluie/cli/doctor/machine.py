"""The machine and the Python as executors find them. What a platform does not have is None."""

from __future__ import annotations

import multiprocessing
import os
import platform
import shutil
import sys
from importlib.util import find_spec
from typing import NamedTuple

from parapluie import cpus
from parapluie.settings import default_start_method

SHARED_MEMORY = "/dev/shm"  # noqa: S108 - of Linux: large arguments and results go through it
SMALL = 256 * 2**20  # bytes; containers often have 64 MB, which a few arrays fill
FEW_FILES = 256
FILES_OF_A_WORKER = 8  # descriptors, at most
# What numeric libraries take the number of their threads from.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


class Machine(NamedTuple):
    """What was found.

    Attributes:
        cpus: that this process may use; cpus_of_machine, cpus_scheduled (its affinity) and cpus_quota (of the tightest
            control group, quota_folder) are what decided it.
        shared_memory, shared_memory_used: bytes.
        open_files, open_files_most: how many a process may have open, and how far it may raise that; -1: no limit.
    """

    python: str
    executable: str
    platform: str
    cpus: int
    cpus_of_machine: int
    cpus_scheduled: int
    cpus_quota: int | None
    quota_folder: str | None
    start_methods: tuple[str, ...]
    start_method: str
    standard_start_method: str
    shared_memory: int | None
    shared_memory_used: int | None
    open_files: int | None
    open_files_most: int | None
    thread_variables: dict[str, str]


def look() -> Machine:
    """Look at this machine."""
    (scheduled, _), *quotas = cpus.limits()
    quota, folder = min(quotas, key=lambda limit: limit[0], default=(None, None))
    methods = tuple(multiprocessing.get_all_start_methods())
    files, most = _open_files()
    memory, used = _shared_memory()
    return Machine(
        python=f"{platform.python_implementation()} {platform.python_version()}",
        executable=sys.executable,
        platform=f"{platform.system()} {platform.release()} {platform.machine()}",
        cpus=cpus.usable_cpus(),
        cpus_of_machine=os.cpu_count() or 1,
        cpus_scheduled=scheduled,
        cpus_quota=quota,
        quota_folder=folder,
        start_methods=methods,
        start_method=default_start_method(methods),
        standard_start_method=methods[0],
        shared_memory=memory,
        shared_memory_used=used,
        open_files=files,
        open_files_most=most,
        thread_variables={name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ},
    )


def _shared_memory() -> tuple[int | None, int | None]:
    try:
        usage = shutil.disk_usage(SHARED_MEMORY)
    except OSError:
        return None, None
    return usage.total, usage.used


def _open_files() -> tuple[int | None, int | None]:
    try:
        import resource
    except ImportError:  # Windows
        return None, None
    return resource.getrlimit(resource.RLIMIT_NOFILE)


def facts(machine: Machine) -> list[tuple[str, str]]:
    """Return what was found as text, each with its label."""
    found = [
        ("python", f"{machine.python}, {machine.executable}"),
        ("platform", machine.platform),
        ("CPUs", _cpus(machine)),
        ("start methods", _start_methods(machine)),
    ]
    if machine.shared_memory is not None and machine.shared_memory_used is not None:
        used = _megabytes(machine.shared_memory_used)
        found.append((SHARED_MEMORY, f"{_megabytes(machine.shared_memory)}, of which {used} are in use"))
    if machine.open_files is not None and machine.open_files_most is not None:
        most = _limit(machine.open_files_most)
        found.append(("open files", f"{_limit(machine.open_files)} at most; can be raised to {most}"))
    variables = ", ".join(f"{name}={value}" for name, value in machine.thread_variables.items())
    found.append(("BLAS threads", variables or "no variable such as OMP_NUM_THREADS is set"))
    return found


def _start_methods(machine: Machine) -> str:
    defaults = f"the default of parapluie is {machine.start_method}, of multiprocessing {machine.standard_start_method}"
    return f"{', '.join(machine.start_methods)}; {defaults}"


def _cpus(machine: Machine) -> str:
    """Say how many CPUs may be used, and what decided that."""
    scheduled = "by affinity" if hasattr(os, "sched_getaffinity") else "for this process"
    parts = [f"{machine.cpus_of_machine} in the machine", f"{machine.cpus_scheduled} {scheduled}"]
    parts.append("no cgroup quota" if machine.cpus_quota is None else f"{machine.cpus_quota} by the cgroup's quota")
    if machine.cpus_quota is not None and machine.cpus_quota < machine.cpus_scheduled:
        parts.append(f"which decides ({machine.quota_folder})")
    elif machine.cpus_scheduled < machine.cpus_of_machine:
        parts[1] += ", which decides"
    return f"{machine.cpus} usable: {', '.join(parts)}"


def hints(machine: Machine) -> list[str]:
    """Return what is worth a thought, though it is no mistake."""
    found = [_hint_about_threads(machine)]
    if machine.shared_memory is not None and machine.shared_memory < SMALL:
        found.append(
            f"{SHARED_MEMORY} has only {_megabytes(machine.shared_memory)}: arrays that do not fit take the pipe, "
            "which is slower; a container gets more with --shm-size"
        )
    needed = max(FEW_FILES, FILES_OF_A_WORKER * machine.cpus)
    if machine.open_files is not None and 0 <= machine.open_files < needed:
        found.append(f"only {machine.open_files} files may be open at a time; raise it (`ulimit -n`)")
    return [hint for hint in found if hint]


def _hint_about_threads(machine: Machine) -> str:
    """Say where the threads of numeric libraries multiply with workers."""
    given = {name: int(value) for name, value in machine.thread_variables.items() if value.isdigit()}
    name, threads = max(given.items(), key=lambda one: one[1], default=("", machine.cpus))
    if min(threads, machine.cpus) == 1 or (not given and find_spec("numpy") is None):
        return ""
    why = f"with {name}={threads}" if given else "as OMP_NUM_THREADS is not set"
    return (
        f"{why}, NumPy may start {threads} threads in each worker: with {machine.cpus} workers, "
        f"{threads * machine.cpus} threads on {machine.cpus} CPUs. Set OMP_NUM_THREADS=1 before the program starts"
    )


def _megabytes(count: int) -> str:
    return f"{count / 2**20:,.0f} MB"


def _limit(count: int) -> str:
    return "no limit" if count < 0 else f"{count:,}"
