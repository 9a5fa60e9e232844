from __future__ import annotations

import marshal
import subprocess
import sys
import threading
import types
from concurrent.futures import ThreadPoolExecutor, wait

import pytest

from parapluie import registry
from parapluie.backend import BackendInfo, Capabilities, NoOptions
from parapluie.builtin import BACKENDS
from parapluie.errors import BackendError, ConfigError, PluginError, UnknownBackendError
from parapluie.hookspecs import hookimpl
from parapluie.serializer import SerializerInfo


def describe(name="mine", path="fake_mine:Engine", **fields):
    return BackendInfo(name, "for tests", path, lambda options: Capabilities(), **fields)


def plugin(*infos, name="handmade", serializers=()):
    module = types.ModuleType(name)
    vars(module).update(
        backends=hookimpl(specname="parapluie_backends")(lambda: infos),
        serializers=hookimpl(specname="parapluie_serializers")(lambda: serializers),
    )
    return module


@pytest.mark.parametrize("name", ["serial", "thread", "process", "pool", "futures", "manager"])
def test_builtin_name_is_found_without_plugins(name):
    program = (
        "import sys\n"
        "from parapluie import registry\n"
        f"assert registry.find({name!r}).name == {name!r}\n"
        "print({'pluggy', 'importlib.metadata', 'attrs', 'attr', 'cattrs'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_builtin_backends_come_through_the_hook_too():
    assert registry.infos(scan=False) == BACKENDS
    assert registry.infos()[: len(BACKENDS)] == BACKENDS
    lines = {line.name: line for line in registry.explain()}
    for info in BACKENDS:
        assert lines[info.name].distribution == "parapluie"
        assert lines[info.name].available
        assert lines[info.name].summary == info.summary


def test_builtin_name_is_found_after_a_scan():
    registry.infos()
    assert registry.find("process") is next(info for info in BACKENDS if info.name == "process")


def test_plugin_is_found_by_its_entry_point(install_fine):
    module = install_fine()
    info = registry.find("fine")
    assert info.name == "fine"
    assert info in registry.infos()
    assert f"{module}_engine" not in sys.modules, "listing backends imports no engine"
    assert registry.load(info).__name__ == "Engine"
    assert registry.options_class(info) is NoOptions
    assert registry.Explanation("fine", "parapluie-fine", "1.2", True, "", "for tests") in registry.explain()  # noqa: FBT003


def test_entry_points_are_loaded_once(install):
    source = """
        from parapluie.hookspecs import hookimpl
        calls = []
        @hookimpl
        def parapluie_backends():
            calls.append(1)
            return []
    """
    install("parapluie-counts", "1.0", "counts = fake_counts", fake_counts=source)
    barrier = threading.Barrier(4)

    def ask():
        barrier.wait()
        with pytest.raises(UnknownBackendError):
            registry.find("nobody's")

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    registry.explain()
    assert sys.modules["fake_counts"].calls == [1]


def test_who_asks_during_a_scan_waits_for_its_end(install):
    source = """
        import parapluie
        parapluie.test_importing.set()
        assert parapluie.test_go.wait(30)
        from fake_slow_rest import *
    """
    rest = """
        from parapluie.backend import BackendInfo, Capabilities
        from parapluie.hookspecs import hookimpl
        @hookimpl
        def parapluie_backends():
            return [BackendInfo("slow", "for tests", "fake_slow:Engine", lambda options: Capabilities())]
    """
    install("parapluie-slow", "1.0", "slow = fake_slow", fake_slow=source, fake_slow_rest=rest)
    importing, go = threading.Event(), threading.Event()
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(2) as pool:
        patch.setattr("parapluie.test_importing", importing, raising=False)
        patch.setattr("parapluie.test_go", go, raising=False)
        first = pool.submit(registry.find, "slow")
        assert importing.wait(30)
        second = pool.submit(registry.find, "slow")
        assert wait([second], timeout=0.1).not_done, "it did not wait"
        go.set()
        assert first.result() is second.result()


def test_first_of_two_installations_of_a_distribution_counts(install_fine):
    install_fine(backend="fine", version="1.0")
    install_fine(backend="fine", version="2.0")  # in front of the other one on the path
    assert registry.find("fine")
    assert [line.version for line in registry.explain() if line.name == "fine"] == ["2.0"]


def test_plugin_may_ask_the_registry_while_it_is_imported(install):
    source = """
        from parapluie import registry
        from parapluie.backend import BackendInfo, Capabilities
        from parapluie.hookspecs import hookimpl
        process = registry.find("process")
        names = [info.name for info in registry.infos()]
        @hookimpl
        def parapluie_backends():
            return [BackendInfo("asks", "for tests", "fake_asks:Engine", lambda options: Capabilities())]
    """
    install("parapluie-asks", "1.0", "asks = fake_asks", fake_asks=source)
    assert registry.find("asks").path == "fake_asks:Engine"


def test_unknown_backend_is_answered_with_what_there_is(install_fine):
    install_fine(backend="ray", name="parapluie-ray")
    with pytest.raises(UnknownBackendError, match="unknown backend 'rya'") as caught:
        registry.find("rya")
    assert caught.value.suggestion == "ray"
    assert {"ray", "process"} < set(caught.value.available)
    assert list(caught.value.available) == sorted(caught.value.available)


def test_missing_engine_says_what_to_install(install_fine, monkeypatch):
    module = install_fine(backend="ray", name="parapluie-ray", version="0.3", extra="no-such-ray 2.9 or newer")
    monkeypatch.setitem(sys.modules, f"{module}_engine", None)  # importing it raises ModuleNotFoundError
    info = registry.find("ray")
    with pytest.raises(BackendError) as caught:
        registry.load(info)
    assert str(caught.value) == (
        f"backend 'ray' (parapluie-ray 0.3) cannot start: module '{module}_engine' is not installed; "
        "install no-such-ray 2.9 or newer"
    )
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)
    (line,) = (line for line in registry.explain() if line.name == "ray")
    assert (line.available, line.why_not) == (
        False,
        "no-such-ray is not installed; install no-such-ray 2.9 or newer",
    )


