"""A history without some of its commits: those that stay are written again on other parents.

A commit is written as it was, byte for byte, but for its parents (and a signature, which would not be true any more).
So the same commits are forgotten with the same result, however often and by whomever it is done.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence, Set

from vcs.gitobjects import GitObjects
from vcs.history import History
from vcs.model import CommitId
from vcs.signed import split_tag, without_signature


def first_parents(history: History, tip: CommitId) -> list[CommitId]:
    """A commit and its ancestors along first parents, newest first: what a branch is about."""
    parents = {info.id: info.parents for info in history.log([tip])}
    found = [tip]
    while parents[found[-1]]:
        found.append(parents[found[-1]][0])
    return found


def rewrite(
    history: History,
    objects: GitObjects,
    tips: Sequence[CommitId],
    kept: Set[CommitId],
    forgotten: Set[CommitId],
    more: Sequence[CommitId],
) -> dict[CommitId, CommitId | None]:
    """Write what stays of the commits that `tips` and `more` reach; returns what stands for each of them.

    `forgotten` commits, which are on the first-parent lines of `tips`, are not written: for one stands the nearest
    below it that is, None if there is none. Where nothing below is forgotten, a commit stands for itself. A merge keeps
    its other parents, unless they are forgotten, or lead to what is and are not in `kept`. What only `more` reaches
    stays. They are written to `objects`, the same history's, whose lock on refs the caller holds.
    """
    on_branches = {info.id for info in history.log(list(tips))}
    stands: dict[CommitId, CommitId | None] = {}
    for info in reversed(list(history.log([*tips, *more]))):  # parents before children
        first, others = info.parents[:1], info.parents[1:]
        below = [stands[parent] for parent in first]
        below += [stands[parent] for parent in others if parent not in forgotten]
        parents = tuple(dict.fromkeys(parent for parent in below if parent is not None))
        if info.id in forgotten:
            stands[info.id] = below[0] if first else None
        elif parents == info.parents:
            stands[info.id] = info.id
        elif info.id in on_branches and info.id not in kept:
            stands[info.id] = None  # it came in by a merge, and leads to what is forgotten
        else:
            kind, commit = objects.read(info.id)
            stands[info.id] = CommitId(objects.write(kind, with_parents(commit, parents)))
    return stands


def leading_to(history: History, tips: Collection[CommitId], wanted: Set[CommitId]) -> set[CommitId]:
    """Those of `tips` that are one of the wanted commits, or have one among their ancestors."""
    found: set[CommitId] = set()
    for info in reversed(list(history.log(list(tips)))):
        if info.id in wanted or not found.isdisjoint(info.parents):
            found.add(info.id)
    return found.intersection(tips)


def with_parents(commit: bytes, parents: Iterable[CommitId]) -> bytes:
    """The bytes of a commit with other parents, and without its signature.

    >>> with_parents(b"tree 1\\nparent 2\\nparent 3\\nauthor A\\n\\nparent 4\\n", (CommitId("5"),))
    b'tree 1\\nparent 5\\nauthor A\\n\\nparent 4\\n'
    """
    header, _, message = without_signature(commit).partition(b"\n\n")
    lines = header.split(b"\n")
    tree, *rest = (line for line in lines if not line.startswith(b"parent "))
    return b"\n".join([tree, *(b"parent " + parent.encode() for parent in parents), *rest]) + b"\n\n" + message


def with_target(tag: bytes, commit: CommitId) -> bytes:
    """The bytes of an annotated tag, for another commit and without its signature.

    >>> with_target(b"object 1\\ntype commit\\ntag v1\\n\\nIt is done.\\n", CommitId("2"))
    b'object 2\\ntype commit\\ntag v1\\n\\nIt is done.\\n'
    """
    rest = split_tag(tag)[0].partition(b"\n")[2]
    return b"object " + commit.encode() + b"\n" + rest
