"""The `pool` and `futures` backends, driven by a host that records what it is told."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor, wait
from multiprocessing import connection, resource_tracker
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from cell_helpers import (
    SECONDS,
    Gate,
    RecordingHost,
    Running,
    die_in_mid_reply,
    end_with_seven,
    fail,
    fork_and_die,
    kill_later,
    kill_self,
    kill_self_at,
    let_go,
    start_a_process,
    wait_at,
)

from parapluie import Executor, Retry, WorkerLostError, call_format
from parapluie.backend import Call, Stop
from parapluie.cell_process import OneWorkerContext
from parapluie.logs import log_pipe

METHODS = multiprocessing.get_all_start_methods()
posix = pytest.mark.skipif(sys.platform == "win32", reason="signals, and what is private to POSIX connections")


@pytest.fixture(params=["pool", "futures"])
def name(request):
    return request.param


@pytest.fixture(params=METHODS)
def method(request):
    return request.param


@pytest.fixture
def quick():
    """The start method for what does not depend on it."""
    return "fork" if "fork" in METHODS else "spawn"


def descriptors():
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.exists() else 0


@pytest.fixture(autouse=True)
def leaves_nothing_behind():
    """Compare threads, processes and descriptors before and after each test."""
    if "forkserver" in METHODS:
        from multiprocessing import forkserver

        forkserver.ensure_running()
        resource_tracker.ensure_running()
    threads, before, children = set(threading.enumerate()), descriptors(), set(multiprocessing.active_children())
    yield
    assert set(threading.enumerate()) == threads
    assert set(multiprocessing.active_children()) == children
    assert descriptors() == before


def test_calls_go_to_as_many_workers_as_there_are(name, method):
    with Running(name, method, max_workers=2) as running, Gate() as gate:
        assert running.send(wait_at, gate.port)
        assert running.send(wait_at, gate.port)
        assert not running.send(os.getpid)
        assert len(running.backend.workers()) == 2
        pids = {gate.arrival()[0], gate.arrival()[0]}
        assert len(pids) == 2
        gate.open()
        assert {running.host.value(), running.host.value()} == pids


def test_idle_worker_is_used_before_another_one_starts(name, quick):
    with Running(name, quick, max_workers=4) as running:
        assert len({running.run(os.getpid) for _ in range(4)}) == 1
        assert running.backend.workers() == (f"{name}-0",)
        assert running.host.ready.acquire(timeout=SECONDS)
        assert not running.host.ready.acquire(blocking=False)


def test_buffers_travel_and_an_error_is_a_reply(name, quick):
    with Running(name, quick) as running:
        buffers: list[pickle.PickleBuffer] = []
        payload = pickle.dumps((len, (pickle.PickleBuffer(bytearray(10)),), {}), 5, buffer_callback=buffers.append)
        kept = running.backend.keep_buffers([buffer.raw() for buffer in buffers])
        running.backend.dispatch([Call(1, payload, kept)])
        assert running.host.value() == 10
        running.host.wait_room()
        running.send(fail)
        assert running.host.answer()[2] == call_format.ERROR


@pytest.mark.parametrize("code", [0, pytest.param(-9, marks=posix)])
def test_death_costs_one_call_and_no_other(name, method, code):
    with Running(name, method, max_workers=2) as running, Gate() as gate:
        running.send(wait_at, gate.port)
        pid, door = gate.arrival()
        running.send(*((os._exit, code) if code == 0 else (kill_self,)))
        what, call_id, loss = running.host.answer()
        assert (what, call_id, loss.began, loss.exit_code) == ("lost", 2, True, code)
        assert loss.worker == f"{name}-1" and loss.pid != pid
        running.host.wait_room()
        assert running.run(os.getpid) not in {pid, loss.pid}
        let_go(door)
        assert running.host.value() == pid


@pytest.mark.windows
def test_dead_worker_is_not_terminated_once_more(method, monkeypatch):
    logs = log_pipe(RecordingHost(method))
    context = OneWorkerContext(multiprocessing.get_context(method), b"", logs)
    process = context.Process(target=end_with_seven, args=(context.SimpleQueue(), context.SimpleQueue()))
    process.start()
    assert connection.wait([process.sentinel], SECONDS)
    monkeypatch.setattr(BaseProcess, "terminate", lambda self: pytest.fail(f"{self} was terminated"))
    process.terminate()
    assert process.exitcode == 7  # Wine would say that it was terminated
    context.close()
    logs.close()


def test_death_of_an_idle_worker_costs_nothing(name, method):
    with Running(name, method) as running:
        pid, engine = running.run(os.getpid), running.engine()
        os.kill(pid, signal.SIGTERM)
        running.wait_dead(engine)
        assert running.run(os.getpid) != pid
        assert running.host.failures.empty()


@posix
def test_every_call_gets_one_answer_whenever_its_worker_dies(name, quick):
    with Running(name, quick, max_workers=2) as running:
        for milliseconds in range(12):
            while not running.send(kill_later, milliseconds / 4000):
                running.host.wait_room()
        answers = [running.host.answer() for _ in range(12)]
        assert len({call_id for _, call_id, *_ in answers}) == 12
    assert running.host.answers.empty()


@posix
def test_half_a_reply_is_no_reply(name, method):
    with Running(name, method) as running:
        running.send(die_in_mid_reply)
        assert running.host.answer()[0] == "lost"
        assert isinstance(running.run(os.getpid), int)


@posix
def test_call_too_big_for_the_pipe_of_a_worker_that_dies(name, method):
    with Running(name, method) as running:
        pid = running.run(os.getpid)
        os.kill(pid, signal.SIGSTOP)
        running.send(len, bytes(10_000_000))
        os.kill(pid, signal.SIGKILL)
        assert running.host.answer()[0] == "lost"
        assert running.run(len, bytes(10_000_000)) == 10_000_000


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere such a child hides the death of its parent")
def test_what_a_task_forked_does_not_hide_the_death_of_its_worker(name, method):
    with Running(name, method) as running, Gate() as gate:
        running.send(fork_and_die, gate.port)
        gate.arrival()
        assert running.host.answer()[2].exit_code == -signal.SIGKILL
        assert isinstance(running.run(os.getpid), int)


def test_worker_is_replaced_after_so_many_calls(name, method):
    with Running(name, method, max_tasks_per_child=2) as running:
        pids = [running.run(os.getpid) for _ in range(5)]
    assert pids[0] == pids[1] and pids[2] == pids[3] and len(set(pids)) == 3
    assert running.host.answers.empty()


@posix
def test_tasks_may_start_processes_and_interrupts_are_not_noticed(name, quick, capfd):
    with Running(name, quick) as running, Gate() as gate:
        running.send(wait_at, gate.port)
        pid, door = gate.arrival()
        os.kill(pid, signal.SIGINT)
        let_go(door)
        assert running.host.value() == pid
        running.host.wait_room()
        assert running.run(start_a_process) == 0
    assert capfd.readouterr() == ("", "")


def test_initializer_runs_before_the_worker_is_ready(name, method):
    with Running(name, method, initializer=(os.putenv, ("A", "B"))) as running:
        running.run(os.getpid)
        assert running.host.ready.acquire(timeout=SECONDS)


def test_failing_initializer_is_a_reply_and_the_next_call_tries_again(name, quick):
    with Running(name, quick, initializer=(fail, ())) as running:
        pids = set()
        for _ in range(2):
            running.send(os.getpid)
            what, _, kind, _, pid = running.host.answer()
            assert (what, kind) == ("replied", call_format.INIT)
            pids.add(pid)
            running.host.wait_room()
        assert len(pids) == 2
    assert not running.host.ready.acquire(blocking=False)


def test_worker_that_dies_in_its_initializer_did_not_start(name, method):
    with Running(name, method, initializer=(os._exit, (7,))) as running:
        running.send(os.getpid)
        what, _, loss = running.host.answer()
        assert (what, loss.began, loss.exit_code) == ("lost", False, 7)
        why, _ = running.host.failures.get(timeout=SECONDS)
        assert "ended with exit code 7 before it was ready" in why


def test_worker_that_is_not_ready_in_time_is_killed(name, quick):
    with Gate() as gate, Running(name, quick, initializer=(wait_at, (gate.port,)), start_timeout=0.3) as running:
        running.send(os.getpid)
        assert running.host.answer()[2].began is False
        assert "it was not ready within start_timeout=0.3 seconds" in running.host.failures.get(timeout=SECONDS)[0]


def test_worker_that_cannot_be_started_is_the_hosts_problem(name, quick, monkeypatch):
    with Running(name, quick) as running:
        with monkeypatch.context() as patch:
            patch.setattr(running.backend.engine_class, "open", lambda _: fail())
            assert running.send(os.getpid)
            assert running.host.answer()[2].began is False
            assert isinstance(running.host.failures.get(timeout=SECONDS)[1], LookupError)
        assert isinstance(running.run(os.getpid), int)


def test_call_waits_for_another_worker_where_none_can_be_started(name, quick, monkeypatch):
    with Running(name, quick, max_workers=2) as running, Gate() as gate:
        running.send(wait_at, gate.port)
        let_go(gate.arrival()[1])
        monkeypatch.setattr(running.backend.engine_class, "open", lambda _: fail())
        running.host.value()
        running.host.wait_room()
        running.send(wait_at, gate.port)
        _, door = gate.arrival()
        assert not running.send(os.getpid)
        assert running.host.failures.empty()
        let_go(door)
        running.host.value()


def test_only_unknown_calls_are_revoked(name, quick):
    with Running(name, quick) as running, Gate() as gate:
        running.send(wait_at, gate.port)
        _, door = gate.arrival()
        assert not running.backend.revoke(1)
        assert running.backend.revoke(2) and running.backend.revoke(2, running=True)
        let_go(door)
        running.host.value()
        running.host.wait_room()
        assert running.backend.revoke(1)


# ---- what the worker marks ----------------------------------------------------------------------------------------


def test_mark_is_read_while_the_call_runs(name, method):
    with Running(name, method) as running, Gate() as gate:
        before = time.monotonic()
        running.send(wait_at, gate.port)
        assert running.backend.begun(7) is None
        _, door = gate.arrival()
        begun = running.backend.begun(1)
        assert begun.item == 0 and before <= begun.at <= time.monotonic()
        let_go(door)
        running.host.value()
        running.host.wait_room()
        assert running.backend.begun(1) is None


@posix
def test_call_that_a_dead_worker_had_not_begun_is_known_for_it(name, method):
    with Running(name, method) as running:
        pid = running.run(os.getpid)
        os.kill(pid, signal.SIGSTOP)
        running.send(os.getpid)
        assert running.backend.begun(2) is None
        os.kill(pid, signal.SIGKILL)
        _, _, loss = running.host.answer()
        assert (loss.began, loss.pid, loss.exit_code) == (False, pid, -signal.SIGKILL)
        assert running.host.failures.empty()


@posix
def test_call_before_which_worker_after_worker_dies_is_not_sent_for_ever(name, quick):
    with Running(name, quick) as running:
        call = Call(1000, pickle.dumps((os.getpid, (), {})))
        for began in [False, False, None, False]:
            pid = running.run(os.getpid)
            os.kill(pid, signal.SIGSTOP)
            call = call._replace(id=call.id + 1)
            running.backend.dispatch([call])
            os.kill(pid, signal.SIGKILL)
            assert running.host.answer()[2].began is began
            running.host.wait_room()
        running.backend.dispatch([call._replace(id=2000)])
        running.host.value()
        assert not running.backend._unreached


@posix
def test_items_behind_the_mark_have_not_begun(name, quick):
    with Executor(name, 1, start_method=quick) as executor:
        outcomes = list(executor.map(kill_self_at, range(20), [9] * 20, chunksize=20, on_error="collect"))
    lost = [outcome.index for outcome in outcomes if outcome.error is not None]
    assert lost == list(range(len(lost))) and 10 <= len(lost) < 20
    assert {type(outcomes[index].error) for index in lost} == {WorkerLostError}
    assert [outcome.value for outcome in outcomes[len(lost) :]] == list(range(len(lost), 20))


# ---- killing a call -----------------------------------------------------------------------------------------------


@posix
def test_killed_call_is_lost_and_no_other(name, method):
    with Running(name, method, max_workers=2) as running, Gate() as gate:
        running.send(wait_at, gate.port)
        first, _ = gate.arrival()
        running.send(wait_at, gate.port)
        _, door = gate.arrival()
        assert not running.backend.revoke(1, running=True, item=1)  # it is at another one
        assert running.backend.revoke(1, running=True, item=0)
        what, call_id, loss = running.host.answer()
        assert (what, call_id, loss.began, loss.pid) == ("lost", 1, True, first)
        assert loss.exit_code == -signal.SIGKILL and loss.why == "it was killed to end the task"
        running.host.wait_room()
        assert running.backend.revoke(1, running=True)
        let_go(door)
        running.host.value()
    assert running.host.answers.empty()


def test_reply_that_comes_while_its_worker_is_being_killed_is_dropped(name, quick, monkeypatch):
    with Running(name, quick) as running, Gate() as gate:
        running.send(wait_at, gate.port)
        _, door = gate.arrival()
        engine, replied = running.engine(), threading.Event()
        answer = engine._answer
        engine._answer = lambda *args: (answer(*args), replied.set())
        with monkeypatch.context() as patch:
            patch.setattr(engine, "kill", lambda: None)
            assert running.backend.revoke(1, running=True)
        let_go(door)
        assert replied.wait(SECONDS)
        engine.kill()
        assert running.host.answer()[0] == "lost"
        running.host.wait_room()
        assert isinstance(running.run(os.getpid), int)
    assert running.host.answers.empty()


def test_call_whose_worker_dies_while_it_is_sent_is_told_of(name, quick, monkeypatch):
    with Running(name, quick) as running:
        running.run(os.getpid)
        engine, ended = running.engine(), threading.Event()
        send, tell = engine.send, running.host.worker_ended
        monkeypatch.setattr(running.host, "worker_ended", lambda *args, **kwargs: (tell(*args, **kwargs), ended.set()))

        def send_late(*args):
            engine.kill()
            assert ended.wait(SECONDS)
            send(*args)

        monkeypatch.setattr(engine, "send", send_late)
        assert running.send(os.getpid)
        what, call_id, loss = running.host.answer()
        assert (what, call_id, loss.began) == ("lost", 2, False)
        running.host.wait_room()
        assert isinstance(running.run(os.getpid), int)
    assert running.host.answers.empty()


def test_answered_call_is_not_killed(name, quick):
    with Running(name, quick) as running:
        asked, told = [], running.host.replied

        def replied(*args):
            asked.append(running.backend.revoke(1, running=True))
            told(*args)

        running.host.replied = replied
        pid = running.run(os.getpid)
        assert asked == [False] and running.run(os.getpid) == pid


def test_call_is_killed_before_its_worker_is_ready(name, quick):
    with Gate() as gate, Running(name, quick, initializer=(wait_at, (gate.port,))) as running:
        running.send(os.getpid)
        gate.arrival()
        assert not running.backend.revoke(1, running=True, item=0)
        assert running.backend.revoke(1, running=True)
        assert running.host.answer()[2].began is False
        assert running.host.failures.empty()


@pytest.mark.parametrize("stop", [Stop(0.2), Stop(SECONDS, kill=True)])
def test_stop_ends_what_runs(name, method, stop):
    running = Running(name, method, max_workers=2)
    with Gate() as gate:
        running.send(wait_at, gate.port)
        running.send(wait_at, gate.port)
        gate.arrival()
        gate.arrival()
        began = time.monotonic()
        running.backend.stop(stop)
        assert time.monotonic() - began < SECONDS / 2
        answers = [running.host.answers.get_nowait() for _ in range(2)]
    assert {what for what, *_ in answers} == {"lost"}
    assert running.host.answers.empty()
    running.backend.stop(stop)
    assert not running.send(os.getpid) and running.backend.workers() == ()


def test_stop_waits_for_what_ends_in_time(name, quick):
    running = Running(name, quick)
    with Gate() as gate:
        running.send(wait_at, gate.port)
        pid, door = gate.arrival()
        stopper = threading.Thread(target=running.backend.stop, args=(Stop(SECONDS),))
        stopper.start()
        let_go(door)
        stopper.join(SECONDS)
    assert running.host.value() == pid


def test_a_second_stop_hurries_the_first(name, quick):
    running = Running(name, quick)
    with Gate() as gate:
        running.send(wait_at, gate.port)
        gate.arrival()
        stopper = threading.Thread(target=running.backend.stop, args=(Stop(3 * SECONDS),))
        stopper.start()
        running.backend.stop(Stop(0.0, kill=True))
        stopper.join(SECONDS)
        assert not stopper.is_alive()
    assert running.host.answer()[0] == "lost"


def run_until_killed(name, method, port):
    running = Running(name, method)
    running.send(wait_at, port)
    threading.Event().wait(SECONDS)


@posix
def test_workers_end_with_their_parent(name, method):
    with Gate() as gate:
        parent = multiprocessing.get_context("spawn").Process(target=run_until_killed, args=(name, method, gate.port))
        parent.start()
        _, guest = gate.arrival()
        parent.kill()
        assert guest.recv(1) == b""  # the worker's end of the connection went with it
        parent.join(SECONDS)
        parent.close()


class _AnswersAtOnce(ProcessPoolExecutor):
    """Ends its futures before anybody can ask them to call back, as it may happen on a busy machine."""

    def submit(self, *args, **kwargs):
        future = super().submit(*args, **kwargs)
        wait([future], SECONDS)
        return future


def test_answer_that_comes_at_once_is_not_told_in_the_thread_that_submits(monkeypatch, quick):
    monkeypatch.setattr("parapluie.backends.futures.ProcessPoolExecutor", _AnswersAtOnce)
    told = []

    def exits(_):
        told.append(threading.current_thread())
        sys.exit("the policy's own")

    with Executor("futures", 1, start_method=quick, retry=Retry(2, on=exits)) as executor:
        future = executor.submit(fail)
        assert isinstance(future.exception(SECONDS), LookupError)
        assert executor.submit(abs, -1).result(SECONDS) == 1  # the worker is free
    assert told and threading.main_thread() not in told