def test_missing_engine_without_a_hint_names_the_package():
    registry.register(plugin(describe(path="fake_absent.backend:Engine")))
    with pytest.raises(BackendError, match=r"module 'fake_absent' is not installed; install fake_absent$"):
        registry.load(registry.find("mine"))


def test_import_error_of_another_kind_suggests_no_package(install_fine, tmp_path):
    module = install_fine()
    (tmp_path / "parapluie-fine-1.2" / f"{module}_engine.py").write_text("from marshal import no_such_name\n")
    with pytest.raises(BackendError, match=r"cannot import name 'no_such_name' from 'marshal' \([^;]*$"):
        registry.load(registry.find("fine"))


def test_engine_that_raises_on_import_is_a_backend_error(install_fine, tmp_path):
    module = install_fine()
    (tmp_path / "parapluie-fine-1.2" / f"{module}_engine.py").write_text("raise RuntimeError('no GPU')\n")
    with pytest.raises(BackendError, match=r"\(parapluie-fine 1\.2\) cannot start: .*RuntimeError: no GPU") as caught:
        registry.load(registry.find("fine"))
    assert isinstance(caught.value.__cause__, RuntimeError)


@pytest.mark.parametrize(
    ("engine", "problem"),
    [
        (print, "is not a class"),
        (dict, "is not a subclass"),
        ("incomplete", "does not implement dispatch, revoke, start, stop"),
    ],
)
def test_class_that_is_no_backend_is_refused(monkeypatch, engine, problem):
    from parapluie.backend import Backend

    module = types.ModuleType("fake_mine")
    vars(module).update(Engine=type("Engine", (Backend,), {}) if engine == "incomplete" else engine)
    monkeypatch.setitem(sys.modules, "fake_mine", module)
    registry.register(plugin(describe()))
    with pytest.raises(PluginError, match=problem):
        registry.load(registry.find("mine"))


def test_options_class_is_imported_from_its_path(monkeypatch):
    module = types.ModuleType("fake_mine")
    vars(module).update(Options=dict)
    monkeypatch.setitem(sys.modules, "fake_mine", module)
    assert registry.options_class(describe(options="fake_mine:Options")) is dict


def test_plugin_can_be_registered_and_removed_by_hand():
    mine = plugin(describe(), serializers=[SerializerInfo("marshal", "for tests", "marshal:dumps")])
    registry.register(mine)
    assert registry.find("mine").path == "fake_mine:Engine"
    registry.unregister(mine)
    with pytest.raises(UnknownBackendError):
        registry.find("mine")
    with pytest.raises(ConfigError):
        registry.serializer("marshal")
    registry.unregister(mine)
    registry.register(mine)
    assert registry.find("mine")


def test_plugin_is_not_registered_twice():
    mine = plugin(describe())
    registry.register(mine)
    for name in (None, "another"):
        with pytest.raises(PluginError, match="registered already"):
            registry.register(mine, name)
    assert registry.find("mine")


def test_plugin_that_is_refused_by_hand_leaves_nothing():
    with pytest.raises(PluginError, match="which is not a BackendInfo"):
        registry.register(plugin(describe(), 3))
    with pytest.raises(UnknownBackendError):
        registry.find("mine")


def test_serializer_of_a_plugin_is_imported():
    registry.register(plugin(serializers=[SerializerInfo("marshal", "for tests", "marshal:dumps")]))
    function: object = registry.serializer("marshal")
    assert function is marshal.dumps


@pytest.mark.parametrize("path", ["fake_absent:dumps", "marshal:no_such", "marshal:version"])
def test_serializer_that_cannot_be_had_is_a_plugin_error(path):
    registry.register(plugin(serializers=[SerializerInfo("broken", "for tests", path)]))
    with pytest.raises(PluginError, match="plugin 'handmade' cannot be used"):
        registry.serializer("broken")


def test_unknown_serializer_is_a_config_error():
    registry.register(plugin(serializers=[SerializerInfo("marshal", "for tests", "marshal:dumps")]))
    with pytest.raises(ConfigError, match=r"available: auto, cloudpickle, marshal, pickle\. Did you mean 'marshal'\?"):
        registry.serializer("marshall")


def test_serializer_offered_twice_is_refused():
    for name in ("one", "two"):
        registry.register(plugin(name=name, serializers=[SerializerInfo("dill", "for tests", "dill:dumps")]))
    with pytest.raises(PluginError, match="plugin 'one' and plugin 'two' both offer serializer 'dill'"):
        registry.serializer("dill")


def test_name_of_a_builtin_serializer_cannot_be_offered():
    with pytest.raises(PluginError, match="'pickle' is built in"):
        registry.register(plugin(serializers=[SerializerInfo("pickle", "for tests", "marshal:dumps")]))
