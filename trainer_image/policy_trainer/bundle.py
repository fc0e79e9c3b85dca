"""The report of a version: one HTML file that needs nothing else, with PNG and CSV beside it.

A bundle is a folder of the artifact, asked for by `artifact.bundle`. Recipes hand over numbers
(figures.py); what they look like is decided here alone.
"""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from policy_api.contract.artifact import PolicyManifest

from policy_trainer.figures import Cell, Chart, ChartKind, Series, Table

REPORT = "report.html"
# Okabe and Ito's colours, which people with any kind of colour vision can tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
INK, QUIET = "#222222", "#b8b8b8"
WIDTH, HEIGHT = 6.0, 3.6  # inches
DPI = 150
LONG_NAMES = 40  # letters of all bars' names together, from which on bars lie
STYLE = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.grid": True,
    "grid.color": "#ececec",
    "axes.axisbelow": True,
    "svg.fonttype": "path",  # the reader's fonts do not matter
    "svg.hashsalt": "policyops",  # the same numbers make the same file
    "legend.frameon": False,
}


@dataclass(frozen=True)
class Drawn:
    """A chart, as the report shows it."""

    title: str
    svg: str
    png: str
    csv: str


def write(
    folder: Path, made: PolicyManifest, charts: Sequence[Chart], tables: Sequence[Table]
) -> None:
    """Write the report, and each chart and table as files.

    Args:
        folder: Where to; it is made.
        made: The version's manifest; its list of files is not looked at.
        charts: What to draw.
        tables: What to show as they are.
    """
    import jinja2  # noqa: PLC0415 - only a bundle needs it

    folder.mkdir()
    drawn = [_drawn(folder, chart) for chart in charts]
    for table in tables:
        _write_csv(folder / f"{table.name}.csv", table.columns, table.rows)
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["number"] = number
    source = files("policy_trainer").joinpath("report.html.j2").read_text()
    accepted = all(verdict.met for verdict in made.exit_criteria)
    text = environment.from_string(source).render(
        made=made,
        accepted=accepted,
        drawn=drawn,
        tables=tables,
        config=json.dumps(made.config, indent=2),
    )
    (folder / REPORT).write_text(text)


def number(value: Cell) -> str:
    """Return a table's cell: numbers to four digits."""
    if value is None:
        return "–"  # noqa: RUF001 - a dash for people
    return f"{value:,.4g}" if isinstance(value, int | float) else value


def _drawn(folder: Path, chart: Chart) -> Drawn:
    from matplotlib import rc_context  # noqa: PLC0415 - a second that most runs do not need

    svg = io.StringIO()
    with rc_context(STYLE):
        figure = _figure(chart)
        figure.savefig(svg, format="svg", metadata={"Date": None})
        figure.savefig(folder / f"{chart.name}.png", dpi=DPI)
    rows = [row for series in chart.series for row in _points(series)]
    bounds = ["low", "high"] if chart.series and chart.series[0].low is not None else []
    columns = ["series", chart.x_label or "x", chart.y_label or "y", *bounds]
    _write_csv(folder / f"{chart.name}.csv", columns, rows)
    text = svg.getvalue()
    return Drawn(chart.title, text[text.index("<svg") :], f"{chart.name}.png", f"{chart.name}.csv")


def _points(series: Series) -> list[list[Any]]:
    bounds = [numbers for numbers in (series.low, series.high) if numbers is not None]
    columns = zip(series.x, series.y, *bounds, strict=True)
    return [[series.name, *values] for values in columns]


def _write_csv(file: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with file.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(columns)
        writer.writerows(rows)


def _figure(chart: Chart) -> Any:
    from matplotlib.figure import Figure  # noqa: PLC0415 - see _drawn

    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    axes = figure.subplots()
    if chart.kind is ChartKind.BAR:
        _bars(axes, chart)
    else:
        for series, colour in zip(chart.series, _colours(chart.series), strict=True):
            _line(axes, series, colour, chart.kind)
        axes.set_xlabel(chart.x_label)
        axes.set_ylabel(chart.y_label)
    if len(chart.series) > 1:
        axes.legend()
    return figure


def _colours(series: Sequence[Series]) -> list[str]:
    """Return a colour a series; what only shows chance or perfection stays in the background."""
    told = iter(COLOURS * (1 + len(series) // len(COLOURS)))
    return [QUIET if one.name in {"chance", "perfect"} else next(told) for one in series]


def _line(axes: Any, series: Series, colour: str, kind: ChartKind) -> None:
    if kind is ChartKind.HISTOGRAM:
        edges = [float(x) for x in series.x]
        axes.bar(edges, series.y, edges[1] - edges[0], align="edge", color=colour)
        return
    dashed = colour == QUIET
    style = {"color": colour, "label": series.name, "linestyle": "--" if dashed else "-"}
    if kind is ChartKind.STEP:
        axes.step(series.x, series.y, where="post", **style)
    else:
        few = len(series.x) <= 30 and not dashed  # noqa: PLR2004 - points that can be told apart
        axes.plot(series.x, series.y, marker="o" if few else None, markersize=3, **style)
    if series.low is not None and series.high is not None:
        axes.fill_between(series.x, series.low, series.high, color=colour, alpha=0.15)


def _bars(axes: Any, chart: Chart) -> None:
    """Draw groups of bars, lying where their names are long; with intervals, points instead.

    Bars begin at 0, where differences of a percent cannot be seen; points need not.
    """
    names = [str(name) for name in chart.series[0].x]
    points = any(series.low is not None and series.low != series.y for series in chart.series)
    lying = points or sum(map(len, names)) > LONG_NAMES
    thick = 0.8 / len(chart.series)
    for place, (series, colour) in enumerate(
        zip(chart.series, _colours(chart.series), strict=True)
    ):
        where = [n + (place - (len(chart.series) - 1) / 2) * thick for n in range(len(names))]
        if points:
            ends = _ends(series)
            axes.errorbar(series.y, where, xerr=ends, fmt="o", color=colour, label=series.name)
        elif lying:
            axes.barh(where, series.y, thick * 0.9, color=colour, label=series.name)
        else:
            axes.bar(where, series.y, thick * 0.9, color=colour, label=series.name)
    if lying:
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(chart.y_label)
    else:
        axes.set_xticks(range(len(names)), names)
        axes.grid(visible=False, axis="x")
        axes.set_ylabel(chart.y_label)


def _ends(series: Series) -> list[list[float]]:
    """Return how far the interval reaches below and above each value."""
    low, high = series.low or series.y, series.high or series.y
    below = [max(0.0, y - end) for y, end in zip(series.y, low, strict=True)]
    return [below, [max(0.0, end - y) for y, end in zip(series.y, high, strict=True)]]
