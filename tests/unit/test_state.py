"""Shared state: the hub's rules, its server's life, and who is let in."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from multiprocessing.connection import Client

import pytest

from parapluie import errors, pool_errors
from parapluie.sharing.state import local_state, served_state
from parapluie.state import link as links
from parapluie.state.containers import Dict
from parapluie.state.hub import Caller, Hub, Process, Wait
from parapluie.state.kinds import KINDS
from parapluie.state.link import LocalLink
from parapluie.state.locks import Condition, Lock, Semaphore
from parapluie.state.queues import Queue
from parapluie.state_errors import SharedStateError, SharedStateLostError
from parapluie.testing.processes import kill

SECONDS = 20
METHODS = multiprocessing.get_all_start_methods()


# ---- the hub ----------------------------------------------------------------------------------------------------


class Asking(Caller):
    """A caller whose answers are kept."""

    def __init__(self, process=None):
        super().__init__(process or Process(os.getpid()))
        self.answers = []

    def answered(self, sealed, *, failed):
        self.answers.append((sealed, failed))


@pytest.fixture
def told():
    return []


@pytest.fixture
def hub(told):
    return Hub(told.append)


@pytest.mark.windows
class TestHub:
    def test_who_came_first_is_served_first(self, hub):
        lock, callers = hub.add("lock", Lock()), [Asking() for _ in range(3)]
        assert hub.call(callers[0], lock, "acquire", (True,)) is True
        waits = [hub.call(caller, lock, "acquire", (True,)) for caller in callers[1:]]
        assert all(isinstance(wait, Wait) for wait in waits)
        hub.call(callers[0], lock, "release", ())
        assert [caller.answers for caller in callers] == [[], [(True, False)], []]

    def test_process_that_died_while_it_waited_is_passed_over(self, hub):
        lock, callers = hub.add("lock", Lock()), [Asking() for _ in range(3)]
        hub.call(callers[0], lock, "acquire", (True,))
        dead, _ = (hub.call(caller, lock, "acquire", (True,)) for caller in callers[1:])
        hub.forget(dead)
        hub.call(callers[0], lock, "release", ())
        assert [caller.answers for caller in callers[1:]] == [[], [(True, False)]]

    def test_item_is_not_given_to_who_died_while_it_waited(self, hub):
        queue, callers = hub.add("queue", Queue(0)), [Asking() for _ in range(2)]
        dead, _ = (hub.call(caller, queue, "get", (True,)) for caller in callers)
        hub.forget(dead)
        hub.call(Asking(), queue, "put", ("item", True))
        assert [caller.answers for caller in callers] == [[], [("item", False)]]

    def test_nothing_is_given_to_who_is_gone_while_the_hub_has_not_been_told(self, hub, told):
        queue, lock, process = hub.add("queue", Queue(0)), hub.add("lock", Lock()), Process(123)
        holder, gone, next_one = Asking(), Asking(process), Asking()
        hub.call(holder, lock, "acquire", (True,))
        for target, name, args in ((queue, "get", (True,)), (lock, "acquire", (True,))):
            for caller in (gone, next_one):
                assert isinstance(hub.call(caller, target, name, args), Wait)
        gone.is_gone = lambda: True
        hub.call(Asking(), queue, "put_many", (["first", "second"], True))
        hub.call(holder, lock, "release", ())
        assert (gone.answers, next_one.answers) == ([], [("first", False), (True, False)])
        assert hub.call(Asking(), queue, "get", (True,)) == "second"
        hub.left(process)
        assert told == []

    def test_what_an_interrupted_caller_was_given_is_taken_back(self, hub):
        queue, lock, caller, other = hub.add("queue", Queue(0)), hub.add("lock", Lock()), Asking(), Asking()
        hub.call(caller, queue, "put_many", (["first", "second"], True))
        assert hub.call(caller, queue, "get", (True,)) == "first"
        hub.undo(caller)
        hub.undo(caller)
        assert hub.call(caller, queue, "get_many", (5,)) == ["first", "second"]
        assert hub.call(caller, lock, "acquire", (True,)) is True
        hub.undo(caller)
        assert hub.call(other, lock, "acquire", (False,)) is True

    def test_what_a_process_held_when_it_ended_is_free_and_told(self, hub, told):
        lock, semaphore, process = hub.add("lock", Lock(), "door"), hub.add("semaphore", Semaphore(2)), Process(123)
        for target in (lock, semaphore, semaphore):
            assert hub.call(Asking(process), target, "acquire", (True,)) is True
        waiting = Asking()
        assert isinstance(hub.call(waiting, lock, "acquire", (True,)), Wait)
        hub.left(process)
        assert waiting.answers == [(True, False)]
        assert hub.call(Asking(), semaphore, "get_value", ()) == 2
        assert sorted(told) == [
            "process 123 ended while it held 2 of semaphore 2, free again now",
            "process 123 ended while it held lock 'door', which is free now",
        ]

    def test_late_caller_of_a_condition_has_the_lock_again(self, hub):
        condition, sleeper, other = hub.add("condition", Condition()), Asking(), Asking()
        hub.call(sleeper, condition, "acquire", (1, True))
        wait = hub.call(sleeper, condition, "wait", (1,))
        assert hub.call(other, condition, "acquire", (2, True)) is True
        hub.give_up(wait)
        assert sleeper.answers == []  # the other one holds it
        hub.call(other, condition, "release", (2,))
        assert sleeper.answers == [(False, False)]
        hub.call(sleeper, condition, "release", (1,))

    def test_answer_that_was_given_in_time_stays(self, hub):
        queue, caller = hub.add("queue", Queue(0)), Asking()
        wait = hub.call(caller, queue, "get", (True,))
        hub.call(Asking(), queue, "put", ("item", True))
        hub.give_up(wait)
        assert caller.answers == [("item", False)]

    def test_operation_that_there_is_not(self, hub):
        table = hub.add("dict", Dict({}), "totals")
        with pytest.raises(AttributeError, match="dict 'totals' has no operation '__class__'"):
            hub.call(Asking(), table, "__class__", ())


def test_wait_that_nothing_could_end_is_an_error():
    link = LocalLink(alone=lambda: True)
    queue = link.make("queue", (0,), None)
    with pytest.raises(SharedStateError, match=r"get\(\) of queue 1 would wait for ever"):
        link.call(queue, "get", (True,))
    link.call(queue, "put", (1, True))
    assert link.call(queue, "get", (True,)) == 1


PROGRAM = """
from parapluie import Executor

