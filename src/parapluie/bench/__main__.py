"""The command line: `python -m parapluie.bench`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from parapluie.bench import plot, report
from parapluie.bench.contenders import Contender, contenders, default_start_method, find, start_methods
from parapluie.bench.machine import this_machine
from parapluie.bench.run import Results, Settings, run
from parapluie.bench.sizes import FULL, TIME_LIMIT
from parapluie.bench.workloads import WORKLOADS, Workload
from parapluie.words import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

INTERRUPTED = 130  # as a shell says it
_STDOUT = "-"


def main(arguments: Sequence[str] | None = None, *, prog: str = "python -m parapluie.bench") -> int:
    """Measure, print the table, and return the exit code.

    0: done. 1: nothing could be measured. 130: interrupted; what was measured before is printed. Wrong arguments end
    with `SystemExit`, as argparse does it.
    """
    parser = _parser(prog)
    chosen = parser.parse_args(arguments)
    workloads = _here(WORKLOADS)
    known = contenders()
    if chosen.list:
        sys.stdout.write(_listing(workloads, known))
        return 0
    settings = _settings(parser, chosen, workloads, known)
    picture = _picture(parser, chosen.plot)
    target = _writable(parser, "--json", chosen.json) if chosen.json not in {None, _STDOUT} else None
    machine, results = this_machine(), Results(settings)
    try:
        run(results, _tell)
    except KeyboardInterrupt:
        _tell("interrupted")
    as_json = json.dumps(report.data(results, machine), indent=2) + "\n"
    sys.stdout.write(as_json if chosen.json == _STDOUT else report.markdown(results, machine))
    if target is not None:
        target.write_text(as_json, encoding="utf-8")
    if picture is not None and results.any:
        plot.draw(results, picture)
    if not results.complete:
        return INTERRUPTED
    return 0 if results.any else 1


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Measure every backend of parapluie beside the pools that you would use instead: which one suits "
        "this machine? The table goes to standard output as Markdown, progress to standard error.",
        allow_abbrev=False,
    )
    parser.add_argument("--workload", action="append", metavar="NAME", help="measure this one (may be repeated)")
    parser.add_argument("--contender", action="append", metavar="NAME", help="measure this one (may be repeated)")
    parser.add_argument("--workers", type=_positive, default=2, metavar="N", help="workers of each pool (default: 2)")
    parser.add_argument(
        "--start-method",
        choices=start_methods(),
        default=default_start_method(),
        help="how worker processes are started (default: %(default)s)",
    )
    parser.add_argument(
        "--rounds", type=_positive, metavar="N", help="measure everything so many times (default: 3, or 1 with --quick)"
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, for a first look")
    parser.add_argument(
        "--limit",
        type=_seconds,
        default=TIME_LIMIT,
        metavar="SECONDS",
        help="kill a measurement that takes longer (default: %(default)g)",
    )
    parser.add_argument(
        "--json",
        nargs="?",
        const=_STDOUT,
        metavar="FILE",
        help="write all figures as JSON to FILE, beside the table; without FILE to standard output, instead of it",
    )
    parser.add_argument("--plot", metavar="FILE.svg", help="draw the table (needs matplotlib)")
    parser.add_argument("--list", action="store_true", help="list workloads and contenders, and measure nothing")
    return parser


def _positive(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive integer")
    return value


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number of seconds")
    return value


def _here(workloads: Sequence[Workload]) -> list[Workload]:
    """Return the workloads that this platform has the start method for."""
    return [one for one in workloads if one.start_method is None or one.start_method in start_methods()]


def _settings(
    parser: argparse.ArgumentParser,
    chosen: argparse.Namespace,
    workloads: Sequence[Workload],
    known: Sequence[Contender],
) -> Settings:
    by_name = {workload.name: workload for workload in workloads}
    wanted = list(by_name.values())
    if chosen.workload:
        for name in chosen.workload:
            if name not in by_name:
                parser.error(_unknown("workload", name, by_name))
        wanted = [workload for workload in workloads if workload.name in chosen.workload]
    rivals = list(known)
    if chosen.contender:
        found = {name: find(name, known) for name in chosen.contender}
        for name, contender in found.items():
            if contender is None:
                # A backend's bare name is understood as well, and so a slip in it.
                bare = [one.name.rpartition(":")[2] for one in known]
                parser.error(_unknown("contender", name, [one.name for one in known], bare))
        rivals = [contender for contender in known if contender in found.values()]
    rounds = chosen.rounds or (1 if chosen.quick else 3)
    return Settings(wanted, rivals, chosen.workers, chosen.start_method, rounds, chosen.quick, chosen.limit)


def _unknown(what: str, name: str, names: Sequence[str] | dict[str, Workload], also: Sequence[str] = ()) -> str:
    hint = did_you_mean(name, [*names, *also])
    return f"unknown {what} {name!r}; available: {', '.join(names)}{hint}"


def _picture(parser: argparse.ArgumentParser, name: str | None) -> Path | None:
    """Return where to draw, found to be possible before an hour of measuring."""
    if name is None:
        return None
    problem = plot.missing()
    if problem:
        parser.error(problem)
    path = _writable(parser, "--plot", name)
    if path.suffix.removeprefix(".") not in plot.formats():
        parser.error(f"--plot {name!r} has to end in one of {', '.join(plot.formats())}, as in 'figures.svg'")
    return path


def _writable(parser: argparse.ArgumentParser, option: str, name: str) -> Path:
    path = Path(name)
    if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        parser.error(f"{option} {name!r} cannot be written: it has to be a file in a folder that exists")
    return path


def _listing(workloads: Sequence[Workload], known: Sequence[Contender]) -> str:
    width = max(len(name) for name in [*(one.name for one in workloads), *(one.name for one in known)]) + 2
    lines = ["workloads:", *(f"  {one.name:{width}}{one.about(FULL)}" for one in workloads), "", "contenders:"]
    lines += [f"  {one.name:{width}}{one.summary or 'broken'} ({one.why_not or one.version})" for one in known]
    return "\n".join(lines) + "\n"


def _tell(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
