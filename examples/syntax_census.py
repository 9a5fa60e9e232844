"""Count what Python's standard library is made of, in three stages that talk through channels.

    python syntax_census.py --backend process --workers 4

    one task reads ── sources ──▶ the other workers parse ── censuses ──▶ this program counts
                      64 files at most

Each stage takes what is there and ends when its channel does, so that all of them work at a time, and no more than 64
files are in memory however slow the parsers are.
"""

from __future__ import annotations

import argparse
import ast
import sysconfig
from collections import Counter
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from parapluie import Channel, Executor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from parapluie import Future

Census = Counter[str]


def read(folder: Path, limit: int | None, sources: Channel[tuple[str, bytes]]) -> int:
    """Put the files of a folder, by name, into a channel; return how many there were."""
    files = sorted(folder.glob("*.py"))[:limit]
    with sources:  # it is the only one that puts: behind the last file the channel is closed
        for file in files:
            sources.put((file.name, file.read_bytes()))
    return len(files)


def parse(sources: Channel[tuple[str, bytes]], censuses: Channel[Census]) -> int:
    """Take files as they come, and put what each is made of; return how many it was."""
    files = 0
    for name, source in sources:
        censuses.put(Counter(type(node).__name__ for node in ast.walk(ast.parse(source, name))))
        files += 1
    return files


def close_after(futures: Sequence[Future[int]], channel: Channel[Census]) -> None:
    """Close a channel when the last of those who put into it has ended."""
    left = count(len(futures) - 1, -1)
    for future in futures:
        future.add_done_callback(lambda _: channel.close() if next(left) == 0 else None)


def main() -> None:
    """Count."""
    parser = argparse.ArgumentParser(description="Count what the standard library is made of.")
    parser.add_argument("--backend", help="where tasks run; without it, what the configuration says")
    parser.add_argument("--workers", type=int, default=4, help="how many; one reads, the others parse (default: 4)")
    parser.add_argument("--limit", type=int, help="files, at most")
    arguments = parser.parse_args()
    if arguments.workers == 1:
        parser.error("--workers: one reads while another one parses, so there have to be 2 at least")
    with Executor(arguments.backend, arguments.workers) as executor:
        sources, censuses = executor.channel(64), executor.channel()
        reader = executor.submit(read, Path(sysconfig.get_path("stdlib")), arguments.limit, sources)
        parsers = [executor.submit(parse, sources, censuses) for _ in range(arguments.workers - 1)]
        close_after(parsers, censuses)
        total: Census = Counter()
        for census in censuses:
            total += census
        print(f"{reader.result()} files read, {sum(future.result() for future in parsers)} parsed")
        for kind, number in sorted(total.items(), key=lambda item: (-item[1], item[0]))[:10]:
            print(f"{number:9,} {kind}")


if __name__ == "__main__":
    main()
