"""Settings from the environment and from files: who has the say, what is refused, and where each value comes from."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
import tenacity

from parapluie import (
    CapabilityError,
    Config,
    ConfigError,
    ConfigFileError,
    Executor,
    Retry,
    Shutdown,
    UnknownBackendError,
    registry,
)
from parapluie import config as configuration
from parapluie.backend import BackendInfo, Capabilities
from parapluie.hookspecs import hookimpl

pytestmark = pytest.mark.windows


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty working directory, and no variable of ours."""
    for name in [name for name in os.environ if name.startswith("PARAPLUIE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(configuration, "_told", set())
    return tmp_path


def write(text, name="parapluie.toml", **kwargs):
    Path(name).write_text(text, encoding=kwargs.pop("encoding", "utf-8"), **kwargs)


def settled(profile=None, /, *, path=None, **arguments):
    return Config.find(profile, path=path).settle(arguments)


def values(*args, **kwargs):
    return {name: setting.value for name, setting in settled(*args, **kwargs).settings.items()}


def problems(text, **kwargs):
    write(text, **kwargs)
    with pytest.raises(ConfigFileError) as raised:
        Config.find()
    return [str(problem) for problem in raised.value.problems]


def backend_of(executor):
    with executor:
        return repr(executor).split()[1]


# ---- who has the say --------------------------------------------------------------------------------------------


def test_without_any_source_the_library_decides():
    assert values() == {"backend": "process", "start_timeout": 60.0, "pickle_check": "auto", "serializer": "auto"}


def test_arguments_then_environment_then_profile_then_file_then_library(monkeypatch):
    write('backend = "pool"\nmax_workers = 1\nstart_timeout = 1\n[profiles.a]\nbackend = "futures"\nmax_workers = 2')
    assert values()["backend"] == "pool" and values()["max_workers"] == 1
    assert values("a")["backend"] == "futures" and values("a")["max_workers"] == 2
    assert values("a")["start_timeout"] == 1.0 and values("a")["serializer"] == "auto"
    monkeypatch.setenv("PARAPLUIE_MAX_WORKERS", "3")
    assert values("a")["max_workers"] == 3 and values("a")["backend"] == "futures"
    assert values("a", max_workers=4)["max_workers"] == 4


def test_each_value_keeps_its_origin(monkeypatch):
    write('backend = "thread"\n\n[profiles.a]\npickle_check = "raise"\n')
    monkeypatch.setenv("PARAPLUIE_START_TIMEOUT", "5")
    found = settled("a", max_workers=2)
    origins = {name: setting.origin for name, setting in found.settings.items()}
    name = str(found and Config.find().path)
    assert origins == {
        "max_workers": "argument",
        "start_timeout": "PARAPLUIE_START_TIMEOUT",
        "pickle_check": f"profile 'a' in {name}, line 4",
        "backend": f"{name}, line 1",
        "serializer": "default",
    }


def test_executors_are_made_by_configuration(monkeypatch):
    write('backend = "serial"\n[profiles.threads]\nbackend = "thread"\nmax_workers = 3\n')
    assert backend_of(Executor()) == "backend='serial'"
    assert backend_of(Executor.from_config("threads")) == "backend='thread'"
    assert backend_of(Executor.from_config("threads", backend="serial")) == "backend='serial'"
    assert backend_of(Executor("thread")) == "backend='thread'"
    assert backend_of(Executor(config=Config(), max_workers=1)) == "backend='process'"
    monkeypatch.setenv("PARAPLUIE_PROFILE", "threads")
    executor = Executor()
    assert repr(executor) == "<parapluie.Executor backend='thread' max_workers=3 open>"
    assert backend_of(executor) == "backend='thread'"


def test_subclass_is_made_of_a_profile():
    class Own(Executor):
        def __init__(self, **kwargs):
            super().__init__("thread", **kwargs)

    with Own.from_config(max_workers=1) as executor:
        assert type(executor) is Own and executor.submit(abs, -1).result() == 1


def test_every_setting_can_be_written():
    write(
        'backend = "process"\nmax_workers = 2\nstart_method = "spawn"\nmax_tasks_per_child = 7\ntask_timeout = 9\n'
        'start_timeout = 30\ncapture_output = true\nobservers = ["metrics"]\n'
        'pickle_check = "raise"\nserializer = "pickle"\nshutdown = { drain = false, grace = 1.5 }\n'
        'retry = { attempts = 4, on = ["OSError", "asyncio:QueueFull"], wait = 0.5, stop = 60, lost = 1 }\n'
    )
    found = values()
    retry = found.pop("retry")
    assert isinstance(retry, Retry) and (retry.attempts, retry.lost, retry.wait, retry.stop) == (4, 1, 0.5, 60.0)
    assert [kind.__name__ for kind in retry.on] == ["OSError", "QueueFull"]
    assert found.pop("shutdown") == Shutdown(drain=False, grace=1.5)
    assert found == {
        "backend": "process",
        "max_workers": 2,
        "start_method": "spawn",
        "max_tasks_per_child": 7,
        "task_timeout": 9.0,
        "start_timeout": 30.0,
        "capture_output": True,
        "observers": ("metrics",),
        "pickle_check": "raise",
        "serializer": "pickle",
    }


def test_every_setting_can_be_a_variable(monkeypatch):
    variables = {
        "BACKEND": "serial",
        "MAX_WORKERS": "2",
        "RETRY": '{attempts = 2, on = "OSError", wait = "exponential"}',
        "SHUTDOWN": "{grace = 1}",
        "PICKLE_CHECK": "raise",
        "SERIALIZER": '"pickle"',
        "OPTIONS": "{pickle_round_trip = true}",
        "TASK_TIMEOUT": "1.5",
        "START_TIMEOUT": "7",
        "START_METHOD": "spawn",
        "CAPTURE_OUTPUT": "true",
        "OBSERVERS": '["metrics"]',
        "MAX_TASKS_PER_CHILD": "3",
    }
    for name, text in variables.items():
        monkeypatch.setenv(f"PARAPLUIE_{name}", text)
    found = values()
    assert found.pop("retry").on == (OSError,) and found.pop("shutdown") == Shutdown(grace=1.0)
    assert found == {
        "backend": "serial",
        "max_workers": 2,
        "pickle_check": "raise",
        "serializer": "pickle",
        "options": {"pickle_round_trip": True},
        "task_timeout": 1.5,
        "start_timeout": 7.0,
        "start_method": "spawn",
        "capture_output": True,
        "observers": ("metrics",),
        "max_tasks_per_child": 3,
    }
    with pytest.raises(CapabilityError, match="backend 'serial' cannot honour") as raised:  # it is as strong as these
        Executor()
    assert "backend='serial' comes from PARAPLUIE_BACKEND" in raised.value.__notes__[0]


def test_empty_variable_is_as_if_it_were_not_set(monkeypatch):
    for name in ("BACKEND", "PROFILE", "CONFIG", "MAX_WORKERS"):
        monkeypatch.setenv(f"PARAPLUIE_{name}", "")
    assert values()["backend"] == "process"


def test_false_takes_away_what_a_weaker_source_wants(monkeypatch):
    write("task_timeout = 5\nretry = 3\nmax_workers = 2\n[profiles.long]\ntask_timeout = false\nretry = false")
    assert values()["task_timeout"] == 5.0 and values()["retry"] == 3
    assert not {"task_timeout", "retry"} & set(values("long")) and values("long")["max_workers"] == 2
    monkeypatch.setenv("PARAPLUIE_MAX_WORKERS", "false")
    assert "max_workers" not in values("long")


def test_retry_may_be_a_number_and_stop_a_time():
    write("retry = 3")
    with Executor("thread") as executor:
        assert executor.submit(flaky, []).result() == 3
    policy = Retry(stop=1.5)
    assert policy.stop == 1.5 and Retry(stop=tenacity.stop_never).stop is tenacity.stop_never
    for wrong in (-1, "x", True, float("nan")):
        with pytest.raises(ConfigError, match=r"^Retry\(stop=.*\) is not a number of seconds from 0, or a tenacity"):
            Retry(stop=wrong)


def test_no_attempt_begins_when_the_time_is_up():
    with Executor("thread", retry=Retry(5, stop=0, wait=0)) as executor:
        future = executor.submit(flaky, [])
        assert isinstance(future.exception(), OSError) and future.attempts == 1


def flaky(calls):
    calls.append(1)
    if len(calls) < 3:
        raise OSError("again")
    return len(calls)


def test_context_given_in_code_decides_about_the_start_method():
    write('start_method = "spawn"')
    config = Config.find()
    found = configuration.settle({"mp_context": None, "start_method": None}, config, decided=("start_method",))
    assert "start_method" not in found.settings
    import multiprocessing

    method = multiprocessing.get_all_start_methods()[-1]
    with Executor(mp_context=method, max_workers=1) as executor:
        assert executor.submit(abs, -2).result() == 2


# ---- what belongs to a backend ----------------------------------------------------------------------------------


def test_options_are_taken_for_the_backend_that_they_are_meant_for(monkeypatch):
    write(
        'backend = "serial"\noptions = { pickle_round_trip = true }\n'
        '[profiles.other]\nbackend = "thread"\n[profiles.same]\nbackend = "serial"\n[profiles.workers]\nmax_workers = 1'
    )
    options = {"pickle_round_trip": True}
    assert values()["options"] == values("same")["options"] == values("workers")["options"] == options
    assert "options" not in values("other") and "options" not in values(backend="pool")
    assert values(backend="serial")["options"] == options
    monkeypatch.setenv("PARAPLUIE_BACKEND", "process")
    assert "options" not in values("same")
    monkeypatch.setenv("PARAPLUIE_OPTIONS", "{x = 1}")
    assert values()["options"] == {"x": 1}


def test_what_the_chosen_backend_cannot_is_left_out_where_a_weaker_source_wants_it(monkeypatch, caplog):
    write('backend = "process"\ntask_timeout = 60\nmax_tasks_per_child = 5\nstart_method = "spawn"\nretry = 2')
    caplog.set_level(logging.INFO, "parapluie")
    with Executor("thread") as executor:
        assert executor.submit(abs, -3).result() == 3
    assert set(settled(backend="thread").left_out) == {"task_timeout", "max_tasks_per_child", "start_method"}
    assert "left out, since this backend cannot: " in caplog.text and "task_timeout=60.0" in caplog.text
    assert set(settled(backend="pool").left_out) == set()
    monkeypatch.setenv("PARAPLUIE_TASK_TIMEOUT", "5")
    assert "task_timeout" in settled(backend="thread").left_out
    with pytest.raises(CapabilityError, match="'thread' cannot honour task_timeout=3"):  # who asks in code is told
        Executor("thread", task_timeout=3)
    monkeypatch.setenv("PARAPLUIE_BACKEND", "thread")
    with pytest.raises(CapabilityError, match="'thread' cannot honour task_timeout=5"):
        Executor()


def test_start_method_that_the_chosen_backend_has_not_is_left_out():
    class Plugin:
        @hookimpl
        def parapluie_backends(self):
            capabilities = Capabilities(start_methods=("spawn",))
            return [BackendInfo("spawner", "only spawns", "nowhere:Spawner", lambda options: capabilities)]

    registry.register(Plugin())
    try:
        write('backend = "process"\nstart_method = "fork"')
        assert set(settled(backend="spawner").left_out) == {"start_method"}
        write('backend = "process"\nstart_method = "spawn"')
        assert set(settled(backend="spawner").left_out) == set()
    finally:
        registry.reset()


def test_backend_that_exists_already_takes_what_it_can():
    from parapluie.backends.serial import SerialBackend

    write('backend = "process"\ntask_timeout = 60\noptions = { x = 1 }\nmax_workers = 1')
    with Executor(SerialBackend(None)) as executor:
        assert executor.submit(abs, -4).result() == 4


# ---- finding the file -------------------------------------------------------------------------------------------


def test_nearest_file_upward_counts(folder, monkeypatch):
    below = folder / "with space" / "größe"
    below.mkdir(parents=True)
    write('backend = "thread"')
    monkeypatch.chdir(below)
    assert values()["backend"] == "thread"
    (below.parent / "pyproject.toml").write_text("[project]\nname = 'x'\n[tool.other]\nparapluie = 1\n")
    assert values()["backend"] == "thread"  # that one says nothing to us
    (below.parent / "pyproject.toml").write_text('[tool.parapluie]\nbackend = "pool"\n')
    assert values()["backend"] == "pool" and Config.find().path.name == "pyproject.toml"
    (below.parent / "parapluie.toml").write_text('backend = "futures"')
    assert values()["backend"] == "futures"


def test_pyproject_that_is_not_toml_is_not_ours_to_complain_of():
    write('backend = "thread"\n')
    Path("below").mkdir()
    os.chdir("below")
    write("[tool.parapluie", "pyproject.toml")
    assert values()["backend"] == "thread"


def test_file_is_named_by_a_variable_or_an_argument(folder, monkeypatch):
    write('backend = "thread"', "one.toml")
    write('[tool.parapluie.profiles.b]\nbackend = "pool"', "pyproject.toml")
    Path("below").mkdir()
    monkeypatch.chdir("below")
    monkeypatch.setenv("PARAPLUIE_CONFIG", str(folder / "one.toml"))
    assert values()["backend"] == "thread"
    assert values("b", path=folder / "pyproject.toml")["backend"] == "pool"
    assert backend_of(Executor.from_config("b", path=str(folder / "pyproject.toml"), backend="serial"))


def test_windows_line_ends_and_byte_order_mark():
    write('backend = "thread"\n\n[profiles.a]\nmax_workers = 0\n', encoding="utf-8-sig", newline="\r\n")
    with pytest.raises(ConfigFileError, match=r"line 4: profiles\.a\.max_workers: found 0"):
        Config.find()
    write('backend = "thread"\n\n[profiles.a]\nmax_workers = 1\n', encoding="utf-8-sig", newline="\r\n")
    assert values("a")["max_workers"] == 1


@pytest.mark.skipif(os.name == "nt", reason="a working directory cannot be removed there")
def test_working_directory_that_was_removed_has_no_file(folder, monkeypatch):
    gone = folder / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert values()["backend"] == "process"
    with pytest.raises(ConfigError, match="^there is no profile 'a': no parapluie.toml"):
        Config.find("a")
    os.chdir(folder)


# ---- what is wrong ----------------------------------------------------------------------------------------------


def test_every_problem_of_a_file_is_listed_with_its_line():
    found = problems(
        'backend = "proces"\n'
        "max_wrkers = 4\n"
        'retry = { attempts = 0, on = ["OSError", 3] }\n'
        'initializer = "x"\n'
        "\n"
        "[profiles.debug]\n"
        "task_timeout = -3\n"
        '[profiles."my cluster"]\n'
        "shutdown = { drian = true }\n"
        "start_method = 'spwan'\n"
        "[profiles.deep.retry]\n"
        "wait = 'x'\n"
        "lost = -1\n"
        "[options]\n"
        "text = '''\n"
        "max_workers = 0\n"
        "'''\n"
    )
    starts = [
        "line 1: backend: found 'proces'; allowed: the name of a backend. Did you mean 'process'?",
        "line 2: max_wrkers: is not a setting; allowed: backend, max_workers, ",
        "line 3: retry.attempts: found 0; allowed: a whole number from 1",
        "line 3: retry.on: found ['OSError', 3]; allowed: import paths of exceptions",
        "line 4: initializer: can be given in code only; allowed: ",
        "line 7: profiles.debug.task_timeout: found -3; allowed: a positive number of seconds, or false for none",
        "line 9: profiles.my cluster.shutdown.drian: is not a setting; allowed: drain, grace. Did you mean 'drain'?",
        "line 10: profiles.my cluster.start_method: found 'spwan'; allowed: 'fork', 'forkserver', 'spawn'",
        "line 12: profiles.deep.retry.wait: found 'x'; allowed: seconds from 0, or 'exponential'",
        "line 13: profiles.deep.retry.lost: found -1; allowed: a whole number from 0",
    ]
    assert len(found) == len(starts)
    for problem, start in zip(found, starts, strict=True):
        assert problem.startswith(start)
    assert found[1].endswith("Did you mean 'max_workers'?")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("backend = ", "line 1: it is not TOML: Invalid value"),
        ("a = 1\nbackend = [", "line 2: it is not TOML: Invalid value"),
        ("backend = 3", "line 1: backend: found 3; allowed: the name of a backend"),
        ("max_workers = true", "line 1: max_workers: found True; allowed: a whole number from 1 to 100000"),
        ("max_workers = '4'", "line 1: max_workers: found '4'; allowed: a whole number from 1 to 100000"),
        ("retry = 0", "line 1: retry: found 0; allowed: a number of attempts from 1, or a table"),
        ("retry = { on = 'os error' }", "line 1: retry.on: found 'os error'; allowed: import paths of exceptions"),
        ("[[retry]]", "line 1: retry: found [{}]; allowed: a number of attempts from 1, or a table"),
        (
            '[options]\na = """\n[profiles.b]\nretry = 1\n"""\n[profiles.b]\nretry = 0',
            "line 7: profiles.b.retry: found 0",
        ),
        ("capture_output = 1", "line 1: capture_output: found 1; allowed: true or false"),
        ("observers = 'metrics'", "line 1: observers: found 'metrics'; allowed: names of entry points"),
        ("options = 1", "line 1: options: found 1; allowed: a table of the backend's own options"),
        ("shutdown = 1", "line 1: shutdown: found 1; allowed: a table"),
        ("profiles = 1", "line 1: profiles: found 1; allowed: tables of settings"),
        ("[profiles]\na = 1", "line 2: profiles.a: found 1; allowed: a table of settings"),
        (
            "pickle_check = 'rise'",
            "line 1: pickle_check: found 'rise'; allowed: 'auto', 'raise'. Did you mean 'raise'?",
        ),
        ("start_timeout = 0", "line 1: start_timeout: found 0; allowed: a positive number of seconds"),
    ],
)
def test_problem_of_a_file(text, problem):
    (found,) = problems(text)
    assert found.startswith(problem)


