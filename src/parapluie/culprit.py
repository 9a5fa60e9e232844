"""Finds the innermost thing that cannot be pickled, and the path to it.

A culprit fails to pickle while none of its parts fails alone. The search goes down from the root: it splits a thing
into parts as pickle would, finds the first part that fails by halving, and goes on from there. All that it touches
may be hostile; whatever is raised ends the search where it stands.
"""

from __future__ import annotations

import copyreg
import pickle
import types
from itertools import islice
from time import monotonic, thread_time
from typing import TYPE_CHECKING, Any, NamedTuple

from parapluie import remedies
from parapluie.parts import split as parts_of
from parapluie.remedies import Finding
from parapluie.words import describe, type_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from parapluie.parts import Part

SECONDS = 1.0  # of CPU time, so that a busy machine finds what an idle one does;
WAITING_SECONDS = 3.0  # on the wall, for what waits when it is pickled
MAX_DEPTH = 100
BATCH = 10_000  # parts that are tried together; a hostile `__reduce__` may give endless ones

Explanation = tuple[str, str | None, str | None]  # a clause about the problem, the path, the type found there


class _Level:
    """The parts of one thing that are left to try: those that the search has not been to.

    Attributes:
        path: to the thing.
        looped: a part led back to where the search has been.
        raised: what taking the thing apart raised.
    """

    def __init__(self, path: str, parts: Iterable[Part], visited: dict[int, Any]) -> None:
        self.path = path
        self.looped = False
        self.raised: BaseException | None = None
        self._visited = visited
        self._parts = iter(parts)
        self._returned: list[Part] = []

    def take(self, count: int) -> list[Part]:
        batch, self._returned = self._returned, []
        try:
            batch.extend(islice(self._parts, count - len(batch)))
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            # Without its frames, which hold this object. Up to Python 3.12, a `PickleBuffer` of a memoryview that is in
            # such a circle crashes the garbage collection.
            self.raised = error.with_traceback(None)
        unseen = [part for part in batch if id(part[1]) not in self._visited]
        self.looped = self.looped or len(unseen) < len(batch)
        return unseen or (self.take(count) if batch else [])

    def give_back(self, parts: list[Part]) -> None:
        self._returned = parts


class _Step(NamedTuple):
    """A part that fails."""

    path: str
    value: Any
    failure: BaseException


class _OutOfTime(Exception):  # noqa: N818 - not an error of anybody's
    pass


class _Sink:
    """A file that forgets what is written, and ends pickling when the time is up."""

    def __init__(self) -> None:
        self._deadlines = thread_time() + SECONDS, monotonic() + WAITING_SECONDS

    def write(self, data: Any) -> int:
        self.check()
        return len(data)

    def check(self) -> None:
        busy, waiting = self._deadlines
        if thread_time() > busy or monotonic() > waiting:
            raise _OutOfTime


def explain_parts(parts: list[Part], error: BaseException) -> Explanation:
    """Explain why parts that were pickled together, under the names given, could not be."""
    try:
        return _explain(parts, error)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - a failed explanation must not hide what it was to explain
        return _quote(parts, error)


def _quote(parts: list[Part], error: BaseException) -> Explanation:
    problem = describe(error)
    if len(parts) == 1 and isinstance(error, Exception):
        return f"{parts[0][0]} cannot be pickled: {problem}", None, None
    return problem, None, None


def _explain(parts: list[Part], error: BaseException) -> Explanation:
    sink = _Sink()
    # By value comes first: what even that cannot send is at fault under every serializer. If it sends everything,
    # it has not been asked, and the standard pickle is the judge.
    for by_value in (True, False):
        search = _Search(sink, by_value=by_value)
        level = search.start(parts)
        step = search.first_failing(level)
        if step is None:
            continue
        finding = search.innermost(level, step)
        return remedies.problem(finding), finding.path, type_name(finding.value)
    return _quote(parts, error)


