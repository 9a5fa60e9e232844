from __future__ import annotations

import multiprocessing
import subprocess
import sys
import types
from fractions import Fraction
from typing import Any, Optional

import attrs
import pytest

from parapluie import registry, settings
from parapluie.backend import Backend, BackendInfo, Capabilities, NoOptions
from parapluie.cpus import usable_cpus
from parapluie.errors import CapabilityError, ConfigError, PluginError, UnknownBackendError
from parapluie.hookspecs import hookimpl
from parapluie.serializer import SerializerInfo
from parapluie.settings import resolve

SPAWN = multiprocessing.get_context("spawn")
OTHER_THAN_SPAWN = [method for method in multiprocessing.get_all_start_methods() if method != "spawn"]
needs_choice = pytest.mark.skipif(not OTHER_THAN_SPAWN, reason="the platform only has the start method spawn")


@attrs.frozen
class Options:
    loud: bool = False
    tries: int = attrs.field(default=1, validator=attrs.validators.gt(0))
    weight: float = 1.0
    address: str | None = None
    queue: Optional[str] = None  # noqa: UP045 - the older spelling is another type
    size: int = attrs.field(default=1, converter=int)
    anything: object = None
    _hidden: int = 0


@attrs.frozen
class Needy:
    address: str


@attrs.frozen
class Unresolved:
    address: NoSuchType = None  # type: ignore[name-defined]  # noqa: F821


@pytest.fixture(autouse=True)
def offer(monkeypatch):
    """Offer backends by hand: by name, their capabilities and their options class."""

    def offer(name, capabilities=Capabilities(), options=None, serializers=()):  # noqa: B008 - immutable
        engine = types.ModuleType(f"fake_{name}")
        vars(engine).update(Options=options)
        monkeypatch.setitem(sys.modules, engine.__name__, engine)
        info = BackendInfo(
            name,
            "for tests",
            f"{engine.__name__}:Engine",
            capabilities if callable(capabilities) else lambda options: capabilities,
            options=f"{engine.__name__}:Options" if options else None,
        )
        plugin = types.ModuleType(f"{name} plugin")
        vars(plugin).update(
            backends=hookimpl(specname="parapluie_backends")(lambda: [info]),
            serializers=hookimpl(specname="parapluie_serializers")(lambda: serializers),
        )
        registry.register(plugin)

    registry.reset()
    yield offer
    registry.reset()


def test_defaults():
    found = resolve("process")
    assert found.info.name == "process"
    assert found.capabilities.isolated_memory
    assert isinstance(found.options, NoOptions)
    assert found.max_workers == usable_cpus()
    assert (found.initializer, found.initargs) == (None, ())
    assert (found.max_tasks_per_child, found.task_timeout, found.start_timeout) == (None, None, 60.0)
    assert (found.pickle_check, found.serializer) == ("auto", "auto")


