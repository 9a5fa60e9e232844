"""Goes through a file in the order in which it would run, and notes what starts workers or threads.

Functions of the project are followed where they are called. Of an `if` both branches are taken, each with what was
there before it; a loop is gone through once.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, NamedTuple

from parapluie.cli.doctor.guards import guarded_branches
from parapluie.cli.doctor.source import FUNCTIONS
from parapluie.cli.doctor.values import DEFAULT, Attribute, Class, Function, Instance, Made, Name

if TYPE_CHECKING:
    from collections.abc import Iterable

    from parapluie.cli.doctor.source import Module, Scope
    from parapluie.cli.doctor.values import Values

    Threads = dict[ast.AST, tuple[str, Module, int]]  # that may run: what started them, and where

_FORKS = {"os.fork", "os.forkpty"}
_EXITS = {"sys.exit", "os._exit"}
_ENDS = {"join", "shutdown", "terminate"}  # after which threads are gone
WORK = frozenset(
    ("submit", "map", "apply", "apply_async", "map_async", "starmap", "starmap_async", "imap", "imap_unordered")
)
_DEEPEST = 30  # calls within calls
_MOST_ENTRIES = 1000  # into functions that start something: they may call each other in too many ways


class Event(NamedTuple):
    """Something starts workers.

    Attributes:
        made: what is made; None for a bare fork.
        node, module: where.
        guarded: it is not done by a worker that imports the file.
        top: the statement of the file that was walked which does it.
        calls: the functions that were called to get there, the outermost first.
        threads: if it forks, the threads that may run then: what started them, and where.
    """

    made: Made | None
    node: ast.Call
    module: Module
    guarded: bool
    top: ast.stmt | None
    calls: tuple[str, ...]
    threads: tuple[tuple[str, Module, int], ...]


class Walk:
    """One way through a file.

    Args:
        quiet: functions that are known to start and end nothing, which need not be followed again; it is added to.

    Attributes:
        start: the file that it began in.
        made: where workers are made. forks: where processes are forked.
        entered: the functions that were followed.
    """

    def __init__(self, values: Values, start: Module, quiet: set[ast.AST], *, forks_by_default: bool) -> None:
        self.start = start
        self._quiet = quiet
        self._seen = 0  # things that were started or ended
        self._entries = 0
        self._values = values
        self._forks_by_default = forks_by_default
        self.made: list[Event] = []
        self.forks: list[Event] = []
        self.entered: set[ast.AST] = set()
        self._threads: Threads = {}
        self._guarded = False
        self._top: ast.stmt | None = None
        self._stack: list[Function] = []

    def file(self) -> None:
        """Go through the file as a script, the main guard's statements included."""
        self._block(self.start.tree.body, self.start.scope)

    def function(self, function: Function) -> None:
        """Go through a function that is called from somewhere."""
        self._guarded = True
        self._enter(function)

    def _block(self, body: list[ast.stmt], scope: Scope) -> bool:
        """Go through statements; say whether they end in leaving the block."""
        guarded, ended = self._guarded, False
        for statement in body:
            if isinstance(scope.module.parents[statement], ast.Module) and not self._stack:
                self._top = statement
            ended = self._statement(statement, scope)
            if ended:
                break
        self._guarded = guarded
        return ended

    def _statement(self, statement: ast.stmt, scope: Scope) -> bool:
        ended = False
        match statement:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                self._definition(statement, scope)
            case ast.If():
                ended = self._if(statement, scope)
            case ast.With(items=items, body=body) | ast.AsyncWith(items=items, body=body):
                ended = self._with(items, body, scope)
            case ast.For(iter=head, body=body, orelse=orelse) | ast.AsyncFor(iter=head, body=body, orelse=orelse):
                self._expression(head, scope)
                self._loop([body, orelse], scope)
            case ast.While(test=head, body=body, orelse=orelse):
                self._expression(head, scope)
                self._loop([body, orelse], scope)
            case ast.Try() | ast.TryStar():
                ended = self._block([*statement.body, *statement.orelse], scope)
                self._alternatives([handler.body for handler in statement.handlers], scope)
                ended = self._block(statement.finalbody, scope) or (ended and not statement.handlers)
            case ast.Match(subject=subject, cases=cases):
                self._expression(subject, scope)
                self._alternatives([case.body for case in cases], scope)
            case ast.Return() | ast.Raise() | ast.Break() | ast.Continue():
                self._expression(statement, scope)
                ended = True
            case _:
                self._expression(statement, scope)
                ended = self._leaves(statement, scope)
        return ended

    def _leaves(self, statement: ast.stmt, scope: Scope) -> bool:
        """Say whether a statement ends the program."""
        match statement:
            case ast.Expr(value=ast.Call(func=ast.Name(id="exit" | "quit"))):
                return True
            case ast.Expr(value=ast.Call(func=function)):
                value = self._values.of(function, scope)
                return isinstance(value, Name) and value.name in _EXITS
        return False

    def _definition(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, scope: Scope) -> None:
        for part in node.decorator_list:
            self._expression(part, scope)
        if isinstance(node, ast.ClassDef):
            self._block(node.body, scope.module.scopes[node])

    def _if(self, statement: ast.If, scope: Scope) -> bool:
        self._expression(statement.test, scope)
        body_guarded, other_guarded = guarded_branches(statement.test, scope)
        before, outside = dict(self._threads), self._guarded
        self._guarded = outside or body_guarded
        body_ended = self._block(statement.body, scope)
        after_body, self._threads = self._threads, before
        self._guarded = outside or other_guarded
        other_ended = self._block(statement.orelse, scope)
        self._guarded = outside
        if body_ended and not other_ended:
            # What follows is the other branch: `if __name__ != "__main__": sys.exit()` guards the rest.
            self._guarded = outside or (other_guarded and not body_guarded)
        elif other_ended and not body_ended:
            self._threads, self._guarded = after_body, outside or (body_guarded and not other_guarded)
        else:
            self._threads = {**self._threads, **after_body}
        return body_ended and other_ended

    def _loop(self, blocks: Iterable[list[ast.stmt]], scope: Scope) -> None:
        """Go through blocks one after the other. What they join is taken for gone, though they may not run."""
        for block in blocks:
            before = dict(self._threads)
            ended = self._block(block, scope)
            goes_on = not ended or isinstance(block[-1], ast.Break | ast.Continue)
            self._threads = self._threads if goes_on else before

    def _alternatives(self, blocks: Iterable[list[ast.stmt]], scope: Scope) -> None:
        """Go through blocks of which one may run, or none."""
        before, after = self._threads, dict(self._threads)
        for block in blocks:
            self._threads = dict(before)
            if not self._block(block, scope):
                after.update(self._threads)
        self._threads = after

    def _with(self, items: list[ast.withitem], body: list[ast.stmt], scope: Scope) -> bool:
        entered = []
        for item in items:
            self._expression(item.context_expr, scope)
            value = self._values.of(item.context_expr, scope)
            if isinstance(value, Made):
                entered.append(value.call)
        ended = self._block(body, scope)
        for call in entered:
            self._threads.pop(call, None)
        return ended

    def _expression(self, node: ast.AST, scope: Scope) -> None:
        """Go through the calls of an expression, the arguments before the call; bodies of lambdas do not run."""
        if isinstance(node, FUNCTIONS):
            return
        for part in ast.iter_child_nodes(node):
            self._expression(part, scope)
        if isinstance(node, ast.Call):
            self._call(node, scope)

    def _call(self, call: ast.Call, scope: Scope) -> None:
        function = self._values.of(call.func, scope)
        match function:
            case Function():
                self._enter(function)
            case Class():
                made = self._values.of(call, scope)
                if isinstance(made, Made):
                    self._making(made, call, scope)
                elif isinstance(made, Instance):
                    self._initialise(function)
            case Name(name=name) if name in _FORKS:
                self._fork(None, call, scope)
            case Name():
                made = self._values.of(call, scope)
                if isinstance(made, Made):
                    self._making(made, call, scope)
            case Attribute(owner=owner, name=name):
                self._used(owner, name, call, scope)
            case None if isinstance(call.func, ast.Attribute) and call.func.attr == "join" and _is_a_wait(call):
                self._seen += 1
                self._threads.clear()  # nobody knows whose it is
            case _:
                pass

    def _enter(self, function: Function) -> None:
        node = function.node
        if isinstance(node, ast.Lambda) or node in self._quiet or function in self._stack:
            return
        if len(self._stack) > _DEEPEST or self._entries > _MOST_ENTRIES:
            return
        self._entries += 1
        self.entered.add(node)
        self._stack.append(function)
        before = self._seen
        self._block(node.body, function.scope.module.scopes[node])
        self._stack.pop()
        if self._seen == before:
            self._quiet.add(node)

    def _initialise(self, cls: Class) -> None:
        scope = cls.scope.module.scopes[cls.node]
        for binding in scope.names.get("__init__", []):
            if isinstance(binding.node, ast.FunctionDef):
                self._enter(Function(binding.node, scope))

    def _making(self, made: Made, call: ast.Call, scope: Scope) -> None:
        self._seen += 1
        if made.kind in {"executor", "pool", "process", "manager"}:
            self.made.append(self._event(made, call, scope))
        if made.kind in {"pool", "manager"}:
            self._fork(made, call, scope)
        elif made.kind == "threads" and made.what in {"ThreadPool", "Pool"}:
            self._threads[made.call] = (made.what, scope.module, call.lineno)

    def _used(self, owner: Made, name: str, call: ast.Call, scope: Scope) -> None:
        self._seen += 1
        if owner.kind in {"thread", "threads"}:
            if name == "start" or name in WORK:
                self._threads.setdefault(owner.call, (owner.what, scope.module, call.lineno))
            elif name in _ENDS:
                self._threads.pop(owner.call, None)
        elif (owner.kind == "process" and name == "start") or (owner.kind == "executor" and name in WORK):
            self._fork(owner, call, scope)

    def _fork(self, made: Made | None, call: ast.Call, scope: Scope) -> None:
        self._seen += 1
        method = "fork" if made is None else made.method
        if method == "fork" or (method == DEFAULT and self._forks_by_default):
            self.forks.append(self._event(made, call, scope))

    def _event(self, made: Made | None, call: ast.Call, scope: Scope) -> Event:
        calls = tuple(getattr(function.node, "name", "") for function in self._stack)
        return Event(made, call, scope.module, self._guarded, self._top, calls, tuple(self._threads.values()))


def _is_a_wait(call: ast.Call) -> bool:
    """Say whether a call of `join` is that of a thread, and not of a text."""
    return all(isinstance(part, ast.Constant) and isinstance(part.value, int | float) for part in call.args)
