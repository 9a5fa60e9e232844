"""Channels and faults: nobody waits for the dead, no item comes twice, and what is lost is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from parapluie import ChannelBrokenError, SharedStateLostError, WorkerLostError
from parapluie.testing import channel_tasks, processes
from parapluie.testing.claims import lacks, requires
from parapluie.testing.helpers import end_server, results_of, until
from parapluie.testing.patience import SECONDS

if TYPE_CHECKING:
    from parapluie.sharing.channel import Channel
    from parapluie.testing.fixtures import Gate, MakeExecutor

_MORTAL = "channels", "isolated_memory", "survives_dead_worker"


class ChannelFaultTests:
    """Channels and faults: nobody waits for the dead, no item comes twice, and what is lost is told."""

    @requires(*_MORTAL)
    def test_producer_that_dies_ends_its_consumers(self, make_executor: MakeExecutor) -> None:
        executor = make_executor()
        channel = executor.channel()
        consumer = executor.submit(channel_tasks.take_all, channel)
        until(lambda: channel.stats().waiting == 1)
        found = results_of([executor.submit(channel_tasks.put_and_die, channel, range(5), "_exit"), consumer])
        assert [type(one) for one in found] == [WorkerLostError, ChannelBrokenError]
        assert "task 2 failed with WorkerLostError" in str(found[1])
        assert channel.stats().put == 5

    @pytest.mark.parametrize("size", [10, 300_000])
    @requires(*_MORTAL)
    def test_item_is_in_whole_or_not_at_all(self, make_executor: MakeExecutor, gate: Gate, size: int) -> None:
        executor = make_executor()
        channel = executor.channel(20)
        producer = executor.submit(channel_tasks.put_big_items, gate.port, channel, size)
        victim = gate.arrival()
        for number in range(30):
            assert channel.get(SECONDS) == bytes([number]) * size
        processes.kill(victim.pid)
        assert isinstance(producer.exception(SECONDS), WorkerLostError)
        assert channel.stats().size <= 20
        left: list[bytes] = []  # of what it had sent, some may arrive a little after the news of its death
        with pytest.raises(ChannelBrokenError):
            _take_into(left, channel)
        assert left == [bytes([30 + item]) * size for item in range(len(left))]

    @requires(*_MORTAL)
    def test_items_in_the_hand_of_the_dead_are_lost_and_told(
        self, make_executor: MakeExecutor, caplog: pytest.LogCaptureFixture
    ) -> None:
        executor = make_executor()
        channel = executor.channel()
        channel.put_many(range(10))
        channel.close()
        consumer = executor.submit(channel_tasks.take_batch_and_die, channel, 3)
        assert isinstance(consumer.exception(SECONDS), WorkerLostError)
        assert list(channel) == list(range(3, 10))
        until(lambda: channel.stats().lost == 3)
        until(lambda: [text for text in caplog.messages if "with 3 items of channel 1 in hand, now lost" in text])

    @requires(*_MORTAL)
    def test_consumer_that_dies_while_it_waits_takes_nothing(self, make_executor: MakeExecutor) -> None:
        executor = make_executor()
        channel = executor.channel()
        pids = executor.channel()
        consumer = executor.submit(channel_tasks.take_all_and_tell_pid, pids, channel)
        victim = pids.get(SECONDS)
        until(lambda: channel.stats().waiting == 1)
        processes.kill(victim)
        assert isinstance(consumer.exception(SECONDS), WorkerLostError)
        channel.put_many(range(5))
        channel.close()
        assert list(channel) == list(range(5)) and channel.stats().lost == 0

    @requires(*_MORTAL)
    def test_producer_dies_while_it_waits_for_room(self, make_executor: MakeExecutor, gate: Gate) -> None:
        executor = make_executor()
        channel = executor.channel(2)
        producer = executor.submit(channel_tasks.put_big_items, gate.port, channel, 10)
        victim = gate.arrival()
        until(lambda: channel.stats().waiting == 1)
        processes.kill(victim.pid)
        assert isinstance(producer.exception(SECONDS), WorkerLostError)
        until(lambda: channel.stats().waiting == 0)
        assert [channel.get(SECONDS)[:1] for _ in range(2)] == [b"\0", b"\1"]
        with pytest.raises(ChannelBrokenError):
            channel.get()

    @requires("channels", "isolated_memory")
    @lacks("runs_in_caller")
    def test_death_of_the_server_is_told_to_everybody(self, make_executor: MakeExecutor, gate: Gate) -> None:
        executor = make_executor(max_workers=3)
        channel, full = executor.channel(), executor.channel(1)
        consumer = executor.submit(channel_tasks.take_all, channel)
        waiting = executor.submit(channel_tasks.put_many, full, [1, 2])
        producer = executor.submit(channel_tasks.put_round_gate, gate.port, channel, 1, 2)
        gate.arrival()
        until(lambda: channel.stats().waiting and full.stats().waiting)
        end_server(executor)
        gate.open()
        found = results_of([consumer, waiting, producer])
        assert [type(one) for one in found] == [SharedStateLostError] * 3
        for use in (channel.get, channel.close, executor.channel, lambda: channel.put_many([1])):
            with pytest.raises(SharedStateLostError):
                use()


def _take_into(taken: list[bytes], channel: Channel) -> None:
    while True:
        taken.append(channel.get(SECONDS))
