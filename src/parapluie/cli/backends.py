"""`parapluie backends`: every backend, where it comes from, whether it can be used, and what it can do.

Of a plugin this imports the module of its entry point alone. The module of its engine is imported for the one backend
that is asked for by name, whose options are there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from parapluie.cli.output import print_json, print_line, print_table, print_title
from parapluie.facts import FACTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from parapluie.backend import BackendInfo, Capabilities
    from parapluie.registry import Explanation


@click.command(short_help="List the backends, and what each can do.")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(*, name: str | None, as_json: bool) -> None:
    """List the backends: where each comes from, whether it can be used here, and what it can do.

    With NAME, show one of them and its options. Its module is imported for that; a list imports no engine.
    """
    from parapluie import registry

    if name is None:
        found = [(one, _capabilities_of(one)) for one in registry.explain()]
        if as_json:
            print_json([_as_data(one, able) for one, able in found])
        else:
            _print_list(found)
        return
    info = registry.find(name)
    one = next(one for one in registry.explain() if one.name == name)
    able = _capabilities_of(one)
    options, problem = _options(info)
    if as_json:
        print_json({**_as_data(one, able), "path": info.path, "options": options, "options_problem": problem})
    else:
        _print_one(one, info, able)
        _print_options(info, options, problem)


def _capabilities_of(one: Explanation) -> Capabilities | None:
    """Return what a backend claims with its default options; None if it cannot be told."""
    from parapluie import registry
    from parapluie.errors import PluginError
    from parapluie.settings import capabilities_of

    info = next((info for info in registry.infos() if info.name == one.name), None)
    try:
        return None if info is None else capabilities_of(info, None)
    except PluginError:  # raised again, with its reason, for who chooses the backend
        return None


def _as_data(one: Explanation, able: Capabilities | None) -> dict[str, Any]:
    return {**one._asdict(), "capabilities": None if able is None else able._asdict()}


def _origin(one: Explanation) -> str:
    return " ".join(filter(None, (one.distribution, one.version))) or "registered by hand"


def _print_list(found: Sequence[tuple[Explanation, Capabilities | None]]) -> None:
    rows = [
        (one.name, _origin(one), "yes" if one.available else "no", one.summary if one.available else one.why_not)
        for one, _ in found
    ]
    print_table(("backend", "from", "usable", "what it is, or why it cannot be used"), rows, styles=["cyan"])
    print_line("")
    able = [
        (_plain(words), ", ".join(one.name for one, facts in found if facts is not None and getattr(facts, fact)))
        for fact, words in FACTS.items()
    ]
    print_table(("what it can do", "backends that can"), [(what, who or "none") for what, who in able])
    print_line("")
    print_line("`parapluie backends NAME` shows the options of one.")


def _print_one(one: Explanation, info: BackendInfo, able: Capabilities | None) -> None:
    print_title(f"{one.name}: {info.summary}")
    print_line("")
    usable = "yes" if one.available else f"no: {one.why_not}"
    print_table(("", ""), [("from", _origin(one)), ("usable", usable), ("class", info.path)], indent=2)
    print_line("")
    if able is None:
        print_line("what it can do cannot be told: its `capabilities` raise")
        return
    print_title("what it can do, with its default options")
    rows = [("yes" if getattr(able, fact) else "no", _plain(words)) for fact, words in FACTS.items()]
    print_table(("", ""), rows, indent=2)
    if able.start_methods:
        print_line(f"start methods: {', '.join(able.start_methods)}", indent=2)


def _print_options(info: BackendInfo, options: list[dict[str, Any]] | None, problem: str | None) -> None:
    print_line("")
    if problem is not None:
        print_line(f"its options cannot be told: {problem}")
    elif not options:
        print_line("It has no options of its own.")
    else:
        print_title(f"options, as in Executor({info.name!r}, {options[0]['name']}=...)")
        for one in options:
            default = "required" if one["required"] else f"default: {one['default']}"
            print_line(f"{one['name']}: {one['type']}, {default}", indent=2, style="cyan")
            if one["about"]:
                print_line(one["about"], indent=6)


def _options(info: BackendInfo) -> tuple[list[dict[str, Any]] | None, str | None]:
    """Return the options of a backend, or why they cannot be told: their class is in the backend's module."""
    from parapluie.errors import BackendError, PluginError
    from parapluie.options import describe_options

    try:
        return [one._asdict() for one in describe_options(info)], None
    except (BackendError, PluginError) as error:
        return None, str(error)


def _plain(words: str) -> str:
    """Return words without the marks of Markdown."""
    return words.replace("`", "")
