"""What the doctor looks for in a script: one function for each rule."""

from __future__ import annotations

import ast
import multiprocessing
from typing import TYPE_CHECKING

from parapluie.cli.doctor.finding import Finding
from parapluie.cli.doctor.source import FUNCTIONS, Project
from parapluie.cli.doctor.values import Attribute, Function, Made, Name, Values
from parapluie.cli.doctor.walk import WORK, Walk
from parapluie.main_guard import head_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from parapluie.cli.doctor.source import Module, Scope
    from parapluie.cli.doctor.walk import Event

_IMPORTED_AGAIN = "workers import the file again, and would start workers of their own"
_UNLESS_FORKED = ": those that are not forked, as on Windows, on macOS, and everywhere from Python 3.14 on"
_GUARD = 'if __name__ == "__main__":'
_POOLS = {"executor", "pool", "threads"}
_CLOSING = {"shutdown", "close", "terminate", "__enter__", "__exit__", "__aexit__"}


def findings_of(path: Path) -> list[Finding]:
    """Look at a script and at its modules, without running them; return what was found, by file and line.

    Raises:
        OSError, Unparsable: if the script itself cannot be read.
    """
    project = Project(path)
    values = Values(project)
    forks = _forks_by_default(project, values)
    found: list[Finding] = [*_broken(project)]
    entered: set[ast.AST] = set()
    quiet: set[ast.AST] = set()
    for module in project.all():
        walk = Walk(values, module, quiet, forks_by_default=forks)
        walk.file()
        entered |= walk.entered
        found += _missing_guard(walk) if module is project.script else _pool_at_import(walk)
        if module is project.script:
            found += _fork_beside_threads(walk)
        found += _strict(module, values, forks_by_default=forks)
        found += _never_shut_down(module, values, script=module is project.script)
    for module in project.all():
        for node, scope in module.scopes.items():
            if isinstance(node, FUNCTIONS) and node not in entered and scope.parent is not None:
                walk = Walk(values, module, quiet, forks_by_default=forks)
                walk.function(Function(node, scope.parent))
                found += _fork_beside_threads(walk)
    return sorted(set(found), key=lambda one: (one.file or "", one.line or 0, one.rule))


def _forks_by_default(project: Project, values: Values) -> bool:
    """Say whether the standard pools fork unless they are told otherwise, on this platform and in this program."""
    for module in project.all():
        for call, scope in module.calls:
            value = values.of(call.func, scope)
            if isinstance(value, Name) and value.name.endswith("multiprocessing.set_start_method"):
                chosen = call.args[0] if call.args else next((word.value for word in call.keywords), None)
                return isinstance(chosen, ast.Constant) and chosen.value == "fork"
    return multiprocessing.get_all_start_methods()[0] == "fork"  # the first one is the default


def _broken(project: Project) -> Iterator[Finding]:
    for error in project.broken:
        yield Finding(
            "cannot-be-parsed",
            str(error.path),
            error.line,
            f"this module of the script cannot be parsed: {error.problem}",
            "importing it fails, and nothing in it was looked at",
            "correct it",
        )


def _article(word: str) -> str:
    return f"{'an' if word[0] in 'aeiouAEIOU' else 'a'} {word}"


def _missing_guard(walk: Walk) -> Iterator[Finding]:
    seen = set()
    for event in walk.made:
        top = event.top
        if event.guarded or event.made is None or event.made.method == "fork" or top is None or top in seen:
            continue
        module = walk.start
        if module.path.name == "__main__.py":  # no worker imports that
            continue
        seen.add(top)
        yield Finding(
            "missing-main-guard",
            str(module.path),
            top.lineno,
            f"{_how_it_is_made(event, module)} whenever this file is imported",
            _IMPORTED_AGAIN + (_UNLESS_FORKED if event.made.method == "default" else ""),
            f"move line {top.lineno}, `{head_of(top, str(module.path))}`, under `{_GUARD}`",
        )


def _how_it_is_made(event: Event, start: Module) -> str:
    assert event.made is not None
    what = _article(event.made.what)
    if not event.calls:
        return f"{what} is made"
    where = f"line {event.node.lineno}" + ("" if event.module is start else f" of {event.module.path}")
    return f"{event.calls[0]}() is called and makes {what} ({where})"


def _pool_at_import(walk: Walk) -> Iterator[Finding]:
    seen = set()
    for event in walk.made:
        top = event.top
        if event.guarded or event.made is None or top is None or top in seen:
            continue
        seen.add(top)
        yield Finding(
            "pool-at-import",
            str(walk.start.path),
            top.lineno,
            f"{_how_it_is_made(event, walk.start)} whenever module {walk.start.name!r} is imported",
            "workers import the module too, and would each start workers of their own",
            "make it in a function that the script calls under its main guard",
        )


