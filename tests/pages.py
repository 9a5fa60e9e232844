"""Pages of docs, as tests read them: their programs, what those print, and the files that a reader is to write."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
_BLOCK = re.compile(r"^(?:<!-- (?:file: (\S+)|(on Windows)) -->\n)?```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block: where it begins, what language it is in, and the file that it is to be, if any.

    Attributes: on_windows: what is printed is printed so on Windows alone.
    """

    line: int
    language: str
    text: str
    file: str | None
    on_windows: bool


class Page:
    """A page of docs."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.text = (ROOT / path).read_text(encoding="utf-8")
        self.blocks = [
            Block(self.text.count("\n", 0, found.start(3)) + 1, found[3], found[4], found[1], bool(found[2]))
            for found in _BLOCK.finditer(self.text)
        ]

    def programs(self):
        """Return each program, and what it prints here: the block of text that follows it, or None."""
        for block, after in zip_longest(self.blocks, self.blocks[1:]):
            if block.language == "python" and block.file in {None, "program.py"}:
                told = after is not None and after.language == "text" and (not after.on_windows or os.name == "nt")
                yield block, after.text if told else None

    def consoles(self):
        """Return each block of commands and what they print."""
        return [block for block in self.blocks if block.language == "console"]

    def write_files(self, folder: Path) -> None:
        """Write all files of the page, as its reader would."""
        for block in self.blocks:
            if block.file:
                (folder / block.file).write_text(block.text, encoding="utf-8")


def run(folder: Path, *command: str, seconds: float = 50, **options):
    """Run Python as a user does: conftest.py has crashing workers dump their stacks, which nobody asked for here."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONFAULTHANDLER"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    environment["PYTHONIOENCODING"] = "utf-8"
    if sys.platform == "win32":  # Wine starts a worker so slowly that the end of a program may have to wait for one
        environment["PARAPLUIE_SHUTDOWN"] = "{ grace = 60 }"
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.run(
        [sys.executable, *command],
        **streams, encoding="utf-8", check=False, timeout=seconds, cwd=folder, env=environment,
    )  # fmt: skip


def prints(done, printed: str) -> bool:
    """Say whether a program has printed that: `...` stands for anything; process ids and seconds differ each time."""
    return _matches(done.stdout, printed)


def _matches(text: str, printed: str) -> bool:
    parts = [re.escape(part) for part in printed.strip().split("...")]
    parts = [re.sub(r"\b\d{4,5}\b", r"\\d+", part) for part in parts]
    pattern = ".*".join(re.sub(r"\d+\\\.\d+\\ seconds", r"[\\d.]+ seconds", part) for part in parts)
    return re.fullmatch(pattern, text.strip(), re.DOTALL) is not None


def run_console(folder: Path, block: Block) -> None:
    """Run the commands `$ parapluie ...` or `$ python ...` of a block, and check what each prints; `...` is anything.

    To both streams. `$ echo $?` stands for the exit status of the one before. Columns may be of another width.
    """
    before = status = None
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, _, printed = part.partition("\n")
        if command == "echo $?":
            assert str(status) == printed.strip(), before
            continue
        name, *arguments = shlex.split(command)
        assert name in {"parapluie", "python"}, command
        program = ["-m", "parapluie"] if name == "parapluie" else []
        done = run(folder, *program, *arguments, stderr=subprocess.STDOUT)
        status, before = done.returncode, command
        assert _matches(_columns_joined(done.stdout), _columns_joined(printed)), done.stdout


def _columns_joined(text: str) -> str:
    return re.sub(r"(?<=\S) +", " ", text)
