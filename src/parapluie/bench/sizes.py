"""How much each workload does, in one place: the full measure, and the small one of `--quick`."""

from __future__ import annotations

from typing import NamedTuple


class Sizes(NamedTuple):
    """The numbers of all workloads. Times are in seconds."""

    warm_up_tasks: int = 500
    latency_calls: int = 2_000
    submit_tasks: int = 20_000
    map_items: int = 200_000
    map_items_one_by_one: int = 20_000  # where the default is a message for each item: 200,000 would take a minute
    chunk_sizes: tuple[int, ...] = (250, 1_000, 4_000, 16_000)
    short_tasks: int = 2_000
    short_seconds: float = 0.001
    skew_tasks: int = 400
    skew_seconds: float = 0.002
    long_seconds: float = 1.0
    surprise_tasks: int = 6_000
    surprise_behind: int = 200  # submitted after the long one: few enough for the other worker to run in time
    surprise_wait: float = 0.020
    startup_repeats: int = 3
    stream_items: int = 300_000
    stream_item_bytes: int = 1_024
    stream_pause_every: int = 1_000
    stream_pause: float = 0.005
    long_map_items: int = 10_000_000
    array_bytes: int = 1_000_000
    large_array_bytes: int = 64_000_000
    array_repeats: int = 20
    large_array_repeats: int = 8
    state_operations: int = 2_000
    increments: int = 10_000
    channel_items: int = 50_000
    channel_batch: int = 100
    increment_batch: int = 100  # that go in one message, where there is such a thing
    lazy_chunk_heavy: int = 100  # items of 1 KB in a chunk, for those that do not size chunks themselves
    lazy_chunk: int = 1_000  # the same for trivial items


FULL = Sizes()
QUICK = Sizes(
    warm_up_tasks=20,
    latency_calls=100,
    submit_tasks=500,
    map_items=5_000,
    map_items_one_by_one=500,
    chunk_sizes=(250, 1_000),
    short_tasks=100,
    skew_tasks=40,
    long_seconds=0.1,
    surprise_tasks=300,
    surprise_behind=50,
    startup_repeats=1,
    stream_items=3_000,
    stream_pause=0.002,
    long_map_items=50_000,
    large_array_bytes=4_000_000,
    array_repeats=3,
    large_array_repeats=2,
    state_operations=100,
    increments=400,
    channel_items=2_000,
)

TIME_LIMIT = 120.0  # for one measurement, its start and end included
MEMORY_LIMIT = 1_500_000_000  # bytes in memory, of the process that measures: its pool may want to read all its input
ADDRESS_SPACE = 8_000_000_000  # bytes that any process of a measurement may reserve, where there is such a limit
