"""Log records: what is logged in workers reaches the handlers of the parent, once, before the task's answer."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from parapluie import WorkerLostError
from parapluie.testing import tasks
from parapluie.testing.claims import proves, requires
from parapluie.testing.helpers import SECONDS, at_once

if TYPE_CHECKING:
    from parapluie.testing.fixtures import Gate, MakeExecutor, Notes

NAME = "kit.of.parapluie"
PARENT = "kit.of"
WARNING = logging.WARNING


class Heard(logging.Handler):
    """Keeps the records that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[Any] = []
        self.one_came = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        self.one_came.set()

    @property
    def texts(self) -> list[str]:
        """What they say."""
        return [record.getMessage() for record in self.records]


def tagged(record: Any) -> tuple[Any, ...]:
    """Return what a record says of its task."""
    return record.parapluie_task, record.parapluie_attempt, record.parapluie_worker


class LogTests:
    """Log records: what is logged in workers reaches the handlers of the parent, once, before the task's answer."""

    @pytest.fixture
    def heard(self) -> Iterator[Heard]:
        """Return a handler of the parent's."""
        handler = Heard()
        logging.getLogger(PARENT).addHandler(handler)
        yield handler
        logging.getLogger(PARENT).removeHandler(handler)
        for name in (NAME, PARENT):
            logging.getLogger(name).setLevel(logging.NOTSET)

    def test_record_reaches_the_handlers_of_the_parent_once(self, make_executor: MakeExecutor, heard: Heard) -> None:
        executor = make_executor()
        futures = [executor.submit(tasks.log, NAME, WARNING, "record of %s", number) for number in range(20)]
        for future in futures:
            future.result(SECONDS)
        assert sorted(heard.texts) == sorted(f"record of {number}" for number in range(20))
        assert {(record.name, record.levelno, record.funcName) for record in heard.records} == {(NAME, WARNING, "log")}

    @requires("isolated_memory")
    def test_record_of_another_process_names_task_attempt_and_worker(
        self, make_executor: MakeExecutor, heard: Heard
    ) -> None:
        executor = make_executor(retry=at_once(2)).with_options(name="logger")
        future = executor.submit(tasks.log_and_fail, NAME, "twice")
        assert isinstance(future.exception(SECONDS), ValueError)
        assert heard.texts == ["twice", "twice"]
        if heard.records[0].process != os.getpid():
            assert [tagged(record)[:2] for record in heard.records] == [(future.task_id, 1), (future.task_id, 2)]
            assert heard.records[1].parapluie_worker == future.worker

    @requires("isolated_memory")
    @pytest.mark.parametrize("chunksize", [1, 10])
    def test_record_of_an_item_names_it(self, make_executor: MakeExecutor, heard: Heard, chunksize: int) -> None:
        executor = make_executor()
        assert list(executor.map(lambda n: tasks.log_item(NAME, n), range(30), chunksize=chunksize)) == [*range(30)]
        assert sorted(heard.texts) == sorted(f"item {number}" for number in range(30))
        for record in heard.records:
            if record.process != os.getpid():
                assert record.parapluie_task.endswith(f"[{record.args[0]}]") and record.parapluie_attempt == 1

    def test_records_keep_their_order_and_come_before_the_answer(
        self, make_executor: MakeExecutor, heard: Heard
    ) -> None:
        executor = make_executor(max_workers=1)
        executor.submit(tasks.log_many, NAME, 500).result(SECONDS)
        assert heard.texts == [f"record {number}" for number in range(500)]

    def test_large_record_comes_whole(self, make_executor: MakeExecutor, heard: Heard) -> None:
        text = "".join(f"{number} " for number in range(50_000))
        make_executor().submit(tasks.log, NAME, WARNING, text).result(SECONDS)
        assert heard.texts == [text]

    def test_what_cannot_travel_is_shown(self, make_executor: MakeExecutor, heard: Heard) -> None:
        make_executor().submit(tasks.log_what_cannot_travel, NAME).result(SECONDS)
        (record,) = heard.records
        assert record.getMessage() == "an argument: argument" and record.numbers == [1, 2]
        assert "lock" in str(record.lock)
        shown = logging.Formatter().format(record)
        assert "raised and logged" in shown and "log_what_cannot_travel" in shown

    def test_record_of_a_thread_that_a_task_starts_comes_as_well(
        self, make_executor: MakeExecutor, heard: Heard
    ) -> None:
        make_executor().submit(tasks.log_in_thread, NAME, "from a thread").result(SECONDS)
        assert heard.texts == ["from a thread"]

    # ---- levels and handlers ----------------------------------------------------------------------------------------

    def test_levels_are_the_parents(self, make_executor: MakeExecutor, heard: Heard) -> None:
        logging.getLogger(PARENT).setLevel(logging.INFO)
        heard.setLevel(logging.INFO)
        executor = make_executor()
        levels = [logging.DEBUG, logging.INFO, logging.ERROR]
        executor.submit(tasks.log_all, NAME, levels).result(SECONDS)
        assert [record.levelno for record in heard.records] == [logging.INFO, logging.ERROR]

    def test_parent_decides_again(self, make_executor: MakeExecutor, heard: Heard) -> None:
        executor = make_executor(max_workers=1)
        executor.submit(tasks.log, NAME, WARNING, "first").result(SECONDS)
        logging.getLogger(NAME).setLevel(logging.ERROR)
        executor.submit(tasks.log, NAME, WARNING, "second").result(SECONDS)
        executor.submit(tasks.log, NAME, logging.ERROR, "third").result(SECONDS)
        assert heard.texts == ["first", "third"]

    @requires("sends_logs")
    def test_worker_has_the_levels_of_the_parent(self, make_executor: MakeExecutor, heard: Heard) -> None:
        logging.getLogger(NAME).setLevel(17)
        assert make_executor().submit(tasks.level_of, f"{NAME}.below").result(SECONDS) == 17

    @requires("isolated_memory")
    def test_handler_of_the_parent_writes_a_record_once(self, make_executor: MakeExecutor, notes: Notes) -> None:
        """A worker that is forked has the handler, too."""
        handler = logging.FileHandler(notes.path)
        logging.getLogger(PARENT).addHandler(handler)
        try:
            make_executor().submit(tasks.log, NAME, WARNING, "once").result(SECONDS)
        finally:
            logging.getLogger(PARENT).removeHandler(handler)
            handler.close()
        assert notes.lines() == ["once"]

    @requires("sends_logs", "initializer")
    def test_handler_that_an_initializer_adds_takes_records_alone(
        self, make_executor: MakeExecutor, heard: Heard, notes: Notes
    ) -> None:
        executor = make_executor(initializer=tasks.log_to_file, initargs=(NAME, notes.path))
        executor.submit(tasks.log, NAME, WARNING, "to the file").result(SECONDS)
        executor.submit(tasks.log, PARENT, WARNING, "to the parent").result(SECONDS)
        assert notes.lines() == ["to the file"] and heard.texts == ["to the parent"]

    @requires("sends_logs", "initializer")
    def test_initializer_may_configure_logging(self, make_executor: MakeExecutor, heard: Heard, notes: Notes) -> None:
        executor = make_executor(initializer=tasks.configure_logging, initargs=(notes.path,))
        executor.submit(tasks.log, NAME, logging.DEBUG, "configured").result(SECONDS)
        assert notes.lines() == ["configured"] and heard.texts == []

    @requires("sends_logs", "initializer")
    def test_record_of_an_initializer_comes_without_a_task(self, make_executor: MakeExecutor, heard: Heard) -> None:
        executor = make_executor(max_workers=1, initializer=tasks.log, initargs=(NAME, WARNING, "getting ready"))
        future = executor.submit(tasks.square, 2)
        assert future.result(SECONDS) == 4 and heard.texts == ["getting ready"]
        assert tagged(heard.records[0]) == (None, None, future.worker)

    # ---- as it happens ----------------------------------------------------------------------------------------------

    @proves("sends_logs")
    @requires("survives_dead_worker")
    @pytest.mark.parametrize("how", ["killed", "_exit", "crash"])
    def test_record_survives_its_worker(self, make_executor: MakeExecutor, heard: Heard, how: str) -> None:
        executor = make_executor(retry=at_once(2))
        future = executor.submit(tasks.log_and_die, NAME, "last words", how)
        error = future.exception(SECONDS)
        assert isinstance(error, WorkerLostError) and heard.texts == ["last words"] * 2
        assert [tagged(record)[:2] for record in heard.records] == [(future.task_id, 1), (future.task_id, 2)]
        assert heard.records[1].process == error.pid

    @proves("sends_logs")
    def test_record_comes_while_its_task_runs(self, make_executor: MakeExecutor, heard: Heard, gate: Gate) -> None:
        future = make_executor().submit(tasks.log_and_wait, NAME, "at work", gate.port)
        assert heard.one_came.wait(SECONDS) and heard.texts == ["at work"]
        assert not future.done()
        gate.open()
        future.result(SECONDS)
