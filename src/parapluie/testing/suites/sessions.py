"""Sessions: a conversation with a worker of one's own, and what becomes of it."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import threading
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import pytest

from parapluie import (
    CapabilityError,
    ExecutorShutdownError,
    MessagePicklingError,
    MessageUnpicklingError,
    RemoteTraceback,
    ResultPicklingError,
    ResultUnpicklingError,
    SessionClosedError,
    Shutdown,
    TaskPicklingError,
    TaskUnpicklingError,
    WorkerInitError,
    WorkerLostError,
)
from parapluie.testing import hostile, processes, session_tasks, tasks
from parapluie.testing.claims import Test, lacks, proves, requires
from parapluie.testing.helpers import SECONDS, until
from parapluie.testing.suites.logs import Heard
from parapluie.testing.suites.shutdown import named_things, semaphores

if TYPE_CHECKING:
    from collections.abc import Callable

    from parapluie import Executor, Session
    from parapluie.testing.fixtures import Gate, MakeExecutor, Notes

BIG = 5_000_000  # bytes; no pipe holds as much


def in_a_process(test: Test) -> Test:
    """Mark a test that is for sessions in processes of their own."""
    return requires("sessions", "isolated_memory")(lacks("runs_in_caller")(test))


class InThread:
    """Calls a function in a thread; says what it gave or raised."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function, self._outcome = function, None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._outcome = self._function()
        except Exception as error:  # noqa: BLE001 - it is what the test asks about
            self._outcome = error

    def outcome(self) -> Any:
        self._thread.join(SECONDS)
        assert not self._thread.is_alive(), "it still waits"
        return self._outcome


