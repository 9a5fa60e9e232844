"""Python files as the doctor reads them: their scopes, and what each name is bound to. Nothing is run.

Project   the script, and the modules beside it that it imports, and so on
  Module    one file
    Scope     the module, a class or a function: names ─▶ bindings
"""

from __future__ import annotations

import ast
import warnings
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

ScopeNode = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


class Binding(NamedTuple):
    """What a name is bound to in one place.

    Attributes:
        kind: "import" (`target` is a dotted name), "definition" (`node`), "value" or "each" (an item) of the expression
            `node`, "first" (the first parameter of the method `node`), or "unknown".
        scope: where an expression is evaluated, or a definition stands.
    """

    kind: str
    scope: Scope
    node: ast.AST | None = None
    target: str = ""


class Scope:
    """A module, a class or a function, and the names that are bound there."""

    def __init__(self, node: ScopeNode, module: Module, parent: Scope | None) -> None:
        self.node, self.module, self.parent = node, module, parent
        self.names: dict[str, list[Binding]] = {}
        self.attributes: dict[str, list[Binding]] = {}  # of a class: those of its instances
        self.globals: set[str] = set()

    def home(self, name: str) -> Scope | None:
        """Return the scope that a name, used here, is bound in."""
        if name in self.globals:
            return self.module.scope
        scope: Scope | None = self
        while scope is not None:
            if name in scope.names and (scope is self or not isinstance(scope.node, ast.ClassDef)):
                return scope
            scope = scope.parent
        return None

    def bind(self, name: str, binding: Binding) -> None:
        """Note a binding."""
        scope = self.module.scope if name in self.globals else self
        scope.names.setdefault(name, []).append(binding)


class Module:
    """A file that has been parsed.

    Attributes:
        calls: every call, with the scope that it stands in. names: every name that is read, likewise.
        parents: of every node the one that it is a part of.
    """

    def __init__(self, path: Path, name: str, tree: ast.Module) -> None:
        self.path, self.name, self.tree = path, name, tree
        self.package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        self.calls: list[tuple[ast.Call, Scope]] = []
        self.names: list[tuple[ast.Name, Scope]] = []
        self.parents: dict[ast.AST, ast.AST] = {}
        self.imported: set[str] = set()
        self.scopes: dict[ast.AST, Scope] = {}
        self.scope = Scope(tree, self, None)
        _Reader(self).read()


class Unparsable(Exception):  # noqa: N818 - it is caught by who asked, and told as what it is
    """A file is no Python that can be read. Attributes: path, line, problem."""

    def __init__(self, path: Path, line: int | None, problem: str) -> None:
        super().__init__(problem)
        self.path, self.line, self.problem = path, line, problem


def parse(path: Path, name: str) -> Module:
    """Read and parse a file.

    Raises:
        OSError: if it cannot be read.
        Unparsable: if it is no Python.
    """
    source = path.read_bytes()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the style of their code, which is not asked for
            return Module(path, name, ast.parse(source, str(path)))
    except SyntaxError as error:
        raise Unparsable(path, error.lineno, error.msg) from error
    except (ValueError, RecursionError, MemoryError) as error:  # a null byte; too deeply nested for the parser
        raise Unparsable(path, None, str(error) or type(error).__name__) from error


class Project:
    """A script and the modules of its own that it imports.

    Attributes: script, modules (by name, the script's own excluded), broken (those that cannot be parsed).
    """

    def __init__(self, path: Path) -> None:
        self.modules: dict[str, Module] = {}
        self.broken: list[Unparsable] = []
        parts, folder = [path.stem], path.parent
        while (folder.resolve() / "__init__.py").is_file():
            parts.insert(0, folder.resolve().name)
            folder = folder / ".."
        self._roots = {path.parent: "", folder: ""}
        self.script = parse(path, ".".join(parts))
        waiting = [self.script]
        while waiting:
            for name in sorted(waiting.pop().imported):
                module = self._find(name)
                if module is not None:
                    waiting.append(module)

    def _find(self, name: str) -> Module | None:
        """Return a module that has not been found before."""
        for root in self._roots:
            for file in (
                root.joinpath(*name.split(".")) / "__init__.py",
                root.joinpath(*name.split(".")[:-1]) / f"{name.rpartition('.')[2]}.py",
            ):
                if file.is_file() and name not in self.modules and file.resolve() != self.script.path.resolve():
                    try:
                        self.modules[name] = parse(file, name)
                    except Unparsable as error:
                        self.broken.append(error)
                        return None
                    return self.modules[name]
        return None

    def all(self) -> list[Module]:
        """Return the script and the modules."""
        return [self.script, *self.modules.values()]


