"""What a recipe has to show besides its metrics: charts and tables, as numbers.

bundle.py draws them; nothing here knows how.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

Number = float | int
Cell = str | float | int | None
History = Sequence[Mapping[str, float]]


class ChartKind(StrEnum):
    """How a chart's series are drawn."""

    LINE = "line"
    STEP = "step"  # e.g. a ROC curve
    BAR = "bar"  # x are names; low and high are error bars
    HISTOGRAM = "histogram"  # x are left ends of bins of one width, y are shares


@dataclass(frozen=True)
class Series:
    """One line, or one group of bars."""

    name: str
    x: Sequence[Number] | Sequence[str]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


@dataclass(frozen=True)
class Chart:
    """One picture; `name` is its file's."""

    name: str
    title: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    kind: ChartKind = ChartKind.LINE


@dataclass(frozen=True)
class Table:
    """One table; `name` is its file's."""

    name: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]


def curve(history: History, metric: str, title: str, label: str = "") -> list[Chart]:
    """Return the chart of a metric over the steps of training; nothing when it was never logged."""
    points = [(row["step"], row[metric]) for row in history if metric in row]
    if not points:
        return []
    steps, values = zip(*points, strict=True)
    series = Series(label or metric, steps, values)
    name = "".join(c if c.isalnum() else "_" for c in metric)
    return [Chart(f"{name}_curve", title, "step", label or metric, [series])]


def curves(history: History, titles: Mapping[str, str]) -> list[Chart]:
    """Return the charts of those metrics that were logged, by `{metric: title}`."""
    return [chart for metric, title in titles.items() for chart in curve(history, metric, title)]


def bars(
    name: str, title: str, label: str, values: Iterable[tuple[str, float, float, float]]
) -> Chart:
    """Return bars of `(name, value, low, high)`."""
    names, heights, lows, highs = zip(*values, strict=True)
    return Chart(
        name, title, "", label, [Series(label, names, heights, lows, highs)], ChartKind.BAR
    )
