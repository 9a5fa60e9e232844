"""Find files with the same content below folders; where it runs is a line of configuration.

    python find_duplicates.py ~/Pictures
    PARAPLUIE_PROFILE=debug python find_duplicates.py ~/Pictures

The program names no backend: parapluie.toml, beside it, does, and has profiles that choose others.
"""

from __future__ import annotations

import hashlib
import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from parapluie import ConfigError, Executor

if TYPE_CHECKING:
    from collections.abc import Iterable

SETTINGS = Path(__file__).with_name("parapluie.toml")


def digest(path: Path) -> bytes:
    """Hash a file: the task. It may run in any process, so it takes and returns plain data."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def candidates(folders: Iterable[Path]) -> list[Path]:
    """Find the files that share their size with another one; the others need not be read."""
    by_size: defaultdict[int, list[Path]] = defaultdict(list)
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.is_symlink():
                by_size[path.stat().st_size].append(path)
    return [path for paths in by_size.values() if len(paths) > 1 for path in paths]


def find(executor: Executor, paths: list[Path]) -> tuple[list[list[Path]], list[str]]:
    """Return the groups of files with the same content, and what is said of files that cannot be read."""
    groups: defaultdict[bytes, list[Path]] = defaultdict(list)
    unread = []
    for outcome in executor.map(digest, paths, on_error="collect"):
        if outcome.error is None:
            groups[outcome.value].append(paths[outcome.index])
        else:
            unread.append(f"{paths[outcome.index]}: {outcome.error}")
    return [group for group in groups.values() if len(group) > 1], unread


def main(folders: list[str]) -> int:
    """Run the program; return its exit status: 0, 1 if a file could not be read, 2 for wrong arguments or settings."""
    if not folders:
        print("usage: find_duplicates.py FOLDER...", file=sys.stderr)
        return 2
    try:
        executor = Executor.from_config(path=SETTINGS)
    except ConfigError as error:
        print(f"find_duplicates.py: {error}", file=sys.stderr)
        return 2
    with executor:
        groups, unread = find(executor, candidates(map(Path, folders)))
    for group in groups:
        print(*group, sep="\n", end="\n\n")
    print(f"{len(groups)} groups of files with the same content")
    print(*unread, sep="\n", end="", file=sys.stderr)
    return 1 if unread else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
