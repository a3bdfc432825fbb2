"""Two ways of doing the same, in turns: what one costs compared with the other, and how sure that is."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.report import Section

_ATTEMPTS = 3
"""How often a round is tried that somebody else disturbs."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """Seconds of rounds; the n-th of both were measured one right after the other.

    On a machine that others use too, times of minutes apart differ more than what is to be seen. The ratios of pairs do
    not: what slows one mostly slows the other. And others only ever slow it, so the half of the pairs that took the
    least, both sides together, says more than the other half, which is left out.
    """

    ours: Sequence[float]
    theirs: Sequence[float]

    @property
    def ratio(self) -> float:
        """The median of the quieter pairs' ratios, ours to theirs."""
        return statistics.median(self._ratios())

    @property
    def spread(self) -> tuple[float, float]:
        """Between which ratios the middle half of them lies."""
        ratios = self._ratios()
        if len(ratios) < 2:
            return ratios[0], ratios[0]
        low, _, high = statistics.quantiles(ratios, n=4, method="inclusive")
        return low, high

    @property
    def quiet(self) -> list[tuple[float, float]]:
        """The half of the pairs that took the least."""
        return sorted(zip(self.ours, self.theirs, strict=True), key=sum)[: -(-len(self.ours) // 2)]

    def _ratios(self) -> list[float]:
        return [ours / theirs for ours, theirs in self.quiet]


def pairs(rounds: int, ours: Callable[[], float], theirs: Callable[[], float], warm: bool = False) -> Pairs:
    """Measure both in turns; each is first in every second round.

    `warm`: both have run before, and find the machine's caches full. A round in which somebody else drops them is done
    again, after both have run once more.
    """
    found: list[tuple[float, float]] = []
    for number in range(rounds):
        for _ in range(_ATTEMPTS):
            before = _dropped()
            first, second = (theirs, ours) if number % 2 else (ours, theirs)
            pair = first(), second()
            if not warm or _dropped() == before:
                break
            ours(), theirs()
        found.append(pair[::-1] if number % 2 else pair)
    return Pairs([one for one, _ in found], [other for _, other in found])


def _dropped() -> list[str]:
    """How often the machine's caches have been dropped on request."""
    return [line for line in Path("/proc/vmstat").read_text().splitlines() if line.startswith("drop_")]


def put_pairs(section: Section, row: str, found: Pairs, names: tuple[str, str]) -> None:
    """A row: both medians of the quieter pairs, the ratio and its spread."""
    low, high = found.spread
    for name, times in zip(names, zip(*found.quiet, strict=True), strict=True):
        section.put(row, name, statistics.median(times) * 1e3, "ms")
    section.put(row, "ratio", found.ratio, "×")
    section.put(row, "half of the pairs: from", low, "×")
    section.put(row, "to", high, "×")
    section.put(row, "pairs", len(found.ours), "")