def test_problems_of_a_pyproject_are_named_by_their_whole_keys():
    write("[project]\nname = 'x'\n\n[tool.parapluie]\nmax_workers = 0\n", "pyproject.toml")
    with pytest.raises(ConfigFileError, match=r"pyproject\.toml: line 5: tool\.parapluie\.max_workers: found 0"):
        Executor()
    write("[tool]\nparapluie = 1\n", "pyproject.toml")
    with pytest.raises(ConfigFileError, match=r"line 2: tool\.parapluie: found 1; allowed: a table"):
        Executor()


def test_file_that_cannot_be_read(folder, monkeypatch):
    with pytest.raises(ConfigFileError, match=r"nowhere\.toml: it cannot be read: ."):
        Config.find(path="nowhere.toml")
    monkeypatch.setenv("PARAPLUIE_CONFIG", str(folder / "other.toml"))
    with pytest.raises(ConfigFileError, match=r"other\.toml: it cannot be read"):
        Executor()
    (folder / "latin.toml").write_bytes(b"# ok\nbackend = '\xff'")
    with pytest.raises(ConfigFileError, match=r"latin\.toml: line 2: it is not UTF-8"):
        Config.find(path=folder / "latin.toml")


def test_profile_that_does_not_exist(monkeypatch):
    with pytest.raises(
        ConfigError, match="^there is no profile 'debug': no parapluie.toml, nor a pyproject.toml with "
    ):
        Executor.from_config("debug")
    write("[profiles.debug]\n[profiles.cluster]\n")
    with pytest.raises(ConfigError, match=r"it has 'debug', 'cluster'\. Did you mean 'debug'\?$"):
        Executor.from_config("debgu")
    write("backend = 'thread'")
    monkeypatch.setenv("PARAPLUIE_PROFILE", "x")
    with pytest.raises(ConfigError, match=r"^there is no profile 'x' in .*parapluie\.toml; it has none$"):
        Executor()


