from __future__ import annotations

import faulthandler
import os
import pickle
import signal
import subprocess
import sys

import pytest

from parapluie import WorkerLostError, answers, worker
from parapluie.dumps import DumpFile
from parapluie.evidence import Evidence, OomKills, evidence_of, last_lines
from parapluie.memory import peak_memory

OURS = f'  File "{worker.__file__}", line 175 in'
BELOW = f"""{OURS} execute
  File "/somewhere/parapluie/backends/process/loop.py", line 107 in run
  File "/somewhere/multiprocessing/process.py", line 108 in run
  File "<string>", line 1 in <module>
"""

# ---- the last lines of a dump -----------------------------------------------------------------------------------


def dump(*stacks, header="Fatal Python error: Segmentation fault"):
    return "\n".join([header, "", *stacks, "", "Extension modules: numpy.core, numpy.linalg (total: 2)", ""])


TASK = '  File "/home/me/app.py", line 7 in inner\n  File "/home/me/app.py", line 9 in task\n'
CURRENT = "Current thread 0x00007f8eafa59b80 (most recent call first):\n"
OTHER = 'Thread 0x00007f8eaeed96c0 (most recent call first):\n  File "/home/me/other.py", line 4 in other\n'
SHOWN = f"Fatal Python error: Segmentation fault\n{TASK}".rstrip()


@pytest.mark.parametrize(
    "text",
    [
        dump(CURRENT + TASK),
        dump(CURRENT + TASK + BELOW),
        dump(OTHER, CURRENT + TASK + BELOW),
        dump(CURRENT + TASK + BELOW, OTHER),
        dump(f"{CURRENT}{TASK}{OURS} __call__\n{OURS} _run_chunk\n{BELOW}"),
        dump(f'{CURRENT}{TASK}  File "{answers.__file__}", line 50 in dumps\n{BELOW}'),  # its result was being pickled
        dump(OTHER, CURRENT.replace("Current thread", "Thread") + TASK + BELOW),  # it crashed where no Python runs
        dump("Stack (most recent call first):\n" + TASK + BELOW),
        dump(CURRENT + OTHER.split("\n")[1]) + dump(CURRENT + TASK + BELOW),  # of what the task forked, then its own
        dump(CURRENT + TASK, "Current thread's C stack trace (most recent call first):\n  Binary file ..., at f+0x1\n"),
        "something else\n" + dump(CURRENT + TASK + BELOW) + "Segmentation fault\n",
    ],
)
def test_last_lines_are_what_happened_and_the_tasks_frames(text):
    assert last_lines(text) == SHOWN


def test_task_that_uses_parapluie_itself_keeps_its_frames():
    frames = f'{TASK}  File "/somewhere/parapluie/executor.py", line 9 in submit\n{OURS} run\n{TASK}'
    assert last_lines(dump(CURRENT + frames + BELOW)) == SHOWN + "\n" + "\n".join(frames.splitlines()[2:])


def test_crash_outside_of_any_task_shows_the_innermost_frame():
    assert last_lines(dump(CURRENT + BELOW)) == f"Fatal Python error: Segmentation fault\n{OURS} execute"


def test_long_stack_is_cut():
    frames = "".join(f'  File "/home/me/app.py", line {number} in task\n' for number in range(40))
    lines = last_lines(dump(CURRENT + frames + BELOW)).splitlines()
    assert len(lines) == 14 and "line 11 in" in lines[-2] and lines[-1] == "  ... and 28 more"


def test_windows_calls_it_an_exception():
    header = "Windows fatal exception: access violation"
    assert last_lines(dump(CURRENT + TASK, header=header)) == f"{header}\n{TASK}".rstrip()


@pytest.mark.parametrize("text", ["", "\n\n", "nothing of the kind\n", CURRENT + TASK])
def test_text_that_is_no_dump_has_no_last_lines(text):
    assert last_lines(text) == ""


def test_dump_that_breaks_off_shows_what_is_there():
    whole = dump(CURRENT + TASK)
    for length in range(len(whole)):
        assert SHOWN.startswith(last_lines(whole[:length]).rstrip()) or length < len(SHOWN)
    assert last_lines("Fatal Python error: Abor") == "Fatal Python error: Abor"


