from __future__ import annotations

import pytest

from parapluie import registry
from parapluie.builtin import BACKENDS
from parapluie.errors import PluginError, UnknownBackendError

HEAD = """
from parapluie.backend import BackendInfo, Capabilities
from parapluie.hookspecs import hookimpl
"""

BROKEN = {  # the source of a plugin's module: what its error says
    "import fake_absent": "ModuleNotFoundError: No module named 'fake_absent'",
    "raise SystemExit(3)": "SystemExit: 3",
    "x = 1": "it implements no hook of parapluie",
    "@hookimpl\ndef parapluie_backends(colour): return []": "hookimpl definition: parapluie_backends(colour)",
    "@hookimpl\ndef parapluie_backend(): return []": "unknown hook 'parapluie_backend'",
    "@hookimpl\ndef parapluie_backends(): raise RuntimeError('boom')": "hook parapluie_backends: RuntimeError: boom",
    "@hookimpl\ndef parapluie_backends(): raise SystemExit(4)": "hook parapluie_backends: SystemExit: 4",
    "@hookimpl\ndef parapluie_backends(): pass": "'NoneType' object is not iterable",
    "@hookimpl(wrapper=True)\ndef parapluie_backends(): return (yield)": "None, which is not a BackendInfo",
    "@hookimpl(wrapper=True)\ndef parapluie_task_done(): return (yield)": "cannot be implemented by a wrapper",
    "@hookimpl\ndef parapluie_task_done(colour): pass": "hookimpl definition: parapluie_task_done(colour)",
    "@hookimpl\ndef parapluie_backends(): return 3": "'int' object is not iterable",
    "@hookimpl\ndef parapluie_backends(): return ['broken']": "'broken', which is not a BackendInfo",
    "@hookimpl\ndef parapluie_serializers(): raise RuntimeError('bang')": "hook parapluie_serializers: RuntimeError",
    "@hookimpl\ndef parapluie_backends(): return [BackendInfo('a b', 's', 'm:C', print)]": "name='a b' is not a name",
    "@hookimpl\ndef parapluie_backends(): return [BackendInfo('b', '', 'm:C', print)]": "summary='' of 'b'",
    "@hookimpl\ndef parapluie_backends(): return [BackendInfo('b', 's', 'm.C', print)]": "path='m.C' is not a path",
    "@hookimpl\ndef parapluie_backends(): return [BackendInfo('b', 's', 'm:C', None)]": "capabilities=None of backend",
    "@hookimpl\ndef parapluie_backends(): return [BackendInfo('b', 's', 'm:C', print, options=3)]": "options=3 is not",
    "@hookimpl\ndef parapluie_backends(): return [BackendInfo('b', 's', 'm:C', print, extra=3)]": "extra=3 of backend",
}


@pytest.fixture(params=BROKEN.items(), ids=range(len(BROKEN)))
def problem(request, install, install_fine):
    """Install a broken plugin, which is loaded before a fine one called `later`; return what its error says."""
    source, problem = request.param
    install_fine("later", "parapluie-later")
    install("parapluie-broken", "0.3", "broken = fake_broken", fake_broken=HEAD + source)
    return problem


def test_broken_plugin_is_explained_and_the_others_work(problem, install_fine):
    install_fine()
    assert registry.find("fine").name == "fine"
    assert registry.find("later").name == "later"
    (line,) = (line for line in registry.explain() if line.name == "broken")
    assert (line.distribution, line.version, line.available) == ("parapluie-broken", "0.3", False)
    assert line.why_not.startswith("plugin 'broken' of parapluie-broken 0.3 cannot be used: ")
    assert problem in line.why_not
    assert "\n" not in line.why_not
    assert {info.name for info in registry.infos()} >= {"fine", *(info.name for info in BACKENDS)}
    assert "b" not in {info.name for info in registry.infos()}


def test_choosing_the_broken_plugin_raises_with_its_cause(problem):
    for _ in range(2):
        with pytest.raises(PluginError) as caught:
            registry.find("broken")
        assert problem in str(caught.value)
        assert caught.value.distribution == "parapluie-broken 0.3"
        assert caught.value.__cause__ is not None
    with pytest.raises(PluginError):
        registry.serializer("broken")


def test_name_that_nobody_offers_mentions_the_broken_plugin(problem):
    with pytest.raises(UnknownBackendError) as caught:
        registry.find("nobody's")
    assert any("parapluie-broken 0.3" in note and problem in note for note in caught.value.__notes__)


def test_malformed_entry_points_are_explained(install, install_fine):
    install_fine()
    install("parapluie-garbled", "0.1", "no equals sign here")
    assert registry.find("fine")
    (line,) = (line for line in registry.explain() if line.distribution == "parapluie-garbled")
    assert not line.available


def test_unreadable_entry_points_of_others_are_passed_over(install, install_fine):
    install_fine()
    info = install("unrelated", "0.1", "x = y")
    (info / "entry_points.txt").write_bytes(b"[parapluie]\n\xff\xfe")
    assert registry.find("fine")


def test_distribution_without_metadata_works(install_fine, tmp_path):
    install_fine()
    (metadata,) = tmp_path.glob("**/METADATA")
    metadata.unlink()
    assert registry.find("fine")


def test_name_that_two_plugins_offer_is_refused_naming_both(install_fine):
    install_fine(backend="dask", name="parapluie-dask", version="0.2")
    install_fine(backend="dask", name="dask-umbrella", version="1.0")
    install_fine()
    with pytest.raises(PluginError, match=r"both offer backend 'dask'; remove or disable one") as caught:
        registry.find("dask")
    assert "parapluie-dask 0.2" in str(caught.value)
    assert "dask-umbrella 1.0" in str(caught.value)
    assert registry.find("fine").name == "fine"
    assert "dask" not in {info.name for info in registry.infos()}
    lines = [line for line in registry.explain() if line.name == "dask"]
    assert [(line.available, line.why_not) for line in lines] == [(False, str(caught.value))] * 2


def test_builtin_name_that_a_plugin_offers_is_refused_after_a_scan(install_fine):
    install_fine(backend="process", name="impostor", version="6.6")
    assert registry.find("process").path.startswith("parapluie.")
    registry.infos()
    with pytest.raises(PluginError, match=r"parapluie.* and impostor 6\.6 both offer backend 'process'"):
        registry.find("process")
    assert registry.find("thread").name == "thread"


def test_unhashable_plugin_works(install, install_fine):
    source = """
        from parapluie.hookspecs import hookimpl
        class Plugin:
            __hash__ = None
            @hookimpl
            def parapluie_backends(self):
                from parapluie.backend import BackendInfo, Capabilities
                return [BackendInfo("odd", "for tests", "fake_odd:Engine", lambda options: Capabilities())]
        plugin = Plugin()
    """
    install("parapluie-unhashable", "1.0", "unhashable = fake_unhashable:plugin", fake_unhashable=source)
    install_fine()
    assert registry.find("fine")
    assert registry.find("odd")
