"""`parapluie doctor`: looks at the machine, the plugins and the configuration, and at a script without running it.

command ─▶ machine.py
        ─▶ rules.py ─▶ walk.py      the order in which a file would run: what is made there, guarded or not
                    ─▶ values.py    what an expression stands for
                    ─▶ source.py    files, scopes, names;  guards.py: `if __name__ == "__main__":`
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from parapluie.cli import status
from parapluie.cli.output import print_json, print_line, print_table, print_title
from parapluie.cli.program import Failure

if TYPE_CHECKING:
    from pathlib import Path

    from parapluie.cli.doctor.finding import Finding
    from parapluie.registry import Explanation


@click.command(short_help="Look at the machine, the plugins, and a script without running it.")
@click.argument("script", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def command(context: click.Context, *, script: str | None, as_json: bool) -> None:
    """Look at the machine, the plugins and the configuration; and at SCRIPT, without running it.

    In the script, and in the modules beside it that it imports, it looks for a missing main guard, pools that are made
    at import, what cannot be pickled by its name, fork beside threads, and executors that are never shut down.

    Exit status: 0 nothing was found; 1 a mistake was found; 2 the script cannot be read. Hints are no mistakes.
    """
    from parapluie import registry
    from parapluie.cli.doctor import machine

    of_script = [] if script is None else _look_at(script)
    plugins = registry.explain()
    configuration, mistakes = _configuration()
    findings = [*_broken_plugins(plugins), *mistakes, *of_script]
    found = machine.look()
    if as_json:
        print_json(
            {
                "machine": found._asdict(),
                "hints": machine.hints(found),
                "plugins": [one._asdict() for one in plugins],
                "configuration": dict(configuration),
                "findings": [one._asdict() for one in findings],
            }
        )
    else:
        _print_section("machine", machine.facts(found))
        for hint in machine.hints(found):
            print_line(f"hint: {hint}", indent=2, style="yellow")
        print_line("")
        _print_section("plugins", _usable(plugins))
        _print_section("configuration", configuration)
        _print_findings(findings, script)
    context.exit(status.SOME_FAILED if findings else status.OK)


def _configuration() -> tuple[list[tuple[str, str]], list[Finding]]:
    """Return each setting that holds here, with its value and where that comes from; and what is wrong."""
    from parapluie.cli.config import complete, written
    from parapluie.cli.doctor.finding import Finding
    from parapluie.config import Config
    from parapluie.errors import ParapluieError

    try:
        held = complete(Config.find().settle({}))
    except ParapluieError as error:
        why = "; ".join((str(error), *getattr(error, "__notes__", ())))
        what, remedy = "the configuration cannot be used", "mend it; `parapluie config show` says when it is right"
        return [], [Finding("configuration", None, None, what, why, remedy)]
    return [(name, f"{written(one.value)} ({one.origin})") for name, one in held.items()], []


def _look_at(script: str) -> list[Finding]:
    from pathlib import Path

    from parapluie.cli.doctor.rules import findings_of
    from parapluie.cli.doctor.source import Unparsable

    path: Path = Path(script)
    try:
        return findings_of(path)
    except OSError as error:
        raise Failure(f"{script!r} cannot be read: {error.strerror or error}") from error
    except RecursionError as error:
        raise Failure(
            f"{script!r} cannot be looked at: it, or a module that it imports, is nested too deeply"
        ) from error
    except Unparsable as error:
        where = "" if error.line is None else f", line {error.line},"
        raise Failure(f"{script!r}{where} is no Python that can be parsed: {error.problem}") from error


def _usable(plugins: list[Explanation]) -> list[tuple[str, str]]:
    """Return the backends that can be used, by the distribution that they come from."""
    names: dict[str, list[str]] = {}
    for one in plugins:
        if one.available:
            origin = " ".join(filter(None, (one.distribution, one.version))) or "registered by hand"
            names.setdefault(origin, []).append(one.name)
    return [(origin, ", ".join(offered)) for origin, offered in names.items()]


def _broken_plugins(plugins: list[Explanation]) -> list[Finding]:
    from parapluie.cli.doctor.finding import Finding

    return [
        Finding(
            "broken-plugin",
            None,
            None,
            f"{one.name}: {one.why_not}",
            "an Executor that asks for it raises this",
            f"mend or remove {one.distribution or 'the plugin'}",
        )
        for one in plugins
        if not one.available
    ]


def _print_section(title: str, facts: list[tuple[str, str]]) -> None:
    if facts:
        print_title(title)
        print_table(("", ""), facts, indent=2, styles=["cyan"])


def _print_findings(findings: list[Finding], script: str | None) -> None:
    print_line("")
    for one in findings:
        place = "" if one.file is None else f"{one.file}:{one.line}: "
        print_line(f"{place}{one.what} [{one.rule}]", style="bold red")
        print_table(("", ""), [("why:", one.why), ("do:", one.remedy)], indent=4)
    if findings:
        print_line(f"{len(findings)} finding{'s' if findings[1:] else ''}")
    else:
        print_line("nothing found" if script is None else f"nothing found in {script}")
