"""What `Executor.stats` returns. Imported when somebody asks for it: programs that do not start without it.

The dispatcher counts what ends otherwise than well; who ended well is what was submitted and is none of all the others.
"""

from __future__ import annotations

from parapluie.records import NamedTuple


class Stats(NamedTuple):
    """A snapshot of an executor. Items of `map` count one by one.

    Attributes:
        workers: that live now; queued: waiting or between attempts; running: begun and not answered;
        done: ended with a value; failed: ended with an error; cancelled; retried: attempts beyond the first;
        lost: attempts whose worker died or was killed for its time limit.
    """

    workers: int
    queued: int
    running: int
    done: int
    failed: int
    cancelled: int
    retried: int
    lost: int


def snapshot(counts: dict[str, int], *, workers: int, running: int, unfinished: int) -> Stats:
    """Put together what was read one after another, while work went on; counts before what is unfinished."""
    done = counts["submitted"] - unfinished - counts["failed"] - counts["cancelled"]
    return Stats(
        workers=workers,
        queued=max(0, unfinished - running),
        running=running,
        done=max(0, done),
        failed=counts["failed"],
        cancelled=counts["cancelled"],
        retried=counts["retried"],
        lost=counts["lost"],
    )
