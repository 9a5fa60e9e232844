"""What `parapluie map` cannot do is one clear line, a status, and no traceback; what was done is not lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from parapluie import Journal

POSIX = pytest.mark.skipif(os.name != "posix", reason="limits and devices of POSIX")
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="/dev/full")


def refused(done, *words, status=2):
    """Check that a run ended with one line."""
    assert done.returncode == status, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("parapluie: "), done.stderr
    for word in words:
        assert word in lines[0]


@pytest.fixture
def numbers(shell):
    return shell.write("numbers.jsonl", "1\n2\n3\n")


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("map_jobs", ("'map_jobs' does not name a function",)),
        ("map_jobs.square", ("Did you mean 'map_jobs:square'?",)),
        ("map_job:square", ("there is no module 'map_job'", "Did you mean 'map_jobs'?")),
        ("map_jobs:sqare", ("has no function 'sqare'. Did you mean 'square'?",)),
        ("broken:f", ("module 'broken' cannot be imported: ZeroDivisionError: division by zero", "broken.py, line 2)")),
        ("leaves:f", ("module 'leaves' cannot be imported: SystemExit: 3",)),
    ],
)
def test_function_that_cannot_be_had(shell, numbers, target, words):
    shell.write("broken.py", "\nnumber = 1 / 0\n")
    shell.write("leaves.py", "raise SystemExit(3)\n")
    refused(shell.run("map", target, numbers), *words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["none.jsonl"], ("cannot read 'none.jsonl': No such file",)),
        (["."], ("cannot read '.': ",)),
        (["numbers.jsonl", "--glob", "*"], ("both 'numbers.jsonl' and --glob",)),
        (["--glob", "*.none", "--glob", "*.nope"], ("no path matches '*.none' or '*.nope' in ",)),
        (["numbers.jsonl", "-o", "no/such/folder"], ("cannot write to 'no/such/folder': ",)),
        (["numbers.jsonl", "-o", "no/such/folder", "-j", "journal"], ("cannot write to 'no/such/folder': ",)),
        (["numbers.jsonl", "-o", ".", "-j", "journal"], ("cannot write to '.': it is a directory",)),
        (["numbers.jsonl", "-o", "numbers.jsonl"], ("'numbers.jsonl' is the input, too",)),
        (["numbers.jsonl", "-j", "no/such/folder"], ("journal 'no/such/folder' cannot be opened",)),
        (["numbers.jsonl", "-j", "map_jobs.py"], ("journal 'map_jobs.py' is not a journal",)),
        (["numbers.jsonl", "--retry-failed"], ("--retry-failed is about a journal",)),
        (["numbers.jsonl", "--accept-changed"], ("--accept-changed is about a journal",)),
        (["numbers.jsonl", "--max-failures", "many"], ("max_failures='many' is neither",)),
        (["numbers.jsonl", "--on-error", "stop", "--max-failures", "3"], ("--on-error stop stops at the first",)),
        (["numbers.jsonl", "--backend", "proces"], ("unknown backend 'proces'", "Did you mean 'process'?")),
        (["numbers.jsonl", "--backend", "thread", "--task-timeout", "3"], ("cannot honour task_timeout",)),
    ],
)
def test_argument_that_cannot_be_used(shell, numbers, arguments, words):
    refused(shell.run("map", "map_jobs:note", *arguments), *words)
    assert not (shell.folder / "notes").exists()
    assert shell.read(numbers) == "1\n2\n3\n"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b'{"a":', "expecting value at column 6"),
        (b"nope", "expecting value at column 1"),
        (b'"\xff"', "it is not UTF-8"),
        (b"[" * 100_000, "recursion"),
    ],
)
def test_line_that_is_not_json(shell, line, problem):
    done = shell.run("map", "map_jobs:square", text=b"1\n\n2\n" + line + b"\n4\n")
    refused(done, "line 4 of 'standard input' is not JSON: ", problem)
    assert [json.loads(answer)["value"] for answer in done.stdout.splitlines()] == [1, 4]


def test_line_that_is_not_json_leaves_a_journal_to_go_on_from(shell):
    shell.write("numbers.jsonl", "1\n2\nthree\n4\n")
    command = ("map", "map_jobs:note", "numbers.jsonl", "-j", "journal", "-o", "out")
    refused(shell.run(*command), "line 3 of 'numbers.jsonl'", "'out' is not written: the same command goes on")
    assert not (shell.folder / "out").exists()
    shell.write("numbers.jsonl", "1\n2\n3\n4\n")
    assert shell.run(*command).returncode == 0
    assert [json.loads(answer)["value"] for answer in shell.read("out").splitlines()] == [1, 2, 3, 4]
    assert sorted(shell.read("notes").split()) == ["1", "2", "3", "4"]


def test_journal_of_another_run(shell, numbers):
    shell.write("others.jsonl", "1\n7\n3\n")
    assert shell.run("map", "map_jobs:note", numbers, "-j", "journal").returncode == 0
    done = shell.run("map", "map_jobs:square", numbers, "-j", "journal")
    refused(done, "journal 'journal' was made by map_jobs.note, not by map_jobs.square")
    done = shell.run("map", "map_jobs:note", "others.jsonl", "-j", "journal", "-o", "out")
    refused(done, "journal 'journal' is of other input: item 1 is not what it was")
    assert not (shell.folder / "out").exists()
    done = shell.run("map", "map_jobs:note", "others.jsonl", "-j", "journal", "-o", "out", "--accept-changed")
    assert done.returncode == 0
    assert [json.loads(answer)["value"] for answer in shell.read("out").splitlines()] == [1, 7, 3]
    assert sorted(shell.read("notes").split()) == ["1", "2", "3", "7"]


@LINUX
def test_standard_output_on_a_full_disk(shell, numbers):
    with Path("/dev/full").open("wb") as full:
        process = shell.start("map", "map_jobs:square", numbers, stdout=full, stderr=subprocess.PIPE)
        told = process.communicate(timeout=50)[1].decode()
    assert told == "parapluie: cannot write to standard output: No space left on device\n"
    assert process.returncode == 2


LIMITED = """
import resource, signal, sys

if __name__ == "__main__":
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)), resource.RLIM_INFINITY))  # stands for a full disk
    from parapluie.cli import main

    main()
"""


@POSIX
def test_full_disk_loses_nothing_that_is_recorded(shell):
    def limited(size, *arguments):
        command = [sys.executable, "limited.py", str(size), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=50, cwd=shell.folder)

    shell.write("limited.py", LIMITED)
    shell.write("numbers.jsonl", "".join(f"{number}\n" for number in range(20_000)))
    command = ("map", "map_jobs:note", "numbers.jsonl", "-j", "journal", "-o", "out")
    refused(limited(150_000, *command), "journal 'journal' cannot be written: ", "What is recorded is kept")
    recorded = [outcome.index for outcome in Journal(shell.folder / "journal").outcomes()]
    assert recorded and not (shell.folder / "out").exists()
    refused(limited(400_000, "map", "map_jobs:square", "numbers.jsonl", "-o", "squares"), "cannot write to 'squares'")
    assert shell.run(*command).returncode == 0
    runs = shell.read("notes").split()
    assert all(runs.count(str(index)) == 1 for index in recorded[:50])
    before = shell.read("out")
    assert len(before.splitlines()) == 20_000
    refused(limited(400_000, *command), "cannot write to 'out'", "what is done is in 'journal'")
    assert shell.read("out") == before  # it was written beside, and is whole as long as it is not replaced
    assert not [name for name in os.listdir(shell.folder) if name.startswith(".")]  # noqa: PTH208 - names are wanted
