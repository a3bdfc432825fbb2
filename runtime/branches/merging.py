"""merge, revert and cherry-pick: a branch, and what somebody did elsewhere, brought together in a commit on it.

All three are one three-way merge of roots and image configs (vcs.merging), with other commits for its base and theirs:

                 base                    theirs                     parents of the commit
    merge        the merge base          the commit to be merged    the branch, theirs
    cherry-pick  the commit's parent     the commit                 the branch
    revert       the commit              its parent                 the branch

Where there are conflicts, and no side is favoured, nothing is written and no branch moves. With a container to do it
in, no branch moves either: the merge waits there until it is continued (`resolving`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from runtime.commits import counted, first_line, with_trailers
from runtime.storehooks import Event, HookRun, run_before
from vcs.diff import Change, diff
from vcs.errors import BadInput, NotFound
from vcs.gitwords import trailers
from vcs.history import BRANCHES, Author
from vcs.merging import Beside, Favour, Merge, MergeConflict, Stale, lay_beside, merge_configs, merge_roots
from vcs.model import CommitId
from vcs.scratch import Scratch
from vcs.snapshot import CommitInfo, Snapshot
from vcs.store import Store

How = Literal["up-to-date", "fast-forward", "merged", "conflicts", "prepared"]


@dataclass(frozen=True, slots=True)
class Wish:
    """How a branch is to be changed."""

    branch: str
    favour: Favour = None
    """The side that conflicts are decided for."""
    fast_forward: bool = True
    """Only move the branch where it has nothing of its own."""
    message: str | None = None
    """Instead of the usual one."""
    dry_run: bool = False
    """Write nothing."""
    trailers: Mapping[str, str] = field(default_factory=dict)
    """Further ones, for a message that is not another commit's."""
    verify: bool = True
    """The store's hooks may refuse the commit."""
    into: str | None = None
    """Have the merge wait in a new container of this name."""
    run: str | None = None
    """A shell command that is run in a container on the merge before it is committed, if there are no conflicts."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the branch."""

    how: How
    branch: str
    before: CommitId
    """What the branch named."""
    theirs: CommitId
    base: CommitId
    commit: CommitId | None
    """What it names now; None for a commit that a dry run would make, or if there were conflicts."""
    message: str = ""
    changes: tuple[Change, ...] = ()
    """What is new on the branch; nothing is told if there were conflicts."""
    conflicts: tuple[MergeConflict, ...] = ()
    """Those that kept it from being done, or were decided for the favoured side."""
    stale: tuple[Stale, ...] = ()
    hooks: tuple[HookRun, ...] = ()
    """What came of the store's hooks."""
    container: str | None = None
    """Where the merge waits, with or without conflicts."""


@dataclass(frozen=True, slots=True)
class _Step:
    """A three-way merge, and the commit that it is to become."""

    base: CommitId
    theirs: CommitId
    asked: CommitId
    """The commit that the user named."""
    parents: tuple[CommitId, ...]
    message: str
    reason: str
    """For the reflog."""
    is_copied: bool = False
    """The message is another commit's, which has trailers already."""


def merge(store: Store, theirs: CommitId, name: str, wish: Wish, author: Author) -> Outcome:
    """Merge a commit into a branch; `name` is what it is called, such as `branch 'try'`.

    NotFound if there is no such branch, or the two have no commit in common.
    """
    history = store.history
    ours = store.tip(wish.branch)
    base = history.merge_base([ours, theirs])
    if base is None:
        raise NotFound(
            f"{name} and branch {wish.branch!r} have no commit in common, so nobody knows what either changed",
            merge=wish.branch,
        )
    if base == theirs:
        return Outcome("up-to-date", wish.branch, ours, theirs, base, ours)
    reason = "merge " + name.partition(" ")[2].strip("'")
    if base == ours and wish.fast_forward and wish.into is None and wish.run is None:
        if not wish.dry_run:
            history.move(BRANCHES + wish.branch, theirs, ours, f"{reason}: Fast-forward", author)
        changes = diff(store.snapshot_of(ours), store.snapshot_of(theirs))
        return Outcome("fast-forward", wish.branch, ours, theirs, base, theirs, changes=tuple(changes))
    message = f"Merge {name} into {wish.branch}"
    return _bring(store, _Step(base, theirs, theirs, (ours, theirs), message, f"{reason}: Merge made"), wish, author)


def cherry_pick(store: Store, commit: CommitId, wish: Wish, author: Author, mainline: int | None = None) -> Outcome:
    """Do on a branch what a commit did elsewhere. Of a commit with several parents, `mainline` (from 1) says which of
    them it is compared with. BadInput if it has none, or it is not said."""
    info = store.commit(commit)
    parent = _parent(info, mainline)
    message = _picked(info.message, commit)
    ours, reason = (store.tip(wish.branch),), f"cherry-pick: {first_line(info.message)}"
    return _bring(store, _Step(parent, commit, commit, ours, message, reason, is_copied=True), wish, author)