def test_every_problem_of_the_environment_is_listed(monkeypatch):
    monkeypatch.setenv("PARAPLUIE_BAKEND", "thread")
    monkeypatch.setenv("PARAPLUIE_MAX_WORKERS", "two")
    monkeypatch.setenv("PARAPLUIE_RETRY", "{attempts = 0, lots = 1}")
    monkeypatch.setenv("PARAPLUIE_SOMETHING_ELSE_ENTIRELY", "1")  # some plugin's
    monkeypatch.setenv("PARAPLUIE_TESTING_SECONDS", "30")
    with pytest.raises(ConfigError) as raised:
        Executor()
    assert str(raised.value) == (
        "the environment has wrong settings: "
        "PARAPLUIE_BAKEND: is not a variable of ours. Did you mean 'PARAPLUIE_BACKEND'?; "
        "PARAPLUIE_MAX_WORKERS: found 'two'; allowed: a whole number from 1 to 100000, or false for none; "
        "PARAPLUIE_RETRY: attempts: found 0; allowed: a whole number from 1; "
        "PARAPLUIE_RETRY: lots: is not a setting; allowed: attempts, on, wait, stop, lost. Did you mean 'lost'?"
    )


def test_exceptions_are_imported_for_the_chosen_profile_only():
    write(
        "[profiles.a]\nretry = { on = 'no_such_package.Error' }\n[profiles.b]\nretry = { on = 'os.path' }\n"
        "[profiles.c]\nretry = { on = 'parapluie.WorkerLostError' }\n"
    )
    assert values()["backend"] == "process"
    with pytest.raises(
        ConfigError, match=r"^retry\.on: 'no_such_package\.Error' cannot be imported: No module .*line 2\)$"
    ):
        Executor.from_config("a")
    with pytest.raises(ConfigError, match=r"^retry\.on: 'os\.path' is <module .*, which is not an exception type"):
        Executor.from_config("b")
    with pytest.raises(ConfigError, match=r"names WorkerLostError, which is not raised by a task.*line 6\)$"):
        Executor.from_config("c")