def _fork_beside_threads(walk: Walk) -> Iterator[Finding]:
    for event in walk.forks:
        if not event.threads:
            continue
        what, module, line = event.threads[0]
        where = f"line {line}" + ("" if module is event.module else f" of {module.path}")
        if event.made is None:
            forks, instead = "the process is forked", "start the thread after the fork, or use multiprocessing with"
        else:
            default = ", as is the default here," if event.made.method == "default" else ""
            forks = f"{_article(event.made.what)} forks its workers{default}"
            instead = "start the thread later, or use"
        yield Finding(
            "fork-beside-threads",
            str(event.module.path),
            event.node.lineno,
            f"{forks} while {_article(what)} that was started at {where} may run",
            "a lock that the thread holds at that moment is locked in the forked process for ever",
            f"{instead} start method 'spawn' or 'forkserver'",
        )


def _strict(module: Module, values: Values, *, forks_by_default: bool) -> Iterator[Finding]:
    """Find lambdas and local functions that are handed to what pickles strictly."""
    for call, scope in module.calls:
        used = values.of(call.func, scope)
        made = values.of(call, scope)
        handed: list[ast.expr] = []
        if isinstance(used, Attribute) and used.owner.strict and used.name in WORK and call.args:
            made, handed, what = used.owner, call.args[:1], f"{used.owner.what}.{used.name}"
        elif isinstance(made, Made) and made.strict and not _is_forked(made, forks_by_default=forks_by_default):
            handed = [word.value for word in call.keywords if word.arg in {"target", "initializer"}]
            what = made.what
        for argument in handed:
            clause = _unfindable(argument, scope, values)
            if clause is not None:
                yield Finding(
                    "cannot-be-pickled",
                    str(module.path),
                    argument.lineno,
                    f"{clause} is handed to {what}",
                    "it is pickled by its name, which workers do not find",
                    "define it at the top level of a module (an Executor of parapluie sends it by value)",
                )


def _is_forked(made: Made, *, forks_by_default: bool) -> bool:
    return made.method == "fork" or (made.method == "default" and forks_by_default)


def _unfindable(argument: ast.expr, scope: Scope, values: Values) -> str | None:
    """Say what an argument is, if pickle would not find it by its name; a `partial` has its function's faults."""
    value = values.of(argument, scope)
    if value is None and isinstance(argument, ast.Call) and argument.args:
        function = values.of(argument.func, scope)
        if isinstance(function, Name) and function.name == "functools.partial":
            return _unfindable(argument.args[0], scope, values)
    if not isinstance(value, Function) or not value.is_local:
        return None
    return "a lambda" if isinstance(value.node, ast.Lambda) else f"the local function {value.node.name!r}"


def _never_shut_down(module: Module, values: Values, *, script: bool) -> Iterator[Finding]:
    for call, scope in module.calls:
        made = values.of(call, scope)
        if not isinstance(made, Made) or made.call is not call or made.kind not in _POOLS:
            continue
        parent = module.parents[call]
        name, never = "", False
        match parent:
            case ast.Attribute(attr=attribute):
                never = attribute in WORK and isinstance(module.parents[parent], ast.Call)
            case ast.Assign(targets=[ast.Name(id=variable)]) | ast.AnnAssign(target=ast.Name(id=variable)):
                name, home = variable, scope.home(variable)
                # Threads of the whole program, and what others import from a module, are theirs to end.
                shared = home is module.scope and (not script or made.kind == "threads")
                never = not shared and not _ends_or_leaves(name, home, module)
        if never:
            yield Finding(
                "never-shut-down",
                str(module.path),
                call.lineno,
                f"{_article(made.what)}{f', {name!r},' if name else ''} is never shut down",
                "its workers stay until the program ends, and what they hold with them",
                f"use `with {made.what}(...) as {name or 'executor'}:`",
            )


def _ends_or_leaves(name: str, home: Scope | None, module: Module) -> bool:
    """Say whether a variable's executor is shut down, or goes where that may be done: returned, passed on, kept."""
    for node, scope in module.names:
        if node.id != name or scope.home(name) is not home:
            continue
        parent = module.parents[node]
        if not isinstance(parent, ast.Attribute) or parent.attr in _CLOSING or parent.attr == "with_options":
            return True
        use = module.parents[parent]
        if not isinstance(use, ast.Call) or use.func is not parent:
            return True  # a bound method that goes elsewhere: `atexit.register(pool.close)` is one
    return False
