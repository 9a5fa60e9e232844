"""Workers that die and attempts that overrun: one task pays, the others go on, and the error says how it ended."""

from __future__ import annotations

import time
from concurrent.futures import BrokenExecutor
from functools import partial
from typing import TYPE_CHECKING

import pytest

from parapluie import CapabilityError, ConfigError, Executor, Retry, TaskTimeoutError, WorkerLostError
from parapluie.testing import hostile, processes, tasks
from parapluie.testing.claims import lacks, proves, requires
from parapluie.testing.helpers import SECONDS, at_once, results_of
from parapluie.testing.processes import LIMIT

if TYPE_CHECKING:
    from parapluie.testing.fixtures import Gate, MakeExecutor, Notes, Row

DEATHS = [
    ("killed", processes.KILLED, processes.KILLED_WORDS),
    ("crash", processes.CRASHED, processes.CRASHED_WORDS),
    ("_exit", 0, "ended with exit code 0"),
]


class LossTests:
    """Workers that die and attempts that overrun: one task pays, the others go on, and the error says how it ended."""

    @proves("survives_dead_worker")
    @pytest.mark.parametrize(("how", "code", "words"), DEATHS)
    def test_death_costs_one_task_and_is_named(
        self, make_executor: MakeExecutor, how: str, code: int, words: str
    ) -> None:
        executor = make_executor()
        futures = [executor.submit(tasks.square, number) for number in range(5)]
        killer = executor.submit(tasks.die, how)
        futures += [executor.submit(tasks.square, number) for number in range(5, 10)]
        error = killer.exception(SECONDS)
        assert isinstance(error, WorkerLostError) and isinstance(error, BrokenExecutor)
        assert error.exit_code == code and words in str(error)
        assert error.task_id == killer.task_id and error.pid and error.attempt == 1
        assert f"task {killer.task_id} " in str(error) and str(error.pid) in str(error)
        assert results_of(futures) == [number * number for number in range(10)]
        assert executor.submit(tasks.add, 1, 2).result(SECONDS) == 3
        stats = executor.stats()
        assert (stats.lost, stats.failed, stats.done, stats.queued, stats.running) == (1, 1, 11, 0, 0)

    @requires("isolated_memory")
    def test_exit_in_a_task_is_its_error_and_costs_no_worker(self, executor: Executor) -> None:
        before = executor.stats().workers
        future = executor.submit(tasks.die, "exit")
        error = future.exception(SECONDS)
        assert isinstance(error, SystemExit) and error.code == 3
        assert "sys.exit(3)" in error.__cause__.tb
        assert executor.submit(tasks.add, 1, 2).result(SECONDS) == 3
        assert executor.stats().workers >= before

    @requires("survives_dead_worker")
    def test_neighbour_that_runs_meanwhile_is_not_harmed(self, make_executor: MakeExecutor, gate: Gate) -> None:
        executor = make_executor()
        neighbour = executor.submit(tasks.wait_at, gate.port, "neighbour")
        gate.arrival()
        assert isinstance(executor.submit(tasks.die, "_exit").exception(SECONDS), WorkerLostError)
        assert not neighbour.done()
        gate.open()
        assert neighbour.result(SECONDS) == "neighbour" and neighbour.attempts == 1

    @requires("survives_dead_worker")
    def test_every_future_resolves_when_every_worker_dies_again_and_again(self, make_executor: MakeExecutor) -> None:
        executor = make_executor()
        futures = [executor.submit(tasks.die_at, number - number % 3, "_exit", number) for number in range(24)]
        outcomes = results_of(futures)
        for number, outcome in enumerate(outcomes):
            if number % 3:
                assert outcome == number * number
            else:
                assert isinstance(outcome, WorkerLostError)
        assert executor.submit(tasks.add, 1, 2).result(SECONDS) == 3

    @requires("survives_dead_worker")
    def test_idle_worker_that_is_killed_costs_nothing(self, make_executor: MakeExecutor, gate: Gate) -> None:
        executor = make_executor()
        held = [executor.submit(tasks.wait_at, gate.port) for _ in range(2)]
        workers = [visitor.pid for visitor in gate.arrivals(2)]
        gate.open()
        assert [future.result(SECONDS) for future in held] == ["", ""]
        for worker in workers:
            processes.kill(worker)
        futures = [executor.submit(tasks.pid) for _ in range(10)]
        assert not {future.result(SECONDS) for future in futures} & set(workers)
        assert executor.stats().lost == 0

    @proves("knows_begun")
    @requires("survives_dead_worker", "knows_begun")
    @lacks("runs_in_caller")
    def test_task_sent_to_a_worker_that_has_just_been_killed_is_not_lost(self, make_executor: MakeExecutor) -> None:
        executor = make_executor(max_workers=1)
        for _ in range(5):
            processes.end(executor.submit(tasks.pid).result(SECONDS))
            futures = [executor.submit(tasks.square, number) for number in range(5)]
            assert [future.result(SECONDS) for future in futures] == [0, 1, 4, 9, 16]
        assert executor.stats().lost == 0

    @requires("survives_dead_worker")
    def test_worker_killed_from_outside_costs_the_task_that_it_runs(
        self, make_executor: MakeExecutor, gate: Gate
    ) -> None:
        executor = make_executor()
        first, second = [executor.submit(tasks.wait_at, gate.port, str(number)) for number in range(2)]
        pids = {visitor.label: visitor.pid for visitor in gate.arrivals(2)}
        processes.kill(pids["0"])
        error = first.exception(SECONDS)
        assert isinstance(error, WorkerLostError) and error.pid == pids["0"] and processes.KILLED_WORDS in str(error)
        gate.open()
        assert second.result(SECONDS) == "1"

    @requires("survives_dead_worker")
    def test_finished_results_survive_their_worker(self, make_executor: MakeExecutor) -> None:
        """Replies that were on their way when the worker died are not lost."""
        executor = make_executor(max_workers=1)
        for _ in range(3):
            futures = [executor.submit(tasks.square, number) for number in range(200)]
            killer = executor.submit(tasks.die, "_exit")
            assert results_of(futures) == [number * number for number in range(200)]
            assert isinstance(killer.exception(SECONDS), WorkerLostError)

    # ---- maps -------------------------------------------------------------------------------------------------------

    @requires("survives_dead_worker")
    def test_death_costs_one_item_of_a_map(self, make_executor: MakeExecutor) -> None:
        executor = make_executor()
        function = partial(tasks.die_at, 10, "_exit")
        outcomes = list(executor.map(function, range(30), on_error="collect", chunksize=1))
        assert [outcome.index for outcome in outcomes if outcome.error] == [10]
        error = outcomes[10].error
        assert isinstance(error, WorkerLostError) and "[10]" in str(error.task_id) and error.exit_code == 0
        assert [outcome.value for outcome in outcomes if not outcome.error] == [n * n for n in range(30) if n != 10]

    @requires("survives_dead_worker")
    def test_death_in_a_chunk_costs_no_item_that_had_not_begun(self, make_executor: MakeExecutor) -> None:
        executor = make_executor()
        function = partial(tasks.die_at, 10, "_exit")
        outcomes = list(executor.map(function, range(60), on_error="collect", chunksize=20))
        lost = {outcome.index for outcome in outcomes if outcome.error}
        assert 10 in lost and lost <= set(range(20))
        assert all(isinstance(outcomes[index].error, WorkerLostError) for index in lost)
        assert all(outcome.value == outcome.index**2 for outcome in outcomes if not outcome.error)

    @requires("survives_dead_worker")
    def test_retry_finds_the_one_item_that_kills(self, make_executor: MakeExecutor) -> None:
        executor = make_executor(retry=at_once(3))
        function = partial(tasks.die_at, 10, "_exit")
        outcomes = list(executor.map(function, range(60), on_error="collect", chunksize=20))
        assert [outcome.index for outcome in outcomes if outcome.error] == [10]
        assert isinstance(outcomes[10].error, WorkerLostError) and outcomes[10].attempts == 3

    @lacks("kills_running_task")
    def test_task_timeout_is_refused_where_nothing_can_be_killed(self, backend: Row) -> None:
        with pytest.raises(CapabilityError, match="task_timeout=1.*backends that can: .*process") as caught:
            backend.make(task_timeout=1)
        assert {"process", "manager"} <= set(caught.value.able)

    @lacks("kills_running_task")
    def test_view_with_task_timeout_is_refused_where_nothing_can_be_killed(self, executor: Executor) -> None:
        with pytest.raises(CapabilityError, match="task_timeout=1"):
            executor.with_options(task_timeout=1)

    @requires("kills_running_task", "initializer")
    def test_attempt_that_overruns_is_killed_and_its_worker_replaced(
        self, make_executor: MakeExecutor, gate: Gate
    ) -> None:
        executor = make_executor(task_timeout=LIMIT, initializer=tasks.import_tasks)
        future = executor.submit(tasks.wait_for_ever, gate.port)
        worker = gate.arrival().pid
        error = future.exception(SECONDS)
        assert isinstance(error, TaskTimeoutError) and isinstance(error, TimeoutError)
        assert (
            error.limit == LIMIT and error.task_id == future.task_id and f"task_timeout={LIMIT:g} seconds" in str(error)
        )
        assert {executor.submit(tasks.pid).result(SECONDS) for _ in range(4)}.isdisjoint({worker})
        assert executor.stats().lost == 1

    @requires("kills_running_task")
    def test_neighbour_without_a_limit_is_not_harmed(self, make_executor: MakeExecutor, gate: Gate) -> None:
        executor = make_executor()
        neighbour = executor.submit(tasks.wait_at, gate.port, "neighbour")
        gate.arrival()
        limited = executor.with_options(task_timeout=LIMIT).submit(tasks.wait_for_ever, gate.port)
        assert isinstance(limited.exception(SECONDS), TaskTimeoutError)
        assert not neighbour.done()
        gate.open()
        assert neighbour.result(SECONDS) == "neighbour" and neighbour.attempts == 1

    @requires("kills_running_task")
    def test_limit_does_not_count_while_a_task_is_queued(self, make_executor: MakeExecutor, gate: Gate) -> None:
        executor = make_executor(max_workers=1)
        view = executor.with_options(task_timeout=LIMIT)
        held = executor.submit(tasks.wait_at, gate.port, "held")
        gate.arrival()
        queued = [view.submit(tasks.square, number) for number in range(3)]
        deadline = time.monotonic() + 2 * LIMIT
        while time.monotonic() < deadline:  # what is tested is that this time does not count
            assert not any(future.done() for future in queued)
            time.sleep(LIMIT / 4)
        gate.open()
        assert held.result(SECONDS) == "held"
        assert [future.result(SECONDS) for future in queued] == [0, 1, 4]

    @requires("kills_running_task", "initializer")
    @pytest.mark.parametrize("chunksize", [1, 5])
    def test_limit_is_each_items_own(self, make_executor: MakeExecutor, gate: Gate, chunksize: int | None) -> None:
        executor = make_executor(task_timeout=LIMIT, initializer=tasks.import_tasks)
        outcomes = list(
            executor.map(partial(tasks.hang_at, gate.port, 2), range(10), on_error="collect", chunksize=chunksize)
        )
        assert [outcome.index for outcome in outcomes if outcome.error] == [2]
        assert isinstance(outcomes[2].error, TaskTimeoutError) and "[2]" in str(outcomes[2].error)
        assert [outcome.value for outcome in outcomes if not outcome.error] == [n * n for n in range(10) if n != 2]

    @requires("kills_running_task", "initializer")
    def test_overrun_spends_the_budget_for_lost_attempts(self, make_executor: MakeExecutor, gate: Gate) -> None:
        executor = make_executor(task_timeout=LIMIT, initializer=tasks.import_tasks, retry=at_once(9, lost=1))
        future = executor.submit(tasks.wait_for_ever, gate.port)
        assert isinstance(future.exception(SECONDS), TaskTimeoutError)
        assert future.attempts == 2 and len(gate.arrivals(2)) == 2 and gate.nobody()

    @requires("kills_running_task")
    def test_quick_tasks_are_not_harmed_by_a_limit(self, make_executor: MakeExecutor) -> None:
        executor = make_executor(task_timeout=10, retry=Retry(1, lost=0))
        futures = [executor.submit(tasks.square, number) for number in range(300)]
        assert [future.result(SECONDS) for future in futures] == [number * number for number in range(300)]
        assert list(executor.map(tasks.square, range(3000))) == [number * number for number in range(3000)]
        assert executor.stats().lost == 0

    @requires("kills_running_task")
    def test_items_that_end_just_at_their_limit_harm_no_others(self, make_executor: MakeExecutor) -> None:
        """Each of them is killed for itself or not at all: its worker may be at the next one by then."""
        executor = make_executor(task_timeout=0.02)
        seconds = [0.02 - number % 5 / 10_000 for number in range(80)]
        outcomes = list(executor.map(time.sleep, seconds, chunksize=20, on_error="collect"))
        assert {type(outcome.error) for outcome in outcomes} <= {type(None), TaskTimeoutError} and len(outcomes) == 80

    @requires("kills_running_task", "initializer", "takes_back_items")  # elsewhere items with a limit travel one by one
    def test_overrun_in_reading_a_repeated_part_of_a_chunk_is_its_first_items(
        self, make_executor: MakeExecutor, gate: Gate, notes: Notes
    ) -> None:
        # Another worker would take the rest, and read before.
        executor = make_executor(max_workers=1, task_timeout=LIMIT, initializer=tasks.import_tasks)
        function = partial(tasks.hang_at, hostile.ReadsBack(notes.path, gate.port, hangs=2), 2)
        outcomes = list(executor.map(function, range(5), on_error="collect", chunksize=5))
        assert [type(outcome.error) for outcome in outcomes[2:]] == [TaskTimeoutError, TaskTimeoutError, type(None)]
        assert [outcome.value for outcome in outcomes] == [0, 1, None, None, 16]

    @pytest.mark.parametrize("limit", [-1, 0, float("nan"), float("inf"), "1", True])
    @requires("kills_running_task")
    def test_limit_that_is_no_time_is_refused(self, backend: Row, limit: object) -> None:
        with pytest.raises(ConfigError, match="task_timeout="):
            backend.make(task_timeout=limit)
