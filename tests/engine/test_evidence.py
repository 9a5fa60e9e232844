"""What the error of a lost task says of the death: the place of the crash, memory, the out-of-memory killer."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

from parapluie import Executor, Shutdown, WorkerLostError, cgroup
from parapluie.evidence import OomKills
from parapluie.testing import processes

PROGRAM = Path(__file__).with_name("evidence_program.py")
CRASH_LINE = next(
    number
    for number, line in enumerate(PROGRAM.read_text(encoding="utf-8").splitlines(), 1)
    if "the line of the crash" in line
)
SECONDS = 30.0
CRASH = [*processes.CRASH_FRAMES, "segfault"]  # the innermost frames
ABORTED_WORDS = "ended with exit code 3" if sys.platform == "win32" else "was killed by SIGABRT"
MB = 1_000_000

windows = pytest.mark.windows
posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals and no fork")
linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells how much memory another process uses")
methods = pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
backends = pytest.mark.parametrize("backend", [pytest.param("process", marks=windows), "pool", "futures"])
every_backend = pytest.mark.parametrize("backend", ["process", "manager", "pool", "futures"])


def lose(backend, method, *arguments, environment=None, inside=()):
    """Run the program; return what the error says."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONFAULTHANDLER"}
    variables["PYTHONPATH"] = os.pathsep.join(filter(None, [str(PROGRAM.parents[1]), variables.get("PYTHONPATH")]))
    command = [*inside, sys.executable, str(PROGRAM), backend, method, *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=SECONDS, env={**variables, **(environment or {})}
    )
    return {**json.loads(done.stdout), "stderr": done.stderr}


def frames(facts):
    """Return the functions that the dump names."""
    return re.findall(r"in (\w+)$", facts["dump"], re.MULTILINE)


# ---- the fault handler's dump -----------------------------------------------------------------------------------


@windows
@methods
@every_backend
def test_crash_names_its_signal_and_shows_the_line_of_the_task(backend, method):
    facts = lose(backend, method, "nested")
    assert facts["type"] == "WorkerLostError" and facts["exit_code"] == processes.CRASHED
    assert processes.CRASHED_WORDS in facts["text"] and "\n" not in facts["text"]
    assert facts["dump"].startswith(processes.CRASH_DUMP)
    assert f'evidence_program.py", line {CRASH_LINE} in segfault' in facts["dump"]
    assert frames(facts) == [*CRASH, "nested", "nested", "nested"]  # and none of ours
    assert facts["dump"] in facts["notes"][-1] and "fault handler" in facts["notes"][-1]
    assert facts["stderr"] == "" and facts["oom"] is False
    during, after = facts["dump files"]
    assert during <= 2 and after == 0  # of four dead workers, the last one may not yet be buried


@backends
def test_abort_shows_its_line(backend):
    facts = lose(backend, "spawn", "abort")
    assert facts["dump"].startswith("Fatal Python error: Aborted\n") and frames(facts) == ["abort"]


@backends
@pytest.mark.parametrize(("task", "words"), [("leave", "ended with exit code 4"), ("kill", processes.KILLED_WORDS)])
def test_death_without_a_crash_has_no_dump(backend, task, words):
    facts = lose(backend, "spawn", task)
    assert words in facts["text"] and "out-of-memory" not in facts["text"]
    assert facts["dump"] == "" and facts["oom"] is False
    assert not [note for note in facts["notes"] if "fault handler" in note]


@windows
def test_long_dump_is_cut():
    facts = lose("process", "spawn", "recurse", 60)
    assert len(facts["dump"].splitlines()) == 14 and frames(facts)[: len(CRASH) + 1] == [*CRASH, "recurse"]
    assert facts["dump"].endswith(f"  ... and {len(CRASH) + 49} more")


@windows
def test_crash_in_an_item_of_a_map_shows_its_line():
    assert frames(lose("process", "spawn", "map")) == [*CRASH, "square_or_crash"]


@windows
def test_crash_in_a_thread_of_the_task_shows_that_thread():
    facts = lose("process", "spawn", "crash_in_thread")
    assert frames(facts)[: len(CRASH)] == CRASH and "crash_in_thread" not in facts["dump"]


def test_crash_as_a_task_is_read_shows_its_line():
    assert frames(lose("process", "spawn", "unreadable"))[: len(CRASH)] == CRASH


@backends
def test_crash_in_the_initializer_shows_its_line(backend):
    facts = lose(backend, "spawn", "initializer")
    assert facts["type"] == "WorkerInitError" and processes.CRASHED_WORDS in facts["text"]
    assert f"line {CRASH_LINE} in segfault" in facts["text"]


@posix
def test_crash_of_what_a_task_forked_is_not_the_workers():
    facts = lose("process", "spawn", "be_killed_after_a_child_has_crashed")
    assert facts["exit_code"] == processes.KILLED and facts["dump"] == ""


