"""`parapluie check module:function`: preflight on demand, without a worker."""

from __future__ import annotations

import json
import pickle
import types
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from parapluie.cli import status
from parapluie.cli.output import print_json, print_line, print_table, print_title
from parapluie.cli.program import Failure

if TYPE_CHECKING:
    from collections.abc import Callable

    from parapluie.pickling import Serializer

_BY_VALUE = {"parapluie.by_value", "cloudpickle.cloudpickle"}  # what bytes refer to that carry code


class _Load(NamedTuple):
    """What travels of the function ("reference", "value" or "state"), and how many bytes.

    Those of the function and of the arguments alone, of both in band, and out of band, in so many buffers.
    """

    how: str
    function: int
    arguments: int
    payload: int
    out_of_band: int
    buffers: int


class _Problem(NamedTuple):
    """Why a task does not travel: a clause, the path to what stops it and the type found there, if it can be told."""

    clause: str
    path: str | None = None
    found: str | None = None


@click.command(short_help="Say whether a function can travel to a worker.")
@click.argument("target", metavar="MODULE:FUNCTION")
@click.option("--args", "args", default="[]", metavar="JSON", help="Positional arguments: a JSON list.")
@click.option("--kwargs", "kwargs", default="{}", metavar="JSON", help="Keyword arguments: a JSON object.")
@click.option("--serializer", default="auto", show_default=True, help="As in Executor(serializer=...).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def command(context: click.Context, *, target: str, args: str, kwargs: str, serializer: str, as_json: bool) -> None:
    """Say whether a function and its arguments can travel to a worker, and how; starts no worker.

    The module is looked for in the working directory first; a file may be named too, as in folder/tasks.py:square.
    Pickles the task as an executor would, and reads it back in this process.

    Exit status: 0 it travels; 1 it does not; 2 the function or an argument cannot be read.
    """
    from parapluie.cli.target import import_target
    from parapluie.settings import serializer_of

    positional, named = _read("--args", args, list), _read("--kwargs", kwargs, dict)
    dumps = serializer_of(serializer)
    function = import_target(target)
    load, problem = _try(function, tuple(positional), named, dumps)
    if as_json:
        print_json(_as_data(target, serializer, load, problem))
    else:
        _print(target, serializer, function, load, problem)
    context.exit(status.OK if problem is None else status.SOME_FAILED)


def _read(option: str, text: str, kind: type[Any]) -> Any:
    name, example = ("list", '[1, "two"]') if kind is list else ("object", '{"name": 1}')
    try:
        value = json.loads(text)
    except ValueError as error:
        raise Failure(f"{option} {text!r} is not valid JSON: {error}; write a {name} as {example}") from None
    if not isinstance(value, kind):
        raise Failure(f"{option} {text!r} is not a JSON {name}; write one as {example}")
    return value


def _try(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], dumps: Serializer
) -> tuple[_Load | None, _Problem | None]:
    """Pickle a task and read it back; return what travels, if it can be pickled, and what is wrong, if anything."""
    from parapluie import pickling
    from parapluie.words import describe

    buffers: list[pickle.PickleBuffer] = []
    try:
        payload = dumps((function, args, kwargs), buffers.append)
        alone = dumps(function, (lambda _: None) if buffers else None)
        load = _Load(
            _how(function, alone),
            len(alone),
            len(dumps((args, kwargs), None)),
            len(payload),
            sum(memoryview(buffer).nbytes for buffer in buffers),
            len(buffers),
        )
    except Exception as error:  # noqa: BLE001 - a `__reduce__` may raise anything
        return None, _Problem(*pickling.explain_task(function, args, kwargs, error))
    try:
        back = pickle.loads(payload, buffers=buffers)
    except Exception as error:  # noqa: BLE001 - as may what reads it
        return load, _Problem(f"it can be pickled and not read back: {describe(error)}")
    if not isinstance(back, tuple) or not callable(back[0]):
        return load, _Problem(f"what is read back is {type(back).__name__!r} and not the task")
    return load, None


def _how(function: Callable[..., Any], pickled: bytes) -> str:
    from parapluie import pickling

    if _BY_VALUE.intersection(module for module, _ in pickling.names_in(pickled)):
        return "value"
    return "reference" if isinstance(function, types.FunctionType | types.BuiltinFunctionType | type) else "state"


def _print(
    target: str, serializer: str, function: Callable[..., Any], load: _Load | None, problem: _Problem | None
) -> None:
    if problem is None:
        print_title(f"{target} travels")
    else:
        print_title(f"{target} does not travel")
        print_line(problem.clause, indent=2, style="red")
    rows = [("serializer", serializer)]
    if load is not None:
        ways = {
            "reference": f"by reference: workers import {getattr(function, '__module__', None)}",
            "value": "by value: its code travels (cloudpickle)",
            "state": f"as data: workers import {type(function).__module__}.{type(function).__qualname__}",
        }
        rows += [
            ("function", f"{ways[load.how]}; {_bytes(load.function)}"),
            ("arguments", _bytes(load.arguments)),
            ("out of band", _out_of_band(load)),
            ("in all", _bytes(load.payload + load.out_of_band)),
            ("read back", "yes" if problem is None else "no"),
        ]
    print_table(("", ""), rows, indent=2)


def _out_of_band(load: _Load) -> str:
    if not load.buffers:
        return "nothing"
    return f"{_bytes(load.out_of_band)} in {load.buffers} buffer{'s' if load.buffers > 1 else ''}"


def _bytes(count: int) -> str:
    return f"{count:,} bytes"


def _as_data(target: str, serializer: str, load: _Load | None, problem: _Problem | None) -> dict[str, Any]:
    sizes = None if load is None else {name: value for name, value in load._asdict().items() if name != "how"}
    return {
        "target": target,
        "travels": problem is None,
        "serializer": serializer,
        "how": None if load is None else load.how,
        "bytes": sizes,
        "read_back": load is not None and problem is None,
        "problem": None if problem is None else problem.clause,
        "path": None if problem is None else problem.path,
        "found": None if problem is None else problem.found,
    }
