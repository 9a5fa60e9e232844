"""Channels: every item reaches one consumer, and every consumer comes to an end."""

from __future__ import annotations

import pickle
import queue
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from parapluie import CapabilityError, ChannelBrokenError, ChannelClosedError, ConfigError, SharedStateError
from parapluie.testing import channel_tasks, hostile, tasks
from parapluie.testing.claims import lacks, proves, requires
from parapluie.testing.helpers import at_once, results_of, until
from parapluie.testing.patience import SECONDS

if TYPE_CHECKING:
    from parapluie.testing.fixtures import Gate, MakeExecutor, Notes, Row

EVERY_KIND = [None, 0, "", (), None, False, b"", [None], StopIteration, {"a": None}, 1.5]


class ChannelTests:
    """Channels: every item reaches one consumer, and every consumer comes to an end."""

    # ---- items ------------------------------------------------------------------------------------------------------

    @proves("channels")
    def test_every_item_of_every_producer_reaches_one_consumer(self, make_executor: MakeExecutor) -> None:
        executor = make_executor()
        channel = executor.channel()
        producers = [executor.submit(channel_tasks.put_all, channel, range(at, at + 300)) for at in (0, 300, 600)]
        assert [producer.result(SECONDS) for producer in producers] == [300] * 3
        channel.close()
        consumers = [executor.submit(channel_tasks.take_all, channel) for _ in range(3)]
        taken = [consumer.result(SECONDS) for consumer in consumers]
        assert sorted(item for items in taken for item in items) == list(range(900))

    @requires("channels")
    @lacks("runs_in_caller")
    def test_producers_and_consumers_run_at_a_time(self, make_executor: MakeExecutor) -> None:
        executor = make_executor(max_workers=4)
        first, second = executor.channel(), executor.channel(50)
        consumer = executor.submit(channel_tasks.take_all, second)
        between = executor.submit(channel_tasks.pass_on_doubled, first, second)
        producers = [executor.submit(channel_tasks.put_all, first, range(500)) for _ in range(2)]
        assert [producer.result(SECONDS) for producer in producers] == [500, 500]
        first.close()
        between.result(SECONDS)
        second.close()
        assert sorted(consumer.result(SECONDS)) == sorted([*range(0, 1000, 2)] * 2)
        assert second.stats() == (0, 1000, 1000, 0, 0, True)

    @requires("channels")
    def test_items_of_one_producer_come_in_their_order(self, make_executor: MakeExecutor) -> None:
        executor = make_executor()
        channel = executor.channel()
        executor.submit(channel_tasks.put_all, channel, range(1000)).result(SECONDS)
        executor.submit(channel_tasks.put_many, channel, range(1000, 2000)).result(SECONDS)
        channel.put(2000)
        channel.close()
        taken = executor.submit(channel_tasks.take_some, channel, 7).result(SECONDS)  # the others are given back
        assert taken + list(channel) == list(range(2001))

    @requires("channels")
    def test_any_value_is_an_item_and_none_ends_it(self, make_executor: MakeExecutor) -> None:
        executor = make_executor()
        channel = executor.channel()
        executor.submit(channel_tasks.put_all, channel, EVERY_KIND).result(SECONDS)
        channel.put_many(EVERY_KIND)
        channel.close()
        assert executor.submit(channel_tasks.take_all, channel).result(SECONDS) == EVERY_KIND * 2

    @requires("channels")
    def test_what_a_task_has_put_is_in_when_its_result_is_there(self, make_executor: MakeExecutor) -> None:
        executor = make_executor()
        channel = executor.channel()
        for number in range(20):
            executor.submit(channel_tasks.put_all, channel, range(number)).result(SECONDS)
            assert channel_tasks.take_until_empty(channel) == list(range(number))

    @requires("channels")
    def test_who_is_handed_a_channel_finds_what_was_put_before(self, make_executor: MakeExecutor) -> None:
        executor = make_executor()
        channel = executor.channel()
        for number in range(20):
            for item in range(number):
                channel.put(item)
            assert executor.submit(channel_tasks.take_until_empty, channel).result(SECONDS) == list(range(number))

    @requires("channels")
    @lacks("runs_in_caller")
    def test_no_item_is_kept_by_a_consumer_that_is_busy(self, make_executor: MakeExecutor, gate: Gate) -> None:
        executor = make_executor()
        channel = executor.channel()
        channel.put_many(range(1000))
        channel.close()
        consumer = executor.submit(channel_tasks.take_some_and_wait, gate.port, channel, 50)
        gate.arrival()
        taken = list(channel)
        gate.open()
        found = consumer.result(SECONDS)
        assert found == list(range(50)) and sorted(taken) == list(range(50, 1000))

    @requires("channels")
    def test_several_are_taken_at_a_time(self, make_executor: MakeExecutor) -> None:
        executor = make_executor()
        channel = executor.channel()
        channel.put_many(range(7))
        channel.close()
        assert executor.submit(channel_tasks.take_batches, channel, 3).result(SECONDS) == [3, 3, 1]
        with pytest.raises(ValueError, match="most=0 is not a whole number from 1"):
            channel.get_many(0)

    @requires("channels", "isolated_memory")
    def test_item_that_cannot_travel_harms_no_other(self, make_executor: MakeExecutor) -> None:
        channel = make_executor().channel()
        channel.put(1)
        with pytest.raises(LookupError):
            channel.put(hostile.Hostile("pickled", "error"))
        channel.put(hostile.Hostile("read back", "error"))
        channel.put(2)
        assert channel.get(SECONDS) == 1
        with pytest.raises(LookupError):
            channel.get(SECONDS)
        assert channel.get(SECONDS) == 2

    @requires("channels")
    def test_channel_is_found_by_its_name(self, make_executor: MakeExecutor) -> None:
        executor = make_executor()
        channel = executor.channel(name="lines")
        executor.submit(channel_tasks.put_into_found, "lines", range(100)).result(SECONDS)
        channel.close()
        assert executor.submit(channel_tasks.take_all_found, "lines").result(SECONDS) == list(range(100))
        with pytest.raises(SharedStateError, match="there is a shared object named 'lines' already"):
            executor.channel(name="lines")

    @requires("channels")
    def test_maps_produce_and_consume(self, make_executor: MakeExecutor) -> None:
        executor = make_executor()
        channel = executor.channel()
        assert list(executor.map(channel_tasks.put_all, [channel] * 8, [range(10)] * 8)) == [10] * 8
        channel.close()
        taken = executor.map(channel_tasks.take_all, [channel] * 3, range(3))
        assert sorted(item for items in taken for item in items) == sorted([*range(10)] * 8)

    # ---- limits -----------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("maxsize", [1, 100])
    @requires("channels")
    @lacks("runs_in_caller")
    def test_limit_slows_the_producer(self, make_executor: MakeExecutor, maxsize: int) -> None:
        executor = make_executor()
        channel = executor.channel(maxsize)
        producer = executor.submit(channel_tasks.put_all, channel, range(300))
        until(lambda: channel.stats().waiting)
        assert channel.stats()[:3] == (maxsize, maxsize, 0) and not producer.done()
        with pytest.raises(queue.Full, match="channel 1 had no room for 1 of 1 items in time"):
            channel.put(1, timeout=0.01)
        assert [channel.get(SECONDS) for _ in range(300)] == list(range(300))
        assert producer.result(SECONDS) == 300

    @requires("channels")
    @lacks("runs_in_caller")
    def test_items_that_had_no_room_in_time_are_told(self, make_executor: MakeExecutor) -> None:
        channel = make_executor().channel(3)
        with pytest.raises(queue.Full, match="no room for 2 of 5 items"):
            channel.put_many(range(5), timeout=0.01)
        assert channel_tasks.take_until_empty(channel) == [0, 1, 2]

    @requires("channels", "runs_in_caller")
    def test_limit_does_not_stop_the_only_thread(self, make_executor: MakeExecutor) -> None:
        executor = make_executor()
        channel = executor.channel(1)
        executor.submit(channel_tasks.put_all, channel, range(10)).result(SECONDS)
        assert channel.stats().size == 10

    @requires("channels")
    def test_wrong_limit_is_refused(self, make_executor: MakeExecutor) -> None:
        executor = make_executor()
        for wrong in (-1, True, "many"):
            with pytest.raises(ConfigError, match="maxsize=.* is not a whole number from 0"):
                executor.channel(wrong)

    @requires("channels")
    def test_empty_channel_is_waited_for_so_long(self, make_executor: MakeExecutor) -> None:
        channel = make_executor().channel()
        for get in (channel.get, lambda timeout: channel.get_many(2, timeout)):
            with pytest.raises(queue.Empty, match="channel 1 was empty all the time"):
                get(timeout=0.01)

    # ---- the end ----------------------------------------------------------------------------------------------------

    @requires("channels")
    def test_closed_channel_takes_nothing_and_gives_what_is_in_it(self, make_executor: MakeExecutor) -> None:
        executor = make_executor()
        channel = executor.channel()
        channel.put_many([1, 2])
        channel.close()
        channel.close()
        with pytest.raises(ChannelClosedError, match="channel 1 is closed: put was refused"):
            executor.submit(channel_tasks.put_all, channel, [3]).result(SECONDS)
        assert executor.submit(channel_tasks.take_some, channel, 2).result(SECONDS) == [1, 2]
        for end in (channel.get, lambda: channel.get(timeout=0), lambda: channel.get_many(3)):
            with pytest.raises(ChannelClosedError, match="channel 1 is closed, and empty"):
                end()
        assert list(channel) == [] and channel.stats().closed

    @requires("channels")
    @lacks("runs_in_caller")
    def test_close_ends_all_that_wait(self, make_executor: MakeExecutor) -> None:
        executor = make_executor(max_workers=3)
        channel, full = executor.channel(), executor.channel(1)
        consumers = [executor.submit(channel_tasks.take_all, channel) for _ in range(2)]
        producer = executor.submit(channel_tasks.put_many, full, [1, 2])
        until(lambda: channel.stats().waiting == 2 and full.stats().waiting == 1)
        channel.close()
        full.close()
        assert [consumer.result(SECONDS) for consumer in consumers] == [[], []]
        with pytest.raises(ChannelClosedError, match="put was refused, after 1 of 2 items"):
            producer.result(SECONDS)

    @requires("channels")
    @lacks("runs_in_caller")
    def test_producer_is_told_that_the_channel_was_closed(self, make_executor: MakeExecutor, gate: Gate) -> None:
        executor = make_executor()
        channel = executor.channel()
        producer = executor.submit(channel_tasks.put_round_gate, gate.port, channel, 1, 2)
        gate.arrival()
        channel.close()
        gate.open()
        with pytest.raises(ChannelClosedError):
            producer.result(SECONDS)
        assert list(channel) == [1]

    @requires("channels")
    def test_failed_channel_gives_its_items_and_then_the_error(self, make_executor: MakeExecutor) -> None:
        executor = make_executor()
        channel = executor.channel()
        channel.put(1)
        executor.submit(channel_tasks.fail_channel, channel, KeyError("lost")).result(SECONDS)
        channel.fail(ValueError("late"))
        channel.close()
        with pytest.raises(ChannelClosedError, match="ended by an error: put was refused") as refused:
            channel.put(2)
        assert isinstance(refused.value.__cause__, KeyError)
        assert channel.get(SECONDS) == 1
        for _ in range(2):
            with pytest.raises(KeyError, match="lost") as caught:
                list(channel)
            assert any("sent through channel 1 with fail(), by task 1" in note for note in caught.value.__notes__)
        with pytest.raises(KeyError, match="lost"):
            executor.submit(channel_tasks.take_all, channel).result(SECONDS)
        with pytest.raises(TypeError, match="'text' is not an Exception"):
            channel.fail("text")

    @requires("channels")
    def test_context_closes_or_fails_it(self, make_executor: MakeExecutor) -> None:
        executor = make_executor()
        good, bad, exiting = executor.channel(), executor.channel(), executor.channel()
        executor.submit(channel_tasks.fill_as_context, good, [1, 2]).result(SECONDS)
        assert list(good) == [1, 2]
        for channel, error in ((bad, OSError("torn")), (exiting, SystemExit(1))):
            with pytest.raises(type(error)):
                executor.submit(channel_tasks.fill_as_context, channel, [1], error).result(SECONDS)
            assert channel.get(SECONDS) == 1
        with pytest.raises(OSError, match="torn"):
            bad.get(SECONDS)
        with pytest.raises(ChannelBrokenError, match="who filled it ended with SystemExit"):
            exiting.get(SECONDS)

    @requires("channels")
    def test_shutdown_leaves_no_thread_of_a_channel(self, make_executor: MakeExecutor) -> None:
        before = set(threading.enumerate())
        with make_executor() as executor:
            channel = executor.channel()
            channel.put_many(range(1000))
            channel.close()
            executor.submit(channel_tasks.take_some, channel, 100).result(SECONDS)
            assert len(list(channel)) == 900
        until(lambda: set(threading.enumerate()) <= before)

    @requires("channels")
    def test_dropped_channel_is_gone(self, make_executor: MakeExecutor) -> None:
        executor = make_executor()
        channel = executor.channel()
        executor.shared.drop(channel)
        with pytest.raises(SharedStateError, match="was dropped"):
            channel.get(SECONDS)

    @requires("channels")
    @lacks("isolated_memory")
    def test_local_channel_does_not_travel(self, make_executor: MakeExecutor) -> None:
        with pytest.raises(pickle.PicklingError, match="lives in this process"):
            pickle.dumps(make_executor().channel())

    @lacks("channels")
    def test_channels_are_refused_where_there_are_none(self, make_executor: MakeExecutor, backend: Row) -> None:
        with pytest.raises(CapabilityError, match=f"backend '{backend.name}' cannot honour executor.channel"):
            make_executor().channel()

    # ---- who is left ------------------------------------------------------------------------------------------------

    @requires("channels")
    @lacks("runs_in_caller")
    def test_failure_of_the_last_producer_ends_its_consumers(self, make_executor: MakeExecutor) -> None:
        executor = make_executor(max_workers=3)
        channel = executor.channel()
        consumers = [executor.submit(channel_tasks.take_all, channel) for _ in range(2)]
        until(lambda: channel.stats().waiting == 2)
        producer = executor.submit(channel_tasks.put_and_fail, channel, [])
        found = results_of([producer, *consumers])
        assert [type(one) for one in found] == [ValueError, ChannelBrokenError, ChannelBrokenError]
        assert "task 3 failed with ValueError: no more" in str(found[1])

    @requires("channels")
    def test_what_was_put_comes_before_the_news_that_nobody_is_left(self, make_executor: MakeExecutor) -> None:
        executor = make_executor()
        channel = executor.channel()
        results_of([executor.submit(channel_tasks.put_and_fail, channel, range(100))])
        assert [channel.get(SECONDS) for _ in range(100)] == list(range(100))
        with pytest.raises(ChannelBrokenError, match="nobody is left to put .* task 1 failed with ValueError: no more"):
            channel.get()

    @requires("channels")
    def test_failed_item_of_a_map_counts_as_a_failed_producer(self, make_executor: MakeExecutor) -> None:
        executor = make_executor()
        channel = executor.channel()
        found = executor.map(channel_tasks.put_and_fail, [channel] * 3, [range(2)] * 3, on_error="collect")
        assert [type(outcome.error) for outcome in found] == [ValueError] * 3
        assert [channel.get(SECONDS) for _ in range(6)] == [0, 1] * 3 or channel.stats().taken == 6
        with pytest.raises(ChannelBrokenError, match="failed with ValueError: no more"):
            channel.get()

    @requires("channels")
    @lacks("runs_in_caller")
    def test_channel_goes_on_while_somebody_may_put(self, make_executor: MakeExecutor, gate: Gate) -> None:
        executor = make_executor(max_workers=3)
        channel = executor.channel()
        consumer = executor.submit(channel_tasks.take_all, channel)
        other = executor.submit(channel_tasks.put_behind_gate, gate.port, channel, [7])
        gate.arrival()
        results_of([executor.submit(channel_tasks.put_and_fail, channel, [1])])
        gate.open()
        other.result(SECONDS)
        channel.close()
        assert consumer.result(SECONDS) == [1, 7]

    @requires("channels")
    @lacks("runs_in_caller")
    def test_program_that_puts_is_somebody(self, make_executor: MakeExecutor) -> None:
        executor = make_executor(max_workers=3)
        channel = executor.channel()
        channel.put(0)
        consumer = executor.submit(channel_tasks.take_all, channel)
        results_of([executor.submit(channel_tasks.put_and_fail, channel, [])])
        channel.put(1)
        channel.close()
        assert consumer.result(SECONDS) == [0, 1]

    @requires("channels")
    def test_another_producer_takes_over(self, make_executor: MakeExecutor) -> None:
        executor = make_executor()
        channel = executor.channel()
        results_of([executor.submit(channel_tasks.put_and_fail, channel, [1])])
        executor.submit(channel_tasks.put_many, channel, [2, 3]).result(SECONDS)
        with pytest.raises(queue.Empty):
            [channel.get(timeout=0.01) for _ in range(4)]

    @requires("channels")
    @lacks("runs_in_caller")
    def test_attempt_that_is_repeated_is_no_end(self, make_executor: MakeExecutor, notes: Notes) -> None:
        executor = make_executor()
        channel = executor.channel()
        consumer = executor.submit(channel_tasks.take_all, channel)
        until(lambda: channel.stats().waiting == 1)
        retrying = executor.with_options(retry=at_once(2))
        retrying.submit(channel_tasks.put_in_second_attempt, notes.path, channel, [1, 2]).result(SECONDS)
        channel.close()
        assert consumer.result(SECONDS) == [1, 1, 2]

    @requires("channels")
    @lacks("runs_in_caller")
    def test_producer_that_found_the_channel_by_name_is_known_too(self, make_executor: MakeExecutor) -> None:
        executor = make_executor()
        executor.channel(name="lines")
        consumer = executor.submit(channel_tasks.take_all_found, "lines")
        producer = executor.submit(channel_tasks.put_into_found_and_fail, "lines", [1])
        found = results_of([producer, consumer])
        assert [type(one) for one in found] == [ValueError, ChannelBrokenError]

    @requires("channels")
    @lacks("runs_in_caller")
    def test_failure_of_the_last_consumer_ends_producers_that_wait(self, make_executor: MakeExecutor) -> None:
        executor = make_executor()
        channel = executor.channel(2)
        consumer = executor.submit(channel_tasks.take_one_and_fail, channel)
        producer = executor.submit(channel_tasks.put_all, channel, range(10))
        found = results_of([consumer, producer])
        assert [type(one) for one in found] == [ValueError, ChannelBrokenError]
        assert "nobody is left to take items out of it, which is full: task 1 failed with ValueError" in str(found[1])

    @requires("channels")
    @lacks("runs_in_caller")
    def test_shutdown_ends_who_waits_for_an_end_that_was_forgotten(self, make_executor: MakeExecutor) -> None:
        with make_executor(max_workers=3) as executor:
            channel, full = executor.channel(), executor.channel(1)
            consumer = executor.submit(channel_tasks.take_all, channel)
            channel.put(1)
            waiting = executor.submit(channel_tasks.put_many, full, [1, 2])
            until(lambda: full.stats().waiting)
        found = results_of([consumer, waiting])
        assert [type(one) for one in found] == [ChannelBrokenError] * 2
        assert all("its executor is being shut down, and nobody has called close()" in str(one) for one in found)

    @requires("channels")
    @lacks("runs_in_caller")
    def test_shutdown_waits_for_producers(self, make_executor: MakeExecutor, gate: Gate) -> None:
        with make_executor() as executor:
            channel = executor.channel()
            consumer = executor.submit(channel_tasks.take_some, channel, 3)
            executor.submit(channel_tasks.put_behind_gate, gate.port, channel, range(3))
            gate.arrival()
            threading.Timer(0.05, gate.open).start()
        assert consumer.result(SECONDS) == [0, 1, 2]

    @requires("channels")
    @lacks("runs_in_caller")
    def test_block_that_raises_ends_with_its_tasks(self, make_executor: MakeExecutor) -> None:
        executor = make_executor()
        with suppress(ZeroDivisionError), executor:
            consumer = executor.submit(channel_tasks.take_all, executor.channel())
            raise ZeroDivisionError
        assert isinstance(consumer.exception(SECONDS), ChannelBrokenError)

    # ---- too few workers --------------------------------------------------------------------------------------------

    @requires("channels")
    @lacks("runs_in_caller")
    def test_workers_that_all_wait_for_a_queued_task_are_told_of(
        self, make_executor: MakeExecutor, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("parapluie.starvation._LOOK_SECONDS", 0.05)
        with make_executor() as executor:
            channel = executor.channel()
            consumers = [executor.submit(channel_tasks.take_all, channel) for _ in range(2)]
            producer = executor.submit(channel_tasks.put_all, channel, range(5))
            until(lambda: [text for text in caplog.messages if "Submit first what others wait for" in text])
            assert not any(future.done() for future in (*consumers, producer))
        found = results_of([*consumers, producer])
        assert [type(one) for one in found[:2]] == [ChannelBrokenError] * 2 and found[2] == 5
        assert "workers of backend" in str(found[0]) and "wait in channels (channel 1), and task 3" in str(found[0])

    @requires("channels")
    @lacks("runs_in_caller")
    def test_queued_task_that_others_do_not_wait_for_is_no_trap(
        self, make_executor: MakeExecutor, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, gate: Gate
    ) -> None:
        monkeypatch.setattr("parapluie.starvation._LOOK_SECONDS", 0.01)
        executor = make_executor()
        channel = executor.channel()
        consumer = executor.submit(channel_tasks.take_all, channel)
        busy = executor.submit(channel_tasks.put_behind_gate, gate.port, channel, [1])
        queued = executor.submit(channel_tasks.put_all, channel, [2])
        gate.arrival()
        executor.submit(tasks.square, 2)
        threading.Event().wait(0.1)  # some looks
        gate.open()
        results_of([busy, queued])
        channel.close()
        assert sorted(consumer.result(SECONDS)) == [1, 2]
        assert [text for text in caplog.messages if "wait in channels" in text] == []
