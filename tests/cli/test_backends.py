"""`parapluie backends`: what is there, what it can do, what is broken, and that nothing heavy is imported for it."""

from __future__ import annotations

import json

import pytest

from parapluie import registry
from parapluie.backend import BackendInfo, Capabilities
from parapluie.builtin import BACKENDS
from parapluie.facts import FACTS
from parapluie.hookspecs import hookimpl

MODULE = "engine_that_must_not_be_imported"


def cannot_be_told(options):
    raise ValueError("no such engine")


class Plugin:
    """Offers a backend that works, one that lacks what it needs, one that tells nothing, and none with a module."""

    @hookimpl
    def parapluie_backends(self):
        return [
            BackendInfo("far", "on other machines", f"{MODULE}:Far", lambda _: Capabilities(distributed=True)),
            BackendInfo("lacking", "for tests", f"{MODULE}:X", lambda _: Capabilities(), extra="no-such-thing>=2"),
            BackendInfo("silent", "for tests", f"{MODULE}:X", cannot_be_told),
            BackendInfo("hidden", "for tests", f"{MODULE}:X", lambda _: Capabilities(), options=f"{MODULE}:Options"),
        ]


@pytest.fixture
def plugin():
    registry.reset()
    registry.register(Plugin(), "some-plugin")
    yield
    registry.reset()


def listed(invoke):
    done = invoke("backends", "--json")
    assert done.exit_code == 0
    return {one["name"]: one for one in json.loads(done.stdout)}


def test_every_backend_is_listed_with_what_it_can_do(invoke, plugin):
    found = listed(invoke)
    for info in BACKENDS:
        one = found[info.name]
        assert (one["distribution"], one["available"], one["summary"]) == ("parapluie", True, info.summary)
        assert one["capabilities"] == json.loads(json.dumps(info.capabilities(None)._asdict()))
    assert found["far"]["capabilities"]["distributed"] is True


def test_what_cannot_be_used_says_why_and_what_to_install(invoke, plugin):
    one = listed(invoke)["lacking"]
    assert (one["available"], one["why_not"]) == (False, "no-such-thing is not installed; install no-such-thing>=2")
    assert listed(invoke)["silent"]["capabilities"] is None


def test_broken_plugin_is_listed_with_its_distribution_and_error(invoke, broken):
    one = listed(invoke)["broken"]
    assert (one["distribution"], one["version"], one["available"]) == ("parapluie-broken", "1.0", False)
    assert "No module named 'no_such_module_here'" in one["why_not"]
    assert one["capabilities"] is None
    assert "process" in listed(invoke)


def test_list_for_people_names_for_each_fact_who_can(invoke, plugin):
    lines = invoke("backends").stdout.splitlines()
    rows = {line.split("  ")[0]: line for line in lines if line}
    for words in FACTS.values():
        assert words.replace("`", "") in rows
    assert rows["workers may be on other machines"].endswith("  far")
    assert rows["runs tasks in the thread that submits"].endswith("  serial")
    assert "registered by hand" in rows["far"]
    assert "  no  " in rows["lacking"] and "install no-such-thing>=2" in rows["lacking"]


def test_one_is_shown_with_its_options(invoke):
    done = invoke("backends", "serial")
    assert done.stdout.startswith("serial: one task after the other")
    assert "  yes  runs tasks in the thread that submits\n" in done.stdout
    assert "  no   survives a dead worker\n" in done.stdout
    assert "  pickle_round_trip: bool, default: False\n      pickle tasks and results, as" in done.stdout
    found = json.loads(invoke("backends", "serial", "--json").stdout)
    (option,) = found["options"]
    assert (option["name"], option["type"], option["required"], option["default"]) == (
        "pickle_round_trip", "bool", False, "False",
    )  # fmt: skip


def test_one_without_options_says_so(invoke):
    done = invoke("backends", "process")
    assert "It has no options of its own." in done.stdout
    assert "start methods: " in done.stdout


def test_options_that_cannot_be_imported_are_told(invoke, plugin):
    done = invoke("backends", "hidden")
    assert done.exit_code == 0
    assert f"its options cannot be told: backend 'hidden' (plugin 'some-plugin') cannot start: module '{MODULE}'" in (
        done.stdout
    )


def test_unknown_backend_is_one_line_with_the_nearest_and_the_broken_ones(invoke, broken):
    done = invoke("backends", "proces")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("parapluie: unknown backend 'proces'; available: futures, ")
    assert "Did you mean 'process'?; plugin 'broken' of parapluie-broken 1.0 cannot be used" in done.stderr
    assert done.stderr.count("\n") == 1
