"""What was measured, as values, as Markdown and as JSON."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Figure:
    """One number. The unit says how it is printed: s, ms, MB and MB/s (of bytes), B, × or nothing."""

    value: float
    unit: str

    def __str__(self) -> str:
        return number(self.value, self.unit)


@dataclass(frozen=True, slots=True)
class Claim:
    """What we hold ourselves to, and what was seen. `aim` is its number in docs/benchmarks.md."""

    aim: str
    what: str
    seen: Figure
    limit: float
    at_least: bool = False
    """Whether the limit is the least that will do, not the most."""

    @property
    def kept(self) -> bool:
        return self.seen.value >= self.limit if self.at_least else self.seen.value <= self.limit


@dataclass(slots=True)
class Section:
    """A table: figures by row and column, what is to be known of them, and the claims that they bear out or not."""

    title: str
    rows_are: str = "tool"
    notes: list[str] = field(default_factory=list)
    rows: dict[str, dict[str, Figure]] = field(default_factory=dict)
    claims: list[Claim] = field(default_factory=list)
    series: dict[str, list[float]] = field(default_factory=dict)
    """What a plot needs beyond the table: by row, values in order."""

    def put(self, row: str, column: str, value: float, unit: str) -> None:
        self.rows.setdefault(row, {})[column] = Figure(value, unit)

    def note(self, text: str) -> None:
        """What a reader must know; said once."""
        if text not in self.notes:
            self.notes.append(text)

    def claim(self, aim: str, what: str, seen: float, limit: float, unit: str = "×", *, at_least: bool = False) -> None:
        self.claims.append(Claim(aim, what, Figure(seen, unit), limit, at_least))

    @property
    def columns(self) -> list[str]:
        """In the order of the fullest row; a column that it lacks comes last."""
        fullest_first = sorted(self.rows.values(), key=len, reverse=True)
        return list(dict.fromkeys(column for row in fullest_first for column in row))


def least(values: Mapping[str, float], names: tuple[str, ...]) -> float | None:
    """The smallest of what the named ones have; None if nobody is there."""
    return min((values[name] for name in names if name in values), default=None)


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
    """The tables for people: first what was aimed at, then a table a section."""
    parts = [f"Measured on {machine()}."]
    claims = [claim for section in sections for claim in section.claims]
    if claims:
        lines = ["## Aims", "", "| aim | what | seen | limit | |", "|---|---|---:|---:|---|"]
        for claim in sorted(claims, key=lambda claim: int(claim.aim)):
            limit = number(claim.limit, claim.seen.unit)
            verdict = "kept" if claim.kept else "**missed**"
            bound = "≥" if claim.at_least else "≤"
            lines.append(f"| {claim.aim} | {claim.what} | {claim.seen} | {bound} {limit} | {verdict} |")
        parts.append("\n".join(lines))
    parts += [_table(section) for section in sections]
    return "\n\n".join(parts) + "\n"


def _table(section: Section) -> str:
    lines = [f"## {section.title}", ""]
    if section.rows:
        columns = section.columns
        lines += [f"| {section.rows_are} | {' | '.join(columns)} |", "|---" + "|---:" * len(columns) + "|"]
        for name, row in section.rows.items():
            lines.append(f"| {name} | {' | '.join(str(row.get(column, '')) for column in columns)} |")
    for note in section.notes:
        lines += ["", note]
    return "\n".join(lines)


def as_json(sections: list[Section]) -> str:
    """The same for programs."""
    return json.dumps({"machine": machine(), "sections": [asdict(section) for section in sections]}, indent=2) + "\n"


def number(value: float, unit: str) -> str:
    match unit:
        case "s":
            return f"{value:.2f} s"
        case "ms":
            return f"{value:.2f} ms" if value < 10 else f"{value:,.0f} ms"
        case "MB":
            return f"{value / 1e6:,.1f} MB"
        case "MB/s":
            return f"{value / 1e6:,.0f} MB/s"
        case "B":
            return f"{value:,.0f} B"
        case "×":
            return f"{value:.2f}×"
    return f"{value:g} {unit}".strip()
