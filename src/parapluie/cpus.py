"""How many CPUs this process may use: its affinity, and the quota of the control groups (cgroups) it is in."""

from __future__ import annotations

import os

from parapluie import cgroup
from parapluie.cpu_peers import cpu_peers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


def usable_cpus(root: cgroup.Root = "/") -> int:
    """Return the number of CPUs that this process may really use, at least 1; a part of a CPU counts as one.

    Args:
        root: the folder that `proc` and `sys` are read from. A file that is missing, or that makes no sense, is
            taken for no limit.
    """
    return min(count for count, _ in limits(root))


def limits(root: cgroup.Root = "/") -> list[tuple[int, str | None]]:
    """Return each limit to the number of CPUs and the folder of the group that sets it; None for the scheduler's."""
    found: list[tuple[int, str | None]] = [(_scheduled_cpus(), None)]
    for folder in cgroup.folders("cpu", root):
        found.extend((count, folder) for count in _quota(folder))
    return found


def cpu_share() -> int:
    """Return how many CPUs an executor that is made here gets: all, or in a worker the share of one, at least 1.

    The others are the workers of the same executor, whether or not they have something to do just now.
    """
    return max(1, usable_cpus() // cpu_peers())


def _scheduled_cpus() -> int:
    if hasattr(os, "process_cpu_count"):  # Python 3.13: knows `-X cpu_count`, too
        count: int | None = os.process_cpu_count()
        return count or 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quota(folder: str) -> Iterator[int]:
    """Yield how many CPUs a group may use; nothing if it has no limit."""
    for text in (
        cgroup.read(f"{folder}/cpu.max"),  # version 2: "max 100000" or "150000 100000"
        f"{cgroup.read(f'{folder}/cpu.cfs_quota_us')} {cgroup.read(f'{folder}/cpu.cfs_period_us')}",  # 1: "-1 100000"
    ):
        try:
            quota, period = map(int, text.split())
        except ValueError:
            continue
        if quota > 0 and period > 0:
            yield -(-quota // period)
