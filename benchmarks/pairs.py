"""Two ways of doing the same, in turns: what one costs compared with the other, and how sure that is."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.measure import in_turns
from benchmarks.report import Section


@dataclass(frozen=True, slots=True)
class Pairs:
    """Seconds of rounds; the n-th of both were measured one right after the other.

    On a machine that others use too, times of minutes apart differ more than what is to be seen. The ratios of pairs do
    not: what slows one mostly slows the other.
    """

    ours: Sequence[float]
    theirs: Sequence[float]

    @property
    def ratio(self) -> float:
        """The median of the pairs' ratios, ours to theirs."""
        return statistics.median(self._ratios())

    @property
    def spread(self) -> tuple[float, float]:
        """Between which ratios the middle half of the pairs lies."""
        ratios = self._ratios()
        if len(ratios) < 2:
            return ratios[0], ratios[0]
        low, _, high = statistics.quantiles(ratios, n=4, method="inclusive")
        return low, high

    def _ratios(self) -> list[float]:
        return [ours / theirs for ours, theirs in zip(self.ours, self.theirs, strict=True)]


def pairs(rounds: int, ours: Callable[[], float], theirs: Callable[[], float]) -> Pairs:
    """Measure both in turns; each is first in every second round."""
    found = in_turns(rounds, {"ours": lambda _: ours(), "theirs": lambda _: theirs()})
    return Pairs(found["ours"], found["theirs"])


def put_pairs(section: Section, row: str, found: Pairs, names: tuple[str, str]) -> None:
    """A row: both medians, the ratio and its spread."""
    low, high = found.spread
    for name, times in zip(names, (found.ours, found.theirs), strict=True):
        section.put(row, name, statistics.median(times) * 1e3, "ms")
    section.put(row, "ratio", found.ratio, "×")
    section.put(row, "half of the pairs: from", low, "×")
    section.put(row, "to", high, "×")
    section.put(row, "pairs", len(found.ours), "")
