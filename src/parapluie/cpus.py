"""How many CPUs this process may use: its affinity, and the quota of the control groups (cgroups) it is in."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def usable_cpus(root: str | Path = "/") -> int:
    """Return the number of CPUs that this process may really use, at least 1; a part of a CPU counts as one.

    Args:
        root: the folder that `proc` and `sys` are read from. A file that is missing, or that makes no sense, is
            taken for no limit.
    """
    limits = [_scheduled_cpus()]
    for folder in _cgroup_folders(Path(root)):
        limits.extend(_quota(folder))
    return min(limits)


def _scheduled_cpus() -> int:
    if hasattr(os, "process_cpu_count"):  # Python 3.13: knows `-X cpu_count`, too
        count: int | None = os.process_cpu_count()
        return count or 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cgroup_folders(root: Path) -> Iterator[Path]:
    """Yield the folders of the groups that this process is in, and of all groups that those are in."""
    mounts = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines():
        controllers, colon, path = line.partition(":")[2].partition(":")
        if not colon:
            continue
        if not controllers:  # version 2
            yield from _upward(mounts, path)
        elif "cpu" in controllers.split(","):  # version 1, mounted under either name
            for name in {controllers, "cpu"}:
                yield from _upward(mounts / name, path)


def _upward(mount: Path, path: str) -> Iterator[Path]:
    """Yield a group's folder and those above it, the mount point included.

    In a container the path may be the host's, whose folders are not there; the mount point is then the container's
    own group. A path that leads out of a namespace (`/../..`) leaves only the mount point, too.
    """
    parts = PurePosixPath(path).parts[1:]
    if ".." in parts:
        parts = ()
    for depth in range(len(parts), -1, -1):
        yield mount.joinpath(*parts[:depth])


def _quota(folder: Path) -> Iterator[int]:
    """Yield how many CPUs a group may use; nothing if it has no limit."""
    for text in (
        _read(folder / "cpu.max"),  # version 2: "max 100000" or "150000 100000"
        f"{_read(folder / 'cpu.cfs_quota_us')} {_read(folder / 'cpu.cfs_period_us')}",  # version 1: "-1 100000"
    ):
        try:
            quota, period = map(int, text.split())
        except ValueError:
            continue
        if quota > 0 and period > 0:
            yield -(-quota // period)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="surrogateescape")
    except (OSError, ValueError):  # a ValueError: a null character in the path
        return ""
