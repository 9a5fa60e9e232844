"""What holds for the package as a whole: its public names, its exceptions, what importing it costs, its metadata."""

from __future__ import annotations

import ast
import pickle
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

import parapluie
from parapluie import errors, pool_errors

ROOT = Path(__file__).parents[1]
THIRD_PARTY = {"attr", "attrs", "cattr", "cattrs", "cloudpickle", "pluggy", "tenacity"}
# What a worker imports before it is ready.
WORKER_SIDE = (
    "parapluie.worker",
    "parapluie.log_ways",
    "parapluie.errors",
    "parapluie.orphans",
    "parapluie.dumps",
    "parapluie.sharing.session_worker",
)
# What `import parapluie` may not import, since only some programs need it. That these are missing keeps the cost
# within twice that of the standard library's own executors without a test that measures time.
HEAVY = THIRD_PARTY | {
    "asyncio",
    "ctypes",
    "importlib.metadata",
    "inspect",
    "multiprocessing.managers",
    "multiprocessing.shared_memory",
    "tomllib",
    "typing",
    "unittest",
}


def modules_after(statement):
    """Return the names of the modules that a new interpreter has imported because of a statement."""
    code = f"import sys; before = set(sys.modules)\n{statement}\nprint(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True, timeout=30)
    return set(done.stdout.split())


def names_for_the_type_checker():
    """Return the names that `parapluie/__init__.py` imports under TYPE_CHECKING, with their modules."""
    tree = ast.parse(Path(parapluie.__file__).read_text(encoding="utf-8"))
    (block,) = (
        node
        for node in tree.body
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    )
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: node.module for node in imports for alias in node.names}


def own_exceptions():
    """Return the exceptions that are defined here."""
    return {
        value
        for module in (errors, pool_errors)
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, BaseException) and value.__module__ == module.__name__
    }


def test_public_names_are_those_of_the_type_checker():
    assert set(parapluie.__all__) == {"__version__", *names_for_the_type_checker()}
    assert len(parapluie.__all__) == len(set(parapluie.__all__))


@pytest.mark.parametrize("name", parapluie.__all__)
def test_public_name_is_importable(name):
    value = getattr(parapluie, name)
    home = names_for_the_type_checker().get(name)
    if home is not None:
        assert value is getattr(sys.modules[home], name)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'no_such_name'"):
        _ = parapluie.no_such_name


def test_dir_holds_the_public_names():
    assert set(parapluie.__all__) <= set(dir(parapluie))


def test_every_public_exception_is_exported():
    assert {error.__name__ for error in own_exceptions()} <= set(parapluie.__all__)


EXCEPTIONS = [
    errors.ForkWithThreadsWarning(("metrics", "uploads")),
    errors.ParapluieError("some text"),
    errors.ConfigError("some text"),
    errors.ConfigFileError("parapluie.toml", ["line 1: backend: found 3", "line 2: max_workers: found 0"]),
    errors.UnknownBackendError("rya", available=("process", "ray"), suggestion="ray"),
    errors.CapabilityError("pool", "task_timeout=1", "it cannot kill", able=("process",)),
    errors.MissingMainGuardError("program.py", 7, "main()"),
    errors.MissingMainGuardError("program.py", 7, frozen=True),
    errors.PluginError("some text", plugin="p", distribution="d 1.0", hook="h"),
    errors.ExecutorShutdownError("process", when="after shutdown"),
    errors.JournalError("squares.journal", "is in use by another run"),
    errors.JournalMismatchError("squares.journal", "was made by app.cube, not by app.square"),
    errors.SessionClosedError("session 1", why="it was closed"),
    errors.MessagePicklingError("session 1", "a lock", path="message[0]", found="_thread.lock"),
    errors.MessageUnpicklingError("session 1", "no such module"),
    errors.TooManyFailuresError(6, 100, "5%"),
    errors.BackendError("some text", backend="process"),
    pool_errors.BackendBrokenError("some text", backend="process"),
    pool_errors.WorkerInitError("process", "the initializer raised", tries=3),
    errors.TaskError("some text"),
    errors.TaskPicklingError(7, "process", "a lock", path="args[1]", found="_thread.lock", where="sort.py:12"),
    pool_errors.TaskUnpicklingError(7, "no such module"),
    errors.ResultPicklingError(7, "a lock", path="result.rows[3]", found="_thread.lock"),
    pool_errors.ResultUnpicklingError(7, "no such module"),
    pool_errors.WorkerLostError(
        7, attempt=2, backend="process", worker="w1", pid=12, exit_code=-9, began=None, why="so"
    ),
    errors.TaskTimeoutError(7, limit=1.5, attempt=2, backend="process"),
    errors.RemoteError("app.Error", "text", "why", task_id=7),
    errors.RemoteTraceback("the traceback"),
]


