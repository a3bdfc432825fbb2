"""Which commit to test next.

The one whose verdict leaves fewest commits in the worse case: of n commits of which it leads to w, w are left if it is
bad, and n - w if it is good. On a line of n commits that takes as many tests as n - 1 has binary digits. Where merges
have two parents, each test leaves 2n/3 + 1/2 at most: go from the bad commit to the parent with more ancestors until no
more than 2n/3 are left; as the last step has at most halved more than that, n/3 - 1/2 are left at least.

Three things come before: some commit must be bad and some good; and a good one that the bad one does not stand on says
nothing of the bad one's ancestors until the merge base of both has been tested, and is good. If it is bad, what was
broken has been fixed since, and another question is to be asked.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from vcs.bisection.span import Parents, Span, left, merge_bases, reachable, span, weights
from vcs.errors import Conflict
from vcs.model import CommitId

State = Literal["waiting", "test", "found", "skipped"]

_GOLDEN = 0.6180339887498949
_SLOW = 0.9
"""Where a test leaves a greater part than this, a merge has very many parents, and all further tests are taken to
rule out as few."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What follows from the verdicts so far."""

    state: State
    """waiting: a bad or a good commit is not known yet; test: one is to be tested; found: it is known; skipped: it is
    one of several that cannot be tested."""
    commit: CommitId | None = None
    """The one to test, or the first bad one."""
    left: int = 0
    """How many commits may be the first bad one."""
    steps: int = 0
    """How many tests it takes at most, the next one counted, if nothing is skipped."""
    is_exact: bool = True
    """Whether it cannot take more; beside merges, where that is not so, it may take one or two."""
    is_merge_base: bool = False
    """The one to test is a merge base: see above."""
    suspects: tuple[CommitId, ...] = ()
    """Once only skipped ones are left: those that may be the first bad one, ancestors first."""


def outlook(
    parents: Parents, bad: CommitId | None, good: Sequence[CommitId], skipped: Collection[CommitId] = ()
) -> Outlook:
    """What follows from verdicts. Conflict, with the fact `fixed`, if they contradict one another."""
    if bad is None or not good:
        return Outlook("waiting")
    known = reachable(parents, good)
    if bad in known:
        raise _fixed(bad, good)
    found = span(parents, bad, known)
    base = _untested_base(parents, bad, good, skipped)
    if base is not None:
        return Outlook("test", base, len(found), *_steps(found, 1), is_merge_base=True)
    if len(found) == 1:
        return Outlook("found", bad, 1)
    commit = choose(found, skipped)
    if commit is None:
        return Outlook("skipped", left=len(found), suspects=tuple(found))
    return Outlook("test", commit, len(found), *_steps(found))


def choose(found: Span, skipped: Collection[CommitId] = ()) -> CommitId | None:
    """The commit of a span to test next; None if all but the bad one are skipped."""
    count = len(found)
    ranks: list[tuple[int, CommitId]] = []
    for name, weight in weights(found):
        worth = min(weight, count - weight)
        if not worth:
            continue  # the bad one itself
        if worth == count // 2 and name not in skipped:
            return name  # none is better
        ranks.append((worth, name))
    best = max(ranks, key=lambda one: one[0], default=(0, None))
    if not any(name in skipped for _, name in ranks):
        return best[1]
    ranks.sort(key=lambda one: -one[0])
    free = [name for _, name in ranks if name not in skipped]
    return _away(free, len(ranks) - len(free)) if free else None


def _away(free: Sequence[CommitId], skips: int) -> CommitId:
    """One of those that may be tested, best first. What is near a skipped commit can often not be tested either, so it
    is another distance each time, small ones preferred: as git does it, but without chance."""
    return free[int(len(free) * (skips * _GOLDEN % 1) ** 1.5)]


def _steps(found: Span, more: int = 0) -> tuple[int, bool]:
    """How many tests it takes, and whether that is the most."""
    names = list(found)
    if all(found[name] == (before,) for before, name in pairwise(names)):
        return more + (len(found) - 1).bit_length(), True
    while len(found) > 1:
        commit = choose(found)
        assert commit is not None
        rest = max(left(found, commit, True), left(found, commit, False), key=len)
        more += 1
        if len(rest) > len(found) * _SLOW:
            return more + (len(rest) - 1) // (len(found) - len(rest)), False
        found = rest
    return more, False


def _untested_base(
    parents: Parents, bad: CommitId, good: Sequence[CommitId], skipped: Collection[CommitId]
) -> CommitId | None:
    """A merge base of the bad commit and a good one that no verdict is known of."""
    above = reachable(parents, [bad])
    apart = [name for name in good if name not in above]
    if not apart:
        return None
    known = reachable(parents, [name for name in good if name in above])
    for name in apart:
        for base in merge_bases(parents, bad, name):
            if base not in known and base not in skipped:
                return base
    return None


def _fixed(bad: CommitId, good: Sequence[CommitId]) -> Conflict:
    if bad in good:
        return Conflict(f"commit {bad[:12]} cannot be both good and bad", fixed=bad)
    return Conflict(
        f"commit {bad[:12]} is bad, and a commit that stands on it is good: what was broken has been fixed since",
        fixed=bad,
    )