def test_what_only_the_backend_knows_is_refused_with_its_origin(folder):
    write('backend = "process"\noptions = { speed = 1 }\n[profiles.cluster]\nbackend = "supercluster"\n')
    with pytest.raises(ConfigError, match="^unknown option speed=1 for backend 'process'") as raised:
        Executor()
    path = Config.find().path
    assert raised.value.__notes__ == [
        f"parapluie: backend='process' comes from {path}, line 1; options={{'speed': 1}} comes from {path}, line 2"
    ]
    with pytest.raises(UnknownBackendError, match="^unknown backend 'supercluster'") as raised:
        Executor.from_config("cluster")
    assert "comes from profile 'cluster'" in raised.value.__notes__[-1]
    write('backend = "serial"\noptions = { pickle_round_trip = true }\ntask_timeout = 1')
    with pytest.raises(CapabilityError) as raised:
        Executor()
    assert "task_timeout=1.0 comes from " in raised.value.__notes__[0]
    assert "options" not in raised.value.__notes__[0]  # it does not speak of them


def test_config_of_another_type_is_refused():
    with pytest.raises(ConfigError, match=r"^config='debug' is not a parapluie\.Config; Executor\.from_config takes"):
        Executor(config="debug")


# ---- the log ----------------------------------------------------------------------------------------------------


def test_log_says_once_which_backend_it_is_and_who_asked(caplog, monkeypatch):
    caplog.set_level(logging.INFO, "parapluie")
    for _ in range(2):
        Executor("thread").shutdown()
    monkeypatch.setenv("PARAPLUIE_BACKEND", "thread")
    Executor(max_workers=1).shutdown()
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", "executor: backend='thread' (argument)"),
        ("INFO", "executor: backend='thread' (PARAPLUIE_BACKEND)"),
    ]
