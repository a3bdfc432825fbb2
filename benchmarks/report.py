"""What was measured, as values, as Markdown and as JSON."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of one peer. `ratio` is ours to the peer that the section compares with; `limit` what it may be."""

    what: str
    who: str
    value: float
    unit: str
    """s, ms, B or MB; how it is printed."""
    ratio: float | None = None
    against: str = ""
    limit: str = ""
    good: bool | None = None
    """Whether the limit is kept; None without a limit."""


@dataclass(slots=True)
class Section:
    """A table."""

    title: str
    notes: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)

    def add(self, what: str, who: str, value: float, unit: str, at_most: float | None = None) -> None:
        """A figure, with the most that it may be (in its unit)."""
        limit = f"≤ {_number(at_most, unit)}" if at_most is not None else ""
        good = value <= at_most if at_most is not None else None
        self.rows.append(Row(what, who, value, unit, limit=limit, good=good))

    def add_ratio(self, what: str, ratio: float, at_most: float) -> None:
        """A figure without a unit, and the most that it may be."""
        self.rows.append(Row(what, "treering", ratio, "×", limit=f"≤ {at_most:g}×", good=ratio <= at_most))

    def compare(
        self, what: str, values: dict[str, float], unit: str, ours: str, limits: dict[str, float] | None = None
    ) -> None:
        """One figure of several peers. Theirs get our ratio to them, and the most that it may be."""
        limits = limits or {}
        for who, value in values.items():
            if who == ours:
                self.rows.append(Row(what, who, value, unit))
                continue
            ratio = values[ours] / value if value else float("inf")
            most = limits.get(who)
            limit = f"≤ {most:g}×" if most is not None else ""
            self.rows.append(
                Row(what, who, value, unit, ratio, ours, limit, ratio <= most if most is not None else None)
            )


def machine() -> str:
    """The machine in a line: what figures depend on."""
    model = ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 30
    return f"{os.cpu_count()} cores ({model or platform.machine()}), {memory} GiB, Linux {platform.release()}"


def markdown(sections: list[Section]) -> str:
    """The tables for people."""
    parts = [machine()]
    for section in sections:
        lines = [f"## {section.title}", ""]
        if section.notes:
            lines += ["  \n".join(section.notes), ""]
        lines += ["| what | who | measured | ours to it | limit | |", "|---|---|---:|---:|---|---|"]
        for row in section.rows:
            ratio = f"{row.ratio:.2f}×" if row.ratio is not None else ""
            verdict = {True: "kept", False: "**missed**", None: ""}[row.good]
            lines.append(
                f"| {row.what} | {row.who} | {_number(row.value, row.unit)} | {ratio} | {row.limit} | {verdict} |"
            )
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def as_json(sections: list[Section]) -> str:
    """The same for programs."""
    return json.dumps({"machine": machine(), "sections": [asdict(section) for section in sections]}, indent=2) + "\n"


def _number(value: float, unit: str) -> str:
    match unit:
        case "s":
            return f"{value:.2f} s"
        case "ms":
            return f"{value:.2f} ms" if value < 10 else f"{value:.0f} ms"
        case "MB":
            return f"{value / 1e6:.1f} MB"
        case "B":
            return f"{value:,.0f} B"
        case "×":
            return f"{value:.2f}×"
    return f"{value:g} {unit}"
