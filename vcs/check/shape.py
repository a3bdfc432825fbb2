"""Whether a long sequence is cut into nodes in the one way that writing it does, told from each node by itself.

The rule (vcs.encoding) looks at a node's own items, so what a node contributes is known once it was read: a tree of a
million entries that shares all but three nodes with another costs three nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from vcs.encoding import NODE_LIMIT, Cutter


@dataclass(frozen=True, slots=True)
class Shape:
    """A node, and all nodes below it."""

    counts: tuple[int, ...]
    """Items below, level by level: entries (or chunks), the nodes that hold them, ..., the items of this node."""
    is_whole: bool
    """No cut was missed between two of its items."""
    is_closed: bool
    """It ends where a node must, and so does the last node of each level below: another may follow."""
    is_good: bool = True
    """So far as can be told without what stands beside it, everything below is cut as it should be."""

    @property
    def height(self) -> int:
        return len(self.counts) - 1


def leaf_shape(items: Sequence[Any], key: Callable[[Any], bytes]) -> Shape:
    """The shape of a node of entries or chunks."""
    is_whole, is_closed = _cuts(items, key)
    return Shape((len(items),), is_whole, is_closed)


def index_shape(items: Sequence[Any], key: Callable[[Any], bytes], below: Sequence[Shape]) -> Shape:
    """The shape of a node of nodes; `below` are theirs, one for each item."""
    is_whole, is_closed = _cuts(items, key)
    sums = tuple(sum(level) for level in zip_longest(*(shape.counts for shape in below), fillvalue=0))
    is_good = (
        len({shape.height for shape in below}) == 1
        and all(shape.is_good and shape.is_whole for shape in below)
        and all(shape.is_closed for shape in below[:-1])
    )
    return Shape((*sums, len(items)), is_whole, is_closed and below[-1].is_closed, is_good)


def is_canonical(top: Shape) -> bool:
    """Whether a whole sequence, by the shape of its top node, is cut as writing it would."""
    *levels, last = top.counts
    if any(count <= NODE_LIMIT for count in levels) or (levels and last < 2):
        return False
    return top.is_good and (last <= NODE_LIMIT or top.is_whole)


def _cuts(items: Sequence[Any], key: Callable[[Any], bytes]) -> tuple[bool, bool]:
    cutter: Cutter[Any] = Cutter(key)
    parts = sum(1 for _ in cutter.feed(items))
    return parts + bool(cutter.rest) <= 1, parts > 0 and not cutter.rest
