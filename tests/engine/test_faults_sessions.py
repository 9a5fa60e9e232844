"""Sessions under faults: whoever ends or is killed, nothing hangs, and nothing is left."""

from __future__ import annotations

import gc
import logging
import os
import signal
from functools import partial

import fault_help
import pytest
from fault_help import ENDED, TRACEBACK, posix, process_methods, process_only, rows, until
from fault_tasks import SECONDS, wait_at
from session_programs import LARGE, echo, get_stuck, send_ten

from parapluie import Shutdown, WorkerLostError
from parapluie.sharing import session_wire
from parapluie.testing import processes
from parapluie.testing.gates import Gate

faults = fault_help.faults


def run(faults, row, name, **arguments):
    return faults.run(name, file="session_programs.py", backend=row.backend, method=row.method, **arguments)


# ---- the parent is killed ---------------------------------------------------------------------------------------


@pytest.mark.windows
@process_methods
@pytest.mark.parametrize("how", ["receiving", "sending", "in C", "starting"])
def test_no_session_outlives_a_killed_parent(faults, row, how):
    program = run(faults, row, "be_killed", port=faults.port, how=how)
    workers = faults.gate.arrivals(2)
    program.kill()
    assert [worker.ends(ENDED) for worker in workers] == [True, True]
    assert program.leaves_nothing()


# ---- the program ends -------------------------------------------------------------------------------------------


@pytest.mark.windows
@rows("process-fork", "process-forkserver", "process-spawn", "pool-quick")
def test_session_that_is_open_at_interpreter_exit_is_closed(faults, row):
    program = run(
        faults, row, "end_with_an_open_session", port=faults.port, notes=faults.notes, ends=True, grace=SECONDS
    )
    assert faults.gate.arrival().ends()
    assert (program.wait(), program.stderr) == (0, "")
    assert faults.lines() == ["closed"]
    assert program.leaves_nothing()


@pytest.mark.windows
@process_only
def test_session_that_never_ends_does_not_hold_up_the_end_of_the_interpreter(faults, row):
    program = run(faults, row, "end_with_an_open_session", port=faults.port, notes=faults.notes, ends=False, grace=0.2)
    assert faults.gate.arrival().ends()
    assert program.wait() == 0 and "did not end within 0.2 seconds" in program.stderr
    assert program.leaves_nothing()


# ---- Ctrl-C -----------------------------------------------------------------------------------------------------


@posix
@process_methods
@pytest.mark.parametrize("place", ["recv", "result"])
def test_interrupt_closes_the_session_of_a_block(faults, row, place):
    program = run(
        faults, row, "be_interrupted", port=faults.port, notes=faults.notes, place=place, ends=True, grace=SECONDS
    )
    assert {visitor.label for visitor in faults.gate.arrivals(2)} == {"session", "waiting"}
    program.interrupt()
    assert program.wait() == -signal.SIGINT
    assert faults.lines() == ["closed"]
    assert program.stderr.count(TRACEBACK) == 1 and "KeyboardInterrupt" in program.stderr, program.stderr
    assert program.leaves_nothing()


@posix
@process_only
@pytest.mark.parametrize("place", ["recv", "send", "result", "end of the block"])
def test_interrupt_ends_a_session_that_outstays_the_grace_period(faults, row, place):
    program = run(
        faults, row, "be_interrupted", port=faults.port, notes=faults.notes, place=place, ends=False, grace=0.3
    )
    missing = {"session", "waiting"}
    while missing:  # at the end of the block it may be waiting for that before the session has begun
        missing.discard(faults.gate.arrival().label)
    program.interrupt()
    assert program.wait() == -signal.SIGINT
    assert program.stderr.count(TRACEBACK) == 1 and "KeyboardInterrupt" in program.stderr, program.stderr
    assert program.leaves_nothing()


@posix
@process_only
def test_second_interrupt_does_not_wait_for_the_grace_period(faults, row):
    program = run(
        faults, row, "be_interrupted", port=faults.port, notes=faults.notes, place="recv", ends=False, grace=100.0
    )
    assert {visitor.label for visitor in faults.gate.arrivals(2)} == {"session", "waiting"}
    program.interrupt()
    assert faults.gate.arrival().label == "waiting for the end"
    program.interrupt()
    assert program.wait() == -signal.SIGINT
    assert program.leaves_nothing()


