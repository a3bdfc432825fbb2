"""The tables' main figures as one picture: a bar for each tool, and lines for what grows."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.report import Section, number

_OURS = "#b5651d"
_THEIRS = "#9aa5b1"
_BARS = (
    ("Import: ", ("seconds", "again", "memory")),
    ("Sizes: ", ("on disk", "repacked, on disk")),
    ("Changes: ", ("ten files", "3,000 files", "diff", "rollback")),
    ("One page", ("one page", "one page: added")),
)
"""By how a section's title begins: the columns that are drawn."""


def plot(sections: list[Section], path: Path) -> None:
    """Write an SVG. The same figures give the same bytes."""
    mpl.rcParams.update({"svg.hashsalt": "treering", "font.size": 8, "svg.fonttype": "none"})
    drawn = [(section, column) for section in sections for column in _columns(section)]
    lines = [section for section in sections if section.series]
    if not drawn and not lines:
        return
    across = 3
    down = -(-(len(drawn) + len(lines)) // across)
    figure = Figure(figsize=(4.2 * across, 2.6 * down), layout="constrained")
    axes = [figure.add_subplot(down, across, place + 1) for place in range(len(drawn) + len(lines))]
    for one, (section, column) in zip(axes, drawn, strict=False):
        _bars(one, section, column)
    for one, section in zip(axes[len(drawn) :], lines, strict=True):
        _lines(one, section)
    figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def _columns(section: Section) -> list[str]:
    wanted = next((columns for start, columns in _BARS if section.title.startswith(start)), ())
    return [column for column in wanted if column in section.columns]


def _bars(axes: Axes, section: Section, column: str) -> None:
    rows = {name: row[column] for name, row in section.rows.items() if column in row}
    ordered = sorted(rows, key=lambda name: rows[name].value, reverse=True)
    values = [rows[name].value for name in ordered]
    colors = [_OURS if name.startswith("treering") else _THEIRS for name in ordered]
    bars = axes.barh(ordered, values, color=colors)
    labels = [_label(rows[name].value, rows[name].unit) for name in ordered]
    axes.bar_label(bars, labels=labels, padding=2, fontsize=7)
    axes.set_title(f"{section.title}: {column}", fontsize=8, loc="left")
    axes.margins(x=0.25)
    axes.xaxis.set_visible(False)
    axes.spines[:].set_visible(False)


def _label(value: float, unit: str) -> str:
    return number(value, "MB" if unit == "B" and value > 1e6 else unit)


def _lines(axes: Axes, section: Section) -> None:
    for name, values in section.series.items():
        ours = name.startswith("treering")
        axes.plot([value / 1e6 for value in values], label=name, linewidth=2.2 if ours else 1.0,
                  color=_OURS if ours else None)  # fmt: skip
    axes.set_title(f"{section.title}: MB on disk by commit", fontsize=8, loc="left")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=6)