# ---- what is known of a death -----------------------------------------------------------------------------------


@pytest.fixture
def file():
    """A file in which the fault handler has written."""
    file = DumpFile()
    os.write(file._fd, dump(CURRENT + TASK).encode())
    yield file
    file.close()


needs_posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals that kill")


@needs_posix
@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL"])
def test_crash_has_a_dump(file, tmp_path, name):
    found = evidence_of(-getattr(signal, name), file, OomKills(tmp_path), ours=False)
    assert found == Evidence(dump=SHOWN)


def test_crash_of_windows_has_a_dump(file, tmp_path):
    assert evidence_of(0xC0000005, file, OomKills(tmp_path), ours=False) == Evidence(dump=SHOWN)


@needs_posix
@pytest.mark.parametrize("exit_code", [None, 0, 1, 3, -9, -15])
def test_dump_is_not_shown_where_the_worker_did_not_write_it(file, tmp_path, exit_code):
    assert evidence_of(exit_code, file, OomKills(tmp_path), ours=False) == Evidence()


@needs_posix
def test_worker_without_a_file_has_no_dump(monkeypatch, tmp_path):
    monkeypatch.setattr("parapluie.dumps._file_without_name", lambda: None)
    file = DumpFile()
    file.enable()
    assert evidence_of(-11, file, OomKills(tmp_path), ours=False) == Evidence()
    assert pickle.loads(pickle.dumps(file)).read() == ""
    file.close()


def test_file_is_gone_when_it_is_closed(file):
    descriptor = file._fd
    assert file.read().startswith("Fatal") and file.read().startswith("Fatal")
    file.close()
    file.close()
    assert file.read() == ""
    with pytest.raises(OSError, match="descriptor"):
        os.fstat(descriptor)


def test_file_needs_no_memory_file(monkeypatch):
    monkeypatch.delattr(os, "memfd_create", raising=False)
    file = DumpFile()
    os.write(file._fd, b"text")
    assert file.read() == "text"
    file.close()


