"""What the tests of a backend are given: executors on it, a gate for their tasks, a file for their notes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import pytest

from parapluie import Config, Executor, registry
from parapluie.testing import deadline
from parapluie.testing.claims import leave_out
from parapluie.testing.gates import Gate
from parapluie.testing.helpers import defects, shut_down

if TYPE_CHECKING:
    from pathlib import Path

    from parapluie.backend import Capabilities

MakeExecutor = Callable[..., Executor]


class Row(NamedTuple):
    """One backend with one start method: what a test runs on."""

    name: str
    options: Mapping[str, Any]
    capabilities: Capabilities

    @property
    def id(self) -> str:
        """Its name in the names of tests."""
        words = (name if value is True else str(value) for name, value in self.options.items())
        return "-".join((self.name, *words))

    def make(self, max_workers: int = 2, **kwargs: Any) -> Executor:
        """Make an executor on it, of which nobody's configuration knows."""
        return Executor(self.name, max_workers, config=Config(), **{**self.options, **kwargs})


class Notes:
    """A file to which tasks append."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def path(self) -> str:
        """Where it is, for the tasks."""
        return str(self._path)

    def size(self) -> int:
        """Return how many bytes they have written."""
        return self._path.stat().st_size if self._path.exists() else 0

    def lines(self) -> list[str]:
        """Return the lines that they have written."""
        return self._path.read_text().splitlines() if self._path.exists() else []


class OnBackend:
    """The base of test classes that run on one backend, with each of the start methods that it claims.

    Attributes:
        backend: the name under which it is registered.
        options: what every executor is made with, besides what a test asks for.
        must_claim: capabilities that are not to be given up, so that no test turns green by a claim that went away.
        deadline: seconds until a test that has not ended ends the run, with a dump of all stacks.
    """

    backend: ClassVar[str] = ""
    options: ClassVar[Mapping[str, Any]] = {}
    must_claim: ClassVar[tuple[str, ...]] = ()
    deadline: ClassVar[float] = 60.0

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Leave out the tests that do not concern the backend."""
        super().__init_subclass__(**kwargs)
        if cls.backend:
            leave_out(cls, cls.capabilities())

    @classmethod
    def capabilities(cls) -> Capabilities:
        """Return what the backend claims with these options."""
        info = registry.find(cls.backend)
        made = registry.options_class(info)(**cls.options) if info.options else None
        return info.capabilities(made)

    @classmethod
    def rows(cls) -> list[Row]:
        """Return what the tests run on."""
        claims = cls.capabilities()
        methods = claims.start_methods or ("",)
        starts = [{"start_method": method} if method else {} for method in methods]
        return [Row(cls.backend, {**cls.options, **start}, claims) for start in starts]

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Have every test run on every row."""
        if "backend" in metafunc.fixturenames:
            rows = [pytest.param(row, id=row.id) for row in self.rows()]
            metafunc.parametrize("backend", rows, indirect=True, scope="class")

    @pytest.fixture(scope="class", name="backend")
    @classmethod
    def _backend(cls, request: pytest.FixtureRequest) -> Row:
        """Return the row that the test runs on."""
        row: Row = request.param
        return row

    @pytest.fixture(scope="class")
    @classmethod
    def _kept(cls, backend: Row) -> Iterator[Executor]:
        executor = backend.make()
        yield executor
        shut_down([executor])

    @pytest.fixture
    def executor(self, _kept: Executor) -> Executor:
        """Return an executor with two workers that the tests of a row share: for tests that leave it as it was."""
        return _kept

    @pytest.fixture
    def make_executor(self, backend: Row) -> Iterator[MakeExecutor]:
        """Make executors on the test's row; they are shut down behind it."""
        made: list[Executor] = []

        def make(max_workers: int = 2, **kwargs: Any) -> Executor:
            executor = backend.make(max_workers, **kwargs)
            made.append(executor)
            return executor

        yield make
        shut_down(made)

    @pytest.fixture
    def gate(self) -> Iterator[Gate]:
        """Return a gate at which tasks wait until their test lets them through."""
        gate = Gate()
        yield gate
        gate.close()

    @pytest.fixture
    def notes(self, tmp_path: Path) -> Notes:
        """Return a file to which tasks append."""
        return Notes(tmp_path / "notes")

    @pytest.fixture(autouse=True)
    def _no_defect_is_logged(self, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
        """Fail a test in which parapluie reports a defect, such as a second answer to a call."""
        yield
        assert defects(caplog, "call", "teardown") == []

    @pytest.fixture(autouse=True)
    def _deadline(self, request: pytest.FixtureRequest) -> Iterator[None]:
        """End the run, with a dump of all stacks, if the test does not end."""
        with deadline.watching(request.node, self.deadline):
            yield
