"""What a branch has and another one has not, done again on another commit.

Each commit is a three-way merge, as with cherry-pick: its parent is the base, the commit is theirs, and ours is what
those before it came to. All of that is in memory. Only when the last one has come out is anything written: what is new,
as one layer; then the commits; then the branch moves.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from runtime.branches.rewriting.line import linear, standing
from runtime.containers import Containers
from vcs.errors import NotFound
from vcs.history import BRANCHES, Author
from vcs.merging import Favour, MergeConflict, Stale, merge_configs, merge_roots
from vcs.model import CommitId, RootId
from vcs.scratch import Scratch
from vcs.snapshot import CommitInfo, Snapshot
from vcs.store import Store

How = Literal["up-to-date", "moved", "rebased", "conflicts"]
Fate = Literal["kept", "written", "dropped", "conflicts"]
"""What became of a commit:

kept     its parent is where it is to be: it stays as it is      written     it is another commit now
dropped  what it did is there already                            conflicts   it cannot be done there
"""


@dataclass(frozen=True, slots=True)
class Wish:
    """How a branch is to be rebased."""

    branch: str
    upstream: CommitId
    """What this has is not done again."""
    onto: CommitId
    """What the branch is to stand on."""
    favour: Favour = None
    """The side that conflicts are decided for; ours is what is there already, theirs the commit."""
    dry_run: bool = False
    """Write nothing."""


@dataclass(frozen=True, slots=True)
class Step:
    """A commit of the branch, and what became of it."""

    info: CommitInfo
    fate: Fate
    now: CommitId | None = None
    """What stands for it; None if nothing does, or in a dry run."""
    conflicts: tuple[MergeConflict, ...] = ()
    """Those that kept it from being done, or were decided for the favoured side."""
    stale: tuple[Stale, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the branch."""

    how: How
    branch: str
    before: CommitId
    """What the branch named."""
    base: CommitId
    """The last commit that it had in common with upstream."""
    onto: CommitId
    commit: CommitId | None
    """What it names now; None for a commit that a dry run would make, or if there were conflicts."""
    steps: tuple[Step, ...]
    """Oldest first; with conflicts, as far as the commit that has them."""
    containers: tuple[str, ...] = ()
    """The names of those that stay on commits which the branch has no longer."""


def rebase(containers: Containers, wish: Wish, author: Author) -> Outcome:
    """Do the commits of a branch again on another commit; with conflicts, and no side favoured, nothing is changed.

    `author` is the committer of what is written; who is its author, and when that was, stays. NotFound if there is no
    such branch, or it has no commit in common with upstream; BadInput if one of its commits is a merge.
    """
    store = containers.store
    tip = store.tip(wish.branch)
    base = store.history.merge_base([tip, wish.upstream])
    if base is None:
        raise NotFound(
            f"branch {wish.branch!r} and {wish.upstream[:12]} have no commit in common, so nobody knows what is the "
            "branch's own", merge=wish.branch,
        )  # fmt: skip
    with store.writing():
        again = _Again(store, wish)
        steps = again.run(linear(store, tip, base))
        if steps and steps[-1].fate == "conflicts":
            return Outcome("conflicts", wish.branch, tip, base, wish.onto, None, tuple(steps))
        left = standing(containers, {step.info.id for step in steps if step.fate != "kept"})
        if not wish.dry_run:
            steps = again.write(steps, author)
        new = _tip(steps, wish)
        how = _how(steps, tip, new)
        if new is not None and new != tip and not wish.dry_run:
            reason = f"rebase (finish): {BRANCHES}{wish.branch} onto {wish.onto}"
            store.history.move(BRANCHES + wish.branch, new, tip, reason, author)
    return Outcome(how, wish.branch, tip, base, wish.onto, new, tuple(steps), left)


class _Again:
    """Commits done again, one on the other, in memory."""

    def __init__(self, store: Store, wish: Wish) -> None:
        self._store = store
        self._wish = wish
        self._scratch = Scratch(store, keep=sys.maxsize)
        self._at: CommitId | None = wish.onto
        """The commit that the next one is to stand on; None if that is not written yet."""
        self._root = store.commit(wish.onto).root
        self._config = store.history.config(wish.onto)
        self._made: list[tuple[RootId, dict[str, object]]] = []
        """What those that are to be written hold."""

    def run(self, commits: Iterable[CommitInfo]) -> list[Step]:
        """All of them, or as far as the first with conflicts that nobody decides."""
        steps: list[Step] = []
        for info in commits:
            steps.append(self._step(info))
            if steps[-1].fate == "conflicts":
                break
        return steps

    def write(self, steps: Iterable[Step], author: Author) -> list[Step]:
        """Write what came of it, durably; returns the steps with the new commits. Nothing refers to them yet."""
        with self._store.batch() as batch:
            self._scratch.copy_to(batch)
        made = iter(self._made)
        at = self._wish.onto
        written = []
        for step in steps:
            if step.fate == "written":
                info, (root, config) = step.info, next(made)
                theirs = Author(info.author, info.email, info.time, info.offset, author)
                at = self._store.add_commit(root, config, info.message, theirs, (at,))
            elif step.fate == "kept":
                at = step.info.id
            written.append(replace(step, now=None if step.fate == "dropped" else at))
        return written

    def _step(self, info: CommitInfo) -> Step:
        store, history = self._store, self._store.history
        parent = info.parents[0]
        if parent == self._at:
            self._at, self._root, self._config = info.id, info.root, history.config(info.id)
            return Step(info, "kept", info.id)
        before, config = store.snapshot_of(parent), history.config(info.id)
        was = history.config(parent)
        merged = merge_roots(before, Snapshot(self._scratch, self._root), store.snapshot(info.root), self._wish.favour)
        wanted, clashes = merge_configs(was, self._config, config, self._wish.favour)
        conflicts, stale = (*merged.conflicts, *clashes), tuple(merged.stale)
        if conflicts and self._wish.favour is None:
            return Step(info, "conflicts", None, conflicts, stale)
        root = merged.write(self._scratch)
        is_empty = root == self._root and wanted == self._config
        if is_empty and not (info.root == before.id and config == was):  # one that was empty from the start is wanted
            return Step(info, "dropped", None, conflicts, stale)
        self._at, self._root, self._config = None, root, wanted
        self._made.append((root, wanted))
        return Step(info, "written", None, conflicts, stale)


def _tip(steps: Iterable[Step], wish: Wish) -> CommitId | None:
    """Where the branch is to be; None if that is not written."""
    at: CommitId | None = wish.onto
    for step in steps:
        if step.fate != "dropped":
            at = step.now
    return at


def _how(steps: Iterable[Step], tip: CommitId, new: CommitId | None) -> How:
    if new == tip:
        return "up-to-date"
    return "rebased" if any(step.fate == "written" for step in steps) else "moved"
