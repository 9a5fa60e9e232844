"""Observers: they are told what becomes of each task, in order, and cannot disturb it."""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pytest

from parapluie import ConfigError, PluginError, TaskPicklingError, WorkerLostError, registry
from parapluie.hookspecs import hookimpl
from parapluie.testing import hostile, tasks
from parapluie.testing.claims import lacks, requires
from parapluie.testing.helpers import SECONDS, at_once

if TYPE_CHECKING:
    from parapluie.testing.fixtures import Gate, MakeExecutor, Notes, Row


class Observer:
    """Keeps what it is told of tasks."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    @hookimpl
    def parapluie_task_submitted(self, event: Any) -> None:
        self.events.append(("submitted", event))

    @hookimpl
    def parapluie_task_begun(self, event: Any) -> None:
        self.events.append(("begun", event))

    @hookimpl
    def parapluie_task_retried(self, event: Any) -> None:
        self.events.append(("retried", event))

    @hookimpl
    def parapluie_task_done(self, event: Any) -> None:
        self.events.append(("done", event))

    def of(self, task_id: object) -> list[str]:
        """Return the names of what was told of a task."""
        return [name for name, event in self.events if event.task_id == task_id]

    def last(self, task_id: object) -> Any:
        """Return what was told last of a task."""
        return [event for _, event in self.events if event.task_id == task_id][-1]


class Raising:
    """Raises whenever it is told something."""

    @hookimpl
    def parapluie_task_submitted(self, event: Any) -> None:
        raise ValueError("an observer's")

    @hookimpl
    def parapluie_task_done(self) -> None:
        if threading.current_thread() is not threading.main_thread():  # there it may be the program's own
            raise SystemExit("an observer's")
        raise ValueError("an observer's")


class Silent:
    """Offers something else."""

    @hookimpl
    def parapluie_backends(self) -> Any:
        return []


class Misspelt:
    """Implements what is no hook."""

    @hookimpl
    def parapluie_task_finished(self, event: Any) -> None:
        """Is never called."""


class ObserverTests:
    """Observers: they are told what becomes of each task, in order, and cannot disturb it."""

    def test_observer_is_told_of_each_task_in_order(self, make_executor: MakeExecutor) -> None:
        observer = Observer()
        executor = make_executor(observers=[observer]).with_options(name="seen")
        futures = [executor.submit(tasks.square, number) for number in range(10)]
        for future in futures:
            future.result(SECONDS)
            assert observer.of(future.task_id) == ["submitted", "begun", "done"]
            done = observer.last(future.task_id)
            assert (done.outcome, done.error, done.attempts, done.worker) == ("value", None, 1, future.worker)
        begun = [event for name, event in observer.events if name == "begun"]
        assert [event.worker for event in begun] == [observer.last(event.task_id).worker for event in begun]
        assert all(event.at <= observer.last(event.task_id).at for event in begun)

    def test_observer_is_told_of_failures_and_retries(self, make_executor: MakeExecutor, notes: Notes) -> None:
        observer = Observer()
        executor = make_executor(observers=[observer], retry=at_once(3))
        future = executor.submit(tasks.succeed_at, notes.path, 2)
        assert future.result(SECONDS) == 2
        assert observer.of(future.task_id) == ["submitted", "begun", "retried", "begun", "done"]
        (retried,) = [event for name, event in observer.events if name == "retried"]
        assert (retried.attempt, str(retried.error), retried.delay) == (1, "attempt 1", 0)
        failed = executor.submit(tasks.fail)
        error = failed.exception(SECONDS)
        assert observer.of(failed.task_id) == ["submitted", *["begun", "retried"] * 2, "begun", "done"]
        done = observer.last(failed.task_id)
        assert (done.outcome, done.attempts) == ("error", 3) and done.error is error

    @pytest.mark.parametrize("chunksize", [1, 5])
    def test_observer_is_told_of_each_item(self, make_executor: MakeExecutor, chunksize: int) -> None:
        observer = Observer()
        executor = make_executor(observers=(observer,), retry=at_once(2))
        outcomes = list(executor.map(tasks.fail_if_odd, range(10), chunksize=chunksize, on_error="collect"))
        told = defaultdict(list)
        for name, event in observer.events:
            told[str(event.task_id).partition("[")[2]].append((name, event))
        for outcome in outcomes:
            names = [name for name, _ in told[f"{outcome.index}]"]]
            failed = ["begun", "retried"] if outcome.error else []
            assert names == ["submitted", *failed, "begun", "done"]
            done = told[f"{outcome.index}]"][-1][1]
            assert done.attempts == outcome.attempts and done.error is outcome.error

    @lacks("runs_in_caller")
    def test_observer_is_told_of_what_is_cancelled(self, make_executor: MakeExecutor, gate: Gate) -> None:
        observer = Observer()
        executor = make_executor(max_workers=1, observers=[observer])
        held = [executor.submit(tasks.wait_at, gate.port) for _ in range(3)]
        gate.arrival()
        assert held[2].cancel()
        assert observer.of(held[2].task_id) == ["submitted", "done"]
        done = observer.last(held[2].task_id)
        assert (done.outcome, done.error, done.attempts) == ("cancelled", None, 0)
        gate.open()
        held[1].result(SECONDS)

    @requires("isolated_memory")
    def test_observer_is_told_of_what_cannot_be_sent(self, make_executor: MakeExecutor) -> None:
        observer = Observer()
        executor = make_executor(observers=[observer])
        future = executor.submit(tasks.same, hostile.Holder())
        assert observer.of(future.task_id) == ["submitted", "done"]
        assert isinstance(observer.last(future.task_id).error, TaskPicklingError)
        (outcome,) = executor.map(tasks.same, [hostile.Holder()], on_error="collect")
        assert [name for name, _ in observer.events[2:]] == ["submitted", "done"]
        assert observer.events[-1][1].error is outcome.error

    @requires("survives_dead_worker", "knows_begun")
    def test_observer_is_told_of_lost_attempts(self, make_executor: MakeExecutor, notes: Notes) -> None:
        observer = Observer()
        executor = make_executor(observers=[observer], retry=at_once(2))
        future = executor.submit(tasks.die_once, notes.path, "_exit")
        future.result(SECONDS)
        assert observer.of(future.task_id) == ["submitted", "begun", "retried", "begun", "done"]
        (retried,) = [event for name, event in observer.events if name == "retried"]
        assert isinstance(retried.error, WorkerLostError)

    def test_observer_that_raises_disturbs_nobody(self, make_executor: MakeExecutor, caplog: Any) -> None:
        observer = Observer()
        executor = make_executor(observers=[Raising(), observer])
        future = executor.submit(tasks.square, 3)
        assert future.result(SECONDS) == 9 and observer.of(future.task_id) == ["submitted", "begun", "done"]
        assert list(executor.map(tasks.square, range(3))) == [0, 1, 4]
        executor.shutdown()
        assert "observer 'Raising' failed in parapluie_task_submitted" in caplog.text
        assert "observer 'Raising' failed in parapluie_task_done" in caplog.text
        caplog.clear()  # it is no defect of the backend's

    def test_plugin_that_is_registered_is_told(self, make_executor: MakeExecutor) -> None:
        observer = Observer()
        registry.register(observer, "an observer")
        try:
            executor = make_executor(observers=[observer])  # not twice
        finally:
            registry.unregister(observer)
        future = executor.submit(tasks.square, 3)
        future.result(SECONDS)
        assert observer.of(future.task_id) == ["submitted", "begun", "done"]
        make_executor().submit(tasks.square, 3).result(SECONDS)
        assert len(observer.events) == 3

    def test_each_task_is_told_as_done_once(self, make_executor: MakeExecutor) -> None:
        observer = Observer()
        executor = make_executor(observers=[observer])
        futures = [executor.submit(tasks.square, number) for number in range(200)]
        executor.shutdown(cancel_futures=True)
        done = [event for name, event in observer.events if name == "done"]
        assert sorted(event.task_id for event in done) == sorted(future.task_id for future in futures)
        for event in done:
            (future,) = [future for future in futures if future.task_id == event.task_id]
            assert (event.outcome == "cancelled") is future.cancelled()

    @pytest.mark.parametrize(
        ("observers", "error", "message"),
        [
            ("metrics", ConfigError, "observers='metrics' is not a list of plugins"),
            (5, ConfigError, "observers=5 is not a list"),
            (["no such plugin"], ConfigError, "unknown observer 'no such plugin'; plugins: "),
            ([object()], PluginError, "plugin 'object' cannot be used: .*it implements no hook"),
            ([Silent()], PluginError, "plugin 'Silent' cannot be used: .*no hook for observers"),
            ([Misspelt()], PluginError, "plugin 'Misspelt' cannot be used: .*parapluie_task_finished"),
        ],
        ids=["string", "number", "unknown", "object", "silent", "misspelt"],
    )
    def test_observers_that_cannot_be_told_are_refused(
        self, backend: Row, observers: Any, error: type[Exception], message: str
    ) -> None:
        threads = set(threading.enumerate())
        with pytest.raises(error, match=message):
            backend.make(observers=observers)
        assert set(threading.enumerate()) <= threads

    @requires("isolated_memory")
    def test_observers_are_told_in_this_process(self, make_executor: MakeExecutor) -> None:
        pids = []

        class Here:
            @hookimpl
            def parapluie_task_begun(self) -> None:
                pids.append(os.getpid())

        make_executor(observers=[Here()]).submit(tasks.pid).result(SECONDS)
        assert pids == [os.getpid()]