@windows
@methods
def test_fault_handler_that_is_on_already_stays_as_it_is(method):
    facts = lose("process", method, "abort", environment={"PYTHONFAULTHANDLER": "1"})
    assert facts["dump"] == "" and ABORTED_WORDS in facts["text"]
    assert "Fatal Python error: Aborted" in facts["stderr"]


@windows
@methods
def test_fault_handler_that_an_initializer_enables_takes_the_place_of_ours(method, tmp_path):
    facts = lose("process", method, "elsewhere", tmp_path / "dump")
    assert facts["dump"] == "" and ABORTED_WORDS in facts["text"]
    assert "in abort" in (tmp_path / "dump").read_text(encoding="utf-8")


# ---- memory -----------------------------------------------------------------------------------------------------


@linux
@methods
def test_peak_memory_of_a_crashed_worker_is_what_it_had_allocated(method):
    facts = lose("process", method, "allocate_and_abort", 200 * MB, 1.0)
    assert 200 * MB <= facts["peak_memory"] <= 300 * MB
    assert f"the worker's memory peaked at {facts['peak_memory'] / MB:,.0f} MB or more" in facts["notes"]


@linux
def test_waiting_for_a_long_task_costs_next_to_nothing():
    with Executor("process", 2) as executor:
        executor.submit(abs, 1).result()
        before = time.process_time()
        executor.submit(time.sleep, 1.0).result()
        assert time.process_time() - before < 0.2


# ---- the out-of-memory killer -----------------------------------------------------------------------------------


def die_after_writing(path, text):
    Path(path).write_text(text, encoding="utf-8")
    os.kill(os.getpid(), signal.SIGKILL)


def ignore_termination(path):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Path(path).write_text("oom_kill 9\n", encoding="utf-8")
    time.sleep(60)


@pytest.fixture
def counter(tmp_path, monkeypatch):
    """A control group whose counter of kills stands at 2."""
    file = tmp_path / "sys/fs/cgroup/job/memory.events"
    for path, text in ((tmp_path / "proc/self/cgroup", "0::/job\n"), (file, "oom 5\noom_kill 2\n")):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for user in ("parapluie.backends.process.engine", "parapluie.cells"):
        monkeypatch.setattr(f"{user}.OomKills", partial(OomKills, tmp_path))
    return file


@posix
@backends
def test_kill_is_the_out_of_memory_killers_only_if_its_counter_has_moved(backend, counter):
    with Executor(backend, 1) as executor:
        error = executor.submit(die_after_writing, counter, "oom 5\noom_kill 3\n").exception(SECONDS)
        assert isinstance(error, WorkerLostError) and error.oom and error.exit_code == -9
        assert "was killed by the kernel's out-of-memory killer (SIGKILL) while" in str(error)
        error = executor.submit(die_after_writing, counter, "oom 7\noom_kill 3\n").exception(SECONDS)
        assert not error.oom and "was killed by SIGKILL while" in str(error)


@posix
def test_kill_of_our_own_is_never_the_out_of_memory_killers(counter):
    with Executor("process", 1, shutdown=Shutdown(drain=False, grace=0.1)) as executor:
        future = executor.submit(ignore_termination, counter)
        while "oom_kill 9" not in counter.read_text(encoding="utf-8"):
            time.sleep(0.01)
    error = future.exception(SECONDS)
    assert isinstance(error, WorkerLostError) and error.exit_code == -9
    assert not error.oom and "out-of-memory" not in str(error)


@contextmanager
def limited_group(limit):
    """Make a control group with little memory, and without swap; yield the file that takes its processes."""
    nearest = next(
        (folder for folder in map(Path, cgroup.folders("memory", "/")) if (folder / "cgroup.procs").exists()), None
    )
    if nearest is None:
        pytest.skip("there is no control group for memory")
    group = nearest / f"parapluie-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    try:
        try:
            old = (group / "memory.limit_in_bytes").exists()
            (group / ("memory.limit_in_bytes" if old else "memory.max")).write_text(str(limit), encoding="ascii")
            if len(Path("/proc/swaps").read_text(encoding="utf-8").splitlines()) > 1:
                swap, most = ("memory.memsw.limit_in_bytes", limit) if old else ("memory.swap.max", 0)
                (group / swap).write_text(str(most), encoding="ascii")
        except OSError as error:
            pytest.skip(f"the memory of a control group cannot be limited here: {error}")
        yield group / "cgroup.procs"
    finally:
        deadline = time.monotonic() + 5.0
        while time.monotonic() < deadline:
            with suppress(OSError):  # its last processes are still ending
                group.rmdir()
                break
            time.sleep(0.05)


@linux
@methods
def test_worker_that_the_kernel_kills_for_its_memory(method):
    with limited_group(150 * MB) as processes:
        inside = ("sh", "-c", 'echo $$ > "$0" && exec "$@"', str(processes))
        facts = lose("process", method, "allocate", 1000 * MB, inside=inside)
    assert facts["oom"] and facts["exit_code"] == -9
    assert "was killed by the kernel's out-of-memory killer (SIGKILL) while running it" in facts["text"]
