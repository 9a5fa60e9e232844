"""Hash every .py file of Python's own standard library and count its words, on the backend of your choice.

    python count_words.py --backend process --workers 4

The program is written once; `--backend` says where it runs. A word is a name or a keyword outside of strings and
comments. By default the totals are checked against a serial run of the same task in this process.
"""

from __future__ import annotations

import argparse
import hashlib
import keyword
import os
import re
import sys
import sysconfig
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from parapluie import ConfigError, Executor, Retry

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

BACKENDS = ("serial", "thread", "process", "pool", "futures", "manager")

# Strings and comments are matched to be passed over. A file that is not valid Python is read in the same way.
TOKEN = re.compile(
    r"""
      \#[^\n]*                                                                  # a comment
    | [rbfu]{0,2} (?P<quote> "{3} | '{3} | " | ') (?: \\. | [^\\] )*? (?P=quote)  # a string
    | (?P<word> [^\W\d]\w* )
    """,
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)


class FileCount(NamedTuple):
    """What a worker finds out about one file."""

    size: int
    digest: bytes
    words: Counter[str]
    worker: tuple[int, int]


def count_file(path: Path) -> FileCount:
    """Hash one file and count its words: the task. It may run in any process, so it takes and returns plain data."""
    data = path.read_bytes()
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:  # the test data of the standard library holds other encodings, and broken ones
        text = data.decode("latin-1")
    words = Counter(match["word"] for match in TOKEN.finditer(text) if match["word"])
    return FileCount(len(data), hashlib.sha256(data).digest(), words, (os.getpid(), threading.get_ident()))


@dataclass
class Totals:
    """The sum over all files, in whichever order they come; equal if the same files were counted."""

    files: int = 0
    size: int = 0
    words: Counter[str] = field(default_factory=Counter)
    digests: int = 0  # their sum, which is the same in any order and takes no room for each file
    workers: set[tuple[int, int]] = field(default_factory=set, compare=False)
    seconds: float = field(default=0.0, compare=False)

    def add(self, one: FileCount) -> None:
        """Add one file."""
        self.files += 1
        self.size += one.size
        self.words.update(one.words)
        self.digests = (self.digests + int.from_bytes(one.digest)) % 2**256
        self.workers.add(one.worker)

    def commonest(self, number: int) -> list[tuple[str, int]]:
        """Return the commonest identifiers, that is, words that are not keywords; ties in the order of the alphabet."""
        identifiers = ((word, times) for word, times in self.words.items() if not keyword.iskeyword(word))
        return sorted(identifiers, key=lambda pair: (-pair[1], pair[0]))[:number]


def standard_library() -> Iterator[Path]:
    """Find the .py files of the running interpreter's standard library, always in the same order."""
    for folder, folders, names in os.walk(sysconfig.get_path("stdlib")):
        folders[:] = sorted(set(folders) - {"site-packages", "dist-packages", "__pycache__"})
        yield from (Path(folder, name) for name in sorted(names) if name.endswith(".py"))


def run(executor: Executor, paths: Iterable[Path]) -> Totals:
    """Count the files on an executor; results are added as they arrive, none is kept."""
    totals = Totals()
    start = time.perf_counter()
    with executor:
        for one in executor.map(count_file, paths, ordered=False):
            totals.add(one)
    totals.seconds = time.perf_counter() - start
    return totals


def show(totals: Totals, backend: str) -> None:
    """Print the table."""
    rows = [
        ("backend", backend),
        ("files", f"{totals.files:,}"),
        ("bytes", f"{totals.size:,}"),
        ("words", f"{totals.words.total():,}"),
        ("digest", f"{totals.digests:064x}"),
        *(("identifier", f"{word:<20} {times:>9,}") for word, times in totals.commonest(10)),
        ("seconds", f"{totals.seconds:.2f}"),
        ("workers", f"{len(totals.workers)}"),
    ]
    for name, value in rows:
        print(f"{name:<12}{value}")


def check(totals: Totals, limit: int | None) -> int:
    """Compare with a serial run over the same files; return the exit status."""
    serial = run(Executor("serial"), islice(standard_library(), limit))
    verdict = "the same totals as" if totals == serial else "NOT THE SAME totals as"
    print(f"{'check':<12}{verdict} the serial run, which took {serial.seconds:.2f} seconds")
    return 0 if totals == serial else 1


def positive(text: str) -> int:
    """Read a number of the command line."""
    if (number := int(text)) < 1:
        raise ValueError(text)
    return number


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--backend", choices=BACKENDS, default="process", help="where to run (default: %(default)s)")
    parser.add_argument("--start-method", help="how worker processes start: spawn, forkserver or fork")
    parser.add_argument("--workers", type=positive, help="how many (default: as many as there are CPUs to use)")
    parser.add_argument("--limit", type=positive, metavar="N", help="count the first N files only")
    parser.add_argument(
        "--check", action=argparse.BooleanOptionalAction, default=True, help="compare with a serial run (default)"
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run the program; return its exit status: 0, 1 if the totals differ from a serial run's, 2 for wrong options."""
    options = parse(arguments)
    try:
        executor = Executor(
            options.backend,
            options.workers,
            start_method=options.start_method,
            retry=Retry(attempts=3, on=OSError),
        )
    except ConfigError as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        return 2
    totals = run(executor, islice(standard_library(), options.limit))
    show(totals, options.backend)
    return check(totals, options.limit) if options.check else 0


if __name__ == "__main__":
    sys.exit(main())
