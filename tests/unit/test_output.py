"""Capturing what is printed, in one process."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from parapluie.output import Switch, captured


def test_both_streams_are_one_text_in_order():
    with captured(alone=False) as output:
        print("one")
        print("two", file=sys.stderr)
        sys.stdout.buffer.write(b"three\n")
        sys.stdout.writelines(["four\n"])
        print("\ud800 ä", end="\r\n")
    assert output.text() == "one\ntwo\nthree\nfour\n\\ud800 ä\r\n"


def test_streams_are_put_back_with_the_last_one():
    before = sys.stdout, sys.stderr
    with captured(alone=False), captured(alone=False):
        assert isinstance(sys.stdout, Switch) and isinstance(sys.stderr, Switch)
    assert (sys.stdout, sys.stderr) == before


def test_inner_task_has_its_own_output():
    with captured(alone=False) as outer:
        print("outer")
        with captured(alone=False) as inner:
            print("inner")
        print("outer again")
    assert (outer.text(), inner.text()) == ("outer\nouter again\n", "inner\n")


def test_others_print_where_they_always_did(capsys):
    with captured(alone=False) as output:
        thread = threading.Thread(target=print, args=("elsewhere",))
        thread.start()
        thread.join()
    assert output.text() == "" and capsys.readouterr().out == "elsewhere\n"


def test_what_nobody_else_prints_is_that_of_the_only_task(capsys):
    with captured(alone=True) as output:
        thread = threading.Thread(target=print, args=("its thread",))
        thread.start()
        thread.join()
    assert output.text() == "its thread\n" and capsys.readouterr().out == ""


def test_stream_that_somebody_puts_there_meanwhile_stays():
    before = sys.stdout
    try:
        with captured(alone=False):
            sys.stdout = sys.__stderr__
        assert sys.stdout is sys.__stderr__
    finally:
        sys.stdout = before


def test_stream_is_no_terminal():
    with captured(alone=False):
        print("text", flush=True)
        assert not sys.stdout.isatty()


def test_descriptor_is_that_of_the_stream_before():
    code = (
        "import sys\nfrom parapluie.output import captured\n"
        "with captured(alone=False): number = sys.stdout.fileno(), sys.stderr.fileno()\nprint(number)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=50)
    assert done.stdout.strip() == "(1, 2)"


NO_CONSOLE = """
import sys
from parapluie.output import captured
kept, sys.stdout = sys.stdout, None
with captured(alone=False) as output:
    print("captured")
assert sys.stdout is None
sys.stdout = kept
print(output.text())
"""


def test_program_without_a_console_is_captured_as_well():
    done = subprocess.run([sys.executable, "-c", NO_CONSOLE], capture_output=True, text=True, check=True, timeout=50)
    assert done.stdout.strip() == "captured"


FORK = """
import os
import sys
from parapluie.output import captured
with captured(alone=True) as output:
    pid = os.fork()
    if pid == 0:
        print("child", flush=True)
        with captured(alone=True) as own:
            print("its own")
        os._exit(0 if own.text() == "its own\\n" else 1)
    assert os.waitpid(pid, 0)[1] == 0
print(repr(output.text()))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_what_a_task_forks_prints_where_the_process_always_did():
    done = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, check=True, timeout=50)
    assert done.stdout == "child\n''\n"
