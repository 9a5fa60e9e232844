"""Whether a command that was started in a session of its own has left anybody."""

from __future__ import annotations

import os


def is_alive(leader):
    """Say whether there still is a process of the group that the command leads; POSIX."""
    try:
        os.killpg(leader, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # macOS says so of one that has ended and was not asked for
        return True
    return True
