"""Observers that come with distributions: found by the names of their entry points."""

from __future__ import annotations

import sys

import pytest

from parapluie import ConfigError, Executor, PluginError, registry

METRICS = """
from parapluie.hookspecs import hookimpl

done = []


@hookimpl
def parapluie_task_done(event):
    done.append(event.task_id)
"""


@pytest.fixture
def metrics(install):
    install("parapluie-metrics", "1.0", "metrics = fake_metrics", fake_metrics=METRICS)


def test_observer_that_is_named_is_loaded(metrics):
    with Executor("thread", observers=["metrics"]) as executor:
        assert executor.submit(abs, -1).result() == 1
    assert sys.modules["fake_metrics"].done == [1]


def test_nothing_is_loaded_for_a_built_in_backend_without_observers(metrics):
    with Executor("thread") as executor:
        assert executor.submit(abs, -1).result() == 1
    assert "fake_metrics" not in sys.modules


def test_plugins_that_are_loaded_observe_what_is_made_from_then_on(metrics):
    with Executor("thread") as before:
        registry.explain()
        with Executor("thread") as after:
            after.submit(abs, -1).result()
        before.submit(abs, -1).result()
    assert sys.modules["fake_metrics"].done == [1]


def test_name_that_is_nobodys_is_refused_with_the_nearest(metrics):
    with pytest.raises(ConfigError, match="unknown observer 'metrix'; plugins: .*metrics.*Did you mean 'metrics'"):
        Executor("thread", observers=["metrix"])


def test_observer_that_is_broken_says_why(install):
    install("parapluie-metrics", "1.0", "metrics = fake_metrics", fake_metrics="import fake_absent")
    with pytest.raises(PluginError, match="parapluie-metrics 1.0.*No module named 'fake_absent'") as caught:
        Executor("thread", observers=["metrics"])
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_plugin_that_observes_nothing_is_refused(install_fine):
    install_fine("fine", "parapluie-fine")
    with pytest.raises(PluginError, match="plugin 'fine' cannot be used: .*no hook for observers"):
        Executor("thread", observers=["fine"])
