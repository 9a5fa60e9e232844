"""What is refused whatever the backend: unknown backends, options and policies that cannot be honoured."""

from __future__ import annotations

import pytest

from parapluie import ConfigError, Executor, Retry, Shutdown, TaskTimeoutError, UnknownBackendError, WorkerLostError


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [("proces", "process"), ("treads", "thread"), ("Serial", "serial"), ("manger", "manager")],
)
def test_unknown_backend_is_answered_with_the_nearest(name, suggestion):
    with pytest.raises(UnknownBackendError, match=f"unknown backend '{name}'.*Did you mean '{suggestion}'") as caught:
        Executor(name)
    assert isinstance(caught.value, LookupError) and suggestion in caught.value.available


@pytest.mark.parametrize("given", [5, b"process", ["process"], object])
def test_backend_that_is_none_is_refused(given):
    with pytest.raises(ConfigError, match="is neither the name of a backend nor a Backend"):
        Executor(given)


def test_options_of_a_backend_are_checked():
    with pytest.raises(
        ConfigError, match=r"unknown option pickle_roundtrip=True .*[Dd]id you mean 'pickle_round_trip'"
    ):
        Executor("serial", pickle_roundtrip=True)
    with pytest.raises(ConfigError, match=r"pickle_round_trip='yes'"):
        Executor("serial", pickle_round_trip="yes")


@pytest.mark.parametrize(
    "make",
    [
        lambda: Retry(0),
        lambda: Retry(attempts=True),
        lambda: Retry("3"),
        lambda: Retry(3, lost=-1),
        lambda: Retry(3, on=5),
        lambda: Retry(3, on=[5]),
        lambda: Retry(3, wait=-1),
        lambda: Retry(3, wait="long"),
        lambda: Retry(3, wait=float("nan")),
        lambda: Retry(3, stop=-5),
        lambda: Shutdown(grace=-1),
        lambda: Shutdown(grace=float("inf")),
        lambda: Shutdown(drain="yes"),
    ],
)
def test_policy_refuses_what_it_cannot_honour(make):
    with pytest.raises(ConfigError):
        make()


@pytest.mark.parametrize("error", [WorkerLostError, TaskTimeoutError, (OSError, WorkerLostError)])
def test_lost_workers_are_no_matter_of_on(error):
    with pytest.raises(ConfigError, match="have a budget of their own: lost="):
        Retry(3, on=error)
