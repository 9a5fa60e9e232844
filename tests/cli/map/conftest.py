"""A folder to work in, and the command as a process of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "parapluie"]


class Shell:
    """A folder with a user's modules, in which the command is run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = dict(os.environ)

    def write(self, name: str, text: str) -> str:
        (self.folder / name).write_text(text, encoding="utf-8")
        return name

    def read(self, name: str) -> str:
        return (self.folder / name).read_text(encoding="utf-8")

    def run(self, *arguments: str, text: str | bytes = b"", seconds: float = 50):
        """Run the command with a standard input, to its end."""
        data = text.encode() if isinstance(text, str) else text
        done = subprocess.run(
            [*COMMAND, *arguments],
            input=data, capture_output=True, check=False, timeout=seconds, cwd=self.folder, env=self.environment,
        )  # fmt: skip
        done.stdout, done.stderr = done.stdout.decode(), done.stderr.decode().replace("\r\n", "\n")
        return done

    def start(self, *arguments: str, **streams):
        """Start the command, in a session of its own."""
        return subprocess.Popen(
            [*COMMAND, *arguments], cwd=self.folder, env=self.environment, start_new_session=True, **streams
        )


@pytest.fixture
def shell(tmp_path):
    """Return a folder to run the command in, with map_jobs.py in it."""
    shutil.copy(Path(__file__).with_name("map_jobs.py"), tmp_path)
    return Shell(tmp_path)