def test_file_whose_system_refuses_one_does_without(monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("no")

    monkeypatch.setattr(os, "memfd_create", refuse, raising=False)
    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    file = DumpFile()
    assert file._fd is None and file.read() == ""


def test_fault_handler_that_is_on_is_left_alone(file):
    was_on = faulthandler.is_enabled()
    faulthandler.enable()  # pytest's own, mostly
    try:
        file.enable()
        assert os.get_inheritable(file._fd) is False
    finally:
        if not was_on:
            faulthandler.disable()


# ---- the out-of-memory killer -----------------------------------------------------------------------------------

V2 = ("0::/user.slice/job\n", "sys/fs/cgroup/user.slice/job/memory.events", "low 0\nhigh 0\noom 4\noom_kill {}\n")
V1 = ("4:memory:/docker/a\n0::/\n", "sys/fs/cgroup/memory/docker/a/memory.oom_control", "under_oom 0\noom_kill {}\n")
INSIDE = ("4:memory:/docker/a\n", "sys/fs/cgroup/memory/memory.oom_control", "oom_kill_disable 0\noom_kill {}\n")


@pytest.mark.parametrize(("groups", "path", "text"), [V2, V1, INSIDE])
def test_counter_tells_of_each_kill_once(tmp_path, groups, path, text):
    write(tmp_path, {"proc/self/cgroup": groups, path: text.format(7)})
    kills = OomKills(tmp_path)
    assert not kills.one_more()
    write(tmp_path, {path: text.format(9)})
    assert [kills.one_more() for _ in range(3)] == [True, True, False]
    (tmp_path / path).unlink()
    assert not kills.one_more()


def test_nearest_group_counts(tmp_path):
    groups, path, text = V2
    above = "sys/fs/cgroup/user.slice/memory.events"
    write(tmp_path, {"proc/self/cgroup": groups, path: text.format(0), above: text.format(0)})
    kills = OomKills(tmp_path)
    write(tmp_path, {above: text.format(1)})
    assert not kills.one_more()


@pytest.mark.parametrize("text", ["", "oom_kill\n", "oom_kill x\n", "oom_kill -1\n", "oom 5\n", "oom_kill_disable 0\n"])
def test_counter_that_makes_no_sense_is_no_evidence(tmp_path, text):
    groups, path, good = V2
    write(tmp_path, {"proc/self/cgroup": groups, path: text})
    kills = OomKills(tmp_path)
    write(tmp_path, {path: good.format(5)})
    assert not kills.one_more()  # nothing was known before


def test_without_groups_there_is_no_evidence(tmp_path):
    assert not OomKills(tmp_path).one_more()


@pytest.mark.parametrize(("exit_code", "ours", "oom"), [(-9, False, True), (-9, True, False), (-15, False, False)])
def test_only_a_kill_that_is_not_ours_is_the_out_of_memory_killers(tmp_path, exit_code, ours, oom):
    groups, path, text = V2
    write(tmp_path, {"proc/self/cgroup": groups, path: text.format(0)})
    kills = OomKills(tmp_path)
    write(tmp_path, {path: text.format(1)})
    assert evidence_of(exit_code, None, kills, ours=ours) == Evidence(oom=oom)


def write(root, files):
    for path, text in files.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


# ---- memory -----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells how much memory another process uses")
def test_peak_memory_stays_what_it_was():
    code = "data = b'1' * 100_000_000; del data; print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        peak = peak_memory(child.pid)
        child.communicate(b"\n")
    assert 100_000_000 < peak < 200_000_000


def test_peak_memory_of_a_dead_process_is_not_known():
    with subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE) as child:
        child.stdout.read()
        while child.poll() is None:
            pass
    assert peak_memory(child.pid) is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_peak_memory_of_a_process_that_nobody_has_waited_for_is_not_known():
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert peak_memory(pid) is None
    os.waitpid(pid, 0)


# ---- what the error says ----------------------------------------------------------------------------------------


@needs_posix
@pytest.mark.parametrize(
    ("exit_code", "words"),
    [
        (-11, "was killed by SIGSEGV while"),
        (-9, "was killed by SIGKILL while"),
        (-200, "was killed by signal 200 while"),
        (0, "ended with exit code 0 while"),
        (255, "ended with exit code 255 while"),
        (None, "died while"),
        (0xC0000005, "ended with STATUS_ACCESS_VIOLATION (0xC0000005) while"),
        (0xC00000FD, "ended with STATUS_STACK_OVERFLOW (0xC00000FD) while"),
        (0xC0000409, "ended with STATUS_STACK_BUFFER_OVERRUN (0xC0000409) while"),
        (0xC000013A, "ended with STATUS_CONTROL_C_EXIT (0xC000013A) while"),
        (0xC0FFEE11, "ended with NTSTATUS 0xC0FFEE11 while"),
    ],
)
def test_error_says_how_the_worker_ended(exit_code, words):
    assert words in str(WorkerLostError(7, exit_code=exit_code))


def test_error_is_one_sentence_and_notes():
    error = WorkerLostError(7, backend="process", exit_code=-6, peak_memory=2_345_600_000, dump=SHOWN)
    assert "\n" not in str(error)
    assert error.__notes__ == [
        "the worker's memory peaked at 2,346 MB or more",
        f"the worker's fault handler wrote (innermost frame first):\n{SHOWN}",
    ]
    assert not hasattr(WorkerLostError(7, exit_code=-6), "__notes__")


def test_error_survives_pickling_with_its_evidence():
    error = WorkerLostError(7, backend="process", exit_code=-9, peak_memory=5_000_000, dump=SHOWN, oom=True)
    error.add_note("a note of others")
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == str(error) and copy.__notes__ == error.__notes__ and len(copy.__notes__) == 3
    assert (copy.peak_memory, copy.dump, copy.oom) == (5_000_000, SHOWN, True)
    assert "was killed by the kernel's out-of-memory killer (SIGKILL) while" in str(copy)
