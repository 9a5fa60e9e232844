"""How a map's progress is shown, and to whom."""

from __future__ import annotations

import io
import re
import sys

import pytest

from parapluie import ConfigError, Executor, Progress
from parapluie.progress import Display, as_display, text_of
from parapluie.testing import tasks

HALF = Progress(done=50, failed=2, retried=3, restored=10, total=100, seconds=4.2)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def at_terminal(monkeypatch):
    """Have standard error be a terminal; in the test itself, since pytest puts its own there when it begins."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    return stream


@pytest.mark.parametrize("progress", [True, "squares"])
def test_nothing_is_shown_where_there_is_no_terminal(progress, monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert as_display(progress) is None
    monkeypatch.setattr(sys, "stderr", None)
    assert as_display(progress) is None


def test_nothing_is_shown_unless_asked_for():
    assert as_display(False) is None  # noqa: FBT003 - as users write it, by name
    assert as_display(None) is None


@pytest.mark.parametrize("progress", [3, 1.5, [], object()])
def test_what_cannot_be_called_is_refused(progress):
    with pytest.raises(ConfigError, match="progress="):
        as_display(progress)


def test_lines_are_printed_where_there_is_no_tqdm(monkeypatch):
    terminal = at_terminal(monkeypatch)
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with Executor("serial") as executor:
        assert len(list(executor.map(tasks.square, range(10), progress="squares"))) == 10
    lines = terminal.getvalue().splitlines()
    assert re.fullmatch(r"squares: 10 of 10 items, \d+ s", lines[-1])
    assert len(lines) == len(set(lines))


class FakeBar:
    made = None

    def __init__(self, **settings):
        self.settings, self.n, self.total, self.closed, self.postfix = settings, settings["initial"], None, False, None
        FakeBar.made = self

    def update(self, more):
        self.n += more

    def set_postfix(self, *, refresh, **postfix):
        self.postfix = postfix

    def close(self):
        self.closed = True


def test_bar_is_of_tqdm_where_that_is_installed(monkeypatch):
    at_terminal(monkeypatch)
    monkeypatch.setitem(sys.modules, "tqdm.auto", type(sys)("tqdm.auto"))
    monkeypatch.setattr(sys.modules["tqdm.auto"], "tqdm", FakeBar, raising=False)
    display = as_display("squares")
    display.show(HALF._replace(done=10, failed=0, retried=0))
    bar = FakeBar.made
    assert bar.settings == {"desc": "squares", "total": 100, "initial": 10, "unit": "item"}
    assert bar.n == 10 and bar.postfix is None
    display.show(HALF)
    display.close()
    assert (bar.n, bar.total, bar.postfix, bar.closed) == (50, 100, {"failed": 2, "retried": 3}, True)


def test_real_tqdm_takes_what_it_is_told(monkeypatch):
    terminal = at_terminal(monkeypatch)
    pytest.importorskip("tqdm")
    with Executor("serial") as executor:
        list(executor.map(tasks.fail_if_odd, range(10), on_error="skip", progress="squares"))
    assert "squares" in terminal.getvalue() and "10/10" in terminal.getvalue() and "failed=5" in terminal.getvalue()


def test_function_is_not_told_more_often_than_it_can_be_shown():
    told = []
    display = Display(told.append, seconds=1000.0)
    assert display.due()
    display.show(HALF)
    assert not display.due() and told == [HALF]


def test_text_leaves_out_what_is_not_there():
    assert text_of(HALF) == "50 of 100 items, 2 failed, 3 retried, 4 s"
    assert text_of(Progress(5, 0, 0, 0, None, 0.4)) == "5 items, 0 s"
