"""The commands of docs/map.md print what the page says."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from pages import Page

PAGE = Page("docs/map.md")


def commands():
    """Return each block for a shell, and the text that follows it."""
    pairs = zip(PAGE.blocks, PAGE.blocks[1:], strict=False)
    return [(block, after) for block, after in pairs if block.language == "sh" and after.language == "text"]


def without_seconds(text):
    return re.sub(r'"seconds": [\d.]+', '"seconds": 0', text)


@pytest.mark.skipif(os.name != "posix", reason="they are for a POSIX shell")
def test_commands_print_what_the_page_says(tmp_path):
    PAGE.write_files(tmp_path)
    command = f'parapluie() {{ {shlex.quote(sys.executable)} -m parapluie "$@"; }}\n'
    assert len(commands()) >= 5
    for block, printed in commands():
        done = subprocess.run(
            ["/bin/sh", "-c", command + block.text],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=50, cwd=tmp_path,
        )  # fmt: skip
        assert without_seconds(done.stdout) == without_seconds(printed.text), f"line {block.line}"


def test_every_option_is_on_the_page():
    from parapluie.cli.map import command

    for parameter in command.params:
        for name in parameter.opts:
            assert name in PAGE.text or not name.startswith("--"), name
