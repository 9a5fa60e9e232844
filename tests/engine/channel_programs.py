"""Programs with channels that the tests of faults interrupt and kill, as those in fault_programs.py."""

from __future__ import annotations

import threading
import time

import fault_tasks as tasks
from fault_programs import answer, fate, make, run_program

from parapluie import ChannelClosedError


def take_all(port, label, channel):
    tasks.arrive(port, label)
    return list(channel)


def put_for_ever(port, label, channel):
    tasks.arrive(port, label)
    number = 0
    while True:
        channel.put(number)
        number += 1


def be_killed(backend, method, port, how):
    """Have two workers that wait in a channel, or that talk through one, and take part."""
    executor = make(backend, method)
    channel = executor.channel(0 if how == "getting" else 10)
    if how == "getting":
        doing = [take_all, take_all]
    elif how == "putting":
        doing = [put_for_ever, put_for_ever]
    else:
        doing = [put_for_ever, take_all]
    for number, function in enumerate(doing):
        executor.submit(function, port, str(number), channel)
    while how != "getting" and channel.get() >= 0:  # until it is killed
        if how == "putting":
            tasks.arrive(port, "full")
            executor.submit(print).result()


def be_interrupted(backend, method, port):
    """Wait in a channel, for what a worker would have to put who waits in it, too."""
    consumer, channel = None, None
    try:
        with make(backend, method) as executor:
            channel = executor.channel()
            channel.put(1)
            consumer = executor.submit(take_all, port, "0", channel)
            threading.Thread(target=knock_when_two_wait, args=(port, channel), daemon=True).start()
            try:
                list(channel)
            finally:
                channel.close()
    except KeyboardInterrupt:
        answer([fate(consumer), refusal(channel)])


def knock_when_two_wait(port, channel):
    while channel.stats().waiting < 2:
        time.sleep(0.005)
    tasks.arrive(port, "waiting")


def refusal(channel):
    """Return what a channel says whose executor is gone."""
    try:
        channel.put(1)
    except (ChannelClosedError, ConnectionError) as error:
        return type(error).__name__
    return "none"


if __name__ == "__main__":
    run_program(globals())
