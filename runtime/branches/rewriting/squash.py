"""The commits of a branch after one of them, made one: with the state of the last, on that one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runtime.branches.rewriting.line import first_parents, standing
from runtime.commits import counted, first_line
from runtime.containers import Containers
from vcs.diff import Change, diff
from vcs.errors import BadInput, NotFound
from vcs.gitwords import trailers
from vcs.history import BRANCHES, Author, History
from vcs.model import CommitId
from vcs.snapshot import CommitInfo

_OF_ONE = frozenset({"Changes", "Conflicts", "Exit-Code", "Duration"})
"""Trailers that say nothing of several commits."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the branch."""

    branch: str
    before: CommitId
    """What the branch named."""
    commit: CommitId | None
    """What it names now; None for a commit that a dry run would make."""
    parents: tuple[CommitId, ...]
    squashed: tuple[CommitInfo, ...]
    """Oldest first; none if there was nothing to do."""
    message: str = ""
    changes: tuple[Change, ...] = ()
    """What they did together."""
    containers: tuple[str, ...] = ()
    """The names of those that stay on commits which the branch has no longer."""


def squash(
    containers: Containers, after: CommitId, branch: str, text: str | None, author: Author, *, dry_run: bool = False
) -> Outcome:
    """Make one commit of those after `after` on a branch; `text` is its message, a list of their titles if it is None.

    What was merged in stays a parent of the new commit, unless it is built on what is squashed. Nothing is done where
    there is one commit and no other message for it. NotFound if there is no such branch; BadInput if `after` is not
    among the first parents of its tip.
    """
    store = containers.store
    history = store.history
    tip = store.tip(branch)
    line = _line(containers, branch, tip, after)
    if len(line) < (2 if text is None else 1):
        return Outcome(branch, tip, tip, (), ())
    outside = _outside(history, line, after)
    squashed = tuple(history.log([tip], hide=(after, *outside)))[::-1]
    parents = (after, *outside)
    changes = tuple(diff(store.snapshot_of(after), store.snapshot_of(tip)))
    message = _message(text, squashed, changes)
    left = standing(containers, {info.id for info in squashed})
    commit = None
    if not dry_run:
        with store.writing():
            commit = store.add_commit(line[0].root, history.config(tip), message, author, parents)
            history.move(BRANCHES + branch, commit, tip, f"squash: {first_line(message)}", author)
    return Outcome(branch, tip, commit, parents, squashed, message, changes, left)


def _line(containers: Containers, branch: str, tip: CommitId, after: CommitId) -> list[CommitInfo]:
    """The commits on the branch's own line after one of it, newest first."""
    try:
        if not containers.store.history.is_ancestor(after, tip):
            raise NotFound("not on it at all")
        return list(first_parents(containers.store, tip, after))
    except NotFound:
        raise BadInput(
            f"commit {after[:12]} is not one that branch {branch!r} was at: nobody knows which commits came after it",
            squashing=branch,
        ) from None


def _outside(history: History, line: Sequence[CommitInfo], after: CommitId) -> tuple[CommitId, ...]:
    """What was merged in that is not built on a squashed commit: it stays merged in. What was, is squashed too."""
    oldest = line[-1].id  # whatever is built on one of the line is built on this
    todo = [parent for info in line for parent in info.parents[1:]]
    found: dict[CommitId, None] = {}
    seen = {after, *(info.id for info in line)}
    while todo:
        commit = todo.pop(0)
        if commit in seen:
            continue
        seen.add(commit)
        if history.is_ancestor(oldest, commit):
            todo += history.info(commit).parents
        elif not history.is_ancestor(commit, after):
            found[commit] = None
    return tuple(one for one in found if not any(other != one and history.is_ancestor(one, other) for other in found))


def _message(text: str | None, squashed: Sequence[CommitInfo], changes: Sequence[Change]) -> str:
    """The message, with the trailers of all that are squashed: of which commands, in which containers."""
    if text is None:
        titles = "\n".join(f"* {first_line(info.message)}" for info in squashed)
        text = f"Squash of {len(squashed)} commits\n\n{titles}"
    said = [pair for info in squashed for pair in trailers(info.message) if pair[0] not in _OF_ONE]
    lines = [f"{key}: {value}" for key, value in dict.fromkeys(said)]
    if changes:
        lines.append(f"Changes: {counted(changes)}")
    return f"{text.strip()}\n" + ("\n" + "\n".join(lines) + "\n" if lines else "")
