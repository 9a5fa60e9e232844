"""`parapluie bench` is the benchmark, under another name."""

from __future__ import annotations

import pytest

from parapluie.bench.contenders import contenders
from parapluie.bench.workloads import WORKLOADS


def test_help_is_the_benchmarks_own(invoke):
    for option in ("--help", "-h"):
        done = invoke("bench", option)
        assert done.exit_code == 0
        assert done.stdout.startswith("usage: parapluie bench [-h] [--workload NAME]")
        assert "--start-method" in done.stdout


def test_arguments_are_passed_on_and_missing_peers_are_listed(invoke):
    done = invoke("bench", "--list")
    assert done.exit_code == 0
    for name in [*(one.name for one in WORKLOADS), *(one.name for one in contenders())]:
        assert f"  {name} " in done.stdout
    for one in contenders():
        assert one.why_not is None or one.why_not in done.stdout


def test_measures(invoke):
    done = invoke("bench", "--quick", "--workload", "latency", "--contender", "serial")
    assert done.exit_code == 0
    assert "| parapluie:serial |" in done.stdout
    assert "latency" in done.stderr  # progress


@pytest.mark.parametrize("arguments", [["--nope"], ["latency"], ["--workload", "latenci"], ["--", "--nope"]])
def test_wrong_arguments_are_status_2(invoke, arguments):
    done = invoke("bench", *arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "parapluie bench: error: " in done.stderr
