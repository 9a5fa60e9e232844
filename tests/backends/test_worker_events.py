"""What observers are told of the workers of built-in engines, which tell of them; engines of others need not."""

from __future__ import annotations

import pytest
from every_backend import on_every_backend

from parapluie import WorkerLostError
from parapluie.hookspecs import hookimpl
from parapluie.testing import processes, session_tasks, tasks
from parapluie.testing.claims import lacks, requires
from parapluie.testing.helpers import SECONDS, until

WORKERS = ("started", "lost", "stopped")


class Observer:
    def __init__(self):
        self.events = []
        self.done = []

    @hookimpl
    def parapluie_task_done(self, event):
        self.done.append(event.outcome)

    @hookimpl
    def parapluie_worker_started(self, event):
        self.events.append(("started", event))

    @hookimpl
    def parapluie_worker_lost(self, event):
        self.events.append(("lost", event))

    @hookimpl
    def parapluie_worker_stopped(self, event):
        self.events.append(("stopped", event))

    def of(self, worker):
        return [name for name, event in self.events if event.worker == worker]


class WorkerEventTests:
    @lacks("runs_in_caller")
    def test_task_that_is_answered_when_all_is_over_is_told_as_done_once(self, make_executor, gate):
        observer = Observer()
        executor = make_executor(max_workers=1, observers=[observer])
        future = executor.submit(tasks.wait_at, gate.port)
        gate.arrival()
        executor._dispatcher.broken(RuntimeError("the engine is gone, so they say"))
        assert future.exception(SECONDS) is executor._dispatcher.error
        gate.open()
        executor.shutdown()
        assert observer.done == ["error"]

    @lacks("runs_in_caller")
    def test_workers_are_told_of_from_start_to_end(self, make_executor, gate):
        observer = Observer()
        executor = make_executor(max_workers=2, observers=[observer])
        futures = [executor.submit(tasks.wait_at, gate.port) for _ in range(2)]
        pids = {visitor.pid for visitor in gate.arrivals(2)}
        until(lambda: len(observer.events) == 2)  # a worker may have begun before its readiness was seen
        gate.open()
        workers = {future.result(SECONDS) or future.worker for future in futures}
        executor.shutdown()
        assert len(workers) == 2 and {event.worker for _, event in observer.events} == workers
        for worker in workers:
            assert observer.of(worker) == ["started", "stopped"]
        if executor._dispatcher.isolated:
            assert {event.pid for _, event in observer.events} == pids

    @requires("survives_dead_worker")
    def test_worker_that_dies_is_told_as_lost_before_its_task_is(self, make_executor):
        observer = Observer()
        executor = make_executor(max_workers=1, observers=[observer])
        error = executor.submit(tasks.die, "_exit").exception(SECONDS)
        assert isinstance(error, WorkerLostError)
        lost = [event for name, event in observer.events if name == "lost"]
        assert [(event.pid, event.exit_code) for event in lost] == [(error.pid, 0)]
        executor.shutdown()
        assert observer.of(lost[0].worker) == ["started", "lost"]

    @requires("kills_running_task")
    def test_worker_that_is_killed_for_its_task_is_told_as_lost(self, make_executor, gate):
        observer = Observer()
        executor = make_executor(max_workers=1, observers=[observer])
        future = executor.submit(tasks.wait_for_ever, gate.port)
        pid = gate.arrival().pid
        assert future.cancel(running=True)
        executor.shutdown()
        (lost,) = [event for name, event in observer.events if name == "lost"]
        assert lost.pid == pid and "killed" in lost.why

    @requires("max_tasks_per_child")
    def test_worker_that_is_replaced_is_told_as_stopped(self, make_executor):
        observer = Observer()
        executor = make_executor(max_workers=1, max_tasks_per_child=1, observers=[observer])
        workers = []
        for _ in range(3):
            future = executor.submit(tasks.pid)
            future.result(SECONDS)
            workers.append(future.worker)
        executor.shutdown()
        assert [observer.of(worker) for worker in workers] == [["started", "stopped"]] * 3

    @requires("survives_dead_worker")
    def test_worker_that_dies_before_it_is_ready_is_told_as_lost(self, make_executor):
        observer = Observer()
        executor = make_executor(
            max_workers=1, initializer=tasks.die_preparing, initargs=("_exit",), observers=[observer]
        )
        assert executor.submit(tasks.pid).exception(SECONDS) is not None
        executor.shutdown()
        assert {name for name, _ in observer.events} == {"lost"} and len(observer.events) == 3

    @requires("sessions")
    def test_worker_of_a_session_is_told_of_from_start_to_end(self, make_executor):
        observer = Observer()
        executor = make_executor(observers=[observer])
        with executor.session(session_tasks.echo) as session:
            assert observer.of(session.worker) == ["started"]
        assert observer.of(session.worker) == ["started", "stopped"]
        if executor._dispatcher.isolated:
            assert {event.pid for _, event in observer.events} == {session.pid}

    @requires("sessions", "survives_dead_worker")
    def test_worker_of_a_session_that_dies_is_told_as_lost(self, make_executor):
        observer = Observer()
        executor = make_executor(observers=[observer])
        session = executor.session(session_tasks.send_and_die, "killed")
        session.send("now")
        with pytest.raises(WorkerLostError):
            session.result(SECONDS)
        (lost,) = [event for name, event in observer.events if name == "lost"]
        assert (lost.worker, lost.pid, lost.exit_code) == (session.worker, session.pid, processes.KILLED)


globals().update(on_every_backend(WorkerEventTests))
