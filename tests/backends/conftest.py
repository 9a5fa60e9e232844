"""The rows of the suite: every backend with every start method, and what each of them claims.

A test that asks for `backend` runs on every row whose capabilities it asks for:

    @pytest.mark.requires("kills_running_task")     only on rows that claim it
    @pytest.mark.lacks("runs_in_caller")            only on rows that do not

What a row claims is what its `BackendInfo` says, so a claim that is not kept is red.
"""

from __future__ import annotations

import concurrent.futures
import sys
import time
from typing import NamedTuple

import processes
import pytest
from backend_tasks import SECONDS
from endings import defects, shut_down
from gates import Gate

from parapluie import Executor, Retry, registry
from parapluie.backend import Capabilities  # noqa: TC001 - read at run time

START_METHODS = ("spawn", "forkserver", "fork")
VARIANTS = {"serial": {"pickle_round_trip": True}}  # of backends with options: what the second row is made with

# Starting two workers by one of these costs a fifth of a second. On these rows, tests that make executors of their own
# run only where the start method matters (marked `every_start`): the same code of ours runs on the row with fork, and
# that of `manager` on the rows of `process` too.
SLOW_TO_START = (
    "pool-spawn",
    "pool-forkserver",
    "futures-spawn",
    "futures-forkserver",
    "manager-spawn",
    "manager-forkserver",
)


# What is marked `windows`: the engine whose pipes are others there.
ON_WINDOWS = ("process-spawn", "manager-spawn")
NOT_ON_WINDOWS = ("test_backends_input.py",)  # how far inputs are read is the same everywhere
# Where Windows is Wine, today's NumPy crashes when it is imported. test_backends_buffers.py does without.
collect_ignore = ["test_backends_arrays.py"] if sys.platform == "win32" else []


class Row(NamedTuple):
    """One backend, one start method."""

    id: str
    name: str
    options: dict[str, object]
    capabilities: Capabilities
    missing: str = ""  # why it cannot run here

    def make(self, max_workers=2, **kwargs):
        return Executor(self.name, max_workers, **{**self.options, **kwargs})


def _rows():
    for info in registry.infos(scan=False):
        claims = info.capabilities(None)
        if not claims.start_methods:
            yield Row(info.name, info.name, {}, claims)
        if info.name in VARIANTS:
            options = VARIANTS[info.name]
            variant = info.capabilities(registry.options_class(info)(**options))
            yield Row("-".join((info.name, *options)), info.name, options, variant)
        for method in START_METHODS if claims.start_methods else ():
            missing = "" if method in claims.start_methods else f"this platform has no start method {method!r}"
            yield Row(f"{info.name}-{method}", info.name, {"start_method": method}, claims, missing)


ROWS = tuple(_rows())


def pytest_configure(config):
    config.addinivalue_line("markers", "requires(*names): only on backends that claim these capabilities")
    config.addinivalue_line("markers", "lacks(*names): only on backends that do not claim these capabilities")
    config.addinivalue_line("markers", "every_start: on the rows that are slow to start too")


def pytest_generate_tests(metafunc):
    if "backend" in metafunc.fixturenames:
        rows = [
            pytest.param(row, id=row.id, marks=[pytest.mark.skip(reason=row.missing)] if row.missing else [])
            for row in ROWS
        ]
        metafunc.parametrize("backend", rows, indirect=True, scope="session")


@pytest.hookimpl(tryfirst=True)  # before `-m` selects
def pytest_collection_modifyitems(items):
    for item in items:
        row = item.callspec.params.get("backend") if hasattr(item, "callspec") else None
        if isinstance(row, Row) and row.id in ON_WINDOWS and item.path.name not in NOT_ON_WINDOWS:
            item.add_marker(pytest.mark.windows)
    # Here, and not by giving fewer parameters: pytest runs together what has the same position in the list of them.
    items[:] = [item for item in items if not hasattr(item, "callspec") or _concerns(item)]


def _concerns(item):
    """Say whether a test is about what its row claims."""
    row = item.callspec.params.get("backend")
    if not isinstance(row, Row):
        return True
    if row.id in SLOW_TO_START and "make_executor" in item.fixturenames and not item.get_closest_marker("every_start"):
        return False
    claims = row.capabilities
    wanted = all(getattr(claims, name) for mark in item.iter_markers("requires") for name in mark.args)
    return wanted and not any(getattr(claims, name) for mark in item.iter_markers("lacks") for name in mark.args)


@pytest.fixture(scope="session")
def backend(request):
    """The row that the test runs on."""
    return request.param


@pytest.fixture(scope="session")
def _kept(backend):
    executor = backend.make()
    yield executor
    shut_down([executor])


@pytest.fixture
def executor(_kept):
    """An executor with two workers that the tests of a row share: for tests that leave it as it was."""
    return _kept


@pytest.fixture
def make_executor(backend):
    """Make executors on the test's row; they are shut down behind it."""
    made = []

    def make(max_workers=2, **kwargs):
        executor = backend.make(max_workers, **kwargs)
        made.append(executor)
        return executor

    yield make
    shut_down(made)


@pytest.fixture(autouse=True)
def no_defect_logged(caplog):
    """Fail a test in which parapluie reports a defect: a second answer, a function that failed in a thread of ours."""
    yield
    assert defects(caplog) == []


# ---- what tests and tasks say to each other ---------------------------------------------------------------------


@pytest.fixture
def gate():
    gate = Gate()
    yield gate
    gate.close()


@pytest.fixture
def notes(tmp_path):
    """A file to which tasks append; `notes.size()` says how many bytes they have written."""
    return Notes(tmp_path / "notes")


class Notes:
    def __init__(self, path):
        self._path = path

    def __fspath__(self):
        return str(self._path)

    @property
    def path(self):
        return str(self._path)

    def size(self):
        return self._path.stat().st_size if self._path.exists() else 0

    def lines(self):
        return self._path.read_text().splitlines() if self._path.exists() else []


class CountingInput:
    """An input that counts how far it was read."""

    def __init__(self, items):
        self._items = iter(items)
        self.read = 0

    def __iter__(self):
        return self

    def __next__(self):
        item = next(self._items)
        self.read += 1
        return item


@pytest.fixture
def counting():
    return CountingInput


# ---- processes --------------------------------------------------------------------------------------------------


@pytest.fixture
def kill():
    return processes.kill


@pytest.fixture
def results_of():
    """Take the outcomes of futures, each in bounded time: values, and exceptions as they are."""

    def outcome(future):
        try:
            return future.exception(SECONDS) or future.result()
        except concurrent.futures.CancelledError as error:
            return error

    return lambda futures: [outcome(future) for future in futures]


@pytest.fixture
def until():
    """Wait for a condition of which nothing tells."""

    def wait(condition):
        deadline = time.monotonic() + SECONDS
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.005)

    return wait


@pytest.fixture
def at_once():
    """Make a retry policy that does not wait, of three attempts unless told otherwise."""

    def make(attempts=3, **kwargs):
        return Retry(attempts, **{"wait": 0, **kwargs})

    return make
