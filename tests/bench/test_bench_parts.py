"""The parts of the benchmark whose answers can be known beforehand."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from parapluie.bench import contenders, goals, isolate, memory, tasks
from parapluie.bench.isolate import MEASURED, TIME_LIMIT, Outcome
from parapluie.bench.run import Results, Settings
from parapluie.bench.workloads import WORKLOADS
from parapluie.bench.workloads.balance import held, makespan
from parapluie.bench.workloads.stage import Request


def results(**figures):
    """Return the results of a run: for each `workload/contender`, its figures, or a status."""
    known = contenders.contenders()
    asked = [part.split("/") for part in figures]
    workloads = [one for one in WORKLOADS if one.name in {workload for workload, _ in asked}]
    made = Results(Settings(workloads, known, 2, "spawn", 1, quick=True, time_limit=1.0))
    for (workload, contender), value in zip(asked, figures.values(), strict=True):
        outcome = Outcome(MEASURED, value) if isinstance(value, dict) else Outcome(value, why="so")
        made.record(workload, contender).outcomes.append(outcome)
    return made


def test_goals_at_most_and_at_least_are_told_apart():
    judged = goals.verdicts(
        results(
            **{
                "latency/parapluie:process": {"round_trip": 40.0},
                "latency/ProcessPoolExecutor": {"round_trip": 100.0},
                "latency/Pool": {"round_trip": 50.0},
                "submit/parapluie:process": {"tasks_per_second": 60_000.0},
                "submit/Pool": {"tasks_per_second": 30_000.0},
            }
        )
    )
    assert [(verdict.goal, verdict.held) for verdict in judged] == [
        ("latency: round trip at most 0.35 × ProcessPoolExecutor", False),
        ("latency: round trip at most 0.8 × Pool", True),
        ("latency: round trip at most 2.5 × pipe-echo", None),
        ("submit: rate at least 1.3 × Pool", True),
        ("submit: rate at least 6 × ProcessPoolExecutor (aim: 8 ×)", None),
    ]
    assert judged[0].reached == "0.40 × (40.0 µs; ProcessPoolExecutor: 100.0 µs)"
    assert judged[2].reached == "40.0 µs, but pipe-echo was not measured"
    assert judged[3].reached == "2.00 × (60,000 tasks/s; Pool: 30,000 tasks/s)"


def test_goal_against_peers_takes_the_best_of_them_and_none_of_ours():
    (verdict,) = goals.verdicts(
        results(
            **{
                "map-chunked/parapluie:process": {"items_per_second": 4.0},
                "map-chunked/parapluie:thread": {"items_per_second": 9.0},
                "map-chunked/Pool": {"items_per_second": 2.0},
                "map-chunked/ProcessPoolExecutor": {"items_per_second": 5.0},
            }
        )
    )
    assert verdict.held is False
    assert verdict.reached == "0.80 × (4 items/s; ProcessPoolExecutor: 5 items/s)"


def test_goals_without_a_peer_have_a_limit_of_their_own():
    judged = goals.verdicts(results(**{"stream/parapluie:process": {"growth": 9.96}}))
    assert [tuple(verdict) for verdict in judged] == [("stream: memory grew by at most 10.0 MB", "10.0 MB", True)]


def test_goal_whose_measurement_was_killed_did_not_hold():
    (verdict,) = goals.verdicts(results(**{"stream/parapluie:process": TIME_LIMIT}))
    assert (verdict.held, verdict.reached) == (False, "parapluie:process: time limit: so")


def test_goals_of_the_table_name_figures_that_there_are():
    figures = {(workload.name, figure.name) for workload in WORKLOADS for figure in workload.figures}
    assert {(goal.workload, goal.figure) for goal in goals.GOALS} <= figures


@pytest.mark.parametrize(
    ("lengths", "workers", "least"),
    [
        ([1, 1, 1, 1], 2, 2),
        ([4, 1, 1, 1], 2, 4),
        ([1, 1, 1, 4], 2, 5),  # whoever takes tasks as they come cannot know of the long one
        ([1, 2, 3], 1, 6),
    ],
)
def test_makespan_gives_each_task_in_order_to_who_is_free_first(lengths, workers, least):
    assert makespan([(10, 10 + length) for length in lengths], workers) == least


def test_held_is_who_waited_for_the_long_one_while_a_worker_was_idle():
    long = (0.0, 1.0)
    assert held([long, (0.0, 0.2), (0.2, 0.4)], 0) == 0
    assert held([long, (0.0, 0.2), (1.0, 1.2), (1.2, 1.4)], 0) == 2
    assert held([long, (1.0, 1.2)], 0) == 1
    # The other worker had enough to do.
    assert held([long, (0.0, 0.5), (0.5, 0.999), (1.0, 1.2)], 0) == 0
    # Done in time, but the reply came with that of the long one.
    assert held([(0.0, 0.2), (0.2, 1.2), (0.2, 0.4)], 1, [1.21, 1.21, 0.41]) == 1


def test_work_is_time_on_a_core():
    used = -tasks._work_clock()
    tasks.work(0.02)
    used += tasks._work_clock()
    assert used >= 0.02


@pytest.mark.skipif(memory.resident(os.getpid()) is None, reason="nothing tells how much memory a process takes")
def test_contender_over_its_memory_is_killed(install_backend):
    install_backend("large", "time.sleep(3600)")  # it does not end by itself before somebody looks at it
    request = Request(
        "parapluie.bench.workloads.rates:latency",
        "parapluie:large",
        [],
        needs_chunks=False,
        parallel=False,
        workers=2,
        start_method=None,
        quick=True,
        address_space=2**40,
    )
    outcome = isolate.measure(request, time_limit=30, memory_limit=1_000_000)
    assert (outcome.status, outcome.why) == ("memory limit", "more than 1 MB in memory; killed")


@pytest.mark.skipif(memory.Growth().megabytes() is None, reason="nothing tells how much memory a process takes")
def test_growth_is_that_of_the_peak():
    growth = memory.Growth()
    block = b"x" * 100_000_000
    assert len(block) == 100_000_000
    del block
    assert 90 < growth.megabytes() < 130


def test_bare_names_are_backends_unless_a_peer_is_called_so():
    known = [contenders.Contender(name, "") for name in ("parapluie:pool", "parapluie:loky", "Pool", "loky")]
    names = {name: contenders.find(name, known).name for name in ("pool", "Pool", "loky", "parapluie:loky")}
    assert names == {"pool": "parapluie:pool", "Pool": "Pool", "loky": "loky", "parapluie:loky": "parapluie:loky"}
    assert contenders.find("lokky", known) is None


@pytest.mark.parametrize("module", ["__main__", "measure", "adapters", "workloads.rates"])
def test_no_peer_is_imported_before_it_is_measured(module):
    code = f"import sys, parapluie.bench.{module}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert not {"joblib", "loky", "matplotlib", "mpire", "numpy", "pebble", "psutil"} & set(done.stdout.split())


@pytest.mark.parametrize("module", ["measure", "tasks", "startup", "adapters"])
def test_what_workers_import_is_light(module):
    # A worker that is spawned imports the main module again: it is a part of the start that is measured.
    code = f"import sys; before = set(sys.modules)\nimport parapluie.bench.{module}\nprint(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    allowed = {"parapluie", "parapluie.bench", f"parapluie.bench.{module}", "time", "_abc", "abc", "__future__"}
    assert set(done.stdout.split()) <= allowed
