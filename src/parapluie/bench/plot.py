"""A picture of a run: for each workload a row of bars, best first, our own backends in colour.

matplotlib is imported here and nowhere else, and without its state: no window, no style of the user's.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from parapluie.bench.figures import number
from parapluie.bench.isolate import ABSENT
from parapluie.bench.report import best_first

if TYPE_CHECKING:
    from pathlib import Path

    from parapluie.bench.run import Record, Results
    from parapluie.bench.workloads import Workload

_OURS, _PEER = "#0072b2", "#b8b8b8"  # told apart in shades of grey and by the colour-blind, too
_COLUMNS = 3


def missing() -> str:
    """Say what has to be installed to draw; empty if nothing."""
    if find_spec("matplotlib") is None:
        return "--plot needs matplotlib, which is not installed; install parapluie with its extra 'bench'"
    return ""


def formats() -> list[str]:
    """Return the endings of files that can be written."""
    from matplotlib.backend_bases import FigureCanvasBase

    return sorted(FigureCanvasBase.get_supported_filetypes())


def draw(results: Results, path: Path) -> None:
    """Write the picture; the ending of the path says in which format."""
    import matplotlib as mpl
    from matplotlib.figure import Figure as Picture

    workloads = [one for one in results.settings.workloads if any(_drawn(results, one))]
    columns = max(1, min(_COLUMNS, len(workloads)))
    rows = max(1, -(-len(workloads) // columns))
    # The same run gives the same file: no random ids, no date.
    with mpl.rc_context({"svg.hashsalt": "parapluie", "font.size": 8}):
        picture = Picture(figsize=(4.6 * columns, 2.6 * rows), layout="constrained")
        for at, workload in enumerate(workloads):
            _panel(picture.add_subplot(rows, columns, at + 1), results, workload)
        metadata = {"Date": None} if path.suffix == ".svg" else None
        picture.savefig(path, metadata=metadata)


def _drawn(results: Results, workload: Workload) -> list[Record]:
    records = best_first(results.of(workload), workload.figures[0])
    return [record for record in records if record.status not in {ABSENT, ""}]


def _panel(axes: Any, results: Results, workload: Workload) -> None:
    figure = workload.figures[0]
    records = _drawn(results, workload)
    values = [record.median(figure.name) for record in records]
    colours = [_OURS if record.contender.ours else _PEER for record in records]
    axes.barh(range(len(records)), [value or 0 for value in values], color=colours)
    for place, (record, value) in enumerate(zip(records, values, strict=True)):
        text = record.status if value is None else number(value, figure.digits)
        axes.text(value or 0, place, f" {text}", va="center", fontsize=7)
    axes.set_yticks(range(len(records)), [record.contender.name for record in records])
    axes.invert_yaxis()
    axes.margins(x=0.18)
    axes.set_xticks([])  # every bar has its number
    unit = f" ({figure.unit})" if figure.unit else ""
    axes.set_title(f"{workload.name}: {figure.title}{unit}, {figure.better} is better", fontsize=8)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
