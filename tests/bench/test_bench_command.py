"""The benchmark from outside: small runs, what they print, and what they say when something is wrong."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from parapluie.bench import main, plot
from parapluie.bench.contenders import default_start_method, start_methods
from parapluie.bench.workloads import WORKLOADS

HERE = [one for one in WORKLOADS if one.start_method is None or one.start_method in start_methods()]


def gone(pid):
    """Whether a process has ended; nobody may have collected what is left of it."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text(encoding="utf-8").rpartition(")")[2].split()[0] in "ZX"


def wait_until(fact, seconds=20):
    end = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < end
        time.sleep(0.02)


def rows(page, heading):
    """Return the rows of the table under a heading, by their first cell, each as cells by the head of the column."""
    section = page.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("|")]
    heads, rule, *body = lines
    assert all(re.fullmatch("---:?", cell) for cell in rule)
    assert all(len(cells) in {len(heads), len(heads) - 1} for cells in body)  # the last one may be empty
    return {cells[0]: dict(zip(heads, [*cells, ""], strict=False)) for cells in body}


@pytest.mark.deadline(120)
def test_every_workload_gives_all_its_figures(capsys, tmp_path):
    file = tmp_path / "figures.json"
    assert main(["--quick", "--contender", "process", "--json", str(file)]) == 0
    page = capsys.readouterr().out
    found = json.loads(file.read_text(encoding="utf-8"))
    assert found["complete"]
    assert [workload["name"] for workload in found["workloads"]] == [workload.name for workload in HERE]
    for workload, measured in zip(HERE, found["workloads"], strict=True):
        assert list(rows(page, workload.name)) == ["parapluie:process"]
        (result,) = measured["results"]
        assert (result["status"], result["notes"]) == ("measured", [])
        assert len(result["rounds"]) == 1
        assert set(result["medians"]) == {figure.name for figure in workload.figures}
        memory = {"growth"} if sys.platform == "win32" and not find_spec("psutil") else set()
        for name, value in result["medians"].items():
            assert name in memory or (isinstance(value, int | float) and math.isfinite(value)), name
    judged = {goal["held"] for goal in found["goals"]}
    assert {True} <= judged <= {True, False, None}
    assert len(rows(page, "Goals")) == len(found["goals"])


def test_peers_are_measured_beside_and_compared(capsys):
    contenders = ["process", "serial", "Pool", "ProcessPoolExecutor", "pipe-echo"]
    arguments = [part for name in contenders for part in ("--contender", name)]
    assert main(["--quick", "--workload", "latency", "--workload", "submit", *arguments]) == 0
    page = capsys.readouterr().out
    latency = rows(page, "latency")
    assert set(latency) == {"parapluie:process", "parapluie:serial", "Pool", "ProcessPoolExecutor", "pipe-echo"}
    assert latency["pipe-echo"]["× pipe-echo"] == "1.00"
    assert latency["pipe-echo"]["remarks"] == "no pool"
    assert latency["Pool"]["× Pool"] == latency["ProcessPoolExecutor"]["× ProcessPoolExecutor"] == "1.00"
    values = [float(row["round trip (µs)"].replace(",", "")) for row in latency.values()]
    assert values == sorted(values)  # best first
    submit = rows(page, "submit")
    assert submit["pipe-echo"]["rate (tasks/s)"] == "-"
    assert submit["pipe-echo"]["remarks"] == "has no submit"
    goals = rows(page, "Goals")
    assert len(goals) == 5
    assert {goal["held"] for goal in goals.values()} <= {"yes", "**no**"}
    assert f"- 2 workers, start method {default_start_method()}, one round, 20" in page


def test_hanging_contender_is_cut_at_its_limit_with_all_that_it_started(capsys, install_hanging):
    arguments = ["--quick", "--workload", "latency", "--contender", "hanging", "--contender", "serial"]
    assert main([*arguments, "--limit", "2", "--rounds", "2"]) == 0
    row = rows(capsys.readouterr().out, "latency")["parapluie:hanging"]
    assert row["round trip (µs)"] == "-"
    # In the second round it is not tried again.
    assert row["remarks"] == "time limit: not done within 2 seconds; killed"
    wait_until(lambda: gone(int(install_hanging.read_text(encoding="utf-8"))))


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="semaphores are not files here")  # noqa: S108 - to look into
def test_killed_contender_leaves_no_semaphore(capsys, install_backend, tmp_path):
    # A worker that outlives its parent keeps the resource tracker waiting, which removes the semaphores at its end.
    file = tmp_path / "name"
    install_backend(
        "hanging",
        "import multiprocessing; context = multiprocessing.get_context('spawn'); lock = context.Lock(); "
        "context.Process(target=time.sleep, args=(600,)).start(); "
        f"Path({str(file)!r}).write_text(lock._semlock.name); time.sleep(600)",
    )
    assert main(["--quick", "--workload", "latency", "--contender", "hanging", "--limit", "2"]) == 1
    assert "time limit" in capsys.readouterr().out
    name = file.read_text(encoding="utf-8").removeprefix("/")
    assert not Path(f"/dev/shm/sem.{name}").exists()  # noqa: S108


