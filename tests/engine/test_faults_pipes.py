"""Pipes that fill in both directions: 64 MB to and from every worker at once."""

from __future__ import annotations

import zlib

import fault_help
import fault_tasks as tasks
import pytest
from fault_help import process_methods
from fault_tasks import Block

faults = fault_help.faults

SIZE = 64 << 20
WAIT = 100.0


@process_methods
@pytest.mark.deadline(240)
def test_large_arguments_and_large_results_pass_each_other(faults, row):
    """Each worker has its next argument coming while it sends a result: as bytes, and as a buffer out of band."""
    executor = faults.make(row)
    for number in range(300):  # so that the engine gives workers calls ahead
        assert executor.submit(tasks.square, number).result(WAIT) == number * number
    held = [executor.submit(tasks.wait_at, faults.port) for _ in range(2)]
    visitors = faults.gate.arrivals(2)
    data = tasks.large(17, SIZE)
    block = Block(bytearray(data))
    futures = [
        executor.submit(tasks.exchange, what, seed, SIZE) for seed, what in enumerate([data, data, block, block])
    ]
    for visitor in visitors:
        visitor.release()
    assert [future.result(WAIT) for future in held] == ["", ""]
    for seed, future in enumerate(futures):
        checksum, result = future.result(WAIT)
        assert checksum == zlib.crc32(data)
        assert (result.data if seed >= 2 else result) == tasks.large(seed, SIZE)
