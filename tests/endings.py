"""How tests end: executors shut down in bounded time, and no defect of the library was logged."""

from __future__ import annotations

import logging
import threading

SECONDS = 30.0  # for every wait


def shut_down(executors):
    """Shut executors down, all at once, in bounded time."""
    threads = [
        threading.Thread(target=executor.shutdown, kwargs={"cancel_futures": True}, daemon=True)
        for executor in executors
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert not any(thread.is_alive() for thread in threads), "the executor does not shut down"


def defects(caplog):
    """Return what the library logged as an error: a second answer, a function that failed in a thread of its own."""
    records = caplog.get_records("call")
    return [record.getMessage() for record in records if record.name == "parapluie" and record.levelno >= logging.ERROR]