@pytest.mark.parametrize("name", ["thread", "process"])
def test_backend_without_options_is_resolved_without_attrs_and_plugins(name):
    program = (
        "import sys\n"
        "from parapluie.settings import resolve\n"
        f"resolve({name!r}, max_workers=2)\n"
        "print({'attr', 'attrs', 'cattrs', 'pluggy', 'importlib.metadata'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("backend", [None, 3, ["process"]])
def test_backend_is_a_name(backend):
    with pytest.raises(ConfigError, match="is neither the name of a backend nor a Backend"):
        resolve(backend)


class Handmade(Backend):
    def start(self, host): ...
    def dispatch(self, calls, /): ...
    def revoke(self, call_id, *, running=False, item=None): ...
    def stop(self, stop): ...


def test_backend_that_exists_is_described_by_its_plugin(offer):
    offer("handmade", lambda options: Capabilities(shared_state=options.loud), options=Options)
    vars(sys.modules["fake_handmade"]).update(Engine=Handmade)
    for cls in (Handmade, type("Derived", (Handmade,), {})):
        found = resolve(cls(Options(loud=True)))
        assert (found.info.name, found.options) == ("handmade", Options(loud=True))
        assert found.capabilities.shared_state


def test_backend_that_nobody_describes_can_do_the_least():
    found = resolve(Handmade())
    assert (found.info.name, found.capabilities) == ("Handmade", Capabilities())
    assert isinstance(found.options, NoOptions)
    with pytest.raises(CapabilityError):
        resolve(Handmade(), task_timeout=1)


def test_backend_that_exists_takes_no_options():
    with pytest.raises(ConfigError, match="options {'loud': True} came too late"):
        resolve(Handmade(), options={"loud": True})


def test_unknown_backend():
    with pytest.raises(UnknownBackendError, match="Did you mean 'process'"):
        resolve("proces")


@pytest.mark.parametrize("value", [0, -1, -(10**30)])
def test_max_workers_has_a_lower_bound(value):
    with pytest.raises(ConfigError, match=rf"max_workers={value} .*max_workers must be greater than 0"):
        resolve("thread", max_workers=value)


def test_max_workers_has_an_upper_bound():
    assert resolve("thread", max_workers=100_000).max_workers == 100_000
    with pytest.raises(ConfigError, match=r"max_workers=100001 .*at most 100000"):
        resolve("thread", max_workers=100_001)


@pytest.mark.parametrize("value", ["two", "2", 2.0, True, float("nan"), [2]])
def test_max_workers_is_an_integer(value):
    with pytest.raises(ConfigError, match=r"max_workers=.* is not a positive integer"):
        resolve("thread", max_workers=value)


@pytest.mark.parametrize("name", ["task_timeout", "start_timeout"])
class TestSeconds:
    @pytest.mark.parametrize("value", ["5", True, float("nan"), [5], 1j])
    def test_are_a_number(self, name, value):
        with pytest.raises(ConfigError, match=f"{name}=.* is not a positive number of seconds"):
            resolve("process", **{name: value})

    @pytest.mark.parametrize("value", [0, -0.5, float("-inf")])
    def test_are_positive(self, name, value):
        with pytest.raises(ConfigError, match=f"{name}={value} .*{name} must be greater than 0"):
            resolve("process", **{name: value})

    @pytest.mark.parametrize("value", [float("inf"), 10**400, settings.LONGEST * 2], ids=["inf", "huge", "months"])
    def test_can_be_waited_for(self, name, value):
        with pytest.raises(ConfigError, match=f"{name} must be at most 4000000 seconds"):
            resolve("process", **{name: value})

    @pytest.mark.parametrize("value", [1, 0.5, Fraction(1, 2)])
    def test_become_a_float(self, name, value):
        seconds = getattr(resolve("process", **{name: value}), name)
        assert seconds == value
        assert type(seconds) is float


def test_start_timeout_is_needed():
    with pytest.raises(ConfigError, match="start_timeout=None"):
        resolve("process", start_timeout=None)  # type: ignore[arg-type]


def test_task_timeout_needs_a_backend_that_kills():
    with pytest.raises(CapabilityError, match=r"'thread' cannot honour task_timeout=5: it cannot stop") as caught:
        resolve("thread", task_timeout=5)
    assert caught.value.able == ("process", "pool", "futures", "manager")


def test_backends_of_loaded_plugins_are_named_as_able(offer):
    offer("killer", Capabilities(kills_running_task=True))
    offer("liar", lambda options: 1 / 0)
    with pytest.raises(CapabilityError) as caught:
        resolve("thread", task_timeout=5)
    assert caught.value.able == ("process", "pool", "futures", "manager", "killer")


def test_max_tasks_per_child():
    assert resolve("futures", max_tasks_per_child=3, start_method="spawn").max_tasks_per_child == 3
    with pytest.raises(CapabilityError) as caught:
        resolve("thread", max_tasks_per_child=3)
    assert caught.value.able == ("process", "pool", "futures", "manager")
    with pytest.raises(ConfigError, match="max_tasks_per_child must be greater than 0"):
        resolve("process", max_tasks_per_child=0)


def test_initializer(offer):
    found = resolve("thread", initializer=print, initargs=iter("ab"))
    assert (found.initializer, found.initargs) == (print, ("a", "b"))
    with pytest.raises(ConfigError, match="initializer='print' is not callable"):
        resolve("thread", initializer="print")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="initargs=3 is not iterable"):
        resolve("thread", initializer=print, initargs=3)  # type: ignore[arg-type]
    offer("bare", Capabilities(initializer=False))
    with pytest.raises(CapabilityError, match="'bare' cannot honour initializer="):
        resolve("bare", initializer=print)


