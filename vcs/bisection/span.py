"""The commits among which the first bad one is: those that lead to a bad commit and to no good one.

Pure: histories are given as functions from a commit to its parents. Nothing is recursive, since histories are deep.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

from vcs.model import CommitId

Parents: TypeAlias = Callable[[CommitId], Sequence[CommitId]]
Span: TypeAlias = Mapping[CommitId, tuple[CommitId, ...]]
"""Commits with those of their parents that are among them too. Parents come before children, so the bad one is last."""


def reachable(parents: Parents, start: Iterable[CommitId], beyond: Collection[CommitId] = ()) -> set[CommitId]:
    """The commits that some lead to, and these themselves; none that is `beyond`, nor what only such ones lead to."""
    found: set[CommitId] = set()
    todo = [name for name in start if name not in beyond]
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += [parent for parent in parents(name) if parent not in beyond]
    return found


def span(parents: Parents, bad: CommitId, good: Collection[CommitId]) -> Span:
    """The commits that lead to the bad one and to no good one, once `good` has all that good ones lead to."""
    found: dict[CommitId, tuple[CommitId, ...]] = {}
    entered: dict[CommitId, tuple[CommitId, ...]] = {}
    todo = [bad]
    while todo:
        name = todo[-1]
        if name in entered:
            todo.pop()
            found.setdefault(name, entered[name])
            continue
        entered[name] = tuple(dict.fromkeys(parent for parent in parents(name) if parent not in good))
        todo += [parent for parent in entered[name] if parent not in entered]
    return found


def left(found: Span, tested: CommitId, is_bad: bool) -> Span:
    """What a verdict on one of its commits leaves of a span."""
    above = reachable(found.__getitem__, [tested])
    if is_bad:
        return {name: parents for name, parents in found.items() if name in above}
    return {
        name: tuple(parent for parent in parents if parent not in above)
        for name, parents in found.items()
        if name not in above
    }


def weights(found: Span) -> Iterator[tuple[CommitId, int]]:
    """How many commits of the span each one leads to, itself counted: so many are left if it is bad, and the others if
    it is good.

    The ancestors of each are a set of bits in an int, kept until its last child has been looked at: 10,000 commits with
    a merge among every four take 30 ms.
    """
    children = dict.fromkeys(found, 0)
    for parents in found.values():
        for parent in parents:
            children[parent] += 1
    sets: dict[CommitId, int] = {}
    counts: dict[CommitId, int] = {}
    for number, (name, parents) in enumerate(found.items()):
        ancestors = 1 << number
        for parent in parents:
            ancestors |= sets[parent]
            children[parent] -= 1
            if not children[parent]:
                del sets[parent]
        counts[name] = counts[parents[0]] + 1 if len(parents) == 1 else ancestors.bit_count()
        sets[name] = ancestors
        yield name, counts[name]


def merge_bases(parents: Parents, one: CommitId, other: CommitId) -> list[CommitId]:
    """The best common ancestors of two commits (git-merge-base(1), --all), in no order."""
    common = reachable(parents, [one]) & reachable(parents, [other])
    above = {parent for name in common for parent in parents(name)}
    return sorted(common - above)