class _Search:
    """A search that judges by one pickler."""

    def __init__(self, sink: _Sink, *, by_value: bool) -> None:
        self._sink = sink
        self._by_value = by_value
        self._visited: dict[int, Any] = {}  # holds what it has seen, so that no id is used twice
        self._pickler, self._reducers = _judge(self._sink, by_value=by_value)

    def failure(self, value: object) -> BaseException | None:
        """Pickle a value for nothing but what it raises."""
        self._sink.check()
        try:
            self._pickler().dump(value)
        except (KeyboardInterrupt, _OutOfTime):
            raise
        except BaseException as error:  # noqa: BLE001 - SystemExit from a `__reduce__` is a finding too
            return error.with_traceback(None)
        return None

    def _split(self, value: Any) -> Iterable[Part]:
        return parts_of(value, self._reducers, by_value=self._by_value)

    def start(self, parts: list[Part]) -> _Level:
        return _Level("", parts, self._visited)

    def first_failing(self, level: _Level) -> _Step | None:
        """Return the first part that fails alone: the cost is that of pickling all before it about three times."""
        while batch := level.take(BATCH):
            if self.failure([part for _, part in batch]) is None:
                continue
            first, end = 0, len(batch)
            while end - first > 1:
                middle = (first + end) // 2
                if self.failure([part for _, part in batch[first:middle]]):
                    end = middle
                else:
                    first = middle
            level.give_back(batch[end:])
            label, value = batch[first]
            failure = self.failure(value)
            if failure is not None:
                return _Step(level.path + label, value, failure)
        return None

    def innermost(self, level: _Level, step: _Step) -> Finding:
        """Go down to the culprit, or as far as time allows.

        A part that fails only by leading back to where we came from, as a child that knows its parent, is no
        culprit: the search goes on behind it.
        """
        way = [level]
        finding = Finding(*step, None)
        try:
            while len(way) <= MAX_DEPTH:
                finding = Finding(*step, None)
                if remedies.is_known(step.value) or remedies.is_recursion(step.failure):
                    break
                self._visited[id(step.value)] = step.value
                way.append(_Level(step.path, self._split(step.value), self._visited))
                below = self.first_failing(way[-1])
                if below is None and not way[-1].looped:
                    finding = finding._replace(raised=way[-1].raised)
                    break
                while below is None and len(way) > 1:
                    way.pop()
                    below = self.first_failing(way[-1])
                if below is None:
                    break
                step = below
        except _OutOfTime:
            pass
        return finding


def _judge(sink: _Sink, *, by_value: bool) -> tuple[Callable[[], Any], Any]:
    """Return what makes a pickler that writes to nowhere, and its dispatch table."""
    if by_value:
        try:
            from parapluie import by_value as module
        except ImportError:  # without cloudpickle the standard pickle is the only judge
            by_value = False
    from parapluie.main_guard import main_is_importable
    from parapluie.pickling import HIDDEN_MAIN, refuse_pipe_end

    base: Any = module.Pickler if by_value else pickle.Pickler
    hidden = not by_value and not main_is_importable()

    class Judge(base):  # type: ignore[misc]
        """Asks the clock at every object: a `__reduce__` may be slow, and write little."""

        def reducer_override(self, value: Any) -> Any:
            sink.check()
            if by_value:
                return super().reducer_override(value)
            refuse_pipe_end(value)
            if hidden and isinstance(value, (types.FunctionType, type)) and _is_top_level(value):
                raise pickle.PicklingError(HIDDEN_MAIN)
            return NotImplemented

    def make() -> Any:
        # Buffers are kept out of band, where nothing is copied.
        return Judge(sink, buffer_callback=_refuse_gaps) if by_value else Judge(sink, 5, buffer_callback=_refuse_gaps)

    return make, base.dispatch_table if by_value else copyreg.dispatch_table


def _is_top_level(value: Any) -> bool:
    """Say whether a function or class of the main module could be imported from another module."""
    return bool(value.__module__ == "__main__") and "<" not in value.__qualname__


def _refuse_gaps(buffer: pickle.PickleBuffer) -> None:
    """Keep a buffer out of band, and raise what submitting it raises if it has gaps."""
    buffer.raw()