# ---- nobody receives --------------------------------------------------------------------------------------------


@process_only
def test_function_waits_when_too_much_of_what_it_sent_is_unread_and_that_is_told(faults, row, monkeypatch, caplog):
    monkeypatch.setattr(session_wire, "_MOST_UNREAD", 2 * len(LARGE))
    executor = faults.make(row)
    with caplog.at_level(logging.WARNING, "parapluie"), executor.session(send_ten) as session:
        with pytest.raises(TimeoutError):
            session.result(0.3)
        assert caplog.text.count("session 1 waits for somebody to receive") == 1
        assert list(session) == [LARGE] * 10
        assert session.result(SECONDS) == 10


# ---- nobody holds it, nothing is left ---------------------------------------------------------------------------


@pytest.mark.windows
@process_only
def test_session_that_is_dropped_and_does_not_end_is_ended_by_force(faults, row, caplog):
    executor = faults.make(row, shutdown=Shutdown(grace=0.1))
    with caplog.at_level(logging.WARNING, "parapluie"):
        session = executor.session(get_stuck, faults.port, "waiting")
        visitor = faults.gate.arrival()
        del session
        gc.collect()
        assert visitor.ends()
        assert until(lambda: not executor._dispatcher.sessions)
    assert "was dropped, and did not end in time; terminated" in caplog.text


@process_methods
def test_many_sessions_leave_nothing(faults, row):
    """The resource tracker would tell at the end of the program of semaphores that were not let go."""
    program = run(faults, row, "open_and_close", count=10 if row.method == "fork" else 4)
    assert (program.wait(), program.stderr) == (0, "")
    first, last = program.answer()
    assert last == first
    assert program.leaves_nothing()


# ---- workers that are killed ------------------------------------------------------------------------------------


@pytest.mark.windows
@process_methods
@pytest.mark.parametrize("how", ["receiving", "sending"])
def test_killed_session_harms_nobody_else(faults, row, how):
    executor = faults.make(row)
    with executor.session(echo) as other:
        session = executor.session(get_stuck, faults.port, how)
        faults.gate.arrival()
        processes.kill(session.pid)
        with pytest.raises(WorkerLostError) as caught:
            session.result(SECONDS)
        assert caught.value.exit_code == processes.KILLED and processes.KILLED_WORDS in str(caught.value)
        with pytest.raises(WorkerLostError):
            list(session)
        assert executor.submit(abs, -3).result(SECONDS) == 3
        other.send(1)
        assert other.recv(SECONDS) == 1


@process_methods
def test_what_a_session_has_forked_does_not_hide_its_death(faults, row):
    """The fork holds the session's end of the pipe."""
    gate = Gate()
    executor = faults.make(row)
    session = executor.session(fork_and_wait, faults.port, gate.port)
    visitor = faults.gate.arrival()
    child = gate.arrival()
    processes.end(session.pid)
    with pytest.raises(WorkerLostError, match=processes.KILLED_WORDS):
        session.recv(SECONDS)
    child.release()
    assert visitor.pid == session.pid and child.ends()
    gate.close()


def fork_and_wait(connection, port, port_of_child):
    if os.fork() == 0:
        wait_at(port_of_child)
        os._exit(0)
    get_stuck(connection, port, "waiting")


# ---- interrupts in the midst ------------------------------------------------------------------------------------


@process_only
@pytest.mark.parametrize("what", ["read", "write"])
def test_interrupt_in_the_midst_of_a_message_ends_the_session(faults, row, what):
    """Nobody knows any more where in the stream it is."""
    executor = faults.make(row)
    session = executor.session(echo)
    session.send(LARGE)
    assert session.recv(SECONDS) == LARGE
    wire = session._side._wire
    name, do = {
        "read": ("_port_read", partial(session.recv, SECONDS)),
        "write": ("_port_write", partial(session.send, 2)),
    }[what]
    original = getattr(wire, name)

    def interrupted(thing):
        original(thing)
        raise KeyboardInterrupt

    session.send(1)
    setattr(wire, name, interrupted)
    with pytest.raises(KeyboardInterrupt):
        do()
    setattr(wire, name, original)
    with pytest.raises(WorkerLostError, match="an interrupt came in the middle of a message"):
        do()
    session.kill()
