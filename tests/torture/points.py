"""At which of a command's calls it is struck: at all, at some by chance, or at some of each kind.

Two calls are of one kind if programs of the same name make the same call on files whose names differ in digests, ids
and numbers only, or on modules of Python: a service that is started reads 170 of these. Commands that start containers
make thousands of calls of a few hundred kinds.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from tests.torture.stores import kind_of_name

_MODULE = re.compile(r"'[^']*\.pyc?'")
_MORE = 50
"""A command may make more calls than it did when they were counted."""


@dataclass(frozen=True, slots=True)
class Points:
    """All; or `sample` by chance; or of each kind `each` by chance. The first and the last in any case: the same call
    often ends what it began, as a container that stands still goes on by another write to the same file."""

    sample: int = 0
    each: int | None = None
    seed: int = 0

    def numbers(self, seen: Sequence[str], salt: str) -> Iterator[int]:
        """Which of the calls that were seen, from 0. The same ones for the same `salt`."""
        count = len(seen)
        chance = random.Random(f"{self.seed} {salt}")
        if self.each is not None:
            yield from sorted(_of_each_kind(seen, self.each, chance))
        elif not self.sample or self.sample >= count:
            yield from range(count + _MORE)
        else:
            yield from sorted({0, count - 1, *chance.sample(range(count), self.sample)})


def _of_each_kind(seen: Iterable[str], each: int, chance: random.Random) -> set[int]:
    kinds = defaultdict(list)
    for number, line in enumerate(seen):
        kinds[kind_of_name(_MODULE.sub("'module'", line))].append(number)
    chosen = set()
    for numbers in kinds.values():
        between = numbers[1:-1]
        chosen |= {numbers[0], numbers[-1], *chance.sample(between, min(each, len(between)))}
    return chosen
