"""`parapluie config show`: every setting, with its value and where it comes from."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from parapluie.cli.program import program


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("PARAPLUIE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def show(*arguments):
    return CliRunner().invoke(program, ["config", "show", *arguments], prog_name="parapluie")


def rows(output):
    return {line.split()[0]: line.split(maxsplit=2)[1:] for line in output.splitlines()[2:]}


def test_all_settings_are_shown_with_their_origins(monkeypatch):
    Path("parapluie.toml").write_text(
        'retry = { attempts = 4, on = "OSError" }\n[profiles.pool]\nbackend = "pool"\n', encoding="utf-8"
    )
    monkeypatch.setenv("PARAPLUIE_MAX_WORKERS", "3")
    done = show("--profile", "pool")
    assert done.exit_code == 0 and done.output.splitlines()[0].endswith("parapluie.toml, profile 'pool'")
    found = rows(done.output)
    assert found["backend"][0] == "pool" and found["backend"][1].startswith("profile 'pool' in ")
    assert found["max_workers"] == ["3", "PARAPLUIE_MAX_WORKERS"]
    assert found["serializer"] == ["auto", "default"] and found["task_timeout"] == ["none", "default"]
    assert "Retry(attempts=4, on=(OSError), " in done.output and found["start_method"][0] != "none"


def test_json_is_for_programs():
    Path("other.toml").write_text('backend = "process"\ntask_timeout = 5', encoding="utf-8")
    done = show("--config", "other.toml", "--backend", "thread", "--json")
    data = json.loads(done.output)
    assert data["file"] == "other.toml" and data["profile"] is None
    assert data["settings"]["backend"] == {"value": "thread", "from": "argument"}
    assert data["left_out"] == {"task_timeout": {"value": 5.0, "from": "other.toml, line 2"}}


def test_what_is_left_out_is_said():
    Path("parapluie.toml").write_text("task_timeout = 5\nbackend = 'pool'", encoding="utf-8")
    output = show("--backend", "serial").output
    assert "(left out)" in output
    assert output.endswith("left out: a stronger source chose backend 'serial', which cannot do it\n")


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        ("max_workers = 0", (), "line 1: max_workers: found 0; allowed: a whole number from 1"),
        ("", ("--profile", "x"), "there is no profile 'x'"),
        ("backend = 'cluster'", (), "unknown backend 'cluster'"),
        ("backend = 'thread'\ntask_timeout = 1", (), "backend 'thread' cannot honour task_timeout=1.0"),
        ("", ("--config", "nowhere.toml"), "nowhere.toml: it cannot be read: "),
    ],
)
def test_mistakes_are_said_without_a_traceback(text, arguments, message):
    Path("parapluie.toml").write_text(text, encoding="utf-8")
    done = show(*arguments)
    assert done.exit_code == 2 and done.stdout == ""
    assert done.stderr.startswith("parapluie: ") and message in done.stderr
    assert isinstance(done.exception, SystemExit)


def test_origin_of_what_is_refused_is_said():
    Path("parapluie.toml").write_text("backend = 'thread'\ntask_timeout = 1", encoding="utf-8")
    done = show()
    assert "; backend='thread' comes from " in done.stderr and "parapluie.toml, line 2" in done.stderr
