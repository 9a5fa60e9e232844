"""A program of its own: loses a task in a given way, and prints as JSON what its error says.

Not in pytest's process, where a fault handler is on already, which workers that are forked inherit.

    python evidence_program.py BACKEND METHOD TASK [ARGUMENT...]
"""

from __future__ import annotations

import faulthandler
import json
import os
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from parapluie import Executor, Retry
from parapluie.testing import processes


def segfault():
    processes.crash()  # the line of the crash


def nested(depth=2):
    if depth:
        nested(depth - 1)
    else:
        segfault()


def recurse(depth):
    depth = int(depth)
    if depth:
        recurse(depth - 1)
    else:
        segfault()


def abort():
    os.abort()


def leave():
    os._exit(4)


def kill():
    processes.end(os.getpid())


def crash_in_thread():
    threading.Thread(target=segfault).start()
    time.sleep(30)


def be_killed_after_a_child_has_crashed():
    pid = os.fork()
    if not pid:
        segfault()
    os.waitpid(pid, 0)
    kill()


def allocate_and_abort(size, seconds):
    data = b"\1" * int(size)
    time.sleep(float(seconds))
    os.abort()
    return data


def allocate(size):
    return len(b"\1" * int(size))


def square_or_crash(number):
    if number == 3:
        segfault()
    return number * number


class CrashesWhenRead:
    def __reduce__(self):
        return segfault, ()


def take(value):
    return value


def write_elsewhere(path):
    """Be an initializer of a user who wants dumps in a file."""
    global _file  # noqa: PLW0603 - the fault handler needs it open
    _file = Path(path).open("w", encoding="utf-8")  # noqa: SIM115 - as above
    faulthandler.enable(_file)


def lose(executor, name, arguments):
    if name == "map":
        outcomes = list(executor.map(square_or_crash, range(6), on_error="collect", chunksize=6))
        return outcomes[3].error
    if name == "unreadable":
        return executor.submit(take, CrashesWhenRead()).exception()
    return executor.submit(globals()[name], *arguments).exception()


def main(backend, method, name, *arguments):
    options = {}
    if name == "elsewhere":
        name, options = "abort", {"initializer": write_elsewhere, "initargs": arguments}
        arguments = ()
    elif name == "initializer":
        name, options = "abort", {"initializer": segfault, "retry": Retry(1)}
    with Executor(backend, 1, start_method=method, **options) as executor:
        error = lose(executor, name, arguments)
        for _ in range(3 if name == "nested" else 0):
            executor.submit(leave).exception()
        during = dump_files()
    facts = {
        "type": type(error).__name__,
        "text": str(error),
        "notes": getattr(error, "__notes__", []),
        "dump files": [during, dump_files()],
    }
    for fact in ("exit_code", "dump", "oom", "peak_memory", "pid", "attempt"):
        facts[fact] = getattr(error, fact, None)
    sys.stdout.write(json.dumps(facts))


def dump_files():
    """Return how many files for dumps this process has open."""
    folder = Path("/proc/self/fd")
    names = []
    for file in folder.iterdir() if folder.exists() else ():
        with suppress(OSError):  # the executor's threads close some meanwhile
            names.append(str(file.readlink()))
    return len([name for name in names if "parapluie-dump" in name])


if __name__ == "__main__":
    main(*sys.argv[1:])
