"""The control groups (cgroups) that this process is in: where their files are."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def folders(controller: str, root: Path) -> Iterator[Path]:
    """Yield the folders of the groups that this process is in, and of all groups that those are in, the nearest first.

    Args:
        controller: whose folders are wanted of version 1, as `cpu` or `memory`. In version 2 all have the same one.
        root: the folder that `proc` and `sys` are read from.
    """
    mounts = root / "sys/fs/cgroup"
    for line in read(root / "proc/self/cgroup").splitlines():
        controllers, colon, path = line.partition(":")[2].partition(":")
        if not colon:
            continue
        if not controllers:  # version 2
            yield from _upward(mounts, path)
        elif controller in controllers.split(","):  # version 1, mounted under either name
            for name in {controllers, controller}:
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


def read(file: Path) -> str:
    """Return what a file says; nothing if it cannot be read."""
    try:
        return file.read_text(encoding="utf-8", errors="surrogateescape")
    except (OSError, ValueError):  # a ValueError: a null character in the path
        return ""
