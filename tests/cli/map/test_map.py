"""`parapluie map`: lines in, lines out, and what the options do."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys

import pytest
from map_processes import is_alive

from parapluie import Executor, Journal
from parapluie.testing.helpers import until

POSIX = pytest.mark.skipif(os.name != "posix", reason="signals, pipes and devices of POSIX")
NUMBERS = "".join(f"{number}\n" for number in range(10))
BACKENDS = ["serial", "thread", "process", "pool", "futures", "manager"]


def answers(text):
    """Return what lines say, without the seconds."""
    lines = [json.loads(line) for line in text.splitlines()]
    assert all(line.pop("seconds") >= 0 for line in lines)
    return lines


def good(values):
    return [{"index": index, "value": value, "attempts": 1} for index, value in enumerate(values)]


# ---- results ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_line_is_answered_in_order(shell, backend):
    done = shell.run("map", "map_jobs:square", "--backend", backend, "--max-workers", "2", text=NUMBERS)
    assert (done.returncode, done.stderr) == (0, "")
    assert answers(done.stdout) == good(number * number for number in range(10))


def test_input_and_output_may_be_files(shell):
    shell.write("numbers.jsonl", NUMBERS)
    done = shell.run("map", "map_jobs:square", "numbers.jsonl", "--output", "squares.jsonl", "--max-workers", "2")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert answers(shell.read("squares.jsonl")) == good(number * number for number in range(10))
    assert answers(shell.run("map", "math:sqrt", "-", text="4").stdout) == good([2.0])


def test_unordered_has_the_same_lines(shell):
    done = shell.run("map", "map_jobs:square", "--unordered", text=NUMBERS)
    assert sorted(answers(done.stdout), key=lambda line: line["index"]) == good(number**2 for number in range(10))


def test_no_line_is_no_answer(shell):
    done = shell.run("map", "map_jobs:square")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_lines_are_read_as_other_programs_write_them(shell):
    done = shell.run("map", "map_jobs:add", text='\ufeff1\r\n\n  \n2.5\n"caf\u00e9"'.encode())
    lines = answers(done.stdout)
    assert [line.get("value") for line in lines] == [2, 3.5, None]
    assert lines[2]["error"] == {"type": "TypeError", "message": 'can only concatenate str (not "int") to str'}


def test_array_and_object_are_one_argument_unless_starred(shell):
    items = '[1, 2]\n{"first": 3}\n4\n'
    plain, starred = (answers(shell.run("map", "map_jobs:add", *star, text=items).stdout) for star in ([], ["--star"]))
    assert ["error" in line for line in plain] == [True, True, False]
    assert [line["value"] for line in starred] == [3, 4, 5]


def test_paths_are_items(shell):
    for name in ("b.txt", "a.txt", "folder/c.txt", "other.md"):
        (shell.folder / name).parent.mkdir(exist_ok=True)
        shell.write(name, "x" * len(name))
    done = shell.run("map", "map_jobs:size_of", "--glob", "**/*.txt", "--glob", "a.*")
    assert answers(done.stdout) == good([5, 5, len("folder/c.txt")])


def test_result_that_json_cannot_hold_is_an_error_of_its_item(shell):
    kinds = ["text", "set", "nan", "surrogate", "key", "none"]
    done = shell.run("map", "map_jobs:give", "--retry", "3", text="\n".join(map(json.dumps, kinds)))
    lines = answers(done.stdout)
    assert lines[0]["value"] == "Grüße ☂" and lines[5]["value"] is None
    for line in lines[1:5]:
        assert line["error"]["message"].startswith("the function returned what JSON cannot hold: ")
        assert line["attempts"] == 1  # it would be the same another time
    assert done.returncode == 1


def test_what_tasks_print_is_not_among_the_results(shell):
    done = shell.run("map", "map_jobs:talk", text="1\n2\n")
    assert answers(done.stdout) == good([1, 2])
    assert done.stderr.count("talking") == done.stderr.count("writing") == 2


# ---- failures -----------------------------------------------------------------------------------------------------


def test_failed_items_have_lines_of_their_own(shell):
    done = shell.run("map", "map_jobs:fail_if_odd", text=NUMBERS)
    lines = answers(done.stdout)
    assert [line.get("value") for line in lines] == [None if number % 2 else number for number in range(10)]
    assert lines[3] == {"index": 3, "error": {"type": "ValueError", "message": "item 3"}, "attempts": 1}
    assert (done.returncode, done.stderr) == (1, "parapluie: 5 of 10 items failed\n")


def test_failed_items_may_be_left_out(shell):
    done = shell.run("map", "map_jobs:fail_if_odd", "--on-error", "skip", text=NUMBERS)
    assert [line["index"] for line in answers(done.stdout)] == [0, 2, 4, 6, 8]
    assert done.returncode == 1


def test_first_failure_may_be_the_end(shell):
    done = shell.run("map", "map_jobs:fail_if_odd", "--on-error", "stop", text=NUMBERS)
    assert [line["index"] for line in answers(done.stdout)] == [0, 1]
    assert (done.returncode, done.stderr) == (1, "parapluie: stopped: item 1 failed with ValueError: item 1\n")


def test_status_says_that_nothing_went_well(shell):
    assert shell.run("map", "map_jobs:fail_if_odd", text="1\n3\n").returncode == 3


def test_too_many_failures_are_the_end(shell):
    numbers = "".join(f"{number}\n" for number in range(100_000))
    done = shell.run("map", "map_jobs:fail_if_odd", "--max-failures", "20", text=numbers)
    assert done.returncode == 1
    assert re.fullmatch(r"parapluie: stopped: \d+ of \d+ items failed, and --max-failures is 20\n", done.stderr)
    assert 20 < len(done.stdout.splitlines()) < 100_000
    assert shell.run("map", "map_jobs:fail_if_odd", "--max-failures", "50%", text=NUMBERS).stderr.count("stopped") == 0


def test_items_are_repeated(shell):
    done = shell.run("map", "map_jobs:succeed_the_second_time", "--retry", "2", text="1\n2\n")
    assert [(line["value"], line["attempts"]) for line in answers(done.stdout)] == [(1, 2), (2, 2)]
    assert done.returncode == 0


def test_item_that_takes_too_long_or_kills_its_worker_is_an_error(shell):
    done = shell.run("map", "map_jobs:hang", "--task-timeout", "1", text="1\n3\n5\n")
    assert [line.get("error", {}).get("type") for line in answers(done.stdout)] == [
        None, "parapluie.errors.TaskTimeoutError", None,
    ]  # fmt: skip
    done = shell.run("map", "map_jobs:die", "--max-workers", "1", text="1\n")
    assert "parapluie.pool_errors.WorkerLostError" in done.stdout and done.returncode == 3


# ---- streams ------------------------------------------------------------------------------------------------------


def test_line_is_answered_while_the_next_one_is_not_there(shell):
    with shell.start("map", "map_jobs:square", "-", stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        for number in (1, 2, 3):
            process.stdin.write(b"%d\n" % number)
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["value"] == number * number
        process.stdin.close()
        assert process.wait(50) == 0


@POSIX
def test_pipe_that_closes_early_ends_it_quietly(shell):
    source, sink = os.pipe()
    with shell.start("map", "map_jobs:square", stdin=source, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        os.close(source)
        os.write(sink, b"1\n")
        assert process.stdout.readline()
        process.stdout.close()
        with pytest.raises(BrokenPipeError):  # it has ended, in the middle of its input
            write_for_ever(sink)
        os.close(sink)
        assert process.wait(50) == 0
        assert process.stderr.read() == b""
    until(lambda: not is_alive(process.pid))


@POSIX
@pytest.mark.parametrize("named", [False, True], ids=["standard input", "named pipe"])
def test_it_stops_while_its_input_says_nothing(shell, tmp_path, named):
    """Nobody can end the read of it that is under way."""
    os.mkfifo(tmp_path / "pipe")
    source, sink = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK), os.open(tmp_path / "pipe", os.O_WRONLY)
    os.set_blocking(source, True)
    command = ["map", "map_jobs:fail_if_odd", *(["pipe"] if named else []), "--on-error", "stop"]
    with shell.start(*command, stdin=source, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        os.close(source)
        os.write(sink, b"1\n")
        said = process.stderr.read()
        assert process.wait(50) == 3
    os.close(sink)
    assert said.splitlines() == [b"parapluie: stopped: item 0 failed with ValueError: item 1"]


@POSIX
def test_no_standard_input_is_said(shell):
    command = ["/bin/sh", "-c", 'exec "$0" -m parapluie map map_jobs:square <&-', sys.executable]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=50, cwd=shell.folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "parapluie: there is no standard input: name a file to read\n"


def write_for_ever(sink):
    while True:
        os.write(sink, b"2\n" * 100)


@POSIX
@pytest.mark.parametrize("backend", ["process", "serial", "pool"])
def test_interrupt_ends_it_with_its_workers_and_a_good_journal(shell, backend):
    shell.write("numbers.jsonl", NUMBERS)
    command = ("map", "map_jobs:hang", "numbers.jsonl", "-j", "journal", "-o", "out", "--chunksize", "1")
    command = (*command, "--backend", backend)
    with shell.start(*command, stderr=subprocess.PIPE) as process:
        until(lambda: "3\n" in (shell.read("notes") if (shell.folder / "notes").exists() else ""))
        process.send_signal(signal.SIGINT)
        assert process.wait(50) == 130
        told = process.stderr.read().decode()
    assert "parapluie: interrupted" in told and "Traceback" not in told
    until(lambda: not is_alive(process.pid))
    assert not (shell.folder / "out").exists()
    recorded = [outcome.index for outcome in Journal(shell.folder / "journal").outcomes()]
    assert set(recorded) <= set(range(10)) - {3}
    done = shell.run(*command, "--task-timeout", "1") if backend == "process" else None
    if done is not None:
        assert [line["index"] for line in answers(shell.read("out"))] == list(range(10))
        runs = shell.read("notes").split()
        assert all(runs.count(str(index)) == 1 for index in recorded)


# ---- progress and help ----------------------------------------------------------------------------------------------


def test_progress_is_shown_as_lines_if_it_is_asked_for(shell):
    done = shell.run("map", "map_jobs:fail_if_odd", "--progress", text=NUMBERS)
    lines = done.stderr.splitlines()
    assert re.fullmatch(r"parapluie: 10 of 10 items, 5 failed, \d+ s", lines[-2])
    assert shell.run("map", "map_jobs:square", "--no-progress", text=NUMBERS).stderr == ""


@POSIX
def test_bar_is_shown_at_a_terminal(shell):
    import pty

    shell.write("numbers.jsonl", NUMBERS)
    ours, theirs = pty.openpty()
    shell.environment["TERM"] = "xterm"
    with shell.start("map", "map_jobs:fail_if_odd", "numbers.jsonl", "-o", "out", stderr=theirs):
        os.close(theirs)
        shown = b""
        while True:
            try:
                data = os.read(ours, 65536)
            except OSError:  # Linux says so that the other end is closed
                data = b""
            if not data:
                break
            shown += data
    os.close(ours)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    assert "10/10" in text and "5 failed" in text and "\u2501" in text


def test_help_says_all(shell):
    text = shell.run("map", "--help").stdout
    for word in ("MODULE:FUNCTION", "Exit status", "Examples", "--journal", "--retry-failed", "130"):
        assert word in text
    assert "map " in shell.run("--help").stdout


def test_profile_is_taken_from_the_configuration(shell):
    shell.write("parapluie.toml", 'backend = "process"\n[profiles.here]\nbackend = "thread"\n')
    done = shell.run("map", "map_jobs:square", "--profile", "here", text="3\n")
    if hasattr(Executor, "from_config"):
        assert answers(done.stdout) == good([9])
    else:
        assert done.returncode == 2 and "--profile 'here'" in done.stderr
