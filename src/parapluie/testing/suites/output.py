"""Output: what tasks print is captured to their futures, if that was asked for."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import pytest

from parapluie import ConfigError, WorkerLostError
from parapluie.testing import hostile, tasks
from parapluie.testing.claims import lacks, requires
from parapluie.testing.helpers import SECONDS, at_once

if TYPE_CHECKING:
    from parapluie.testing.fixtures import Gate, MakeExecutor, Notes, Row


def said(text: object) -> str:
    """Return what `tasks.say` prints."""
    return f"out {text}\nerr {text}\nbytes {text}\n"


class OutputTests:
    """Output: what tasks print is captured to their futures, if that was asked for."""

    def test_output_is_each_tasks_own(self, make_executor: MakeExecutor) -> None:
        executor = make_executor(capture_output=True)
        futures = [executor.submit(tasks.say, str(number)) for number in range(20)]
        for number, future in enumerate(futures):
            assert future.result(SECONDS) == str(number) and future.output == said(number)

    @lacks("runs_in_caller")
    def test_output_of_tasks_that_run_at_a_time_is_kept_apart(self, make_executor: MakeExecutor, gate: Gate) -> None:
        executor = make_executor(capture_output=True)
        futures = [executor.submit(tasks.say_at_gate, gate.port, text) for text in ("one", "two")]
        gate.arrivals(2)
        assert [future.output for future in futures] == ["", ""]
        gate.open()
        for future in futures:
            future.result(SECONDS)
        assert [future.output for future in futures] == ["one\none\n", "two\ntwo\n"]

    def test_output_of_a_task_that_raises_is_kept(self, make_executor: MakeExecutor) -> None:
        future = make_executor(capture_output=True).submit(tasks.say_and_fail, "this")
        assert type(future.exception(SECONDS)) is ValueError and future.output == said("this")

    def test_output_of_a_task_whose_result_cannot_be_sent_is_kept(self, make_executor: MakeExecutor) -> None:
        future = make_executor(capture_output=True).submit(lambda: (print("printed"), hostile.Holder())[1])
        future.exception(SECONDS)
        assert future.output == "printed\n"

    def test_output_is_the_last_attempts(self, make_executor: MakeExecutor, notes: Notes) -> None:
        executor = make_executor(capture_output=True, retry=at_once(3))
        future = executor.submit(tasks.say_attempt, notes.path, 2)
        future.result(SECONDS)
        assert future.output == "attempt 2\n"

    def test_task_that_prints_nothing_has_an_empty_output(self, make_executor: MakeExecutor) -> None:
        future = make_executor(capture_output=True).submit(tasks.square, 3)
        assert future.result(SECONDS) == 9 and future.output == ""

    def test_output_is_not_captured_unless_asked_for(self, make_executor: MakeExecutor) -> None:
        executor = make_executor(capture_output=True)
        future = executor.with_options(capture_output=False).submit(tasks.square, 3)
        assert future.result(SECONDS) == 9 and future.output is None
        assert make_executor().submit(tasks.square, 3).output is None
        view = make_executor().with_options(capture_output=True).with_options(name="view")
        future = view.submit(tasks.say, "text")
        assert future.result(SECONDS) == "text" and future.output == said("text")

    def test_streams_of_this_process_are_left_as_they_were(self, make_executor: MakeExecutor, capsys: Any) -> None:
        before = sys.stdout, sys.stderr
        executor = make_executor(capture_output=True)
        executor.submit(tasks.say, "captured").result(SECONDS)
        executor.shutdown()
        assert (sys.stdout, sys.stderr) == before
        print("here")
        assert capsys.readouterr() == ("here\n", "")

    @requires("survives_dead_worker")
    def test_output_of_an_attempt_goes_with_its_worker(self, make_executor: MakeExecutor) -> None:
        executor = make_executor(capture_output=True)
        future = executor.submit(lambda: (print("gone"), tasks.die("_exit")))
        assert isinstance(future.exception(SECONDS), WorkerLostError) and future.output == ""

    @requires("isolated_memory")
    def test_output_of_a_thread_that_a_task_starts_is_the_tasks(self, make_executor: MakeExecutor) -> None:
        future = make_executor(capture_output=True).submit(tasks.say_in_thread, "from a thread")
        if future.result(SECONDS) != os.getpid():  # in the program's own process others print, too
            assert future.output == "from a thread\n"

    @pytest.mark.parametrize("value", [0, 1, "yes"])
    def test_capture_output_that_is_no_bool_is_refused(
        self, backend: Row, make_executor: MakeExecutor, value: Any
    ) -> None:
        with pytest.raises(ConfigError, match=f"capture_output={value!r} is neither True nor False"):
            backend.make(capture_output=value)
        with pytest.raises(ConfigError, match="capture_output="):
            make_executor().with_options(capture_output=value)
