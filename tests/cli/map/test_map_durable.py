"""A map that is killed and started again and again: each line is answered once, and what is recorded ran once."""

from __future__ import annotations

import json
import os
import random
import signal
from collections import Counter

import pytest
from map_processes import is_alive

from parapluie import Journal
from parapluie.testing.helpers import until

KILLS = 5
LINES = 4000


def count(shell):
    """Return how many items have run."""
    notes = shell.folder / "notes"
    return notes.stat().st_size if notes.exists() else 0


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
@pytest.mark.parametrize("backend", ["process", "thread"])
def test_map_that_is_killed_at_random_moments_answers_every_line_once(shell, backend):
    shell.write("numbers.jsonl", "".join(f"{number}\n" for number in range(LINES)))
    command = ("map", "map_jobs:note_slowly", "numbers.jsonl", "-j", "journal", "-o", "out")
    command = (*command, "--backend", backend, "--max-workers", "2")
    chance = random.Random(backend)  # noqa: S311 - moments, no secrets
    ran = Counter()  # runs of items that began after they were recorded
    recorded: set[int] = set()
    for _ in range(KILLS):
        noted = len(shell.read("notes")) if (shell.folder / "notes").exists() else 0
        more = chance.randrange(1, 3000)
        with shell.start(*command) as process:
            until(lambda noted=noted, more=more: count(shell) >= noted + more or process.poll() is not None)
            process.send_signal(signal.SIGKILL)
        until(lambda: not is_alive(process.pid))  # workers end by themselves
        ran.update(set(map(int, shell.read("notes")[noted:].split())) & recorded)
        assert not (shell.folder / "out").exists() or process.returncode == 0
        recorded |= {outcome.index for outcome in Journal(shell.folder / "journal").outcomes()}
    noted = len(shell.read("notes"))
    assert shell.run(*command).returncode == 0
    ran.update(set(map(int, shell.read("notes")[noted:].split())) & recorded)
    assert not ran  # nothing ran again that was recorded
    answers = [json.loads(line) for line in shell.read("out").splitlines()]
    assert [(answer["index"], answer["value"]) for answer in answers] == [(number, number) for number in range(LINES)]
    assert set(map(int, shell.read("notes").split())) == set(range(LINES))
    before = shell.read("out")
    noted = len(shell.read("notes"))
    assert shell.run(*command).returncode == 0
    assert shell.read("out") == before and len(shell.read("notes")) == noted


def test_failed_items_run_again_only_if_asked(shell):
    shell.write("numbers.jsonl", "1\n2\n")
    command = ("map", "map_jobs:succeed_the_second_time", "numbers.jsonl", "-j", "journal", "-o", "out")
    assert shell.run(*command).returncode == 3
    failed = shell.read("out")
    assert shell.run(*command).returncode == 3
    assert shell.read("out") == failed and failed.count('"error": {"type": "OSError"') == 2
    assert shell.run(*command, "--retry-failed").returncode == 0
    assert [json.loads(line)["value"] for line in shell.read("out").splitlines()] == [1, 2]


def test_standard_output_has_all_lines_again(shell):
    shell.write("numbers.jsonl", "1\n2\n3\n")
    first, second = (shell.run("map", "map_jobs:note", "numbers.jsonl", "-j", "journal") for _ in range(2))
    assert first.stdout == second.stdout and len(first.stdout.splitlines()) == 3
    assert sorted(shell.read("notes").split()) == ["1", "2", "3"]


def test_input_may_have_grown(shell):
    command = ("map", "map_jobs:note", "-", "-j", "journal", "-o", "out", "--on-error", "skip")
    assert shell.run(*command, text="1\n2\n").returncode == 0
    assert shell.run(*command, text="1\n2\n3\n").returncode == 0
    assert [json.loads(line)["value"] for line in shell.read("out").splitlines()] == [1, 2, 3]
    assert sorted(shell.read("notes").split()) == ["1", "2", "3"]


@pytest.mark.skipif(os.name != "posix", reason="modes and links of POSIX")
def test_output_keeps_the_mode_and_the_link_that_it_has(shell):
    shell.write("numbers.jsonl", "1\n")
    real = shell.folder / "real"
    real.write_text("old")
    real.chmod(0o640)
    link = shell.folder / "out"
    link.symlink_to(real)
    assert shell.run("map", "map_jobs:square", "numbers.jsonl", "-j", "journal", "-o", "out").returncode == 0
    assert link.is_symlink() and json.loads(real.read_text())["value"] == 1
    assert real.stat().st_mode & 0o777 == 0o640