def revert(store: Store, commit: CommitId, wish: Wish, author: Author, mainline: int | None = None) -> Outcome:
    """Take back on a branch what a commit did, there or elsewhere; see cherry_pick()."""
    info = store.commit(commit)
    parent = _parent(info, mainline)
    message = f'Revert "{first_line(info.message)}"\n\nThis reverts commit {commit}.'
    ours, reason = (store.tip(wish.branch),), f"revert: {first_line(info.message)}"
    return _bring(store, _Step(commit, parent, commit, ours, message, reason), wish, author)


def _bring(store: Store, step: _Step, wish: Wish, author: Author) -> Outcome:
    ours = step.parents[0]
    with store.writing():
        base, our, their = (store.snapshot_of(commit) for commit in (step.base, ours, step.theirs))
        merged = merge_roots(base, our, their, wish.favour)
        was, had, got = (store.history.config(commit) for commit in (step.base, ours, step.theirs))
        config, clashes = merge_configs(was, had, got, wish.favour)
        conflicts, stale = (*merged.conflicts, *clashes), tuple(merged.stale)
        is_left = bool(conflicts) and wish.favour is None
        changes = () if is_left else tuple(diff(our, _result(store, merged)))
        if not (is_left or changes) and config == had and len(step.parents) == 1:
            return Outcome("up-to-date", wish.branch, ours, step.theirs, step.base, ours)
        if (wish.into is not None or (wish.run is not None and not is_left)) and not wish.dry_run:
            return _in_container(store, step, wish, author, merged, config, Outcome(
                "conflicts" if is_left else "prepared", wish.branch, ours, step.theirs, step.base, None, step.message,
                changes, conflicts, stale,
            ))  # fmt: skip
        if is_left:
            return Outcome("conflicts", wish.branch, ours, step.theirs, step.base, None, "", (), conflicts, stale)
        text = wish.message or step.message
        if not step.is_copied or wish.message:
            text = _text(text, changes, conflicts, wish)
        commit = None
        hooks: tuple[HookRun, ...] = ()
        if not wish.dry_run:
            with store.batch() as batch:
                root = merged.write(batch)
            commit = store.add_commit(root, config, text, author, step.parents)
            if wish.verify:
                event = Event(commit, ours, branch=wish.branch, changes=lambda: changes)
                hooks = run_before(store.path, "pre-merge-commit", event)
            store.history.move(BRANCHES + wish.branch, commit, ours, step.reason, author)
        return Outcome(
            "merged", wish.branch, ours, step.theirs, step.base, commit, text, changes, conflicts, stale, hooks=hooks
        )


def _in_container(
    store: Store,
    step: _Step,
    wish: Wish,
    author: Author,
    merged: Merge,
    config: dict[str, Any],
    outcome: Outcome,
) -> Outcome:
    """Have it wait in a new container, with what is left to be decided; or only until a command was run there."""
    from runtime.branches.resolving import Plan, begin, finish_by, labels_of
    from runtime.containers import Containers

    containers = Containers(store)
    beside: list[Beside] = []
    if outcome.how == "conflicts":
        laid = lay_beside(merged, labels_of(wish.branch, step.base, step.theirs))
        beside = [*laid, *(Beside(conflict) for conflict in outcome.conflicts if conflict.kind == "config")]
    with store.batch() as batch:
        root = merged.write(batch)
    message = wish.message or step.message
    decided = f"{len(outcome.conflicts)}, {wish.favour}" if outcome.conflicts and wish.favour else ""
    plan = Plan(wish.branch, step.base, step.theirs, step.asked, step.parents, message, root, config, beside, decided)
    container = begin(containers, wish.into, plan, author)
    if wish.run is None:
        return replace(outcome, container=container.name)
    done = finish_by(containers, container, wish.run, author, wish.trailers, verify=wish.verify)
    anew = {change.path for change in done.changes}
    stale = tuple(file for file in outcome.stale if file.path not in anew)
    return replace(
        outcome, how="merged", commit=done.commit, message=message, changes=done.changes, stale=stale, hooks=done.hooks
    )


def _result(store: Store, merged: Merge) -> Snapshot:
    """The merged root, in memory."""
    scratch = Scratch(store)
    return Snapshot(scratch, merged.write(scratch))


def _text(message: str, changes: tuple[Change, ...], conflicts: tuple[MergeConflict, ...], wish: Wish) -> str:
    """The message, with trailers."""
    lines = {}
    if changes:
        lines["Changes"] = counted(changes)
    if conflicts:
        lines["Conflicts"] = f"{len(conflicts)}, {wish.favour}"
    return with_trailers(message, lines | dict(wish.trailers))


def _picked(message: str, commit: CommitId) -> str:
    """The message of a commit that was picked, as git has it: the note belongs to its trailers, if it has some."""
    return message.rstrip() + ("\n" if trailers(message) else "\n\n") + f"(cherry picked from commit {commit})\n"


def _parent(info: CommitInfo, mainline: int | None) -> CommitId:
    """The parent that a commit is compared with."""
    short, count = info.id[:12], len(info.parents)
    if not count:
        raise BadInput(f"commit {short} has no parent: it is the first of its history", commit=info.id)
    if mainline is None and count > 1:
        raise BadInput(f"commit {short} is a merge: say which of its {count} parents is meant", mainline=count)
    if mainline is not None and mainline > count:
        raise BadInput(f"commit {short} has {count} parents, and no parent {mainline}", mainline=count)
    return info.parents[(mainline or 1) - 1]
