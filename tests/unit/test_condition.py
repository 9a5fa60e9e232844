"""A condition that an interrupt cannot leave locked."""

from __future__ import annotations

import inspect
import signal
import threading
import time

import pytest

from parapluie.condition import Condition

SECONDS = 30.0


def test_a_single_step_in_c_enters_and_leaves_it():
    assert not inspect.isfunction(Condition.__enter__) and not inspect.isfunction(Condition.__exit__)


def test_waiting_lets_others_in_and_ends_when_they_tell():
    condition, told = Condition(), []

    def tell():
        with condition:
            told.append(True)
            condition.notify_all()

    thread = threading.Thread(target=tell)
    with condition, condition:  # re-entrant
        thread.start()
        assert condition.wait_for(lambda: told, SECONDS)
    thread.join(SECONDS)


def test_waiting_ends_when_the_time_is_up():
    condition = Condition()
    began = time.monotonic()
    with condition:
        assert not condition.wait(0.01)
    assert time.monotonic() - began >= 0.01


def test_one_of_two_is_told():
    condition, woken, waiting = Condition(), [], threading.Semaphore(0)

    def wait(number):
        with condition:
            waiting.release()
            condition.wait(SECONDS)
            woken.append(number)

    threads = [threading.Thread(target=wait, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    assert all(waiting.acquire(timeout=SECONDS) for _ in threads)
    with condition:  # both wait, since both have given it back
        condition.notify()
    while not woken:
        time.sleep(0.001)
    with condition:
        condition.notify()
    for thread in threads:
        thread.join(SECONDS)
    assert sorted(woken) == [0, 1]


def test_another_thread_cannot_tell_without_it():
    condition = Condition()
    with pytest.raises(RuntimeError, match="un-acquired"):
        condition.notify()
    with pytest.raises(RuntimeError, match="un-acquired"):
        condition.wait(0)


class InterruptedWaitError(Exception):
    """What a signal handler raises here."""


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="signals go to the process here")
@pytest.mark.parametrize("timeout", [None, SECONDS])
def test_signal_that_does_not_end_the_systems_wait_is_noticed(timeout):
    """As one that comes right before that wait, one that another thread was given does not."""

    def interrupt(_signum, _frame):
        raise InterruptedWaitError

    def give_up_later():
        with condition:  # the other one waits, since it has let go of it
            signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
        if not noticed.wait(SECONDS / 3):
            unnoticed.append(True)
            with condition:
                condition.notify_all()

    condition, noticed, unnoticed = Condition(), threading.Event(), []
    before = signal.signal(signal.SIGUSR1, interrupt)
    thread = threading.Thread(target=give_up_later)
    try:
        with pytest.raises(InterruptedWaitError), condition:  # noqa: PT012 - the thread is to find it taken
            thread.start()
            condition.wait(timeout)
    finally:
        noticed.set()
        thread.join(SECONDS)
        signal.signal(signal.SIGUSR1, before)
    assert not unnoticed
