"""The kit tests itself: each backend that lies on purpose is caught by the test that is meant for its lie."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

LIARS = Path(__file__).with_name("liars.py")
PATIENCE = "1.5"  # seconds that the kit waits in here for what never comes

# A program waits at its end for what its executors still have to do, and a call that was lost is never done.
RUN = "import os, pytest, sys; code = pytest.main(sys.argv[1:]); sys.stdout.flush(); os._exit(code)"

CAUGHT_BY = {
    "AnswersTwice": "test_every_call_is_answered_once",
    "RunsTwice": "test_nothing_runs_twice",
    "SwapsAnswers": "test_every_future_gets_its_own_result",
    "LosesCalls": "test_every_future_ends",
    "ClaimsToKill": "test_task_that_was_ended_does_no_more",
    "ClaimsToSurvive": "test_neighbour_that_runs_meanwhile_is_not_harmed",
    "ClaimsToRecycle": "test_workers_are_replaced_after_so_many_tasks",
    "ClaimsToKnow": "test_future_says_when_its_task_runs",
    "ClaimsSessions": "test_session_is_a_conversation_with_one_function",
    "ClaimsChannels": "test_producers_and_consumers_run_at_a_time",
    "ClaimsToSendLogs": "test_record_comes_while_its_task_runs",
    "CancelsAndRuns": "test_waiting_task_that_is_cancelled_never_runs",
    "NeverStops": "test_shutdown_returns",
    "LeavesThreads": "test_shutdown_leaves_no_process_no_thread_no_descriptor_no_segment_and_no_semaphore",
    "HasTooManyWorkers": "test_as_many_tasks_run_at_a_time_as_there_are_workers",
    "WaitsInDispatch": "test_result_waits_no_longer_than_it_is_told",
    "ForgetsInitializer": "test_initializer_is_each_executors_own",
    "ForgetsBuffers": "test_buffers_travel_out_of_band_both_ways",
    "ForgetsSelection": "test_items_are_repeated_one_by_one",
}


def run_kit(*selection):
    """Run tests of the kit; return the names of those that failed, and all that was printed."""
    command = [sys.executable, "-c", RUN, "-q", "-p", "no:cacheprovider", "-c", os.devnull, *selection]
    environment = {**os.environ, "PARAPLUIE_TESTING_SECONDS": PATIENCE}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=50, cwd=LIARS.parent, env=environment
    )
    printed = done.stdout + done.stderr
    assert " passed" in printed or " failed" in printed, printed
    return set(re.findall(r"^FAILED \S+::(test_\w+)", printed, re.MULTILINE)), printed


@pytest.mark.parametrize(("liar", "test"), CAUGHT_BY.items(), ids=CAUGHT_BY)
def test_lie_is_caught_by_the_test_meant_for_it(liar, test):
    failed, printed = run_kit(f"{LIARS}::Test{liar}::{test}")
    assert failed == {test}, printed


def test_honest_backend_passes_the_same_tests():
    claimed = {test for liar, test in CAUGHT_BY.items() if not liar.startswith("Claims")}
    failed, printed = run_kit(*(f"{LIARS}::TestHonest::{test}" for test in sorted(claimed)))
    assert failed == set() and " passed" in printed, printed
