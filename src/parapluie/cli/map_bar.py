"""How far `parapluie map` is, on standard error: a bar at a terminal, lines elsewhere if they are asked for."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

import click
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

from parapluie.cli.output import console
from parapluie.progress import Progress as State
from parapluie.progress import text_of

if TYPE_CHECKING:
    from collections.abc import Callable

_LINE_SECONDS = 1.0
_MINUTE, _HOUR = 60, 3600


class Bar:
    """A bar with the rate, the time that is left, failures and retries.

    Args: about: returns about how many items there are, as long as that is not known.
    """

    def __init__(self, about: Callable[[], int | None]) -> None:
        self._about = about
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[text]}"))
        self._progress = Progress(*columns, console=console(stderr=True), auto_refresh=False)
        self._task = self._progress.add_task("map", total=None, text="")
        self._progress.start()

    def __call__(self, state: State) -> None:
        total = self._about() if state.total is None else state.total
        self._progress.update(self._task, completed=state.done, total=total, text=_details(state, total))
        self._progress.refresh()

    def close(self) -> None:
        self._progress.stop()


def _details(state: State, total: int | None) -> str:
    about = "~" if state.total is None else ""
    parts = [f"{state.done:,}" if total is None else f"{state.done:,}/{about}{total:,}"]
    rate = (state.done - state.restored) / state.seconds if state.seconds else 0.0
    parts.append(f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.1f}/s")  # noqa: PLR2004 - so many digits are read easily
    if total is not None and rate and total > state.done:
        parts.append(f"{_time((total - state.done) / rate)} left")
    else:
        parts.append(_time(state.seconds))
    parts += [f"[red]{state.failed:,} failed[/red]"] if state.failed else []
    parts += [f"{state.retried:,} retried"] if state.retried else []
    return "  ".join(parts)


def _time(seconds: float) -> str:
    whole = round(seconds)
    minutes = f"{whole // _MINUTE % _MINUTE:02}:{whole % _MINUTE:02}"
    return f"{whole // _HOUR}:{minutes}" if whole >= _HOUR else minutes


class PlainLines:
    """A line every second, and one at the end."""

    def __init__(self) -> None:
        self._next = monotonic() + _LINE_SECONDS
        self._told: State | None = None
        self._state: State | None = None

    def __call__(self, state: State) -> None:
        self._state = state
        if monotonic() >= self._next:
            self._next = monotonic() + _LINE_SECONDS
            self._say(state)

    def _say(self, state: State) -> None:
        self._told = state
        click.echo(f"parapluie: {text_of(state)}", err=True)

    def close(self) -> None:
        if self._state is not None and self._state != self._told:
            self._say(self._state)


class Nothing:
    """Shows nothing."""

    def __call__(self, state: State) -> None:
        pass

    def close(self) -> None:
        pass
