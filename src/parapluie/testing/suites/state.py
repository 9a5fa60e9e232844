"""Shared state: the same objects whatever the backend, no lost update, and nothing that stays with the dead."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import queue
import threading
from typing import TYPE_CHECKING, Any

import pytest

import parapluie
from parapluie import CapabilityError, RemoteTraceback, SharedStateError, SharedStateLostError, WorkerLostError
from parapluie.testing import processes, tasks
from parapluie.testing.claims import lacks, proves, requires
from parapluie.testing.helpers import SECONDS, end_server, until

if TYPE_CHECKING:
    from parapluie.testing.fixtures import Gate, MakeExecutor, Row


def objects_of(executor: Any) -> dict[str, Any]:
    """Make a shared object of every kind."""
    shared = executor.shared
    return {
        "dict": shared.dict(a=1),
        "list": shared.list([-3]),
        "array": shared.array("q", 3),
        "value": shared.value(),
        "counter": shared.counter(),
        "namespace": shared.namespace(a=1),
        "queue": shared.queue(2),
        "lock": shared.lock(),
        "rlock": shared.rlock(),
        "semaphore": shared.semaphore(2),
        "event": shared.event(),
        "condition": shared.condition(),
        "barrier": shared.barrier(1),
    }


SEEN = [
    *(1, 0, True, 3, None, 2, 4, ["a", "b", "d"], [1, -1], {"a": 1, "b": 2, "d": 4}),
    *(1, [7, 3, 2], 2, [7], [7, 3, 2], 8, True),
    *([5, 7, 0], 3, 7, [7, 0]),
    *("X", "X", "y", 5, 4, 4),
    *(2, False),
    *(True, 1, [None], True),
    *(False, 1, False),
    *(True, False, 0, 0),
]


class SharedStateTests:
    """Shared state: the same objects whatever the backend, no lost update, and nothing that stays with the dead."""

    # ---- what they do -----------------------------------------------------------------------------------------------

    @proves("shared_state")
    def test_shared_objects_are_seen_by_all_tasks(self, make_executor: MakeExecutor) -> None:
        executor = make_executor()
        squares, numbers = executor.shared.dict(known=True), executor.shared.list([-1])
        futures = [executor.submit(tasks.put_square, squares, number) for number in range(10)]
        assert [future.result(SECONDS) for future in futures] == [None] * 10
        assert list(executor.map(tasks.append_square, [numbers] * 10, range(10), chunksize=3)) == [None] * 10
        assert dict(squares.items()) == {"known": True, **{number: number * number for number in range(10)}}
        assert sorted(numbers[:]) == [-1, *(number * number for number in range(10))]

    @requires("shared_state")
    def test_every_kind_of_shared_object_does_the_same_in_a_task_as_here(self, make_executor: MakeExecutor) -> None:
        executor = make_executor()
        assert executor.submit(tasks.use_every_kind, objects_of(executor)).result(SECONDS) == SEEN
        assert tasks.use_every_kind(objects_of(executor)) == SEEN

    @requires("shared_state")
    def test_shared_queue_carries_values_between_tasks(self, make_executor: MakeExecutor) -> None:
        executor = make_executor()
        first, second = executor.shared.queue(), executor.shared.queue(5)
        first.put(1)
        assert executor.submit(tasks.pass_on, first, second).result(SECONDS) is None
        assert second.get(timeout=SECONDS) == 2
        with pytest.raises(queue.Empty):
            second.get(timeout=0.01)
        with pytest.raises(queue.Empty):
            second.get_nowait()
        second.put_many(range(5))
        with pytest.raises(queue.Full):
            second.put(5, timeout=0.01)
        assert second.get_many(9) == [0, 1, 2, 3, 4]

    @requires("shared_state")
    def test_shared_lock_keeps_tasks_apart(self, make_executor: MakeExecutor) -> None:
        executor = make_executor()
        counts, lock = executor.shared.dict(n=0), executor.shared.lock()
        futures = [executor.submit(tasks.count_up, counts, lock, 20) for _ in range(4)]
        assert [future.result(SECONDS) for future in futures] == [None] * 4
        assert counts["n"] == 80

    @requires("shared_state")
    @lacks("runs_in_caller")
    def test_plain_read_and_write_loses_an_update(self, make_executor: MakeExecutor) -> None:
        executor = make_executor()
        counts, barrier = executor.shared.dict(n=0), executor.shared.barrier(2)
        futures = [executor.submit(tasks.add_between, counts, barrier) for _ in range(2)]
        assert [future.result(SECONDS) for future in futures] == [None] * 2
        assert counts["n"] == 1

    @requires("shared_state")
    def test_atomic_updates_lose_nothing(self, make_executor: MakeExecutor) -> None:
        executor = make_executor()
        counts, counter = executor.shared.dict(n=0), executor.shared.counter()
        futures = [executor.submit(tasks.add_at_once, counts, counter, 50) for _ in range(4)]
        assert [future.result(SECONDS) for future in futures] == [None] * 4
        assert counts == {"n": 200, "m": 200} and counter.value == 200

    @requires("shared_state")
    def test_failed_operation_raises_its_own_error_and_changes_nothing(self, make_executor: MakeExecutor) -> None:
        shared = make_executor().shared
        table = shared.dict(n=1)
        with pytest.raises(ZeroDivisionError):
            table.apply("n", tasks.divide_by_zero)
        with pytest.raises(KeyError, match="absent"):
            table.apply("absent", tasks.plus, 1)
        assert table.apply("absent", tasks.plus, 1, default=2) == 3 and table["n"] == 1
        with pytest.raises(IndexError):
            shared.list()[0]
        with pytest.raises(ValueError, match="keeps its length"):
            shared.array("d", 2)[0:1] = [1, 2]
        with pytest.raises(RuntimeError, match="lock .* is released, and nobody has acquired it"):
            shared.lock().release()
        with pytest.raises(RuntimeError, match="rlock .* is not held by the thread that called"):
            shared.rlock().release()
        with pytest.raises(AttributeError, match="has no attribute 'missing'"):
            _ = shared.namespace().missing

    @requires("shared_state", "isolated_memory")
    def test_error_of_an_applied_function_shows_where_it_was_raised(self, make_executor: MakeExecutor) -> None:
        table = make_executor().shared.dict(n=1)
        with pytest.raises(ZeroDivisionError) as caught:
            table.apply("n", lambda number: number / 0)
        assert isinstance(caught.value.__cause__, RemoteTraceback) and "<lambda>" in str(caught.value.__cause__)

    @requires("shared_state")
    @lacks("runs_in_caller")
    def test_tasks_wait_for_each_other(self, make_executor: MakeExecutor) -> None:
        executor = make_executor()
        shared = executor.shared
        condition, turns = shared.condition(), shared.list()
        futures = [executor.submit(tasks.wait_for_turn, condition, turns, number) for number in (1, 0)]
        assert [future.result(SECONDS)[:2] for future in futures] == [[0, 1], [0]] or list(turns) == [0, 1]
        barrier, event = shared.barrier(3), shared.event()
        futures = [executor.submit(tasks.meet, barrier) for _ in range(2)]
        assert sorted([barrier.wait(SECONDS), *(future.result(SECONDS) for future in futures)]) == [0, 1, 2]
        assert not event.is_set()
        executor.submit(tasks.set_event, event)
        assert event.wait(SECONDS)

    @requires("shared_state")
    def test_barrier_breaks_when_one_gives_up(self, make_executor: MakeExecutor) -> None:
        barrier = make_executor().shared.barrier(2)
        with pytest.raises(threading.BrokenBarrierError):
            barrier.wait(0.01)
        assert barrier.broken
        barrier.reset()
        assert not barrier.broken

    # ---- where they are ---------------------------------------------------------------------------------------------

    @requires("shared_state")
    def test_named_objects_are_found_by_tasks(self, make_executor: MakeExecutor) -> None:
        executor = make_executor()
        other = make_executor()
        executor.shared.dict({"a": 1, "b": 2}, name="totals")
        other.shared.dict({"a": 3, "b": 4}, name="totals")
        assert executor.submit(tasks.look_up, "totals").result(SECONDS) == 1
        assert other.with_options(name="view").submit(tasks.look_up, "totals", number=1).result(SECONDS) == 4
        assert list(executor.map(tasks.look_up, ["totals"] * 4, [0, 1, 0, 1], chunksize=2)) == [1, 2, 1, 2]
        with pytest.raises(SharedStateError, match="no shared object named 'total'; named objects: 'totals'"):
            executor.submit(tasks.look_up, "total").result(SECONDS)
        with pytest.raises(SharedStateError, match="there is a shared object named 'totals' already"):
            executor.shared.list(name="totals")
        assert executor.shared.lookup("totals").copy() == {"a": 1, "b": 2}

    @requires("shared_state")
    def test_lookup_says_that_there_is_nothing_to_look_in(self, make_executor: MakeExecutor) -> None:
        with pytest.raises(SharedStateError, match="no shared object had a name when this task was submitted"):
            make_executor().submit(tasks.look_up, "totals").result(SECONDS)

    @requires("shared_state")
    def test_shared_object_lives_on_when_only_tasks_hold_it(self, make_executor: MakeExecutor) -> None:
        executor = make_executor()
        futures = [executor.submit(tasks.append_square, executor.shared.list(), number) for number in range(5)]
        assert [future.result(SECONDS) for future in futures] == [None] * 5

    @requires("shared_state")
    def test_dropped_object_is_gone_and_whoever_waits_is_told(self, make_executor: MakeExecutor) -> None:
        shared = make_executor().shared
        waiting, failures = shared.queue(name="jobs"), queue.SimpleQueue[Any]()

        def wait() -> None:
            try:
                waiting.get()
            except SharedStateError as error:
                failures.put(error)

        thread = threading.Thread(target=wait)
        thread.start()
        until(lambda: shared.lookup("jobs").qsize() == 0)
        shared.drop(waiting)
        assert "was dropped" in str(failures.get(timeout=SECONDS))
        thread.join(SECONDS)
        with pytest.raises(SharedStateError, match="was dropped"):
            waiting.qsize()

    @requires("shared_state", "isolated_memory")
    def test_proxy_holds_no_key(self, make_executor: MakeExecutor) -> None:
        key = bytes(multiprocessing.current_process().authkey)
        assert key not in pickle.dumps(make_executor().shared.dict(name="totals"))
        environment = "".join((*os.environ, *os.environ.values())).encode("utf-8", "surrogateescape")
        assert key not in environment and key.hex().encode() not in environment

    @requires("shared_state")
    @lacks("isolated_memory")
    def test_local_object_does_not_travel(self, make_executor: MakeExecutor) -> None:
        with pytest.raises(pickle.PicklingError, match="lives in this process"):
            pickle.dumps(make_executor().shared.dict())

    @lacks("shared_state")
    def test_shared_state_is_refused_where_there_is_none(self, make_executor: MakeExecutor, backend: Row) -> None:
        with pytest.raises(CapabilityError, match=f"backend '{backend.name}' cannot honour executor.shared"):
            _ = make_executor().shared

    # ---- faults -----------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("kind", ["lock", "rlock", "semaphore", "condition"])
    @requires("shared_state", "isolated_memory", "survives_dead_worker")
    def test_lock_of_a_dead_worker_is_free_again(
        self, make_executor: MakeExecutor, kind: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        executor = make_executor()
        lock = getattr(executor.shared, kind)()
        with pytest.raises(WorkerLostError):
            executor.submit(tasks.acquire_and_die, lock, "_exit").result(SECONDS)
        assert lock.acquire(timeout=SECONDS)
        assert executor.submit(lock.acquire, timeout=0.01).result(SECONDS) is False
        lock.release()
        until(lambda: [text for text in caplog.messages if "ended while it held" in text])

    @requires("shared_state", "isolated_memory", "survives_dead_worker")
    def test_barrier_breaks_when_one_that_waits_dies(self, make_executor: MakeExecutor, gate: Gate) -> None:
        executor = make_executor()
        barrier = executor.shared.barrier(2)
        future = executor.submit(tasks.knock_and_meet, gate.port, barrier)
        victim = gate.arrival()
        until(lambda: barrier.n_waiting == 1)
        processes.kill(victim.pid)
        with pytest.raises(WorkerLostError):
            future.result(SECONDS)
        until(lambda: barrier.broken)
        with pytest.raises(threading.BrokenBarrierError):
            barrier.wait(SECONDS)

    @requires("shared_state", "isolated_memory")
    @lacks("runs_in_caller")
    def test_death_of_the_server_is_an_error_that_says_so(self, make_executor: MakeExecutor, gate: Gate) -> None:
        executor = make_executor()
        items, lock = executor.shared.list([1]), executor.shared.lock()
        lock.acquire()
        reading = executor.submit(tasks.read_after_gate, gate.port, items)
        waiting = executor.shared.event()
        blocked = executor.submit(tasks.acquire, lock, waiting)
        assert waiting.wait(SECONDS)
        gate.arrival()
        end_server(executor)
        gate.open()
        for future in (reading, blocked):
            with pytest.raises(SharedStateLostError, match="the server of shared state cannot be reached"):
                future.result(SECONDS)
        for use in (items.copy, lock.release, executor.shared.dict):
            with pytest.raises(SharedStateLostError, match="it has died, or its executor has been shut down"):
                use()
        assert executor.submit(tasks.square, 3).result(SECONDS) == 9

    @requires("shared_state", "isolated_memory")
    def test_objects_are_gone_with_their_executor(self, make_executor: MakeExecutor) -> None:
        with make_executor() as executor:
            items = executor.shared.list()
        with pytest.raises(SharedStateLostError):
            items.append(1)
        with pytest.raises(parapluie.BackendError, match="closed with its executor"):
            executor.shared.list()
