"""Keep a SQLite database open in a worker of its own, and put questions to it: a session.

    python file_database.py --backend process
    python file_database.py --database files.sqlite --ask "SELECT count(*) FROM files"

Tasks measure the .py files of Python's own standard library in parallel. What they find goes to the one worker that has
the database open for as long as the program runs: no other process touches the file, and none opens it twice.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import sys
import sysconfig
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from parapluie import ConfigError, Executor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from parapluie import Connection, Session

BACKENDS = ("serial", "thread", "process", "pool", "futures", "manager")
QUESTIONS = (
    "SELECT count(*), sum(lines) FROM files",
    "SELECT folder, count(*) AS number FROM files GROUP BY folder ORDER BY number DESC, folder LIMIT 5",
    "SELECT name, lines FROM files ORDER BY lines DESC, name LIMIT 5",
)


class Add(NamedTuple):
    """A request: add rows. It has no answer."""

    rows: list[tuple[str, str, int]]


class Ask(NamedTuple):
    """A request: answer a question, with rows, or with the error that SQLite raises."""

    statement: str


def serve(connection: Connection, path: str) -> int:
    """Keep the database open until there are no more requests: the session. Return how many questions were asked."""
    asked = 0
    with closing(sqlite3.connect(path)) as database, database:  # committed in the end, if nothing fails
        database.execute("DROP TABLE IF EXISTS files")
        database.execute("CREATE TABLE files (folder TEXT, name TEXT, lines INTEGER)")
        for request in connection:
            if isinstance(request, Add):
                database.executemany("INSERT INTO files VALUES (?, ?, ?)", request.rows)
            else:
                asked += 1
                connection.send(answer(database, request.statement))
    return asked


def answer(database: sqlite3.Connection, statement: str) -> list[tuple[Any, ...]] | sqlite3.Error:
    """Ask the database; what is wrong with the question is an answer, too, and does not end the session."""
    try:
        return database.execute(statement).fetchall()
    except sqlite3.Error as error:
        return error


def measure(path: Path) -> tuple[str, str, int]:
    """Count the lines of a file: the task."""
    return path.parent.name, path.name, path.read_bytes().count(b"\n")


def standard_library() -> Iterator[Path]:
    """Find the .py files of the running interpreter's standard library, always in the same order."""
    for folder, folders, names in os.walk(sysconfig.get_path("stdlib")):
        folders[:] = sorted(set(folders) - {"site-packages", "dist-packages", "__pycache__"})
        yield from (Path(folder, name) for name in sorted(names) if name.endswith(".py"))


def ask(database: Session, statement: str) -> bool:
    """Put a question to the session and print the answer; False if it was an error."""
    database.send(Ask(statement))
    found = database.recv()
    if isinstance(found, sqlite3.Error):
        print(f"{type(found).__name__}: {found}", file=sys.stderr)
        return False
    for row in found:
        print(*row, sep="\t")
    return True


def main(arguments: list[str] | None = None) -> int:
    """Run the program; return its exit status: 0, 1 if a question could not be answered, 2 for wrong options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--backend", choices=BACKENDS, default="process", help="where to run (default: %(default)s)")
    parser.add_argument("--start-method", help="how worker processes start: spawn, forkserver or fork")
    parser.add_argument("--database", default=":memory:", help="the file (default: none, in memory)")
    parser.add_argument("--limit", type=int, metavar="N", help="take the first N files only")
    parser.add_argument("--ask", action="append", metavar="SQL", help="a question; may be given several times")
    options = parser.parse_args(arguments)
    try:
        executor = Executor(options.backend, start_method=options.start_method)
    except ConfigError as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        return 2
    with executor, executor.session(serve, options.database) as database:
        rows = executor.map(measure, islice(standard_library(), options.limit))
        while some := list(islice(rows, 100)):
            database.send(Add(some))
        answered = [ask(database, statement) for statement in options.ask or QUESTIONS]
        database.close()
        print(f"{database.result()} questions were asked")
    return 0 if all(answered) else 1


if __name__ == "__main__":
    sys.exit(main())
