"""Large buffers of calls and replies: their memory is used again and let go of, whatever happens to workers."""

from __future__ import annotations

import os
import time
import zlib
from contextlib import suppress
from functools import partial
from pathlib import Path

import fault_help
import fault_tasks as tasks
import pytest
from fault_help import every_method, linux, process_only, until
from fault_tasks import SECONDS, Block

from parapluie import Retry, WorkerLostError

faults = fault_help.faults

MB = 1 << 20
SPARE = 64 * MB  # what is kept in each file for what comes next


def files(process):
    """Return the files that a process shares with others of its executor."""
    for path in Path(f"/proc/{process}/fd").iterdir():
        with suppress(OSError):
            if "parapluie-buffers" in os.readlink(path):  # noqa: PTH115 - it is no file that has a path
                yield path


@pytest.fixture
def shared():
    """Return those of a process that were made since the beginning of the test."""
    before = {path.stat().st_ino for path in files("self")}
    return lambda process: [path.stat() for path in files(process) if path.stat().st_ino not in before]


@pytest.fixture
def held(shared):
    """Say how many bytes of memory those of this process hold."""
    return lambda: sum(file.st_blocks * 512 for file in shared("self"))


def block(seed, size):
    return Block(bytearray(tasks.large(seed, size)))


@linux
@every_method
def test_memory_is_used_again(faults, row, held):
    executor = faults.make(row)
    size, most = 4 * MB, 0
    for seed in range(15):
        blocks = [block(seed, size) for _ in range(4)]
        futures = [executor.submit(tasks.exchange, data, seed + 1, size) for data in blocks]
        for future in futures:
            checksum, result = future.result(SECONDS)
            assert checksum == zlib.crc32(blocks[0].data) and result.data == tasks.large(seed + 1, size)
        most = max(most, held())
    assert most <= 4 * size + 2 * 3 * size  # what was on its way to the workers, and from each of them


@linux
@every_method
def test_memory_is_let_go_of(faults, row, held):
    executor = faults.make(row, 1)
    checksum, result = executor.submit(tasks.exchange, block(1, 3 * SPARE), 2, 3 * SPARE).result(SECONDS)
    assert checksum == zlib.crc32(tasks.large(1, 3 * SPARE)) and len(result.data) == 3 * SPARE
    assert until(lambda: held() <= 2 * SPARE)
    assert executor.submit(tasks.exchange, block(3, MB), 4, MB).result(SECONDS)[0] == zlib.crc32(tasks.large(3, MB))


@linux
@every_method
def test_what_a_task_keeps_is_free_when_its_worker_has_died(faults, row, held):
    executor = faults.make(row, 1)
    size = 4 * MB
    for seed in range(10):
        checksum = executor.submit(tasks.keep_block, block(seed, size)).result(SECONDS)
        assert checksum == zlib.crc32(tasks.large(seed, size))
        future = executor.submit(tasks.keep_block, block(seed, size), die=True)
        assert isinstance(future.exception(SECONDS), WorkerLostError)
    assert held() <= 4 * size


@linux
@process_only
def test_what_a_task_keeps_is_free_when_it_lets_go(faults, row, held):
    executor = faults.make(row, 1)
    size = 4 * MB
    for seed in range(20):
        executor.submit(tasks.keep_block, block(seed, size)).result(SECONDS)
        executor.submit(tasks.forget_blocks).result(SECONDS)
    assert held() <= 3 * size


@pytest.mark.windows
@every_method
def test_next_attempt_gets_what_was_submitted(faults, row):
    """The first ones have written to their copies before they died."""
    executor = faults.make(row, 1, retry=Retry(1, lost=3))
    future = executor.submit(tasks.overwrite, faults.notes, block(5, MB), 2)
    assert future.result(SECONDS) == zlib.crc32(tasks.large(5, MB))
    assert future.attempts == 3
    (result,) = executor.map(tasks.overwrite, [faults.notes], [block(6, MB)], [5])
    assert result == zlib.crc32(tasks.large(6, MB))


@linux
@every_method
def test_buffers_use_the_pipe_where_there_is_no_room(faults, row):
    """A limit of the size of files holds for shared memory, too."""
    program = faults.run("exchange_with_small_files", backend=row.backend, method=row.method)
    assert program.wait() == 0, program.stderr
    assert program.answer() == [[size, zlib.crc32(tasks.large(size, size))] for size in (MB // 4, 4 * MB, MB // 2)]
    assert program.leaves_nothing()


@linux
@process_only
def test_what_is_withdrawn_is_free(faults, row, held):
    """It had been given to a worker, behind what that runs."""
    executor = faults.make(row, 1)
    size = MB // 4
    blocks = [block(seed, size) for seed in range(2)]
    for _ in range(20):
        for _ in range(20):
            executor.submit(time.sleep, 0.0004).result(SECONDS)  # so short that a worker is given the next one ahead
        in_front = executor.submit(tasks.wait_at, faults.port)
        futures = [executor.submit(tasks.keep_block, data) for data in blocks]
        visitor = faults.gate.arrival()
        assert all(future.cancel() for future in futures)
        visitor.release()
        assert in_front.result(SECONDS) == ""
    assert held() <= 4 * size


@linux
@process_only
def test_forked_worker_holds_its_own_files_only(faults, row, shared):
    """What another one had put into its file would stay as long as this one lives."""
    executor = faults.make(row, 3)
    futures = [executor.submit(tasks.wait_at, faults.port) for _ in range(3)]
    visitors = faults.gate.arrivals(3)
    for visitor in visitors:
        assert len(shared(visitor.pid)) == 2  # the executor's, and its own
        visitor.release()
    assert [future.result(SECONDS) for future in futures] == [""] * 3


@linux
@process_only
def test_array_of_a_function_is_there_once_for_all_of_its_chunks(faults, row, held):
    executor = faults.make(row)
    data = block(1, 8 * MB)
    results = executor.map(partial(tasks.checksum_of, data), range(40), chunksize=1)
    assert list(results) == [(zlib.crc32(data.data), number) for number in range(40)]
    assert held() <= 9 * MB
