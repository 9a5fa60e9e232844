"""What was measured, as a page of Markdown and as data for JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from parapluie.bench.figures import number, ratio
from parapluie.bench.goals import verdicts
from parapluie.bench.isolate import ABSENT, MEASURED
from parapluie.bench.workloads import LOWER

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from parapluie.bench.machine import Machine
    from parapluie.bench.run import Record, Results
    from parapluie.bench.workloads import Figure, Workload

FORMAT = 1  # of the JSON; grows when a reader has to change
_HELD = {True: "yes", False: "**no**", None: "?"}
_NOTHING = "-"


def markdown(results: Results, machine: Machine) -> str:
    """Return the page: where it was made, the goals, and a table for each workload."""
    lines = ["# parapluie benchmark", "", *_heading(results, machine)]
    judged = verdicts(results)
    if judged:
        lines += ["", "## Goals", ""]
        lines += _table(["goal", "reached", "held"], [[one.goal, one.reached, _HELD[one.held]] for one in judged], 0)
    for workload in results.settings.workloads:
        lines += [
            "",
            f"## {workload.name}",
            "",
            _sentence(workload.about(results.settings.sizes)),
            "",
            *_workload_table(results, workload),
        ]
    return "\n".join(lines) + "\n"


def data(results: Results, machine: Machine) -> dict[str, Any]:
    """Return everything that was measured, each round included."""
    settings = results.settings
    return {
        "format": FORMAT,
        "complete": results.complete,
        "machine": machine._asdict(),
        "settings": {
            "workers": settings.workers,
            "start_method": settings.start_method,
            "rounds": settings.rounds,
            "quick": settings.quick,
            "time_limit": settings.time_limit,
        },
        "contenders": [
            {"name": one.name, "summary": one.summary, "version": one.version, "why_not": one.why_not}
            for one in settings.contenders
        ],
        "workloads": [_workload_data(results, workload) for workload in settings.workloads],
        "goals": [verdict._asdict() for verdict in verdicts(results)],
    }


def _heading(results: Results, machine: Machine) -> Iterator[str]:
    settings = results.settings
    rounds = "one round" if settings.rounds == 1 else f"medians of {settings.rounds} rounds"
    load = "" if machine.load is None else f", load average {machine.load:g} at the start"
    yield f"- {machine.python} on {machine.system}"
    yield f"- {machine.processor or 'unknown processor'}, {machine.cpus} CPUs{load}"
    yield f"- {settings.workers} workers, start method {settings.start_method}, {rounds}, {machine.date}"
    yield f"- {', '.join(_versions(results)) or 'of the standard library alone'}"
    for contender in settings.contenders:
        if contender.why_not:
            yield f"- {contender.name}: {contender.why_not}"
    if settings.quick:
        yield "- small sizes (--quick): good for a first look, not for conclusions"
    if not results.complete:
        yield "- interrupted: what was measured until then"


def _versions(results: Results) -> list[str]:
    found = [
        f"{one.distribution} {one.version}"
        for one in results.settings.contenders
        if one.distribution and not one.why_not
    ]
    return list(dict.fromkeys(found))


def _workload_table(results: Results, workload: Workload) -> list[str]:
    heads = ["contender"]
    for figure in workload.figures:
        heads.append(f"{figure.title} ({figure.unit})" if figure.unit else figure.title)
        heads += [f"× {name}" for name in _baselines(workload, figure, results)]
    rows = []
    for record in best_first(results.of(workload), workload.figures[0]):
        cells = [record.contender.name]
        for figure in workload.figures:
            value = record.median(figure.name)
            cells.append(_NOTHING if value is None else number(value, figure.digits))
            for name in _baselines(workload, figure, results):
                factor = _ratio(results, record, figure, name)
                cells.append(_NOTHING if factor is None else ratio(factor))
        rows.append([*cells, "; ".join(record.notes)])
    return _table([*heads, "remarks"], rows, len(heads) - 1)


def best_first(records: Sequence[Record], figure: Figure) -> list[Record]:
    """Return records in the order of a figure; at the end those that have none."""
    sign = 1 if figure.better == LOWER else -1

    def place(record: Record) -> tuple[bool, bool, float]:
        value = record.median(figure.name)
        return record.status in {ABSENT, ""}, value is None, sign * (value or 0)

    return sorted(records, key=place)


def _baselines(workload: Workload, figure: Figure, results: Results) -> list[str]:
    """Return those that a figure is compared with and that are part of the run."""
    if not figure.ratio:
        return []
    return [name for name in workload.baselines if results.value(workload.name, name, figure.name)]


def _ratio(results: Results, record: Record, figure: Figure, baseline: str) -> float | None:
    value, other = record.median(figure.name), results.value(record.workload.name, baseline, figure.name)
    return None if value is None or not other else value / other


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], numeric: int) -> list[str]:
    """Return a table of Markdown whose columns 1 to `numeric` are aligned on the right."""
    rule = ["---:" if 1 <= column <= numeric else "---" for column in range(len(heads))]
    escaped = [[cell.replace("|", "\\|") for cell in cells] for cells in (heads, rule, *rows)]
    return [f"| {' | '.join(cells)} |" for cells in escaped]


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _workload_data(results: Results, workload: Workload) -> dict[str, Any]:
    return {
        "name": workload.name,
        "summary": workload.about(results.settings.sizes),
        "figures": [
            {"name": one.name, "title": one.title, "unit": one.unit, "better": one.better} for one in workload.figures
        ],
        "results": [_record_data(results, record) for record in results.of(workload)],
    }


def _record_data(results: Results, record: Record) -> dict[str, Any]:
    workload = record.workload
    return {
        "contender": record.contender.name,
        "status": record.status or "not reached",
        "notes": record.notes,
        "medians": {figure.name: record.median(figure.name) for figure in workload.figures},
        "rounds": [outcome.figures for outcome in record.outcomes if outcome.status == MEASURED],
        "ratios": {
            figure.name: {name: _ratio(results, record, figure, name) for name in workload.baselines}
            for figure in workload.figures
            if figure.ratio
        },
    }
