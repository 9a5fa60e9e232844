"""Which statements run in the first process only: what is under `if __name__ == "__main__":`, in all its variants."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from parapluie.main_guard import mentions_name

if TYPE_CHECKING:
    from parapluie.cli.doctor.source import Scope

_DEEPEST = 20  # variables that are bound to tests of variables, perhaps in a circle
_OTHER_WAYS = {"parent_process", "current_process", "TYPE_CHECKING"}  # to keep workers out, or everybody


def guarded_branches(test: ast.expr, scope: Scope, depth: int = 0) -> tuple[bool, bool]:
    """Say of the branches of an `if`, the body and the other one, whether workers do not run them.

    Where a test asks for `__name__` in a way that is not understood, both are taken for guarded.
    """
    body = other = False
    match test:
        case ast.BoolOp(op=ast.And(), values=values):
            body = any(guarded_branches(value, scope, depth + 1)[0] for value in values)
        case ast.BoolOp(op=ast.Or(), values=values):
            other = any(guarded_branches(value, scope, depth + 1)[1] for value in values)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            other, body = guarded_branches(operand, scope, depth + 1)
        case ast.Compare(left=left, ops=[ast.Eq()], comparators=[right]) if _is_main(left, right):
            body = True
        case ast.Compare(left=left, ops=[ast.NotEq()], comparators=[right]) if _is_main(left, right):
            other = True
        case ast.Name(id=name) if depth < _DEEPEST and (value := _value(name, scope)) is not None:
            body, other = guarded_branches(value, scope, depth + 1)
        case _:
            names = {getattr(node, "id", getattr(node, "attr", None)) for node in ast.walk(test)}
            body = other = mentions_name(test) or bool(names & _OTHER_WAYS)
    return body, other


def _is_main(left: ast.expr, right: ast.expr) -> bool:
    match (left, right):
        case (ast.Name(id="__name__"), ast.Constant(value="__main__")):
            return True
        case (ast.Constant(value="__main__"), ast.Name(id="__name__")):
            return True
    return False


def _value(name: str, scope: Scope) -> ast.expr | None:
    """Return what a variable is bound to, if it is bound once."""
    home = scope.home(name)
    bindings = home.names.get(name, []) if home is not None else []
    node = bindings[0].node if len(bindings) == 1 and bindings[0].kind == "value" else None
    return node if isinstance(node, ast.expr) and not isinstance(node, ast.Name) else None
