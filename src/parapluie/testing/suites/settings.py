"""Bad input: refused where it is given, with what was given, what is allowed, and the nearest name."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from parapluie import CapabilityError, ConfigError, Executor
from parapluie.testing import tasks
from parapluie.testing.claims import lacks, requires
from parapluie.testing.helpers import SECONDS, CountingInput

if TYPE_CHECKING:
    from parapluie.testing.fixtures import Row

REFUSED = [
    ({"max_workers": 0}, r"max_workers=0 .*greater than 0"),
    ({"max_workers": -1}, r"max_workers=-1 .*greater than 0"),
    ({"max_workers": "two"}, r"max_workers='two' is not a positive integer"),
    ({"max_workers": True}, r"max_workers=True is not a positive integer"),
    ({"max_workers": 1.5}, r"max_workers=1.5 is not a positive integer"),
    ({"initializer": 5}, r"initializer=5 is not callable"),
    ({"initializer": tasks.prepare, "initargs": 5}, r"initargs=5 is not iterable"),
    ({"start_timeout": 0}, r"start_timeout=0 .*greater than 0"),
    ({"start_timeout": "soon"}, r"start_timeout='soon' is not a positive number of seconds"),
    ({"retry": "often"}, r"retry='often' is not a Retry, a number of attempts, or None"),
    ({"retry": 0}, r"attempts=0"),
    ({"retry": True}, r"retry=True is not"),
    ({"shutdown": "now"}, r"shutdown='now' is not a parapluie.Shutdown"),
    ({"shutdown": 5}, r"shutdown=5 is not a parapluie.Shutdown"),
    (
        {"pickle_check": "rase"},
        r"pickle_check='rase' is not allowed; allowed: 'auto', 'raise'.*[Dd]id you mean 'raise'",
    ),
    ({"pickle_check": 1}, r"pickle_check=1 is not allowed"),
    ({"serializer": "pickel"}, r"unknown serializer 'pickel'; available: .*Did you mean 'pickle'"),
    ({"serializer": 5}, r"serializer=5"),
    ({"max_worker": 2}, r"unknown option max_worker=2 for backend .*[Dd]id you mean 'max_workers'"),
    ({"task_timout": 2}, r"unknown option task_timout=2 for backend .*[Dd]id you mean 'task_timeout'"),
    ({"colour": "red"}, r"unknown option colour='red' for backend"),
]


class SettingTests:
    """Bad input: refused where it is given, with what was given, what is allowed, and the nearest name."""

    @pytest.mark.parametrize(
        ("kwargs", "message"), REFUSED, ids=lambda value: str(value) if isinstance(value, dict) else ""
    )
    def test_setting_that_cannot_be_honoured_is_refused(
        self, backend: Row, kwargs: dict[str, Any], message: str
    ) -> None:
        threads = set(threading.enumerate())
        with pytest.raises(ConfigError, match=message):
            backend.make(**kwargs)
        assert set(threading.enumerate()) <= threads

    @requires("start_methods")
    @pytest.mark.parametrize(
        ("kwargs", "message"),
        [
            ({"start_method": "sporn"}, r"start_method='sporn' is not allowed; allowed: .*[Dd]id you mean 'spawn'"),
            ({"start_method": None, "mp_context": "sporn"}, r"mp_context='sporn' is not allowed"),
            ({"max_tasks_per_child": 0, "start_method": "spawn"}, r"max_tasks_per_child=0 .*greater than 0"),
            ({"max_tasks_per_child": "x"}, r"max_tasks_per_child='x' is not a positive integer"),
        ],
    )
    def test_setting_of_processes_that_cannot_be_honoured_is_refused(
        self, backend: Row, kwargs: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(ConfigError, match=message):
            backend.make(**kwargs)

    @lacks("start_methods")
    def test_start_method_is_refused_where_there_is_none(self, backend: Row) -> None:
        with pytest.raises(CapabilityError, match="start_method='spawn'.*process") as caught:
            backend.make(start_method="spawn")
        assert "process" in caught.value.able

    @pytest.mark.parametrize(
        ("kwargs", "message"),
        [
            ({"chunksize": 0}, "chunksize=0"),
            ({"chunksize": -3}, "chunksize=-3"),
            ({"chunksize": True}, "chunksize=True"),
            ({"chunksize": 2.0}, r"chunksize=2\.0"),
            ({"chunksize": "many"}, "chunksize='many'"),
            ({"buffersize": 0}, "buffersize=0"),
            ({"buffersize": "all"}, "buffersize='all'"),
            ({"on_error": "explode"}, "on_error='explode' is not one of 'raise', 'collect', 'skip'"),
            ({"on_error": None}, "on_error=None is not one of"),
            ({"timeout": "soon"}, "timeout='soon'"),
        ],
        ids=lambda value: str(value) if isinstance(value, dict) else "",
    )
    def test_map_refuses_what_it_cannot_honour(self, executor: Executor, kwargs: dict[str, Any], message: str) -> None:
        source = CountingInput(range(3))
        with pytest.raises(ConfigError, match=message):
            executor.map(tasks.square, source, **kwargs)
        assert source.read == 0

    @pytest.mark.parametrize("function", [None, 5, "print"])
    def test_what_cannot_be_called_is_refused(self, executor: Executor, function: Callable[..., Any]) -> None:
        with pytest.raises(TypeError, match="cannot be called"):
            executor.submit(function)
        with pytest.raises(TypeError, match="cannot be called"):
            executor.map(function, [1])
        assert executor.submit(tasks.add, 1, 1).result(SECONDS) == 2

    def test_what_cannot_be_iterated_is_refused(self, executor: Executor) -> None:
        with pytest.raises(TypeError, match="not iterable"):
            executor.map(tasks.add, [1], 5)

    def test_view_refuses_what_it_cannot_honour(self, executor: Executor) -> None:
        with pytest.raises(ConfigError, match="name=3 is not a string"):
            executor.with_options(name=3)
        with pytest.raises(ConfigError, match="retry='often'"):
            executor.with_options(retry="often")

    def test_wrong_number_of_arguments_is_the_tasks_error(self, executor: Executor) -> None:
        assert isinstance(executor.submit(tasks.add, 1).exception(SECONDS), TypeError)
        with pytest.raises(TypeError):
            executor.submit()