@pytest.mark.parametrize("error", EXCEPTIONS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_exception_survives_pickling(error, protocol):
    error.added_later = "kept"
    error.add_note("a note")
    copy = pickle.loads(pickle.dumps(error, protocol))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert copy.args == error.args
    facts = {name: value for name, value in vars(error).items() if name != "_made_with"}
    assert facts == {name: value for name, value in vars(copy).items() if name != "_made_with"}


@pytest.mark.parametrize("error", EXCEPTIONS, ids=lambda error: type(error).__name__)
def test_exception_is_shown_as_a_sentence(error):
    # Of the standard library's bases some make their text in __new__, from the facts that it is given.
    assert " " in str(error)
    assert error.args == (str(error),) or isinstance(error, errors.RemoteTraceback)
    assert "7" in str(error) or getattr(error, "task_id", None) is None or isinstance(error, errors.RemoteError)


def test_every_exception_is_in_the_list_above():
    assert own_exceptions() == {type(error) for error in EXCEPTIONS}


@pytest.mark.parametrize("module", WORKER_SIDE)
def test_worker_imports_the_standard_library_only(module):
    imported = {name.partition(".")[0] for name in modules_after(f"import {module}")}
    assert imported <= sys.stdlib_module_names | {"__mp_main__", "parapluie"}


def test_importing_the_package_imports_nothing_heavy():
    assert not HEAVY & modules_after("import parapluie")


def test_using_the_executor_imports_no_third_party_module_that_is_not_needed():
    # A built-in backend with the settings' defaults: no retry, no options of a plugin, nothing to pickle by value.
    imported = modules_after("import parapluie; parapluie.Executor")
    assert not {"attr", "attrs", "cattr", "cattrs", "cloudpickle", "tenacity"} & imported


def test_no_other_file_asks_for_the_platform_than_the_page_says():
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    table = page.partition("## What differs by platform\n")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`(\S+)`", row)}
    package = Path(parapluie.__file__).parent
    asking = {
        path.relative_to(package).as_posix()
        for path in package.glob("**/*.py")
        if re.search(r"\bsys\.platform\b|\bos\.name\b", path.read_text(encoding="utf-8"))
    }
    asking = {name for name in asking if not name.startswith(("testing/", "bench/"))}  # these watch from outside
    assert asking - {"backends/process/windows.py"} == named


def test_plugins_of_ours_import_what_a_third_party_may():
    public = {f"parapluie{name}" for name in ("", ".backend", ".hookspecs", ".worker", ".serializer", ".testing")}
    for path in ROOT.glob("plugins/*/*/**/*.py"):
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        imports = [node for node in nodes if isinstance(node, ast.ImportFrom) and node.module]
        ours = [node for node in imports if node.module.partition(".")[0] == "parapluie"]
        assert {node.module for node in ours} <= public, path
        assert not [alias.name for node in ours for alias in node.names if alias.name.startswith("_")], path


def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_version_is_the_projects():
    assert parapluie.__version__ == version("parapluie") == project()["project"]["version"]


def test_changelog_begins_with_the_version():
    newest = re.search(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert newest is not None
    assert newest[1] == project()["project"]["version"]


def test_extra_and_group_for_tests_agree():
    settings = project()
    assert settings["project"]["optional-dependencies"]["test"] == settings["dependency-groups"]["test"]
