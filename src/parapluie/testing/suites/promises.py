"""The promises that are told by counting: each call is answered once, nothing runs twice, and claims are true."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import socket
from typing import TYPE_CHECKING

from parapluie.backend import Capabilities
from parapluie.testing import processes, tasks
from parapluie.testing.claims import facts_proven, lacks, proves
from parapluie.testing.helpers import SECONDS, defects, results_of

if TYPE_CHECKING:
    import pytest

    from parapluie import Executor
    from parapluie.testing.fixtures import Gate, MakeExecutor, Notes, OnBackend, Row

MANY = 300  # tasks


class PromiseTests:
    """Each call is answered once, nothing runs twice, and claims are true."""

    def test_every_future_ends(self, make_executor: MakeExecutor) -> None:
        executor = make_executor()
        futures = [executor.submit(tasks.square, number) for number in range(MANY)]
        failing = [executor.submit(tasks.fail) for _ in range(MANY)]
        _, pending = concurrent.futures.wait([*futures, *failing], SECONDS)
        assert not pending
        assert results_of(futures) == [number * number for number in range(MANY)]
        assert {type(error) for error in results_of(failing)} == {ValueError}

    def test_every_call_is_answered_once(self, make_executor: MakeExecutor, caplog: pytest.LogCaptureFixture) -> None:
        """The executor reports a second answer as a defect of the backend, and drops it."""
        executor = make_executor()
        futures = [executor.submit(tasks.square, number) for number in range(MANY)]
        assert list(executor.map(tasks.square, range(MANY), chunksize=7)) == results_of(futures)
        executor.shutdown()
        assert defects(caplog) == []

    def test_nothing_runs_twice(self, make_executor: MakeExecutor, notes: Notes) -> None:
        executor = make_executor()
        futures = [executor.submit(tasks.note_line, notes.path, str(number)) for number in range(MANY)]
        assert results_of(futures) == [str(number) for number in range(MANY)]
        executor.shutdown()
        assert sorted(notes.lines(), key=int) == [str(number) for number in range(MANY)]

    def test_every_future_gets_its_own_result(self, executor: Executor) -> None:
        for _ in range(5):
            futures = [executor.submit(tasks.same, ("x" * (number % 7) * 1000, number)) for number in range(MANY)]
            assert [result[1] for result in results_of(futures)] == list(range(MANY))

    @proves("kills_running_task")
    @lacks("runs_in_caller")
    def test_task_that_was_ended_does_no_more(self, make_executor: MakeExecutor, gate: Gate, notes: Notes) -> None:
        """`cancel(running=True)` says True, so what it was about to do will never be done, by this task."""
        executor = make_executor()
        future = executor.submit(tasks.wait_and_note, gate.port, notes.path)
        visitor = gate.arrival()
        assert future.cancel(running=True)
        gate.open()
        assert visitor.ends(), "the worker still runs the task"
        executor.shutdown()
        assert notes.size() == 0

    # ---- where tasks run --------------------------------------------------------------------------------------------

    @proves("isolated_memory")
    def test_task_cannot_change_what_its_caller_has(self, executor: Executor) -> None:
        numbers: list[int] = []
        assert executor.submit(tasks.append_square, numbers, 3).result(SECONDS) is None
        assert list(executor.map(tasks.append_square, [numbers], [4])) == [None]
        assert numbers == []

    @lacks("isolated_memory")
    def test_task_gets_what_its_caller_has(self, executor: Executor) -> None:
        numbers: list[int] = []
        assert executor.submit(tasks.append_square, numbers, 3).result(SECONDS) is None
        assert executor.submit(tasks.same, numbers).result(SECONDS) is numbers and numbers == [9]

    @proves("runs_in_caller")
    def test_task_has_ended_when_it_is_submitted(self, executor: Executor) -> None:
        assert executor.submit(tasks.add, 1, 2).done()

    @lacks("distributed")
    def test_workers_are_on_this_machine(self, executor: Executor) -> None:
        host, worker = executor.submit(tasks.host_and_pid).result(SECONDS)
        assert host == socket.gethostname() and processes.lives(worker)

    @proves("distributed")
    def test_worker_says_where_it_is(self, executor: Executor) -> None:
        host, worker = executor.submit(tasks.host_and_pid).result(SECONDS)
        assert host and worker

    @proves("start_methods")
    def test_workers_are_started_as_it_was_asked_for(self, executor: Executor, backend: Row) -> None:
        assert set(backend.capabilities.start_methods) <= set(multiprocessing.get_all_start_methods())
        method = backend.options["start_method"]
        if method == "fork":  # whose child has all that its parent had, the name of another start method included
            assert executor.submit(os.getppid).result(SECONDS) == os.getpid()
        else:
            assert executor.submit(tasks.start_method).result(SECONDS) == method

    # ---- claims -----------------------------------------------------------------------------------------------------

    def test_what_must_be_claimed_is_claimed(self, backend: Row, request: pytest.FixtureRequest) -> None:
        cls: type[OnBackend] = request.cls
        given_up = [name for name in cls.must_claim if not getattr(backend.capabilities, name)]
        assert given_up == [], f"{backend.name} has given up {', '.join(given_up)}"

    def test_every_claim_is_proven(self, backend: Row, request: pytest.FixtureRequest) -> None:
        """Every fact of `Capabilities` has a test that shows it to be true, and this class has it."""
        proven = facts_proven(request.cls)
        claimed = {fact for fact in Capabilities._fields if getattr(backend.capabilities, fact)}
        assert claimed <= proven, f"nothing proves {', '.join(sorted(claimed - proven))}"
