"""The output of `parapluie map`: lines of JSON, to standard output or to a file."""

from __future__ import annotations

import json
import os
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import copymode
from typing import IO, TYPE_CHECKING, Any

from parapluie.cli.program import Failure
from parapluie.errors import RemoteError
from parapluie.words import type_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from parapluie.mapping import Outcome

_STDOUT, _STDERR = 1, 2


class PipeClosedError(Exception):
    """Who read standard output has gone."""


class Output:
    """Where lines go. Its stream has a buffer, which `flush` empties."""

    def __init__(self, stream: IO[bytes], name: str) -> None:
        self._stream, self._name = stream, name

    def write(self, outcome: Outcome[Any]) -> None:
        with self._telling():
            self._stream.write(line_of(outcome))

    def flush(self) -> None:
        with self._telling():
            self._stream.flush()

    def to_disk(self) -> None:
        """Have what was written survive a power cut."""
        self.flush()
        with self._telling():
            os.fsync(self._stream.fileno())

    def is_terminal(self) -> bool:
        return self._stream.isatty()

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError as error:
            raise PipeClosedError from error
        except OSError as error:
            raise Failure(f"cannot write to {self._name}: {error.strerror}") from error


def line_of(outcome: Outcome[Any]) -> bytes:
    """Return an outcome as a line of JSON."""
    ran = f'"attempts": {outcome.attempts}, "seconds": {outcome.seconds:.6f}'
    if outcome.error is None:
        return f'{{"index": {outcome.index}, "value": {outcome.value}, {ran}}}\n'.encode()
    error = json.dumps(error_of(outcome.error), ensure_ascii=False)
    return f'{{"index": {outcome.index}, "error": {error}, {ran}}}\n'.encode("utf-8", "backslashreplace")


def error_of(error: BaseException) -> dict[str, str]:
    """Return what is told of an error."""
    if isinstance(error, RemoteError):  # it stands in for another one
        return {"type": error.type_name, "message": error.text}
    return {"type": type_name(error), "message": str(error)}


@contextmanager
def standard_output() -> Iterator[Output]:
    """Have standard output for results alone: what tasks print to it goes to standard error."""
    stream = sys.stdout.buffer
    if not _is_standard(stream):  # something that stands in for it
        yield Output(stream, "standard output")
        return
    results = os.fdopen(os.dup(_STDOUT), "wb")
    os.dup2(_STDERR, _STDOUT)
    try:
        output = Output(results, "standard output")
        yield output
        output.flush()
    finally:
        _close(results)


def _is_standard(stream: IO[bytes]) -> bool:
    with suppress(OSError, ValueError, AttributeError):
        return stream.fileno() == _STDOUT
    return False


@contextmanager
def file_output(name: str) -> Iterator[Output]:
    """Write a file as results come."""
    stream = opened(Path(name), name)
    try:
        output = Output(stream, repr(name))
        yield output
        output.flush()
    finally:
        _close(stream)


def _close(stream: IO[bytes]) -> None:
    """Close a stream. What it could not write is dropped: it has been told, and closing tries again."""
    with suppress(OSError):
        stream.close()


def opened(path: Path, name: str) -> IO[bytes]:
    """Open a file that is to be written; name is what messages call it.

    Raises:
        Failure: if that cannot be.
    """
    try:
        return path.open("wb")
    except OSError as error:
        raise Failure(f"cannot write to {name!r}: {error.strerror}") from error


class WholeFile:
    """A file that is written whole or not at all: beside it first, and then it is replaced.

    Raises:
        Failure: if it cannot be written.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._path = Path(name).resolve()
        self._special = self._path.exists() and not self._path.is_file()
        if self._path.is_dir():
            raise Failure(f"cannot write to {name!r}: it is a directory")
        # Always the same name, so that what a run that was killed has left there does not stay.
        self._beside = self._path if self._special else self._path.with_name(f".{self._path.name}.parapluie")
        if not self._special:  # better now than when all is done
            opened(self._beside, name).close()
            self._beside.unlink()

    def write(self, outcomes: Iterable[Outcome[Any]]) -> None:
        try:
            stream = opened(self._beside, self._name)
            try:
                output = Output(stream, repr(self._name))
                for outcome in outcomes:
                    output.write(outcome)
                if self._special:  # such as a pipe, which cannot be replaced
                    output.flush()
                    return
                output.to_disk()
            finally:
                _close(stream)
            self._replace()
        except BaseException:
            if not self._special:
                self._beside.unlink(missing_ok=True)
            raise

    def _replace(self) -> None:
        try:
            if self._path.exists():
                copymode(self._path, self._beside)
            self._beside.replace(self._path)
        except OSError as error:
            raise Failure(f"cannot write to {self._name!r}: {error.strerror}") from error
        _sync_folder(self._path.parent)


def _sync_folder(folder: Path) -> None:
    """Have a new name survive a power cut, where the platform lets a folder be opened."""
    flags: Any = getattr(os, "O_DIRECTORY", None)
    if flags is None:
        return
    opened_folder = os.open(folder, os.O_RDONLY | flags)
    try:
        os.fsync(opened_folder)
    finally:
        os.close(opened_folder)
