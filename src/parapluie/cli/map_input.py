"""The input of `parapluie map`: lines of JSON, from a file or standard input, or paths."""

from __future__ import annotations

import glob
import json
import os
import stat
import sys
import threading
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from parapluie.cli.program import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_MOST_LINES = 10_000  # of a stream that are kept ahead,
_MOST_BYTES = 4 * 1024 * 1024  # unless they are long


class Lines:
    """The values of a file's lines; lines that are blank are none.

    Raises:
        Failure: if it cannot be read; while it is read, if a line is not JSON, with its number.
    """

    def __init__(self, name: str) -> None:
        self._name = "standard input" if name == "-" else name
        try:
            self._stream = _standard_input() if name == "-" else Path(name).open("rb")  # noqa: SIM115 - see `close`
        except OSError as error:
            raise Failure(f"cannot read {name!r}: {error.strerror}") from error
        self._size = _size_of(self._stream)
        self._bytes = self._items = 0  # read

    def close(self) -> None:
        """Let go of the file. A stream may just be read by a thread, for which to close it would wait."""
        if self.is_file():
            self._stream.close()

    def is_file(self) -> bool:
        """Say whether its length is known."""
        return self._size is not None

    def about(self) -> int | None:
        """Return about how many items there are, as far as can be told."""
        if not self._size or not self._bytes:
            return None
        return max(self._items, round(self._items * self._size / self._bytes))

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """Yield the lines that are not blank, with their numbers."""
        try:
            for number, line in enumerate(self._stream, 1):
                self._bytes += len(line)
                if not line.isspace():
                    yield number, line
        except OSError as error:
            raise Failure(f"cannot read {self._name!r}: {error.strerror}") from error

    def value(self, number: int, line: bytes) -> Any:
        """Return the value of a line."""
        self._items += 1
        try:
            return json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip())
        except (ValueError, RecursionError) as error:
            raise Failure(f"line {number} of {self._name!r} is not JSON: {_problem(error)}") from error

    def __iter__(self) -> Iterator[Any]:
        for number, line in self.lines():
            yield self.value(number, line)


def _standard_input() -> IO[bytes]:
    """Open standard input once more. Python closes `sys.stdin` when it ends, and aborts if a thread is reading that."""
    if sys.stdin is None:
        raise Failure("there is no standard input: name a file to read")
    stream = sys.stdin.buffer
    with suppress(OSError, ValueError, AttributeError):  # what stands in for a stream in tests has no descriptor
        return os.fdopen(os.dup(stream.fileno()), "rb")
    return stream


def _problem(error: BaseException) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg[:1].lower()}{error.msg[1:]} at column {error.colno}"
    return "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)


def _size_of(stream: IO[bytes]) -> int | None:
    """Return the length of a regular file, from where it is read."""
    with suppress(OSError, ValueError, AttributeError):  # what stands in for a stream in tests has no descriptor
        found = os.fstat(stream.fileno())
        if stat.S_ISREG(found.st_mode):
            return found.st_size - stream.tell()
    return None


class Stream:
    """The values of a stream's lines, which a thread reads: a map takes what is there and waits for nothing.

    Attributes: ready: see `parapluie.watched`, which asks for it.
    """

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._size = 0
        self._changed = threading.Condition()  # guards the three above
        self._error: BaseException | None = None
        self._ended = False
        self._tell: Callable[[], None] = lambda: None
        # A daemon: nobody can end a read of a terminal or a pipe that says nothing.
        threading.Thread(target=self._read, name="parapluie-input", daemon=True).start()

    def _read(self) -> None:
        try:
            for line in self._lines.lines():
                with self._changed:
                    while len(self._waiting) >= _MOST_LINES or self._size >= _MOST_BYTES:
                        self._changed.wait()
                    news = not self._waiting
                    self._waiting.append(line)
                    self._size += len(line[1])
                    self._changed.notify_all()
                if news:
                    self._tell()
        except BaseException as error:  # noqa: BLE001 - who takes the lines raises it, behind the last of them
            self._error = error
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        self._tell()

    def ready(self, tell: Callable[[], None]) -> int | None:
        """Return how many items can be read at once; None once all can be. Have it told when there are news."""
        self._tell = tell
        return None if self._ended else len(self._waiting)

    def __iter__(self) -> Iterator[Any]:
        while True:
            with self._changed:
                while not self._waiting and not self._ended:
                    self._changed.wait(1.0)  # and look for signals
                if not self._waiting:
                    break
                number, line = self._waiting.popleft()
                self._size -= len(line)
                self._changed.notify_all()
            yield self._lines.value(number, line)
        if self._error is not None:
            raise self._error


def paths_of(patterns: Sequence[str]) -> list[str]:
    """Return the paths that patterns match, sorted, each once: the same in every run over the same files.

    Raises:
        Failure: if there are none.
    """
    found = {path for pattern in patterns for path in glob.glob(pattern, recursive=True)}  # noqa: PTH207 - patterns may be absolute
    if not found:
        raise Failure(f"no path matches {' or '.join(map(repr, patterns))} in {str(Path.cwd())!r}")
    return sorted(found)
