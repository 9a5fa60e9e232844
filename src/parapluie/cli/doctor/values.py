"""What an expression of a file stands for, as far as it can be told without running it; None where it cannot.

Imports and their aliases are followed, into the project's own modules too, and variables that are bound once.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from parapluie.cli.doctor.source import Binding, Project, Scope

UNKNOWN = "unknown"  # a start method that cannot be told
DEFAULT = "default"  # that of the platform


class Name(NamedTuple):
    """Something that is imported, by its full name; of a multiprocessing context, with its start method."""

    name: str
    method: str = DEFAULT


class Function(NamedTuple):
    """A function or lambda of the project."""

    node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
    scope: Scope  # that it stands in

    @property
    def is_local(self) -> bool:
        """Whether pickle cannot find it by its name: a lambda, or defined in a function."""
        scope: Scope | None = self.scope
        while scope is not None:
            if not isinstance(scope.node, ast.Module | ast.ClassDef):
                return True
            scope = scope.parent
        return isinstance(self.node, ast.Lambda)


class Class(NamedTuple):
    """A class of the project."""

    node: ast.ClassDef
    scope: Scope  # that it stands in


class Instance(NamedTuple):
    """An instance of a class of the project."""

    cls: Class


class Made(NamedTuple):
    """What starts workers or threads.

    Attributes:
        what: how it is called, as `ProcessPoolExecutor`.
        kind: "executor" or "pool" of processes, "process", "manager", "threads" (a pool of them), "thread"; "inline"
            for an executor that needs no guard.
        method: the start method.
        strict: what it is handed is pickled by the standard pickle.
        call: what makes it.
    """

    what: str
    kind: str
    method: str
    strict: bool
    call: ast.Call


class Attribute(NamedTuple):
    """An attribute of what starts workers or threads."""

    owner: Made
    name: str


class Many(NamedTuple):
    """A list of such things."""

    each: Value


Value = Name | Function | Class | Instance | Made | Attribute | Many

_PROCESS = ("process", True)
_MAKERS = {
    "concurrent.futures.ProcessPoolExecutor": ("executor", True),
    "concurrent.futures.process.ProcessPoolExecutor": ("executor", True),
    "multiprocessing.Pool": ("pool", True),
    "multiprocessing.pool.Pool": ("pool", True),
    "multiprocessing.Process": _PROCESS,
    "multiprocessing.process.BaseProcess": _PROCESS,
    "multiprocessing.context.Process": _PROCESS,
    "multiprocessing.context.SpawnProcess": _PROCESS,
    "multiprocessing.context.ForkServerProcess": _PROCESS,
    "multiprocessing.context.ForkProcess": _PROCESS,
    "multiprocessing.Manager": ("manager", False),
    "concurrent.futures.ThreadPoolExecutor": ("threads", False),
    "concurrent.futures.thread.ThreadPoolExecutor": ("threads", False),
    "multiprocessing.pool.ThreadPool": ("threads", False),
    "multiprocessing.dummy.Pool": ("threads", False),
    "threading.Thread": ("thread", False),
    "threading.Timer": ("thread", False),
    "parapluie.Executor": ("executor", False),
    "parapluie.executor.Executor": ("executor", False),
    "parapluie.Executor.from_config": ("executor", False),
}
_OURS = "parapluie."
_CONTEXTS = {"multiprocessing.get_context", "multiprocessing.context.get_context"}
_METHODS_OF_PROCESSES = {"SpawnProcess": "spawn", "ForkServerProcess": "forkserver", "ForkProcess": "fork"}


class Values:
    """Tells what expressions of a project stand for."""

    def __init__(self, project: Project) -> None:
        self._modules = project.modules
        # What is known; None of what is being looked at, since `x = x.y` goes round in a circle.
        self._known: dict[ast.AST, Value | None] = {}

    def of(self, node: ast.AST | None, scope: Scope) -> Value | None:
        """Return what an expression stands for."""
        if node is None:
            return None
        if node not in self._known:
            self._known[node] = None
            self._known[node] = self._of(node, scope)
        return self._known[node]

    def _of(self, node: ast.AST, scope: Scope) -> Value | None:
        value: Value | None = None
        match node:
            case ast.Name(id=name):
                home = scope.home(name)
                value = self._bound(home.names.get(name, ())) if home is not None else None
            case ast.Attribute(value=owner, attr=name):
                value = self._attribute(self.of(owner, scope), name)
            case ast.Call(func=function):
                value = self._called(node, self.of(function, scope), scope)
            case ast.Lambda():
                value = Function(node, scope)
            case ast.Await(value=inner) | ast.NamedExpr(value=inner):
                value = self.of(inner, scope)
            case ast.ListComp(elt=item) | ast.List(elts=[item, *_]) | ast.Tuple(elts=[item, *_]):
                each = self.of(item, scope)
                value = None if each is None else Many(each)
        return value

    def _bound(self, bindings: Sequence[Binding]) -> Value | None:
        """Return what a name stands for that is bound in one way; that it was None before does not count."""
        told = [one for one in bindings if not (isinstance(one.node, ast.Constant) and one.node.value is None)]
        values = {self._binding(one) for one in told}
        return values.pop() if len(values) == 1 else None

    def _binding(self, binding: Binding) -> Value | None:
        node, scope = binding.node, binding.scope
        value: Value | None = None
        match binding.kind, node:
            case "import", _:
                value = self._imported(binding.target)
            case "definition", ast.ClassDef():
                value = Class(node, scope)
            case "definition", ast.FunctionDef() | ast.AsyncFunctionDef():
                value = Function(node, scope)
            case "value", _:
                value = self.of(node, scope)
            case "each", _:
                many = self.of(node, scope)
                value = many.each if isinstance(many, Many) else None
            case "first", ast.FunctionDef() | ast.AsyncFunctionDef():
                value = self._first(node, scope)
        return value

    def _first(self, node: ast.FunctionDef | ast.AsyncFunctionDef, scope: Scope) -> Value | None:
        """Return what the first parameter of a method is: an instance, the class, or neither."""
        assert isinstance(scope.node, ast.ClassDef)
        marks = {mark.id for mark in node.decorator_list if isinstance(mark, ast.Name)}
        if scope.parent is None or "staticmethod" in marks:
            return None
        cls = Class(scope.node, scope.parent)
        return cls if "classmethod" in marks else Instance(cls)

    def _imported(self, target: str) -> Value | None:
        """Follow an import into a module of the project."""
        origin, _, name = target.rpartition(".")
        module = self._modules.get(origin)
        if module is None or target in self._modules or name not in module.scope.names:
            return Name(target)
        return self._bound(module.scope.names[name])

    def _attribute(self, owner: Value | None, name: str) -> Value | None:
        match owner:
            case Name(name=whole, method=method):
                found = self._imported(f"{whole}.{name}")
                return Name(found.name, method) if isinstance(found, Name) else found
            case Made():
                return Attribute(owner, name)
            case Class(node=node) | Instance(cls=Class(node=node)):
                return self._member(owner, node, name)
        return None

    def _member(self, owner: Class | Instance, node: ast.ClassDef, name: str) -> Value | None:
        cls = owner if isinstance(owner, Class) else owner.cls
        scope = cls.scope.module.scopes[node]
        if name in scope.names:
            return self._bound(scope.names[name])
        made = self._as_maker(cls)
        if made is not None and isinstance(owner, Instance):
            return None
        return self._bound(scope.attributes.get(name, ())) if isinstance(owner, Instance) else None

    def _as_maker(self, cls: Class) -> Name | None:
        """Return what a class inherits from that starts workers or threads."""
        for base in cls.node.bases:
            value = self.of(base, cls.scope)
            found = self._as_maker(value) if isinstance(value, Class) else value
            if isinstance(found, Name) and found.name in _MAKERS:
                return found
        return None

    def _called(self, call: ast.Call, function: Value | None, scope: Scope) -> Value | None:
        match function:
            case Name(name=name) if name in _CONTEXTS:
                return Name("multiprocessing", _constant(call.args[0]) if call.args else DEFAULT)
            case Name(name=name) if name in _MAKERS:
                return self._make(call, function, name.rpartition(".")[2], scope)
            case Class():
                base = self._as_maker(function)
                return Instance(function) if base is None else self._make(call, base, function.node.name, scope)
            case Attribute(owner=owner, name="__enter__"):
                return owner
            case Attribute(owner=owner, name="with_options"):
                return owner
        return None

    def _make(self, call: ast.Call, maker: Name, what: str, scope: Scope) -> Made:
        kind, strict = _MAKERS[maker.name]
        given = {word.arg: word.value for word in call.keywords}
        if maker.name.startswith(_OURS):
            positional = call.args[0] if call.args and what != "from_config" else None
            what = "Executor" if what == "from_config" else what
            kind = _kind_of_backend(given.get("backend", positional))
            strict = kind == "executor" and _constant(given.get("serializer")) == "pickle"
        return Made(what, kind, self._method(maker, given, scope), strict, call)

    def _method(self, maker: Name, given: dict[str | None, ast.expr], scope: Scope) -> str:
        if maker.name.rpartition(".")[2] in _METHODS_OF_PROCESSES:
            return _METHODS_OF_PROCESSES[maker.name.rpartition(".")[2]]
        for word in ("start_method", "mp_context", "context"):
            chosen = given.get(word)
            if chosen is None or (isinstance(chosen, ast.Constant) and chosen.value is None):
                continue
            value = self.of(chosen, scope)
            return value.method if isinstance(value, Name) else _constant(chosen)
        return "safe" if maker.name.startswith(_OURS) else maker.method


def _constant(node: ast.AST | None) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else UNKNOWN


def _kind_of_backend(backend: ast.expr | None) -> str:
    """Return what kind of thing an executor of ours is; one whose backend cannot be told may have processes."""
    if not isinstance(backend, ast.Constant) or not isinstance(backend.value, str):
        return "executor"
    if backend.value == "thread":
        return "threads"
    from parapluie import registry
    from parapluie.errors import ParapluieError
    from parapluie.settings import capabilities_of

    try:
        able = capabilities_of(registry.find(backend.value), None)
    except ParapluieError:  # it is not installed here, so that nothing can be said of it
        return "inline"
    return "executor" if able.isolated_memory and able.imports_main else "inline"