class _Reader(ast.NodeVisitor):
    """Fills in what a module holds."""

    def __init__(self, module: Module) -> None:
        self.module, self.scope = module, module.scope

    def read(self) -> None:
        self.module.scopes[self.module.tree] = self.module.scope
        for parent in ast.walk(self.module.tree):
            for child in ast.iter_child_nodes(parent):
                self.module.parents[child] = parent
        self.generic_visit(self.module.tree)

    def _inside(self, node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> None:
        scope = Scope(node, self.module, self.scope)
        self.module.scopes[node] = scope
        body = [node.body] if isinstance(node, ast.Lambda) else node.body
        outside = [
            part for part in ast.iter_child_nodes(node) if part not in body and not isinstance(part, ast.arguments)
        ]
        for part in outside:  # decorators, bases, annotations
            self.visit(part)
        if not isinstance(node, ast.ClassDef):
            self._parameters(node, scope)
        before, self.scope = self.scope, scope
        for part in body:
            self.visit(part)
        self.scope = before

    def _parameters(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda, scope: Scope) -> None:
        arguments = node.args
        for default in (*arguments.defaults, *filter(None, arguments.kw_defaults)):
            self.visit(default)
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
        for place, argument in enumerate(filter(None, every)):
            method = place == 0 and isinstance(self.scope.node, ast.ClassDef) and not isinstance(node, ast.Lambda)
            scope.bind(argument.arg, Binding("first" if method else "unknown", self.scope, node))

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.scope.bind(node.name, Binding("definition", self.scope, node))
        self._inside(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self.scope.bind(node.name, Binding("definition", self.scope, node))
        self._inside(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self.scope.bind(node.name, Binding("definition", self.scope, node))
        self._inside(node)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._inside(node)

    def visit_Global(self, node: ast.Global) -> None:
        self.scope.globals.update(node.names)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            whole = alias.name if alias.asname else alias.name.partition(".")[0]
            self.scope.bind(alias.asname or whole, Binding("import", self.scope, None, whole))
            parts = alias.name.split(".")
            self.module.imported.update(".".join(parts[: count + 1]) for count in range(len(parts)))

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        package = self.module.package.split(".") if self.module.package else []
        base = package[: len(package) - node.level + 1] if node.level else []
        origin = ".".join([*base, *([node.module] if node.module else [])])
        self.module.imported.add(origin)
        for alias in node.names:
            target = f"{origin}.{alias.name}" if origin else alias.name
            self.module.imported.add(target)
            self.scope.bind(alias.asname or alias.name, Binding("import", self.scope, None, target))

    def visit_Call(self, node: ast.Call) -> None:
        self.module.calls.append((node, self.scope))
        self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self.module.names.append((node, self.scope))
        elif not self._is_bound_by_parent(node):
            self.scope.bind(node.id, Binding("unknown", self.scope))

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.name:
            self.scope.bind(node.name, Binding("unknown", self.scope))
        self.generic_visit(node)

    def _is_bound_by_parent(self, node: ast.Name) -> bool:
        """Bind a name whose value can be told: `name = value`, `with value as name`, `for name in value`."""
        parent = self.module.parents[node]
        match parent:
            case ast.Assign(targets=[*_], value=value) | ast.NamedExpr(value=value):
                self.scope.bind(node.id, Binding("value", self.scope, value))
            case ast.AnnAssign(value=value) | ast.withitem(context_expr=value) if value is not None:
                self.scope.bind(node.id, Binding("value", self.scope, value))
            case ast.AnnAssign():
                pass  # an annotation alone binds nothing
            case ast.For(iter=value) | ast.comprehension(iter=value):
                self.scope.bind(node.id, Binding("each", self.scope, value))
            case _:
                return False
        return True

    def visit_Attribute(self, node: ast.Attribute) -> None:
        parent = self.module.parents[node]
        if isinstance(node.ctx, ast.Store) and isinstance(node.value, ast.Name):
            owner = self._class_of(node.value.id)
            if owner is not None:
                value = parent.value if isinstance(parent, ast.Assign | ast.AnnAssign) else None
                binding = Binding("unknown" if value is None else "value", self.scope, value)
                owner.attributes.setdefault(node.attr, []).append(binding)
        self.generic_visit(node)

    def _class_of(self, name: str) -> Scope | None:
        """Return the class whose instance a name is, which has to be the first parameter of a method."""
        home = self.scope.home(name)
        bindings = home.names[name] if home is not None else []
        return bindings[0].scope if len(bindings) == 1 and bindings[0].kind == "first" else None
