"""The control groups (cgroups) that this process is in: where their files are.

Without pathlib, whose import takes as long as half of this library's own modules.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    Root = str | os.PathLike[str]


def folders(controller: str, root: Root) -> Iterator[str]:
    """Yield the folders of the groups that this process is in, and of all groups that those are in, the nearest first.

    Args:
        controller: whose folders are wanted of version 1, as `cpu` or `memory`. In version 2 all have the same one.
        root: the folder that `proc` and `sys` are read from.
    """
    mounts = os.path.join(root, "sys/fs/cgroup")
    for line in read(os.path.join(root, "proc/self/cgroup")).splitlines():
        controllers, colon, path = line.partition(":")[2].partition(":")
        if not colon:
            continue
        if not controllers:  # version 2
            yield from _upward(mounts, path)
        elif controller in controllers.split(","):  # version 1, mounted under either name
            for name in {controllers, controller}:
                yield from _upward(os.path.join(mounts, name), path)


def _upward(mount: str, path: str) -> Iterator[str]:
    """Yield a group's folder and those above it, the mount point included.

    In a container the path may be the host's, whose folders are not there; the mount point is then the container's
    own group. A path that leads out of a namespace (`/../..`) leaves only the mount point, too.
    """
    parts = [part for part in path.split("/") if part]
    if ".." in parts:
        parts = []
    for depth in range(len(parts), -1, -1):
        yield os.path.join(mount, *parts[:depth])


def read(file: str) -> str:
    """Return what a file says; nothing if it cannot be read."""
    try:
        with open(file, encoding="utf-8", errors="surrogateescape") as stream:
            return stream.read()
    except (OSError, ValueError):  # a ValueError: a null character in the path
        return ""
