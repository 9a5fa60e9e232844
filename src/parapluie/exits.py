"""Exits and interrupts: whose they are, where a user's code runs in a thread of ours."""

from __future__ import annotations

import threading


def may_be_the_programs(error: BaseException) -> bool:
    """Say whether an error is one that must not be held up: a signal handler may have raised it in the main thread.

    In any other thread, an engine's for one, an exit can only be that of the code which was called, and would end the
    thread that others wait for.
    """
    return not isinstance(error, Exception) and threading.current_thread() is threading.main_thread()
