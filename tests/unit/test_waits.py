"""Waiting for more than the platform waits for in one call, in groups: with a small limit, and on Windows its own."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import ExitStack
from multiprocessing import Pipe
from time import monotonic

import pytest

from parapluie import Executor, WorkerLostError, waits
from parapluie.testing import processes

pytestmark = pytest.mark.windows

SECONDS = 30.0
MANY = 70 if sys.platform == "win32" else 10
MOST = waits.MOST_HANDLES or 4  # in one call; on Windows its own limit


@pytest.fixture
def pipes():
    """Ends to read from and ends to write to: more than fit into a call, and into three."""
    made = [Pipe(duplex=False) for _ in range(MANY)]
    yield [reader for reader, _ in made], [writer for _, writer in made]
    for reader, writer in made:
        reader.close()
        writer.close()


@pytest.mark.parametrize("number", [0, 1, MOST - 1, MOST, MOST + 1, MANY - 1])
def test_whichever_is_ready_is_told(pipes, number):
    readers, writers = pipes
    writers[number].send_bytes(b"x")
    assert waits.wait(readers, SECONDS, MOST) == [readers[number]]


def test_nothing_is_told_when_the_time_is_up_and_not_before(pipes):
    readers, _ = pipes
    begun = monotonic()
    assert waits.wait(readers, 0.3, MOST) == []
    assert monotonic() - begun >= 0.28  # clocks of Windows have steps
    assert waits.wait(readers, 0, MOST) == []


def test_what_becomes_ready_meanwhile_is_told(pipes):
    readers, writers = pipes
    for number in (MANY - 1, 0, MOST):
        timer = threading.Timer(0.05, writers[number].send_bytes, [b"x"])
        timer.start()
        assert waits.wait(readers, None, MOST) == [readers[number]]
        readers[number].recv_bytes()
        timer.join()


@pytest.mark.parametrize("which", [0, 1], ids=["other end", "this end"])
def test_closed_connection_is_seen(which):
    ends = other, pipe = Pipe()
    is_closed = waits.closed_by_other(pipe)
    assert not is_closed()
    other.send_bytes(b"x")
    assert not is_closed() and pipe.recv_bytes() == b"x" and not is_closed()
    ends[which].close()
    assert is_closed()
    for end in ends:
        end.close()


def test_end_of_a_process_is_told():
    import subprocess

    with subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE) as child:
        ending = waits.end_of(child.pid)
        if ending is None:
            pytest.skip("nothing tells of a process here")
        with ExitStack() as stack:
            stack.callback(processes.close, ending)
            assert waits.wait([ending], 0) == []
            processes.end(child.pid)
            assert waits.wait([ending], SECONDS) == [ending]


def meet(barrier_folder, count):
    """Wait until so many are here: all of them run at a time."""
    open(os.path.join(barrier_folder, str(os.getpid())), "w").close()  # noqa: PTH118, PTH123 - light to import
    until = monotonic() + SECONDS
    while len(os.listdir(barrier_folder)) < count and monotonic() < until:  # noqa: PTH208 - as above
        threading.Event().wait(0.01)
    return os.getpid()


@pytest.mark.parametrize("backend", ["pool", "futures"])
def test_workers_that_do_not_fit_into_one_call_work_and_die_as_others(backend, monkeypatch, tmp_path):
    """Each of them has two things that are waited for until it is ready, and then one."""
    monkeypatch.setattr(waits, "MOST_HANDLES", 3)
    count = 5
    with Executor(backend, count) as executor:
        pids = [executor.submit(meet, str(tmp_path), count) for _ in range(count)]
        assert len({future.result(SECONDS) for future in pids}) == count
        lost = [executor.submit(os._exit, 3) for _ in range(3)]
        assert {type(future.exception(SECONDS)) for future in lost} == {WorkerLostError}
        assert list(executor.map(abs, range(-20, 0))) == list(range(20, 0, -1))
