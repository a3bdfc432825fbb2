"""Which commits of a branch are to be written again, and who stands on them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import suppress

from runtime.commits import first_line
from runtime.containers import CONTAINERS, Containers
from vcs.errors import BadInput, NotFound
from vcs.model import CommitId
from vcs.snapshot import CommitInfo
from vcs.store import Store

_SHORT = 12


def first_parents(store: Store, tip: CommitId, end: CommitId) -> Iterator[CommitInfo]:
    """A commit and its ancestors along first parents, newest first, as far as `end`, which is not among them. They are
    read as they are asked for. NotFound if the line ends without it."""
    commit = tip
    while commit != end:
        info = store.commit(commit)
        yield info
        if not info.parents:
            raise NotFound(f"{end[:_SHORT]} is not among the first parents of {tip[:_SHORT]}", revision=end)
        commit = info.parents[0]


def linear(store: Store, tip: CommitId, base: CommitId) -> list[CommitInfo]:
    """The commits between an ancestor and a commit, oldest first. BadInput if there is a merge among them."""
    found = []
    for info in first_parents(store, tip, base):
        if len(info.parents) > 1:
            name = info.id[:_SHORT]
            raise BadInput(
                f"commit {name} is a merge ({first_line(info.message)!r}), which cannot be done again", rebasing=name
            )
        found.append(info)
    return found[::-1]


def standing(containers: Containers, commits: Collection[CommitId]) -> tuple[str, ...]:
    """The names of the containers whose heads are among some commits."""
    heads = containers.store.history.refs(CONTAINERS)
    found = []
    for identity in dict.fromkeys(ref.partition("/")[0] for ref, commit in heads.items() if commit in commits):
        with suppress(NotFound):
            container = containers.get(identity)
            if heads.get(container.ref.removeprefix(CONTAINERS)) in commits:
                found.append(container.name)
    return tuple(sorted(found))