@pytest.mark.parametrize(
    ("platform", "methods", "expected"),
    [
        ("linux", ("fork", "spawn", "forkserver"), "forkserver"),
        ("linux", ("fork", "spawn"), "spawn"),
        ("darwin", ("spawn", "fork", "forkserver"), "spawn"),
        ("win32", ("spawn",), "spawn"),
    ],
)
def test_default_start_method_is_safe(monkeypatch, offer, platform, methods, expected):
    if expected not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this platform has no {expected}")
    offer("starter", Capabilities(start_methods=methods))
    monkeypatch.setattr(sys, "platform", platform)
    found = resolve("starter")
    assert (found.start_method, found.context.get_start_method()) == (expected, expected)


@pytest.mark.parametrize(
    "parameters", [{"start_method": "spawn"}, {"mp_context": "spawn"}, {"mp_context": SPAWN, "start_method": "spawn"}]
)
def test_start_method_can_be_chosen(parameters):
    found = resolve("process", **parameters)
    assert (found.start_method, found.context.get_start_method()) == ("spawn", "spawn")


def test_context_is_used_as_it_is():
    assert resolve("process", mp_context=SPAWN).context is SPAWN


@needs_choice
@pytest.mark.parametrize("context", [SPAWN, "spawn"])
def test_start_method_may_not_contradict_the_context(context):
    with pytest.raises(ConfigError, match="contradicts"):
        resolve("process", mp_context=context, start_method=OTHER_THAN_SPAWN[0])


@pytest.mark.parametrize("parameter", ["start_method", "mp_context"])
@pytest.mark.parametrize("value", ["spwan", 3, object()])
def test_unknown_start_method(parameter, value):
    with pytest.raises(ConfigError, match=f"{parameter}=.* is not allowed; allowed: .*'spawn'") as caught:
        resolve("process", **{parameter: value})
    assert ("Did you mean 'spawn'?" in str(caught.value)) == (value == "spwan")


def test_context_of_an_unknown_start_method():
    class Context(multiprocessing.context.BaseContext):
        _name = "loky"

        def get_start_method(self, allow_none=False):  # noqa: FBT002
            return self._name

    with pytest.raises(ConfigError, match="start method of mp_context='loky' is not allowed"):
        resolve("process", mp_context=Context())


@pytest.mark.parametrize("backend", ["serial", "thread"])
@pytest.mark.parametrize("parameters", [{"start_method": "spawn"}, {"mp_context": SPAWN}])
def test_backend_without_start_methods_refuses_them(backend, parameters, monkeypatch):
    monkeypatch.setattr(settings, "_make_options", lambda info, options: NoOptions())
    with pytest.raises(CapabilityError) as caught:
        resolve(backend, **parameters)
    assert caught.value.able == ("process", "pool", "futures", "manager")


def test_backend_without_start_methods_has_a_context():
    found = resolve("thread")
    assert found.start_method is None
    assert found.context.get_start_method() in multiprocessing.get_all_start_methods()


def test_caller_counts_as_one_worker(offer):
    offer("inline", Capabilities(runs_in_caller=True))
    assert resolve("inline").max_workers == 1
    assert resolve("inline", max_workers=3).max_workers == 3


def test_pickle_check():
    assert resolve("process", pickle_check="raise").pickle_check == "raise"
    with pytest.raises(ConfigError, match=r"pickle_check='rise' is not allowed; .*'auto', 'raise'\. Did you mean 'ra"):
        resolve("process", pickle_check="rise")


