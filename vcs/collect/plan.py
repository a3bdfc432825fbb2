"""Which layers go, and which are worth rewriting: decided here from figures alone.

A layer in which nothing is needed goes. Of those that are partly garbage, the ones with the highest share of it are
rewritten, until what garbage stays is a trifle. Small layers, one a commit, are merged in the way of a log-structured
merge tree: a layer is rewritten only together with others that outweigh it, so that however often garbage is
collected, a byte is rewritten for merging no more than some ten times.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from vcs.model import LayerId

WASTE_LEFT = 0.05
"""The share of all garbage that may stay in layers that are not rewritten."""
WASTE_IGNORED = 0.001
"""Garbage that is less than this share of what is needed is not worth rewriting anything."""
SMALL = 4 << 20
"""Layers with fewer bytes in use are merged."""
MERGED_AT_ONCE = 16
"""The fewest that are worth it. So at most so many small layers stay for each size between a commit's and SMALL."""
ROUND = 1 << 30
"""Bytes that are copied before the layers they came from are removed: bounds the room that a collection needs."""


@dataclass(frozen=True, slots=True)
class LayerUse:
    """How much of a layer is needed."""

    name: LayerId
    size: int
    """Bytes of the file."""
    objects: int
    """How many of its objects are needed and found in it."""
    live: int
    """What of the size they account for: their share of their blocks, and of the tables."""

    garbage: int = 0
    """How many are not needed."""

    @property
    def waste(self) -> int:
        return self.size - self.live


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do. Layers are in the order in which they came."""

    dead: list[LayerUse] = field(default_factory=list)
    rewritten: list[LayerUse] = field(default_factory=list)

    def rounds(self) -> Iterator[list[LayerUse]]:
        """The layers to be rewritten, in portions."""
        portion: list[LayerUse] = []
        for use in self.rewritten:
            if portion and sum(other.live for other in portion) + use.live > ROUND:
                yield portion
                portion = []
            portion.append(use)
        if portion:
            yield portion


def plan(uses: Sequence[LayerUse], everything: bool = False) -> Plan:
    """What to do with a store's layers; with `everything`, all that is needed is rewritten."""
    used = [use for use in uses if use.objects]
    chosen = set(used) if everything else {*_wasteful(uses), *_mergeable(used)}
    return Plan([use for use in uses if not use.objects], [use for use in used if use in chosen])


def _wasteful(uses: Iterable[LayerUse]) -> Iterator[LayerUse]:
    """The layers to be rewritten for the garbage in them."""
    waste = sum(use.waste for use in uses)
    allowed = max(WASTE_LEFT * waste, WASTE_IGNORED * sum(use.live for use in uses))
    # What costs the most copying for a byte that it frees comes first: it may stay.
    used = sorted((use for use in uses if use.objects), key=lambda use: use.waste / use.size)
    left = accumulate(use.waste for use in used)
    return (use for use, total in zip(used, left, strict=True) if total > allowed)


def _mergeable(used: Iterable[LayerUse]) -> list[LayerUse]:
    """The small layers to be merged: with the largest of them, those that are smaller, and together outweigh it."""
    small = sorted((use for use in used if use.live < SMALL), key=lambda use: use.live)
    smaller = list(accumulate((use.live for use in small), initial=0))
    count = max((number for number, use in enumerate(small) if use.live <= smaller[number]), default=-1) + 1
    return small[:count] if count >= MERGED_AT_ONCE else []