class SessionTests:
    """Sessions: a conversation with a worker of one's own, and what becomes of it."""

    # ---- the conversation -------------------------------------------------------------------------------------------

    @proves("sessions")
    def test_session_is_a_conversation_with_one_function(self, executor: Executor) -> None:
        with executor.session(session_tasks.add_up, 10) as session:
            for number, total in [(1, 11), (2, 13), (3, 16)]:
                session.send(number)
                assert session.recv(timeout=SECONDS) == total
            session.close()
            assert session.result(SECONDS) == session.result(0) == 16

    @requires("sessions")
    def test_function_gets_its_arguments_in_a_worker_of_its_own(self, executor: Executor) -> None:
        task = executor.submit(tasks.where).result(SECONDS)
        with (
            executor.session(session_tasks.say_who, 1, key=[2]) as one,
            executor.session(session_tasks.say_who) as other,
        ):
            assert one.recv(SECONDS) == ((1,), {"key": [2]}) and other.recv(SECONDS) == ((), {})
            places = one.recv(SECONDS), other.recv(SECONDS)
            assert len({*places, task}) == 3
        assert [place[0] for place in places] == [one.pid, other.pid] == [one.result(0), other.result(0)]
        assert one.worker != other.worker

    @requires("sessions")
    def test_messages_may_be_anything(self, executor: Executor) -> None:
        with executor.session(session_tasks.give_values) as session:
            received = dict(session)
        assert {name: type(value) for name, value in received.items()} == {
            name: type(make()) for name, make in tasks.SPECIAL_VALUES.items()
        }
        with executor.session(session_tasks.echo_type) as session:
            for name in tasks.SPECIAL_VALUES:
                session.send(tasks.give(name))
                assert session.recv(SECONDS) == type(tasks.give(name)).__name__

    @requires("sessions")
    def test_iteration_ends_when_the_function_has_returned(self, executor: Executor) -> None:
        with executor.session(session_tasks.give_values) as session:
            assert [name for name, _ in session] == list(tasks.SPECIAL_VALUES)
            assert list(session) == [] and session.poll()
            with pytest.raises(EOFError, match="session"):
                session.recv()
            with pytest.raises(SessionClosedError, match="its function has returned"):
                session.send(1)
            assert session.result(SECONDS) is None

    @requires("sessions")
    def test_close_ends_what_the_function_receives_behind_what_was_sent(self, executor: Executor) -> None:
        with executor.session(session_tasks.receive_to_the_end) as session:
            for number in range(100):
                session.send(number)
            session.close()
            session.close()
            with pytest.raises(SessionClosedError, match="it was closed"):
                session.send(100)
            assert session.recv(SECONDS) == "the last word"
            assert session.result(SECONDS) == list(range(100))

    @requires("sessions")
    def test_end_of_the_block_closes(self, executor: Executor) -> None:
        with executor.session(session_tasks.echo) as session:
            session.send("unread")
        assert session.result(0) == 1
        assert list(session) == ["unread"]

    @requires("sessions")
    def test_function_may_be_a_lambda(self, executor: Executor) -> None:
        with executor.session(lambda connection, factor: connection.recv() * factor, 3) as session:
            session.send(4)
            assert session.result(SECONDS) == 12

    # ---- waiting ----------------------------------------------------------------------------------------------------

    @requires("sessions")
    def test_receiving_waits_no_longer_than_it_is_told_and_loses_nothing(self, executor: Executor) -> None:
        with executor.session(session_tasks.time_out) as session:
            assert session.recv(SECONDS) == "nothing yet"
            for timeout in (0, 0.01):
                with pytest.raises(TimeoutError, match="session"):
                    session.recv(timeout=timeout)
            with pytest.raises(TimeoutError, match="session"):
                session.result(timeout=0.01)
            assert not session.poll() and not session.poll(0.01)
            session.send("now")
            assert session.result(SECONDS) == "now"
            with pytest.raises(ValueError, match="timeout='soon'"):
                session.recv(timeout="soon")

    @requires("sessions")
    def test_message_can_be_seen_to_be_there(self, executor: Executor) -> None:
        with executor.session(session_tasks.echo) as session:
            session.send("there")
            assert session.poll(SECONDS) and session.poll()
            assert session.recv(0) == "there" and not session.poll()

    @requires("sessions")
    def test_both_sides_may_send_much_before_they_receive(self, executor: Executor) -> None:
        count, size = 60, BIG // 50
        with executor.session(session_tasks.send_many, count, size) as session:
            for number in range(count):
                session.send((number, b"y" * size))
            session.close()
            assert session.result(SECONDS) == count * size
            assert [(number, len(data)) for number, data in session] == [(number, size) for number in range(count)]

    @requires("sessions")
    def test_message_that_finds_no_room_in_time_does_not_arrive(self, executor: Executor, gate: Gate) -> None:
        sizes = [BIG, *[0] * 70_000]  # more bytes than a pipe has room for, more messages than are kept in memory
        with executor.session(session_tasks.wait_and_keep_all, gate.port) as session:
            gate.arrival()
            sent = list(takewhile(lambda size: self._is_sent(session, b"x" * size, timeout=0.05), sizes))
            with pytest.raises(TimeoutError, match="room"):
                session.send(b"x" * 17, timeout=0.01)
            gate.open()
            session.send(b"x" * 3, timeout=SECONDS)
            session.close()
            assert session.result(SECONDS) == [*sent, 3]

    @staticmethod
    def _is_sent(session: Session, message: object, timeout: float) -> bool:
        try:
            session.send(message, timeout=timeout)
        except TimeoutError:
            return False
        return True

    @requires("sessions")
    def test_large_messages_arrive_whole(self, executor: Executor) -> None:
        with executor.session(session_tasks.echo) as session:
            for size in (BIG, 1 << 20, (1 << 20) + 1, 0):
                data = os.urandom(size)
                session.send(data)
                session.send(size)
                assert session.recv(SECONDS) == data and session.recv(SECONDS) == size

    @requires("sessions")
    def test_threads_may_send_and_receive_at_the_same_time(self, executor: Executor) -> None:
        with executor.session(session_tasks.echo) as session:

            def send(name: str) -> None:
                for number in range(200):
                    session.send((name, number, "x" * (number % 7) * 1000))

            receivers = [InThread(lambda: [session.recv(SECONDS) for _ in range(200)]) for _ in range(3)]
            senders = [InThread(lambda name=name: send(name)) for name in "abc"]
            assert [sender.outcome() for sender in senders] == [None] * 3
            received = [receiver.outcome() for receiver in receivers]
            assert sorted(message[:2] for part in received for message in part) == sorted(
                (name, number) for name in "abc" for number in range(200)
            )
        with executor.session(session_tasks.send_in_threads, 3, 200) as session:
            messages = list(session)
        for thread in range(3):
            assert [number for sender, number, _ in messages if sender == thread] == list(range(200))

    # ---- by value, and what cannot travel ---------------------------------------------------------------------------

    @requires("sessions", "isolated_memory")
    def test_messages_are_sent_by_value(self, executor: Executor) -> None:
        with executor.session(session_tasks.append) as session:
            numbers: list[int] = [5]
            session.send(numbers)
            numbers.append(6)
            assert session.recv(SECONDS) == [5, 0] and numbers == [5, 6]
            session.close()
            assert session.result(SECONDS) == [5, 0, 1]

    @requires("sessions")
    @lacks("isolated_memory")
    def test_messages_are_handed_over_where_memory_is_shared(self, executor: Executor) -> None:
        with executor.session(session_tasks.append) as session:
            numbers: list[int] = [5]
            session.send(numbers)
            assert session.recv(SECONDS) is numbers
            session.close()
            assert session.result(SECONDS) is numbers and numbers == [5, 0, 1]

    @requires("sessions", "isolated_memory")
    def test_message_that_cannot_be_pickled_is_named_by_its_path(self, executor: Executor) -> None:
        with executor.session(session_tasks.answer_ways) as session:
            with pytest.raises(
                MessagePicklingError, match=r"session \d+: message.client._lock is a '_thread.lock'"
            ) as caught:
                session.send(hostile.Holder())
            assert (caught.value.path, caught.value.found) == ("message.client._lock", "_thread.lock")
            session.send("lock")
            name, text = session.recv(SECONDS)
            assert name == "MessagePicklingError" and "message.client._lock is a '_thread.lock'" in text
            session.send("plain")
            assert session.recv(SECONDS) == "plain"
            session.send("lambda")
            assert session.recv(SECONDS)(1) == 2

    @requires("sessions", "isolated_memory")
    def test_message_that_cannot_be_read_back_costs_itself_only(self, executor: Executor) -> None:
        with executor.session(session_tasks.answer_ways) as session:
            for name in ("bomb", "plain", "exit", "plain"):
                session.send(name)
            with pytest.raises(MessageUnpicklingError, match="a bomb is not to be read back"):
                session.recv(SECONDS)
            assert session.recv(SECONDS) == "plain"
            with pytest.raises(MessageUnpicklingError, match="SystemExit"):
                session.recv(SECONDS)
            assert session.recv(SECONDS) == "plain"
        with executor.session(session_tasks.say_what_comes) as session:
            for message in (hostile.Bomb(), 1, hostile.Hostile("read back", "exit"), 2):
                session.send(message)
            session.close()
            assert list(session) == ["MessageUnpicklingError", 1, "MessageUnpicklingError", 2]

    @requires("sessions", "isolated_memory")
    def test_session_that_cannot_be_sent_is_refused(self, executor: Executor) -> None:
        with pytest.raises(
            TaskPicklingError, match=r"session \d+ cannot be sent .*args\[1\].client._lock.*sessions.py"
        ):
            executor.session(session_tasks.echo, 1, hostile.Holder())
        with pytest.raises(TaskUnpicklingError, match=r"session \d+ could not be read back in the worker.*a bomb"):
            executor.session(session_tasks.say_who, hostile.Bomb())
        with pytest.raises(TypeError, match="cannot be called"):
            executor.session(3)

    @requires("sessions", "isolated_memory")
    def test_result_that_cannot_travel_is_an_error(self, executor: Executor) -> None:
        session = executor.session(session_tasks.give_lock)
        with pytest.raises(ResultPicklingError, match=r"result of session \d+ .*result\['rows'\]\[1\]"):
            session.result(SECONDS)
        with pytest.raises(ResultUnpicklingError, match=r"result of session \d+ arrived.*a bomb"):
            executor.session(session_tasks.give_bomb).result(SECONDS)

    # ---- failures ---------------------------------------------------------------------------------------------------

    @requires("sessions")
    def test_failure_is_raised_behind_what_was_sent(self, executor: Executor) -> None:
        with executor.session(session_tasks.send_and_fail, "broken") as session:
            assert [session.recv(SECONDS), session.recv(SECONDS)] == [1, 2]
            for call in (session.recv, session.result, lambda: session.send(1), lambda: list(session)):
                with pytest.raises(ValueError, match="broken") as caught:
                    call()
            assert caught.value.__notes__ == [f"parapluie: session {session._side.number}, worker {session.worker}"]  # noqa: SLF001

    @requires("sessions", "isolated_memory")
    def test_failure_has_the_workers_traceback(self, executor: Executor) -> None:
        session = executor.session(session_tasks.send_and_fail)
        with pytest.raises(ValueError, match="on purpose") as caught:
            session.result(SECONDS)
        assert isinstance(caught.value.__cause__, RemoteTraceback)
        assert "the line that fails" in caught.value.__cause__.tb and "worker.py" not in caught.value.__cause__.tb

    @requires("sessions")
    def test_end_of_the_block_raises_a_failure_that_nobody_has_seen(self, executor: Executor) -> None:
        with pytest.raises(ValueError, match="told to"), executor.session(session_tasks.fail_when_told) as session:
            session.send(1)
        with pytest.raises(LookupError, match="the block's own"), executor.session(session_tasks.send_and_fail):
            raise LookupError("the block's own")
        with executor.session(session_tasks.send_and_fail) as session, pytest.raises(ValueError, match="on purpose"):
            list(session)

    # ---- workers ----------------------------------------------------------------------------------------------------

    @requires("sessions", "initializer")
    def test_initializer_runs_before_the_function(self, make_executor: MakeExecutor, notes: Notes) -> None:
        executor = make_executor(initializer=tasks.prepare, initargs=(notes.path, "ready"))
        with executor.session(session_tasks.say_prepared) as session:
            assert session.recv(SECONDS) == "ready"
        assert len(notes.lines()) == 1

    @requires("sessions", "initializer")
    def test_failing_initializer_is_raised(self, make_executor: MakeExecutor) -> None:
        executor = make_executor(initializer=tasks.fail_to_prepare, initargs=("no disk",))
        with pytest.raises(WorkerInitError, match="the initializer raised OSError: no disk") as caught:
            executor.session(session_tasks.echo)
        assert isinstance(caught.value.__cause__, OSError)

    @requires("initializer")
    @in_a_process
    def test_worker_that_cannot_start_is_told(self, make_executor: MakeExecutor, gate: Gate) -> None:
        executor = make_executor(initializer=tasks.die_preparing, initargs=("_exit",))
        with pytest.raises(WorkerInitError, match="ended with exit code 0 before it was ready"):
            executor.session(session_tasks.echo)
        executor = make_executor(start_timeout=0.25, initializer=tasks.wait_for_ever, initargs=(gate.port,))
        with pytest.raises(WorkerInitError, match="not ready after start_timeout=0.25 seconds"):
            executor.session(session_tasks.echo)

    @requires("sessions", "shared_state")
    def test_shared_state_can_be_used(self, executor: Executor) -> None:
        results = executor.shared.dict()
        with executor.session(session_tasks.put_squares, results) as session:
            session.send(3)
            assert session.recv(SECONDS) is None and results[3] == 9

    @in_a_process
    def test_log_records_come_before_what_is_sent_behind_them(self, executor: Executor) -> None:
        heard, logger = Heard(), logging.getLogger("kit.of.parapluie")
        logger.addHandler(heard)
        try:
            with executor.session(session_tasks.log, logger.name) as session:
                for text in ("one", "two"):
                    session.send(text)
                    assert session.recv(SECONDS) == text and heard.texts[-1] == f"it says {text}"
            (record, _) = heard.records
            assert record.parapluie_worker == session.worker and record.parapluie_task.startswith("session ")
        finally:
            logger.removeHandler(heard)

    @in_a_process
    @pytest.mark.parametrize("how", ["killed", "crash", "_exit"])
    def test_death_of_the_worker_is_told_at_once(self, executor: Executor, how: str) -> None:
        with executor.session(session_tasks.send_and_die, how) as session:
            waits, waits_too = InThread(lambda: [session.recv(), session.recv()]), InThread(session.result)
            session.send("now")
            error = waits.outcome()
            assert isinstance(error, WorkerLostError) and waits_too.outcome() is error
            assert (error.pid, error.worker) == (session.pid, session.worker)
            assert error.exit_code == {"killed": processes.KILLED, "crash": processes.CRASHED, "_exit": 0}[how]
            for call in (session.recv, session.result, lambda: session.send(1)):
                with pytest.raises(WorkerLostError) as caught:
                    call()
                assert caught.value is error
        assert executor.submit(tasks.square, 3).result(SECONDS) == 9

    @in_a_process
    def test_what_was_sent_before_a_death_is_received(self, executor: Executor) -> None:
        session = executor.session(session_tasks.send_and_die, "killed")
        session.send("now")
        processes.await_end(session.pid)
        assert session.recv(SECONDS) == "the last"
        with pytest.raises(WorkerLostError):
            session.recv(SECONDS)

    @in_a_process
    def test_send_to_a_worker_that_does_not_receive_ends_with_it(self, executor: Executor, gate: Gate) -> None:
        with executor.session(session_tasks.stay, gate.port) as session:
            gate.arrival()
            waits = InThread(lambda: session.send(b"x" * BIG))
            with pytest.raises(TimeoutError):
                session.send(b"x" * BIG, timeout=0.05)
            processes.kill(session.pid)
            assert isinstance(waits.outcome(), WorkerLostError)

    @in_a_process
    def test_worker_can_be_killed(self, executor: Executor, gate: Gate) -> None:
        with executor.session(session_tasks.stay, gate.port) as session:
            gate.arrival()
            waits = InThread(session.recv)
            assert session.kill()
            error = waits.outcome()
            assert isinstance(error, WorkerLostError) and "killed by Session.kill()" in str(error)
            assert session.kill()
        assert not processes.lives(session.pid)

    @requires("sessions")
    @lacks("isolated_memory")
    def test_thread_cannot_be_killed_and_is_refused(self, executor: Executor, gate: Gate) -> None:
        with executor.session(session_tasks.go_on_until_refused, gate.port) as session:
            gate.arrival()
            assert not session.kill()
            assert session.result(SECONDS) == ["EOFError", "SessionClosedError"]
            assert session.kill()

    # ---- the executor's end -----------------------------------------------------------------------------------------

    @requires("sessions")
    def test_shutdown_ends_sessions(self, make_executor: MakeExecutor, gate: Gate) -> None:
        executor = make_executor()
        session = executor.session(session_tasks.stay_until_closed, gate.port)
        gate.arrival()
        executor.shutdown()
        assert session.result(0) == "closed"
        with pytest.raises(SessionClosedError, match="it was closed"):
            session.send(1)
        with pytest.raises(ExecutorShutdownError):
            executor.session(session_tasks.echo)

    @requires("sessions")
    @lacks("runs_in_caller")
    def test_sessions_are_closed_before_what_runs_has_ended(self, make_executor: MakeExecutor, gate: Gate) -> None:
        executor = make_executor()
        future = executor.submit(tasks.wait_at, gate.port, "task")
        session = executor.session(session_tasks.echo)
        gate.arrival()
        executor.shutdown(wait=False)
        assert session.result(SECONDS) == 0 and not future.done()
        gate.open()
        assert future.result(SECONDS) == "task"

    @in_a_process
    def test_session_that_outstays_the_grace_period_is_ended(
        self, make_executor: MakeExecutor, gate: Gate, caplog: pytest.LogCaptureFixture
    ) -> None:
        executor = make_executor(shutdown=Shutdown(grace=0.2))
        with caplog.at_level(logging.WARNING, "parapluie"):
            with pytest.raises(WorkerLostError, match="terminated at the end of its block"):  # noqa: SIM117 - one each
                with executor.session(session_tasks.stay, gate.port):
                    gate.arrival().release()
            session = executor.session(session_tasks.stay, gate.port)
            gate.arrival().release()
            executor.shutdown()
        with pytest.raises(WorkerLostError, match="terminated at shutdown"):
            session.result(0)
        assert caplog.text.count("did not end within 0.2 seconds") == 2

    @requires("sessions")
    @lacks("isolated_memory")
    def test_session_in_a_thread_that_outstays_the_grace_period_is_told(
        self, make_executor: MakeExecutor, gate: Gate, caplog: pytest.LogCaptureFixture
    ) -> None:
        executor = make_executor(shutdown=Shutdown(grace=0.05))
        with (
            caplog.at_level(logging.WARNING, "parapluie"),
            executor.session(session_tasks.wait_and_keep_all, gate.port),
        ):
            gate.arrival()
        assert "did not end within 0.05 seconds" in caplog.text and "threads cannot be killed" in caplog.text
        gate.open()

    @requires("sessions")
    def test_session_that_is_dropped_ends(self, make_executor: MakeExecutor, gate: Gate) -> None:
        executor = make_executor()
        session = executor.session(session_tasks.stay_until_closed, gate.port)
        visitor = gate.arrival()
        del session
        gc.collect()
        assert visitor.ends()
        assert executor.submit(tasks.square, 3).result(SECONDS) == 9

    @requires("sessions")
    def test_session_keeps_its_executor_open(self, make_executor: MakeExecutor, backend: Any) -> None:
        executor = backend.make()
        session = executor.session(session_tasks.echo)
        del executor
        gc.collect()
        session.send("still here")
        assert session.recv(SECONDS) == "still here"
        with session:
            pass
        assert session.result(0) == 1

    @requires("sessions")
    def test_session_leaves_nothing(self, make_executor: MakeExecutor) -> None:
        executor = make_executor()
        self._converse(executor)  # what the standard library starts once and keeps
        gc.collect()
        threads, children = set(threading.enumerate()), multiprocessing.active_children()
        before, locks = processes.open_things(), semaphores()
        with named_things() as named:
            kept = [self._converse(executor) for _ in range(3)]
        until(lambda: set(threading.enumerate()) <= threads)
        assert len(multiprocessing.active_children()) <= len(children)
        assert semaphores() <= locks and named == set()
        gc.collect()
        assert processes.open_things() <= before
        assert all(isinstance(error, ValueError) for _, error in kept)

    @staticmethod
    def _converse(executor: Executor) -> tuple[Any, BaseException]:
        """Have a session that goes well, and one that fails; return what is kept of them."""
        with executor.session(session_tasks.echo) as session:
            session.send(1)
            assert session.recv(SECONDS) == 1
        failing = executor.session(session_tasks.send_and_fail)
        with pytest.raises(ValueError, match="on purpose") as caught, failing:
            failing.result(SECONDS)
        return session, caught.value

    @lacks("sessions")
    def test_session_is_refused_where_there_can_be_none(self, executor: Executor) -> None:
        with pytest.raises(CapabilityError, match=r"cannot honour session\(\).*process") as caught:
            executor.session(session_tasks.echo)
        assert "process" in caught.value.able
