"""Imports what a command line names as `module:function`, and says in one line what is wrong with it."""

from __future__ import annotations

import pkgutil
import sys
import traceback
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parapluie.cli.program import Failure
from parapluie.words import describe, did_you_mean, type_name

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType


def import_target(text: str) -> Callable[..., Any]:
    """Return the function that a text names, so that workers find it too: by importing its module.

    Args:
        text: `package.module:function`, where the working directory is looked in first, as with `python -m`; or
            `folder/file.py:function`, as if that folder were. The function may be an attribute: `Class.method`.

    Raises:
        Failure: if there is no such module or function, if the module cannot be imported, or if it is no function.
    """
    where, _, path = text.rpartition(":")
    if not where or not path:
        raise Failure(f"{text!r} does not name a function; write module:function, as in json:dumps{_meant(text)}")
    value: Any = _import_file(Path(where)) if where.endswith(".py") else _import_module(where)
    owner = f"module {value.__name__!r}"
    for name in path.split("."):
        if not hasattr(value, name):
            raise Failure(f"{owner} has no function {name!r}{did_you_mean(name, _functions(value))}")
        value = getattr(value, name)
        owner = repr(name)
    if not callable(value):
        raise Failure(f"{text!r} is of type {type_name(value)!r}, which cannot be called")
    function: Callable[..., Any] = value
    return function


def _meant(text: str) -> str:
    module, _, name = text.rpartition(".")
    return f". Did you mean '{module}:{name}'?" if module and ":" not in text and name != "py" else ""


def _import_module(name: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise Failure(f"{name!r} is not the name of a module; write package.module:function or file.py:function")
    if not sys.flags.safe_path:
        _look_first_in(Path.cwd())
    return _import(name)


def _import_file(path: Path) -> ModuleType:
    """Import a file by the name that it has for others: with its packages, from the folder that they are in."""
    file = path.resolve()
    if not file.is_file():
        raise Failure(f"there is no file {str(path)!r}")
    parts, folder = [file.stem], file.parent
    while (folder / "__init__.py").is_file():
        parts.insert(0, folder.name)
        folder = folder.parent
    name = ".".join(parts)
    if not all(part.isidentifier() for part in parts):
        raise Failure(f"{str(path)!r} cannot be imported: {name!r} is not the name of a module; rename the file")
    _look_first_in(folder)
    module = _import(name)
    found = getattr(module, "__file__", None)
    if found is None or Path(found).resolve() != file:
        raise Failure(f"{str(path)!r} cannot be imported: another module is called {name!r} too; rename the file")
    return module


def _look_first_in(folder: Path) -> None:
    if sys.path[:1] not in ([str(folder)], [""]):
        sys.path.insert(0, str(folder))


def _import(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise _broken(name, error) from error
        package, _, last = error.name.rpartition(".")
        hint = did_you_mean(last, _modules_beside(package))
        where = f"in package {package!r}" if package else "on the path, which begins with the working directory"
        raise Failure(f"there is no module {last!r} {where}{hint}") from error
    except (Exception, SystemExit) as error:
        raise _broken(name, error) from error


def _broken(name: str, error: BaseException) -> Failure:
    """Make what is said of a module whose import raised, with the last line of Python that ran outside of importlib."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<frozen")]
    inside = frames[2:]  # behind ours, and `import_module`
    where = f" ({inside[-1].filename}, line {inside[-1].lineno})" if inside else ""
    return Failure(f"module {name!r} cannot be imported: {' '.join(describe(error).split())}{where}")


def _modules_beside(package: str) -> list[str]:
    try:
        path = import_module(package).__path__ if package else None
    except (ImportError, AttributeError):  # no package: nothing is in it
        return []
    return [found.name for found in pkgutil.iter_modules(path)]


def _functions(value: object) -> list[str]:
    return [name for name in dir(value) if callable(getattr(value, name, None))]
