"""`parapluie config`: what holds here, and who says so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from parapluie.cli.output import print_json, print_table
from parapluie.config import Setting

if TYPE_CHECKING:
    from parapluie.config import Config, Settled


@click.group()
def command() -> None:
    """Look at the configuration."""


@command.command()
@click.option("--profile", metavar="NAME", help="The profile to look at; else the one that PARAPLUIE_PROFILE names.")
@click.option("--config", "path", metavar="FILE", help="The file; else what PARAPLUIE_CONFIG says, or the nearest one.")
@click.option("--backend", metavar="NAME", help="As if the program asked for this backend.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(*, profile: str | None, path: str | None, backend: str | None, as_json: bool) -> None:
    """Show what an executor gets that is made here, each setting with the value and where it comes from.

    From the strongest: what the program's code gives, variables PARAPLUIE_*, the profile, the file (parapluie.toml, or
    [tool.parapluie] in pyproject.toml, from the working directory upward), and the library's defaults.
    """
    from parapluie.config import Config

    config = Config.find(profile, path=path)
    settled = config.settle({} if backend is None else {"backend": backend})
    held = complete(settled)
    if as_json:
        print_json(_data(config, held, settled.left_out))
        return
    click.echo(f"file: {config.path or 'none'}" + (f", profile {config.profile!r}" if config.profile else ""))
    rows = [(name, written(one.value), one.origin) for name, one in held.items()]
    rows += [(name, written(one.value), f"{one.origin} (left out)") for name, one in settled.left_out.items()]
    print_table(("setting", "value", "from"), rows)
    if settled.left_out:
        click.echo(f"left out: a stronger source chose backend {settled.value('backend')!r}, which cannot do it")


def complete(settled: Settled) -> dict[str, Setting]:
    """Add what the library decides itself; raise what an executor would raise."""
    from parapluie import config, settings
    from parapluie.errors import ConfigError
    from parapluie.policies.shutdown import Shutdown

    values = {name: setting.value for name, setting in settled.settings.items()}
    for name in ("retry", "shutdown", "capture_output", "observers"):
        values.pop(name, None)  # checked when they were read
    try:
        found = settings.resolve(**values)
    except ConfigError as error:
        config.explain(error, settled)
        raise
    own = {
        name: getattr(found, name) for name in ("max_workers", "start_method", "max_tasks_per_child", "task_timeout")
    }
    library = {
        name: Setting(value, "default")
        for name, value in {**own, "retry": None, "shutdown": Shutdown(), "capture_output": False}.items()
    }
    both = {**library, **settled.settings}
    return {name: both[name] for name in (*settings.PARAMETERS, "options") if name in both}


def written(value: Any) -> str:
    """Write a value for a person."""
    return "none" if value is None else value if isinstance(value, str) else str(value)


def _data(config: Config, held: dict[str, Setting], left_out: dict[str, Setting]) -> dict[str, Any]:
    return {
        "file": None if config.path is None else str(config.path),
        "profile": config.profile,
        "settings": {name: {"value": one.value, "from": one.origin} for name, one in held.items()},
        "left_out": {name: {"value": one.value, "from": one.origin} for name, one in left_out.items()},
    }