def test_serializer(offer):
    assert resolve("process", serializer="cloudpickle").serializer == "cloudpickle"
    offer("packer", serializers=[SerializerInfo("marshal", "for tests", "marshal:dumps")])
    assert resolve("process", serializer="marshal").serializer == "marshal"
    with pytest.raises(ConfigError, match=r"unknown serializer 'cloudpikle'.*Did you mean 'cloudpickle'"):
        resolve("process", serializer="cloudpikle")
    with pytest.raises(ConfigError, match="serializer=None is not the name"):
        resolve("process", serializer=None)  # type: ignore[arg-type]


@pytest.mark.parametrize(("option", "meant"), [("max_worker", "max_workers"), ("timeout", "task_timeout")])
def test_unknown_option_of_a_backend_without_options(option, meant):
    with pytest.raises(ConfigError, match=f"unknown option {option}=3 for backend 'process'.*Did you mean '{meant}'"):
        resolve("process", options={option: 3})


def test_unknown_option_of_a_backend_with_options(offer):
    offer("optional", options=Options)
    with pytest.raises(ConfigError) as caught:
        resolve("optional", options={"adress": "here"})
    assert "its options: address, anything, hidden, loud, queue, size, tries, weight" in str(caught.value)
    assert "Did you mean 'address'?" in str(caught.value)


def test_options_are_made(offer):
    offer("optional", lambda options: Capabilities(shared_state=options is not None and options.loud), options=Options)
    assert resolve("optional").options == Options()
    given: dict[str, Any] = {
        "loud": True,
        "tries": 2,
        "weight": 3,
        "address": None,
        "queue": "q",
        "size": "4",
        "hidden": 5,
    }
    found = resolve("optional", options=given)
    assert found.options == Options(**given)
    assert found.capabilities.shared_state


@pytest.mark.parametrize(
    "given",
    [
        {"loud": "yes"},
        {"loud": 1},
        {"tries": True},
        {"tries": 1.0},
        {"tries": None},
        {"weight": "1"},
        {"weight": False},
        {"address": 3},
        {"queue": 3},
        {"hidden": "x"},
    ],
)
def test_option_of_a_wrong_type(offer, given):
    offer("optional", options=Options)
    ((name, value),) = given.items()
    with pytest.raises(ConfigError, match=f"{name}={value!r} .option of backend 'optional'. is not "):
        resolve("optional", options=given)


@pytest.mark.parametrize("given", [{"tries": 0}, {"size": "x"}])
def test_option_that_its_class_refuses(offer, given):
    offer("optional", options=Options)
    with pytest.raises(ConfigError, match="of backend 'optional' are refused: ") as caught:
        resolve("optional", options=given)
    assert repr(given) in str(caught.value)
    assert isinstance(caught.value.__cause__, ValueError)


def test_option_without_a_default_is_needed(offer):
    offer("needy", options=Needy)
    with pytest.raises(ConfigError, match="backend 'needy' needs the option 'address'"):
        resolve("needy")


def test_option_whose_type_cannot_be_resolved_is_not_checked(offer):
    offer("lazy", options=Unresolved)
    assert resolve("lazy", options={"address": 3}).options == Unresolved(3)


def test_options_class_that_is_not_of_attrs_is_a_plugin_error(offer):
    offer("plain", options=type("Plain", (), {}))
    with pytest.raises(PluginError, match="is not an attrs class"):
        resolve("plain")


@pytest.mark.parametrize("capabilities", [lambda options: 1 / 0, lambda options: {"initializer": True}])
def test_capabilities_that_cannot_be_told_are_a_plugin_error(offer, capabilities):
    offer("liar", capabilities)
    with pytest.raises(PluginError, match="the capabilities of backend 'liar'"):
        resolve("liar")


def test_parameters_are_those_of_the_executor():
    executor = pytest.importorskip("parapluie.executor", exc_type=ImportError)
    import inspect

    parameters = inspect.signature(executor.Executor.__init__).parameters.values()
    named = {parameter.name for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD}
    assert set(settings.PARAMETERS) == named - {"self"}
