"""Programs that end, are interrupted or are killed: their tasks run, or their workers end with them."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from parapluie.testing import processes, program
from parapluie.testing.claims import lacks, proves, requires
from parapluie.testing.patience import SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from parapluie.testing.fixtures import Gate, Notes, Row
    from parapluie.testing.gates import Visitor

    StartProgram = Callable[..., "Program"]


class Program:
    """A program that was started. What it says goes to a file: workers that outlive it would keep a pipe open."""

    def __init__(self, command: list[str], errors: Path) -> None:
        self._errors = errors
        with errors.open("wb") as file:
            self.process = subprocess.Popen(command, stderr=file)

    def wait(self) -> tuple[int, str]:
        """Wait for its end; return its exit code, and what it has said."""
        code = self.process.wait(SECONDS)
        return code, self._errors.read_text(encoding="utf-8")


def all_end(workers: list[Visitor]) -> bool:
    """Say whether workers end by themselves; those that do not are ended."""
    ended = [worker.ends() for worker in workers]
    for worker, has_ended in zip(workers, ended, strict=True):
        if not has_ended:
            processes.end(worker.pid)
    return all(ended)


class ProgramTests:
    """What becomes of tasks and workers when their program comes to its end."""

    @pytest.fixture
    def start_program(self, backend: Row, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StartProgram]:
        """Start `parapluie.testing.program`; it is killed behind the test, should it still run."""
        started: list[Program] = []

        def start(action: str, meeting: str | int, **options: Any) -> Program:
            command = program.command(backend, request.cls.__module__, action, meeting, **options)
            started.append(Program(command, tmp_path / "errors"))
            return started[-1]

        yield start
        for running in started:
            running.process.kill()
            running.process.wait(SECONDS)

    def test_tasks_of_the_main_file_run(self, start_program: StartProgram, notes: Notes) -> None:
        assert start_program("run_own", notes.path).wait() == (0, "")
        assert notes.size() == 3

    @proves("imports_main")
    def test_tasks_of_the_main_file_are_found_by_their_names(self, start_program: StartProgram, notes: Notes) -> None:
        """The strict serializer sends no more than the name."""
        assert start_program("run_own", notes.path, serializer="pickle").wait() == (0, "")
        assert notes.size() == 3

    def test_program_that_ends_has_its_tasks_run(self, start_program: StartProgram, notes: Notes) -> None:
        assert start_program("end", notes.path).wait() == (0, "")
        assert sorted(notes.lines(), key=int) == [str(number) for number in range(program.LEFT)]

    def test_program_that_ends_by_an_error_has_its_tasks_run(self, start_program: StartProgram, notes: Notes) -> None:
        code, errors = start_program("end_by_error", notes.path).wait()
        assert code == 1 and errors.count("Traceback") == 1 and "the program's own" in errors
        assert sorted(notes.lines(), key=int) == [str(number) for number in range(program.LEFT)]

    @requires("isolated_memory")
    @lacks("runs_in_caller", "distributed")
    def test_workers_end_when_their_program_is_killed(self, start_program: StartProgram, gate: Gate) -> None:
        running = start_program("hold", gate.port)
        workers = gate.arrivals(2)
        running.process.kill()
        assert all_end(workers)

    @pytest.mark.skipif(sys.platform == "win32", reason="no process can be sent Ctrl-C there without its neighbours")
    @requires("isolated_memory")
    @lacks("runs_in_caller", "distributed")
    def test_interrupted_program_ends_and_its_workers_with_it(self, start_program: StartProgram, gate: Gate) -> None:
        running = start_program("hold_in_block", gate.port, grace=0.2)
        workers = gate.arrivals(2)
        running.process.send_signal(signal.SIGINT)
        code, errors = running.wait()
        assert code == -signal.SIGINT and errors.count("Traceback") == 1 and "KeyboardInterrupt" in errors
        assert all_end(workers)
