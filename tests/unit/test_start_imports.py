"""What is imported until the first result, in the parent and in a worker. Start-up is part of the speed, and most of it
is importing; a budget of modules says so without a test that measures time.

Who makes a module a part of the first path, on purpose, adds it here, and measures with `python -m parapluie.bench
--workload startup-spawn` what it costs.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys

import pytest

PROGRAM = """
import json
import sys


def loaded(_):
    return sorted(sys.modules)


if __name__ == "__main__":
    before = set(sys.modules)
    import parapluie.ending

    parapluie.ending._SETTLED_SECONDS = 60.0  # what failures need is imported later than this ends
    executor = parapluie.Executor("process", 1, start_method=sys.argv[1])
    in_worker = executor.submit(loaded, None).result()
    in_parent = sorted(set(sys.modules) - before)
    executor.shutdown()
    print(json.dumps([in_parent, in_worker]))
"""

WORKER = {
    "parapluie",
    "parapluie.answers",
    "parapluie.backends",
    "parapluie.backends.process",
    "parapluie.backends.process.loop",
    "parapluie.backends.process.poller",
    "parapluie.backends.process.ports",
    f"parapluie.backends.process.{'windows' if os.name == 'nt' else 'posix'}",
    "parapluie.shared_memory",
    "parapluie.backends.process.wire",
    "parapluie.call_format",
    "parapluie.cpu_peers",
    "parapluie.dumps",
    "parapluie.log_ways",
    "parapluie.orphans",
    "parapluie.travel",
    "parapluie.words",
    "parapluie.worker",
}
PARENT = WORKER | {
    "parapluie.backend",
    "parapluie.backends.process.attend",
    "parapluie.backends.process.engine",
    "parapluie.backends.process.handle",
    "parapluie.backends.process.relief",
    "parapluie.backends.process.workers",
    "parapluie.builtin",
    "parapluie.cgroup",
    "parapluie.condition",
    "parapluie.config",
    "parapluie.dispatch",
    "parapluie.ending",
    "parapluie.errors",
    "parapluie.evidence",
    "parapluie.exits",
    "parapluie.executor",
    "parapluie.future",
    "parapluie.light_future",
    "parapluie.logs",
    "parapluie.main_guard",
    "parapluie.memory",
    "parapluie.pickling",
    "parapluie.policies",
    "parapluie.policies.clock",
    "parapluie.policies.shutdown",
    "parapluie.records",
    "parapluie.replies",
    "parapluie.settings",
    "parapluie.starting",
    "parapluie.stdlib_private",
    "parapluie.withdrawal",
    "parapluie.work",
}
# Of the standard library: what takes long and is needed by nobody, or only by what is imported late.
HEAVY = {"asyncio", "dataclasses", "importlib.metadata", "inspect", "pathlib", "concurrent.futures.thread"}
NOT_IN_PARENT = HEAVY | {"concurrent.futures.process", "copy", "numbers", "typing"}
NOT_IN_WORKER = HEAVY | {"concurrent.futures", "logging", "queue", "traceback"}
# What multiprocessing brings along with its locks, its shared memory and its pipes. Those of Windows are needed, and
# the server that forks has a use for them.
WITH_TEMPFILE = {"bz2", "lzma", "multiprocessing.connection", "multiprocessing.heap", "random", "shutil", "tempfile"}
NEVER = {"multiprocessing.heap", "multiprocessing.queues", "multiprocessing.synchronize"}


@pytest.fixture(scope="module", params=multiprocessing.get_all_start_methods())
def imports(request, tmp_path_factory):
    """Return the start method, and what a program's parent and worker have imported."""
    program = tmp_path_factory.mktemp("program") / "program.py"
    program.write_text(PROGRAM, encoding="utf-8")
    command = [sys.executable, str(program), request.param]
    # In a folder of its own: a configuration file at hand is read, and reading one imports more.
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=50, cwd=program.parent)
    return request.param, *map(set, json.loads(done.stdout))


def ours(modules):
    return {name for name in modules if name.partition(".")[0] == "parapluie"}


def test_parent_imports_no_more_of_ours(imports):
    _, in_parent, _ = imports
    assert ours(in_parent) == PARENT


def test_worker_imports_no_more_of_ours(imports):
    method, _, in_worker = imports
    # What logs is taken over where logging is; a forked worker has it from its parent.
    assert ours(in_worker) == (PARENT | {"parapluie.worker_logs"} if method == "fork" else WORKER)


def test_parent_imports_nothing_that_takes_long(imports):
    method, in_parent, _ = imports
    assert not in_parent & (NOT_IN_PARENT | NEVER)
    if os.name == "posix" and method != "forkserver":
        assert not in_parent & WITH_TEMPFILE


def test_worker_imports_nothing_that_takes_long(imports):
    method, _, in_worker = imports
    if method != "fork":
        assert not in_worker & (NOT_IN_WORKER | NEVER)
    if os.name == "posix" and method == "spawn":
        assert not in_worker & WITH_TEMPFILE


ENDING = """
import os
import sys
from concurrent.futures import BrokenExecutor

import parapluie.ending

parapluie.ending._SETTLED_SECONDS = 60.0


def show(future):
    error = future.exception()
    print(type(error).__name__, isinstance(error, BrokenExecutor), "concurrent.futures.process" in sys.modules)


if __name__ == "__main__":
    executor = parapluie.Executor("process", 1, start_method="spawn")
    executor.submit(os._exit, 3).add_done_callback(show)
"""


def test_worker_that_is_lost_when_the_interpreter_ends_is_told(tmp_path):
    """The standard executors cannot be imported any more then; so nobody can ask for their own class of error."""
    program = tmp_path / "program.py"
    program.write_text(ENDING, encoding="utf-8")
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, check=True, timeout=50)
    assert (done.stdout.strip(), done.stderr) == ("WorkerLostError True False", "")
