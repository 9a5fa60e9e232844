"""`python -m parapluie.testing`: prints the tables, says what it cannot do, and tells a hang by its exit status."""

from __future__ import annotations

import pytest

from parapluie.testing import __main__ as command
from parapluie.testing import tables
from parapluie.testing.faults import FAULTS, Fault


def test_prints_what_backends_claim(capsys):
    assert command.main(["claims", "serial", "process"]) == 0
    printed = capsys.readouterr().out
    assert "|  | `serial` | `process` |" in printed and "| survives a dead worker |  | yes |" in printed


def test_prints_what_becomes_of_faults(capsys, monkeypatch):
    monkeypatch.setattr(tables, "FAULTS", [fault for fault in FAULTS if fault.what == "a task raises"])
    assert command.main(["faults", "thread"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "| a task raises | `ValueError` |"


@pytest.mark.parametrize("cell", ["hang", "lost"])
def test_says_by_its_exit_status_that_a_promise_is_broken(capsys, monkeypatch, cell):
    def inject(_lab):
        assert cell != "lost", "another task"
        return "hang"

    monkeypatch.setattr(tables, "FAULTS", [Fault("something", inject, "", (), "")])
    assert command.main(["faults", "serial"]) == 1
    assert f"| something | {cell}" in capsys.readouterr().out


def test_writes_between_the_marks_of_a_page(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- generated: python -m parapluie.testing claims serial -->\nold\n<!-- end -->\nafter\n")
    assert command.main(["claims", "serial", "--into", str(page)]) == 0
    text = page.read_text()
    assert text.startswith("before\n<!-- generated") and text.endswith("<!-- end -->\nafter\n")
    assert "| `initializer` | yes |" in text and "\nold\n" not in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["claims", "proces"], "unknown backend 'proces'.*did you mean 'process'"),
        (["claims", "serial", "--into", "nowhere.md"], "nowhere.md"),
        (["claims", "serial", "--into", __file__], "has no lines '<!-- generated"),
    ],
)
def test_says_what_it_cannot_do(capsys, arguments, words):
    with pytest.raises(SystemExit) as caught:
        command.main(arguments)
    assert caught.value.code == 2
    import re

    assert re.search(words, capsys.readouterr().err, re.IGNORECASE | re.DOTALL)
