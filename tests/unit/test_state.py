"""Shared state: the same calls give local objects, or proxies of objects in a server."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import threading
from contextlib import suppress

import pytest

from parapluie import errors, pool_errors
from parapluie.sharing.state import LocalShared, ServerShared, Shared
from parapluie.stdlib_private import manager_process

SECONDS = 20
METHODS = multiprocessing.get_all_start_methods()


@pytest.fixture(params=["local", *METHODS])
def shared(request):
    if request.param == "local":
        yield LocalShared()
        return
    children = set(multiprocessing.active_children())
    shared = ServerShared(multiprocessing.get_context(request.param))
    yield shared
    shared.close()
    assert set(multiprocessing.active_children()) == children


@pytest.fixture
def server_shared():
    shared = ServerShared(multiprocessing.get_context())
    yield shared
    shared.close()


def test_objects_behave_as_their_names_say(shared):
    table, items = shared.dict({"a": 1}, b=2), shared.list([3])
    table["c"] = 3
    items.append(4)
    assert sorted(table.items()) == [("a", 1), ("b", 2), ("c", 3)]
    assert list(items) == [3, 4]
    waiting = shared.queue(maxsize=1)
    waiting.put(5, timeout=SECONDS)
    assert waiting.full() and waiting.get(timeout=SECONDS) == 5
    lock = shared.lock()
    with lock:
        assert not lock.acquire(blocking=False)


def test_every_kind_exists_in_both():
    kinds = {name for name in vars(Shared) if not name.startswith("_")} - {"close"}
    assert set(LocalShared._KINDS) == set(ServerShared._KINDS) == kinds


def add(table, key, value):
    table[key] = value


def test_proxies_are_arguments_of_children(shared):
    if isinstance(shared, LocalShared):
        pytest.skip("local objects do not travel")
    table = shared.dict()
    child = shared.server._context.Process(target=add, args=(table, "pid", 7))
    child.start()
    child.join(SECONDS)
    child.close()
    assert table.copy() == {"pid": 7}


def test_object_on_its_way_outlives_its_last_proxy_here(server_shared):
    sent = pickle.dumps(server_shared.list([1]))
    assert list(pickle.loads(sent)) == [1]


def test_server_starts_at_first_use_and_once(server_shared):
    assert not server_shared.server.is_alive()
    children = len(multiprocessing.active_children())
    made = []
    threads = [threading.Thread(target=lambda: made.append(server_shared.dict())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert len(made) == 4
    assert len(multiprocessing.active_children()) == children + 1
    assert server_shared.server.is_alive()


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_server_takes_no_notice_of_interrupts_and_its_death_is_said(server_shared):
    table = server_shared.dict()
    process = manager_process(server_shared.server.start())
    os.kill(process.pid or 0, signal.SIGINT)
    table["still"] = "here"
    process.kill()
    process.join(SECONDS)
    with pytest.raises((EOFError, OSError)):
        table["still"] = "here?"
    with pytest.raises(pool_errors.BackendBrokenError, match="the server of shared state is gone"):
        server_shared.dict()


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_server_that_is_stuck_is_killed_and_leaves_no_socket(server_shared):
    server_shared.dict()
    manager = server_shared.server.start()
    address = manager.address
    assert os.path.exists(address)  # noqa: PTH110 - an address
    os.kill(manager_process(manager).pid or 0, signal.SIGSTOP)
    del manager
    server_shared.close()
    assert not os.path.exists(address)  # noqa: PTH110
    server_shared.close()
    with pytest.raises(errors.BackendError, match="has been closed"):
        server_shared.dict()


def hold_server(context, pids):
    shared = ServerShared(multiprocessing.get_context(context))
    shared.dict()
    pids.send(manager_process(shared.server.start()).pid)
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