@pytest.mark.skipif(os.name == "nt", reason="there is no signal to send to one process")
def test_interrupt_prints_what_was_measured_and_leaves_nothing_behind(install_hanging):
    arguments = ["--quick", "--workload", "latency", "--contender", "hanging", "--contender", "serial"]
    command = [sys.executable, "-m", "parapluie.bench", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_until(install_hanging.exists)
            process.send_signal(signal.SIGINT)
            page, errors = process.communicate(timeout=20)
        finally:
            process.kill()
    assert process.returncode == 130
    assert float(rows(page, "latency")["parapluie:serial"]["round trip (µs)"]) > 0
    assert "- interrupted: what was measured until then" in page
    assert errors == "round 1 of 1: latency\ninterrupted\n"
    wait_until(lambda: gone(int(install_hanging.read_text(encoding="utf-8"))))


@pytest.mark.skipif(os.name == "nt", reason="needs a signal that cannot be caught")
def test_nothing_is_left_when_the_benchmark_is_killed(install_hanging):
    command = [sys.executable, "-m", "parapluie.bench", "--quick", "--workload", "latency", "--contender", "hanging"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_until(install_hanging.exists)
        finally:
            process.kill()
    wait_until(lambda: gone(int(install_hanging.read_text(encoding="utf-8"))))


def test_failing_contender_costs_its_own_row_only(capsys, install_backend):
    install_backend("failing", "raise OSError('no room | here')")
    assert main(["--quick", "--workload", "latency", "--contender", "failing", "--contender", "serial"]) == 0
    found = rows(capsys.readouterr().out.replace("\\|", "/"), "latency")
    assert "OSError" in found["parapluie:failing"]["remarks"]
    assert "no room / here" in found["parapluie:failing"]["remarks"]
    assert float(found["parapluie:serial"]["round trip (µs)"]) > 0


def test_crashing_contender_costs_its_own_row_only(capsys, install_backend):
    install_backend("crashing", "print('the last words', flush=True); os._exit(7)")
    assert main(["--quick", "--workload", "latency", "--contender", "crashing", "--json"]) == 1
    (result,) = json.loads(capsys.readouterr().out)["workloads"][0]["results"]
    assert result["status"] == "failed"
    assert result["notes"] == ["failed: its process ended with exit code 7: the last words"]


def test_missing_peer_is_said_to_be_not_installed(capsys, monkeypatch):
    monkeypatch.setattr("parapluie.bench.contenders.find_spec", lambda name: None)
    assert main(["--quick", "--workload", "latency", "--contender", "loky", "--contender", "serial"]) == 0
    page = capsys.readouterr().out
    assert "- loky: not installed; install loky, or parapluie's extra 'bench'\n" in page
    assert list(rows(page, "latency")) == ["parapluie:serial"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--workload", "latncy"], "unknown workload 'latncy'; available: latency, .* Did you mean 'latency'?"),
        (["--contender", "proces"], "unknown contender 'proces'; .* Did you mean 'process'?"),
        (["--contender", "ProcesPoolExecutor"], "Did you mean 'ProcessPoolExecutor'?"),
        (["--workers", "0"], "argument --workers: '0' is not a positive integer"),
        (["--rounds", "many"], "argument --rounds: 'many' is not a positive integer"),
        (["--limit", "-1"], "argument --limit: '-1' is not a positive number of seconds"),
        (["--start-method", "magic"], "argument --start-method: invalid choice: 'magic'"),
        (["--json", "no/such/folder/file.json"], "--json 'no/such/folder/file.json' cannot be written"),
    ],
)
def test_wrong_arguments_are_explained(capsys, arguments, words):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert re.search(words.replace("?", r"\?"), " ".join(capsys.readouterr().err.split()))


def test_list_names_everything_and_measures_nothing(capsys):
    assert main(["--list"]) == 0
    out, err = capsys.readouterr()
    for workload in HERE:
        assert f"  {workload.name} " in out
    for name in ["parapluie:process", "ProcessPoolExecutor", "loky", "pipe-echo"]:
        assert f"  {name} " in out
    assert err == ""


@pytest.mark.skipif(find_spec("matplotlib") is None, reason="matplotlib is not installed")
@pytest.mark.filterwarnings("default")  # matplotlib's own
def test_plot_draws_an_svg(capsys, tmp_path):
    file = tmp_path / "figures.svg"
    assert main(["--quick", "--workload", "latency", "--contender", "serial", "--plot", str(file)]) == 0
    assert "<svg" in file.read_text(encoding="utf-8")


@pytest.mark.skipif(find_spec("matplotlib") is None, reason="matplotlib is not installed")
@pytest.mark.filterwarnings("default")
def test_plot_refuses_a_format_before_it_measures(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["--quick", "--plot", "figures.tabel"])
    assert "--plot 'figures.tabel' has to end in one of" in capsys.readouterr().err


def test_plot_without_matplotlib_says_what_to_install(capsys, monkeypatch):
    monkeypatch.setattr(plot, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="2"):
        main(["--quick", "--plot", "figures.svg"])
    err = capsys.readouterr().err
    assert err.endswith("--plot needs matplotlib, which is not installed; install parapluie with its extra 'bench'\n")
