"""Count the words of Python's standard library into one shared dictionary, from all workers at once.

    python shared_words.py --backend process --workers 4

Each task counts one file by itself and adds what it found to the dictionary `words` in one message; no update is lost,
and nothing is locked. The program shows the commonest words as they are counted, and checks the sum at the end.
"""

from __future__ import annotations

import argparse
import re
import sysconfig
from collections import Counter
from itertools import islice
from pathlib import Path

from parapluie import Executor, lookup

WORD = re.compile(r"[A-Za-z]{4,}")


def count(path: Path) -> int:
    """Count the words of a file; add them to the totals of all, and return how many there were."""
    words = Counter(WORD.findall(path.read_text(encoding="utf-8", errors="replace")))
    lookup("words").add_many(words)
    return words.total()


def commonest(words: dict[str, int], most: int) -> str:
    """Return the commonest words as a line of text."""
    ordered = sorted(words.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{word} {number}" for word, number in ordered[:most])


def main() -> None:
    """Count."""
    parser = argparse.ArgumentParser(description="Count words into a shared dictionary.")
    parser.add_argument("--backend", help="where tasks run; without it, what the configuration says")
    parser.add_argument("--workers", type=int, help="how many")
    parser.add_argument("--limit", type=int, help="files, at most")
    arguments = parser.parse_args()
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))[: arguments.limit]
    with Executor(arguments.backend, arguments.workers) as executor:
        words = executor.shared.dict(name="words")
        counted = executor.map(count, files)
        some = sum(islice(counted, len(files) // 2))
        print(f"after {len(files) // 2} files or a few more: {commonest(words.copy(), 3)}")
        total = some + sum(counted)
        print(f"after {len(files)} files: {commonest(words.copy(), 10)}")
        found = sum(words.values())
        print(f"{total} words, {found} in the dictionary: {'none is lost' if found == total else 'some are lost'}")


if __name__ == "__main__":
    main()
