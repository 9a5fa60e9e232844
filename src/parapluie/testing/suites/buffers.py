"""Large buffers (pickle protocol 5): a task gets what was submitted, to write to, and its caller keeps his own."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from parapluie.call_format import LARGE
from parapluie.testing import tasks
from parapluie.testing.claims import requires
from parapluie.testing.helpers import SECONDS, at_once

if TYPE_CHECKING:
    from parapluie import Executor
    from parapluie.testing.fixtures import Gate, MakeExecutor, Notes, Row

both_ways = pytest.mark.parametrize("size", [10, 3 * LARGE], ids=["in band", "out of band"])


class BufferTests:
    """Large buffers (pickle protocol 5): a task gets what was submitted, to write to, and its caller keeps his own."""

    @both_ways
    @requires("isolated_memory")
    def test_buffer_is_taken_as_it_is_when_submitted(
        self, executor: Executor, gate: Gate, backend: Row, size: int
    ) -> None:
        held = (
            [] if backend.capabilities.runs_in_caller else [executor.submit(tasks.wait_at, gate.port) for _ in range(2)]
        )
        gate.arrivals(len(held))
        data = bytearray(b"a" * size)
        future = executor.submit(tasks.same, tasks.Block(data))
        results = executor.map(tasks.same, [tasks.Block(data)])
        data[:] = b"b" * size
        gate.open()
        assert future.result(SECONDS).same_as(b"a" * size)
        assert next(results).same_as(b"a" * size)
        assert [future.result(SECONDS) for future in held] == [""] * len(held)

    @both_ways
    @requires("isolated_memory")
    def test_task_writes_to_its_own_copy(self, executor: Executor, size: int) -> None:
        data = bytearray(b"a" * size)
        blocks = [executor.submit(tasks.write_to, tasks.Block(data)).result(SECONDS)]
        blocks += executor.map(tasks.write_to, [tasks.Block(data)] * 3, chunksize=3)
        assert all(block.same_as(b"!" + b"a" * (size - 1)) for block in blocks)
        assert data == b"a" * size
        blocks[0].data[:] = b"c" * size  # what comes back is the caller's to write to
        assert blocks[0].same_as(b"c" * size) and blocks[1].data[0:1] == b"!"

    @both_ways
    @requires("isolated_memory")
    def test_buffer_that_is_read_only_stays_so(self, executor: Executor, size: int) -> None:
        data = bytes(size)
        block = executor.submit(tasks.same, tasks.Block(data)).result(SECONDS)
        assert block.same_as(data) and memoryview(block.data).readonly

    @both_ways
    @requires("isolated_memory")
    def test_each_attempt_gets_what_was_submitted(self, executor: Executor, notes: Notes, size: int) -> None:
        view = executor.with_options(retry=at_once(3))
        data = bytearray(b"a" * size)
        wanted = b"!" + b"a" * (size - 1)
        assert view.submit(tasks.write_and_succeed_at, notes.path, 3, tasks.Block(data)).result(SECONDS).same_as(wanted)
        results = view.map(partial(tasks.write_and_succeed_at, notes.path, 6), [tasks.Block(data)])
        assert next(results).same_as(wanted)
        assert notes.size() == 6

    @requires("isolated_memory")
    def test_function_and_initializer_take_buffers_along(self, make_executor: MakeExecutor) -> None:
        data = bytearray(b"ab" * LARGE)
        executor = make_executor(1, initializer=tasks.remember, initargs=[tasks.Block(data)])
        assert executor.submit(tasks.recall).result(SECONDS).same_as(data)
        with_block = partial(tasks.length_of_both, tasks.Block(data))
        assert list(executor.map(with_block, range(3))) == [(len(data), number) for number in range(3)]

    @requires("isolated_memory")
    @pytest.mark.parametrize("size", [16, 4 * LARGE])
    def test_buffer_with_gaps_is_explained(self, executor: Executor, size: int) -> None:
        holed = tasks.Block(memoryview(bytearray(size))[::2])
        error = executor.submit(tasks.same, holed).exception(SECONDS)
        assert "contiguous" in str(error) and error.path.startswith("args[0]"), error
        outcomes = list(executor.map(tasks.length_of, [holed, tasks.Block(bytearray(3))], on_error="collect"))
        assert "contiguous" in str(outcomes[0].error) and outcomes[1].value == 3
        error = executor.submit(tasks.holed_block, size).exception(SECONDS)
        assert "contiguous" in str(error), error

    @requires("isolated_memory")
    def test_what_a_task_keeps_stays_as_it_was(self, make_executor: MakeExecutor) -> None:
        executor = make_executor(1)
        letters = "abcdefgh"
        executor.submit(tasks.let_go).result(SECONDS)
        for letter in letters:
            executor.submit(tasks.keep, tasks.Block(bytearray(letter.encode() * LARGE))).result(SECONDS)
        assert executor.submit(tasks.kept_letters).result(SECONDS) == letters
        executor.submit(tasks.let_go).result(SECONDS)
        for letter in letters:
            executor.submit(tasks.keep, tasks.Block(bytearray(letter.encode() * LARGE))).result(SECONDS)
        assert executor.submit(tasks.kept_letters).result(SECONDS) == letters
