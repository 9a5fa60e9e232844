"""What travels to a process that is being started, of which a backend's tests tell too late or not at all."""

from __future__ import annotations

import multiprocessing
from multiprocessing.connection import wait

import pytest

from parapluie.starting import starting

pytestmark = pytest.mark.windows


def test_process_that_dies_before_it_reads_what_it_is_sent_leaves_no_end_of_a_pipe():
    context = multiprocessing.get_context("spawn")
    reading, writing = context.Pipe(duplex=False)
    process = context.Process(target=writing.send, args=("arrived",))
    with starting("spawn"):
        process.start()
    process.kill()  # it still imports
    writing.close()
    with reading:
        assert wait([reading], 30)
        with pytest.raises(EOFError):
            reading.recv()
    process.join()


def test_connection_arrives_and_other_threads_can_send_theirs():
    context = multiprocessing.get_context("spawn")
    reading, writing = context.Pipe(duplex=False)
    inner_reading, inner_writing = context.Pipe(duplex=False)
    process = context.Process(target=_send_end, args=(writing, inner_reading))
    with starting("spawn"):
        process.start()
    inner_writing.send(writing)  # takes the standard way, through a pipe
    assert [reading.recv(), reading.recv()] == ["by start", "by pipe"]
    process.join()
    for end in (reading, writing, inner_reading, inner_writing):
        end.close()


def _send_end(writing, others):
    writing.send("by start")
    with others.recv() as again:
        again.send("by pipe")