def wait(what, method):
    getattr(what, method)()

if __name__ == "__main__":
    with Executor("serial", pickle_round_trip={pickling}) as executor:
        waiting, held = executor.shared.queue(), executor.shared.lock()
        held.acquire()
        print(executor.submit(wait, waiting, "get").exception())
        print(executor.submit(wait, held, "acquire").exception())
        held.release()
        waiting.put(1)
        print(executor.submit(waiting.get).result(), held.acquire())
        channel = executor.channel()
        channel.put(1)
        print(executor.submit(list, channel).exception())
"""


@pytest.mark.parametrize("pickling", [False, True])
def test_program_that_waits_for_itself_ends(pickling, tmp_path):
    script = tmp_path / "program.py"
    script.write_text(PROGRAM.format(pickling=pickling), encoding="utf-8")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=SECONDS, check=True)
    wait = " would wait for ever: nothing else runs in this program that could"
    lines = done.stdout.splitlines()
    assert lines[0].startswith("get() of queue 1" + wait) and lines[1].startswith("acquire() of lock 2" + wait)
    assert lines[2] == "1 True" and lines[3].startswith("get() of channel 3" + wait)


# ---- objects, local and in a server -----------------------------------------------------------------------------


@pytest.fixture(params=["local", *METHODS])
def shared(request):
    if request.param == "local":
        yield local_state(print, lambda: False).shared
        return
    children = set(multiprocessing.active_children())
    state = served_state(multiprocessing.get_context(request.param), None, print)
    yield state.shared
    state.close()
    assert set(multiprocessing.active_children()) == children


@pytest.fixture
def served(server):
    return served_state(multiprocessing.get_context(), server, print).shared


def test_every_kind_has_a_factory(shared):
    made = {"array": ("q", 1), "barrier": (1,)}
    for kind in KINDS.keys() - {"channel"}:  # which is the executor's to make
        proxy = getattr(shared, kind)(*made.get(kind, ()), name=f"a {kind}")
        assert type(shared.lookup(f"a {kind}")) is type(proxy) and f"a {kind}" in repr(proxy)


@pytest.mark.parametrize("value", [{1, 2}, None, "é", b"\0", 10**30, [1, {"a": (2,)}]])
def test_values_come_back_as_they_are(shared, value):
    assert shared.value(value).get() == value
    queue = shared.queue()
    queue.put(value)
    assert queue.get() == value


def add(table, key, value):
    table[key] = value


@pytest.mark.parametrize("method", METHODS)
def test_proxies_are_arguments_of_children(served, method):
    table = served.dict()
    child = multiprocessing.get_context(method).Process(target=add, args=(table, "pid", 7))
    child.start()
    child.join(SECONDS)
    child.close()
    assert table.copy() == {"pid": 7}


def test_object_outlives_its_last_proxy_here(served):
    sent = pickle.dumps(served.list([1]))
    assert list(pickle.loads(sent)) == [1]


def test_many_threads_wait_at_once(served):
    queue, taken = served.queue(), []
    threads = [threading.Thread(target=lambda: taken.append(queue.get())) for _ in range(20)]
    for thread in threads:
        thread.start()
    queue.put_many(range(20))
    for thread in threads:
        thread.join(SECONDS)
    assert sorted(taken) == list(range(20))


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_large_answer_to_who_is_stopped_does_not_hold_up_who_gives_it(served):
    """The socket of one who is stopped takes only so much."""
    queue, back, large = served.queue(), served.queue(), b"x" * 5_000_000
    process = multiprocessing.get_context("spawn").Process(target=take_length, args=(queue, back))
    process.start()
    assert back.get(timeout=SECONDS) == "here"
    os.kill(process.pid, signal.SIGSTOP)
    queue.put(large)
    assert queue.qsize() in {0, 1}  # 1: it was stopped before it had asked
    os.kill(process.pid, signal.SIGCONT)
    assert back.get(timeout=SECONDS) == len(large)
    process.join(SECONDS)
    process.close()


def take_length(queue, back):
    back.put("here")
    back.put(len(queue.get()))


# ---- interrupts -------------------------------------------------------------------------------------------------


class Interrupted(BaseException):
    """Raised by a signal handler."""


@pytest.fixture
def interrupted():
    """Return a function that runs another one, and interrupts it."""

    def interrupt(_signum, _frame):
        raise Interrupted

    def run(function):
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(Interrupted):
            function()

    before = signal.signal(signal.SIGALRM, interrupt)
    yield run
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_interrupted_wait_takes_nothing_and_lets_go_of_nothing(shared, interrupted):
    queue, lock = shared.queue(), shared.lock()
    lock.acquire()
    interrupted(queue.get)
    interrupted(lock.acquire)
    queue.put("item")
    assert queue.get(timeout=SECONDS) == "item"
    assert not lock.acquire(blocking=False)
    lock.release()
    assert lock.acquire(blocking=False)


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_condition_is_held_again_behind_an_interrupt(shared, interrupted):
    condition = shared.condition()
    with condition:
        interrupted(condition.wait)
        condition.notify()
    with condition:
        condition.notify()


# ---- the server -------------------------------------------------------------------------------------------------


@pytest.mark.windows
def test_server_starts_at_first_use_and_once(served, server):
    assert not server.is_alive() and server.pid is None
    children = len(multiprocessing.active_children())
    made = []
    threads = [threading.Thread(target=lambda: made.append(served.dict())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert len(made) == 4
    assert len(multiprocessing.active_children()) == children + 1
    assert server.is_alive()


@pytest.mark.windows
def test_death_of_the_server_is_said(served, server):
    table = served.dict()
    table["still"] = "here"
    kill(server.pid)
    for use in (lambda: table.get("still"), served.dict):
        with pytest.raises(SharedStateLostError, match="the server of shared state cannot be reached"):
            use()


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_server_takes_no_notice_of_interrupts(served, server):
    table = served.dict()
    os.kill(server.pid, signal.SIGINT)
    table["still"] = "here"
    assert table["still"] == "here"


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_server_that_is_stuck_is_killed_and_leaves_no_socket(served, server):
    served.dict()
    address = server.start().address
    assert os.path.exists(address)  # noqa: PTH110 - an address
    os.kill(server.pid, signal.SIGSTOP)
    server.close()
    assert not os.path.exists(address)  # noqa: PTH110
    server.close()
    with pytest.raises(errors.BackendError, match="has been closed"):
        served.dict()


def test_server_that_cannot_start_says_so(monkeypatch, server):
    monkeypatch.setattr("parapluie.state.serve.main", end_at_once)
    with pytest.raises(pool_errors.BackendBrokenError, match="ended with exit code 3 before it was ready"):
        server.start()


def end_at_once(*_):
    os._exit(3)


def hold_server(method, pids):
    state = served_state(multiprocessing.get_context(method), None, print)
    state.shared.dict()
    pids.send(next(child.pid for child in multiprocessing.active_children()))
    threading.Event().wait(SECONDS)


@pytest.mark.skipif(sys.platform != "linux", reason="waits on a pidfd")
def test_server_ends_with_its_parent():
    reader, writer = multiprocessing.Pipe(duplex=False)
    parent = multiprocessing.get_context("spawn").Process(target=hold_server, args=("spawn", writer))
    parent.start()
    assert reader.poll(SECONDS)
    server = os.pidfd_open(reader.recv())
    parent.kill()
    parent.join(SECONDS)
    assert multiprocessing.connection.wait([server], SECONDS)
    with suppress(OSError):
        os.close(server)
    for end in (reader, writer, parent):
        end.close()


# ---- who is let in ----------------------------------------------------------------------------------------------


@pytest.mark.windows
def test_stranger_without_the_key_is_refused(served, server):
    table = served.dict(a=1)
    with pytest.raises(multiprocessing.AuthenticationError):
        Client(server.start().address, authkey=b"a guess")
    assert table["a"] == 1


@pytest.mark.windows
def test_process_of_another_program_is_told_why_it_may_not(served, server, monkeypatch):
    sent = pickle.dumps(served.dict())
    address = server.start().address
    server.start().close()
    monkeypatch.setattr(multiprocessing.current_process(), "authkey", b"of another program")
    assert address not in links.links
    with pytest.raises(SharedStateLostError, match="may not use the shared objects of another program"):
        pickle.loads(sent).copy()


@pytest.mark.skipif(sys.platform == "win32", reason="Unix sockets")
def test_server_listens_where_others_cannot_come_and_bears_noise(served, server):
    table = served.dict(a=1)
    address = server.start().address
    folder = os.stat(os.path.dirname(address))  # noqa: PTH116, PTH120 - an address
    assert folder.st_mode & 0o077 == 0 and folder.st_uid == os.getuid()
    silent, noisy = (socket.socket(socket.AF_UNIX) for _ in range(2))
    with silent, noisy:
        silent.connect(address)
        noisy.connect(address)
        noisy.sendall(b"\0\0\0\4" + pickle.dumps(print) * 50)
        assert table["a"] == 1
