"""`parapluie doctor`: the machine, the plugins, and what it says of a script, by its exit status too."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
from pathlib import Path

import pytest

from parapluie import cpus
from parapluie.cli.doctor import machine

BAD = "import multiprocessing\npool = multiprocessing.Manager()\n"


@pytest.fixture
def seen(invoke):
    """Run the doctor; return the exit status and the JSON."""

    def seen(*arguments):
        done = invoke("doctor", "--json", *arguments)
        return done.exit_code, json.loads(done.stdout)

    return seen


def test_machine_is_told(seen):
    code, found = seen()
    assert (code, found["findings"]) == (0, [])
    told = found["machine"]
    assert told["cpus"] == cpus.usable_cpus()
    assert told["start_methods"] == list(multiprocessing.get_all_start_methods())
    assert told["start_method"] in {"forkserver", "spawn"}
    assert {"serial", "process"} <= {one["name"] for one in found["plugins"]}


def test_what_decides_about_cpus_is_told(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    monkeypatch.setattr(cpus, "limits", lambda: [(8, None), (3, "/group/inner"), (4, "/group")])
    monkeypatch.setattr(cpus, "usable_cpus", lambda: 3)
    facts = dict(machine.facts(machine.look()))
    assert facts["CPUs"].startswith("3 usable: 16 in the machine, 8 ")
    assert facts["CPUs"].endswith("3 by the cgroup's quota, which decides (/group/inner)")
    monkeypatch.setattr(cpus, "limits", lambda: [(8, None)])
    assert ", which decides, no cgroup quota" in dict(machine.facts(machine.look()))["CPUs"]


def test_limits_of_cpus_name_their_group(tmp_path, monkeypatch):
    monkeypatch.setattr(cpus, "_scheduled_cpus", lambda: 16)
    group = tmp_path / "sys/fs/cgroup/job"
    group.mkdir(parents=True)
    (group / "cpu.max").write_text("200000 100000\n", encoding="utf-8")
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/job\n", encoding="utf-8")
    (_, nobody), (count, folder) = cpus.limits(tmp_path)
    assert (nobody, count, Path(folder)) == (None, 2, group)


@pytest.mark.parametrize(
    ("variables", "count", "words"),
    [
        ({"OMP_NUM_THREADS": "8", "MKL_NUM_THREADS": "2"}, 4, "with OMP_NUM_THREADS=8, NumPy may start 8 threads"),
        ({"OMP_NUM_THREADS": "1"}, 4, None),
        ({"OMP_NUM_THREADS": "4"}, 1, None),
        ({}, 4, "as OMP_NUM_THREADS is not set, NumPy may start 4 threads in each worker: with 4 workers, 16 threads"),
        ({"OMP_NUM_THREADS": "many"}, 4, "as OMP_NUM_THREADS is not set"),
    ],
)
def test_hint_where_threads_multiply_with_workers(monkeypatch, variables, count, words):
    monkeypatch.setattr(machine, "find_spec", lambda _: object())
    here = machine.look()._replace(thread_variables=variables, cpus=count, shared_memory=None, open_files=None)
    hints = machine.hints(here)
    assert len(hints) == (0 if words is None else 1)
    assert words is None or hints[0].startswith(words)


def test_hints_about_small_limits():
    here = machine.look()._replace(cpus=1, shared_memory=64 * 2**20, shared_memory_used=0, open_files=128)
    first, second = machine.hints(here)
    assert f"{machine.SHARED_MEMORY} has only 64 MB" in first and "--shm-size" in first
    assert "only 128 files" in second
    assert machine.hints(here._replace(shared_memory=2**30, open_files=-1)) == []


def test_script_without_mistakes_is_status_0(write, invoke):
    write("script.py", "print(1)")
    done = invoke("doctor", "script.py")
    assert done.exit_code == 0
    assert done.stdout.endswith("\nnothing found in script.py\n")


def test_mistake_is_status_1_with_its_place(write, invoke, seen):
    write("script.py", BAD)
    done = invoke("doctor", "script.py")
    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    at = lines.index("script.py:2: a Manager is made whenever this file is imported [missing-main-guard]")
    assert lines[at + 1].startswith("    why:  workers import the file again")
    assert lines[at + 2].startswith("    do:   move line 2, `pool = multiprocessing.Manager()`, under `if __name__")
    assert lines[-1] == "1 finding"
    code, found = seen("script.py")
    (one,) = found["findings"]
    assert (code, one["rule"], one["file"], one["line"]) == (1, "missing-main-guard", "script.py", 2)
    assert set(one) == {"rule", "file", "line", "what", "why", "remedy"}


def test_script_is_not_run(write, invoke):
    write("script.py", "raise SystemExit('it was run')\n")
    assert invoke("doctor", "script.py").exit_code == 0


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("gone.py", None, "'gone.py' cannot be read: No such file"),
        ("wrong.py", "\ndef (", "'wrong.py', line 2, is no Python that can be parsed: "),
        ("null.py", "a\0b", "'null.py' is no Python that can be parsed: "),
        ("deep.py", "-" * 100_000 + "1", "'deep.py' is no Python that can be parsed: "),
    ],
)
def test_script_that_cannot_be_read_is_status_2(write, invoke, name, text, words):
    write("other.py", "")
    if text is not None:
        write(name, text)
    done = invoke("doctor", name)
    assert (done.exit_code, done.stdout) == (2, "")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_source_in_another_encoding_is_read(write, invoke, tmp_path):
    write("script.py", "")
    (tmp_path / "script.py").write_bytes("# -*- coding: latin-1 -*-\nname = 'caf\xe9'\n".encode("latin-1"))
    assert invoke("doctor", "script.py").exit_code == 0


def test_broken_plugin_is_a_finding(broken, seen):
    code, found = seen()
    (one,) = found["findings"]
    assert (code, one["rule"], one["file"]) == (1, "broken-plugin", None)
    assert "No module named 'no_such_module_here'" in one["what"]
    assert one["remedy"] == "mend or remove parapluie-broken"


def test_configuration_is_shown_with_its_origins(invoke, monkeypatch):
    monkeypatch.setenv("PARAPLUIE_BACKEND", "serial")
    done = invoke("doctor")
    assert re.search(
        r"\nconfiguration\n  backend +serial \(PARAPLUIE_BACKEND\)\n  max_workers +1 \(default\)\n", done.stdout
    )
    assert json.loads(invoke("doctor", "--json").stdout)["configuration"]["backend"] == "serial (PARAPLUIE_BACKEND)"


def test_configuration_that_cannot_be_used_is_a_finding(invoke, monkeypatch):
    monkeypatch.setenv("PARAPLUIE_MAX_WORKERS", "many")
    done = invoke("doctor")
    assert done.exit_code == 1 and "\nthe configuration cannot be used [configuration]\n" in done.stdout
    assert "PARAPLUIE_MAX_WORKERS: found 'many'; allowed: a whole number" in done.stdout
