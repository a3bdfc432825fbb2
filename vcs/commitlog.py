"""Which commits of a history are wanted: by what they changed, by when, by whom, and by what they say.

A path's history needs no diff. Trees are Merkle trees, so the entry at a path says whether anything at or below it has
changed, and where a directory on the way has a digest that was met before, nothing below it is opened again.

A commit is taken to change a path if its entry there is another one than in every parent. So a merge that takes one
side's state as it is has changed nothing, as for git; unlike git, commits whose change a merge has dropped are listed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from vcs.commits import Commit, Commits, nearest_wanted
from vcs.model import Chunked, CommitId, Data, Entry, RootId, Tree
from vcs.snapshot import CommitInfo, split_path
from vcs.store import Store
from vcs.trees import Directory, Objects, entry_in, read_root

_KEPT = 1 << 16
"""Roots whose answers are remembered until their children have asked for them."""
_LATE = 86_400
"""Seconds by which a commit may be younger than its child and still be found by `since`."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What commits are wanted. Each part that is given leaves some out."""

    paths: tuple[bytes, ...] = ()
    """They changed something at or below one of these."""
    since: float | None = None
    until: float | None = None
    """They were committed between these, in seconds since 1970."""
    message: re.Pattern[str] | None = None
    author: re.Pattern[str] | None = None
    """Found in the message, and in `NAME <EMAIL>`."""
    content: bytes | None = None
    """In them the number of files with this content (see content_of), below the paths if there are any, changes."""


ALL = Wanted()


def log(
    store: Store, start: Sequence[CommitId], hidden: Sequence[CommitId] = (), wanted: Wanted = ALL
) -> Iterator[CommitInfo]:
    """Commits reachable from `start` and not from `hidden`, newest first. They are read as they are asked for."""
    commits = Commits(store.history.raw)
    left_out: Collection[CommitId] = commits.reachable(hidden) if hidden else ()
    is_wanted = _Test(store, commits, wanted)
    for commit in commits.newest_first(start, left_out):
        if wanted.since is not None and commit.time < wanted.since - _LATE:
            return
        info = is_wanted(commit)
        if info is not None:
            yield info


def lineage(
    store: Store, start: Sequence[CommitId], hidden: Sequence[CommitId] = (), wanted: Wanted = ALL
) -> list[tuple[CommitInfo, tuple[CommitId, ...]]]:
    """The same commits, those of one branch together, each with its parents: where one is not wanted, with the nearest
    of its ancestors that are. Reads all of them."""
    commits = Commits(store.history.raw)
    left_out: Collection[CommitId] = commits.reachable(hidden) if hidden else ()
    order = list(commits.newest_first(start, left_out, by_branch=True))
    is_wanted = _Test(store, commits, wanted)
    found = {commit.id: info for commit in order if (info := is_wanted(commit)) is not None}
    parents = nearest_wanted(order, found)
    return [(found[commit.id], parents[commit.id]) for commit in order if commit.id in found]


def content_of(entry: Entry) -> bytes | None:
    """The digest that a file's content goes by: of its bytes, or of a large one's chunk list; None if it is no file."""
    match entry.content:
        case Data(_, chunk):
            return chunk
        case Chunked(_, chunks, _):
            return chunks
    return None


class _Test:
    """Whether a commit is wanted: the cheapest questions first."""

    def __init__(self, store: Store, commits: Commits, wanted: Wanted) -> None:
        self._commits = commits
        self._wanted = wanted
        self._changes: _Changes | None = None
        if wanted.content is not None:
            self._changes = _Changes(commits, Occurrences(store, wanted.paths, wanted.content).at)
        elif wanted.paths:
            self._changes = _Changes(commits, Paths(store, wanted.paths).at)

    def __call__(self, commit: Commit) -> CommitInfo | None:
        """What the commit is, if it is wanted."""
        wanted = self._wanted
        if wanted.since is not None and commit.time < wanted.since:
            return None
        if wanted.until is not None and commit.time > wanted.until:
            return None
        if self._changes is not None and not self._changes(commit):
            return None
        info = self._commits.info(commit)
        if wanted.message is not None and not wanted.message.search(info.message):
            return None
        if wanted.author is not None and not wanted.author.search(f"{info.author} <{info.email}>"):
            return None
        return info


class _Changes:
    """Whether something that a root answers is answered otherwise than by each parent; without one, at all."""

    def __init__(self, commits: Commits, ask: Callable[[RootId], tuple[object, ...]]) -> None:
        self._commits = commits
        self._ask = lru_cache(_KEPT)(ask)

    def __call__(self, commit: Commit) -> bool:
        root = self._commits.root(commit)
        parents = [self._commits.root(self._commits.read(parent)) for parent in commit.parents]
        if root in parents:
            return False
        answer = self._ask(root)
        return all(answer != self._ask(parent) for parent in parents) if parents else any(answer)


class Paths:
    """The entries at some paths in many roots. Symbolic links are not followed."""

    def __init__(self, objects: Objects, paths: Sequence[bytes]) -> None:
        self._objects = objects
        self._paths = [split_path(path) for path in paths]
        self._below: dict[tuple[bytes, tuple[bytes, ...]], Entry | None] = {}
        """By a tree and the names that lead on from it: what is there."""

    def at(self, root: RootId) -> tuple[Entry | None, ...]:
        """The entry at each path, None where there is none."""
        top = read_root(self._objects, root)
        return tuple(self._find(top, tuple(names)) for names in self._paths)

    def _find(self, entry: Entry | None, names: tuple[bytes, ...]) -> Entry | None:
        passed = []
        while names and entry is not None:
            content = entry.content
            if not isinstance(content, Tree):
                entry = None
                break
            key = content.tree, names
            if key in self._below:
                entry = self._below[key]
                break
            passed.append(key)
            entry, names = entry_in(self._objects, content.tree, names[0]), names[1:]
        if len(self._below) > _KEPT:
            self._below.clear()
        self._below.update(dict.fromkeys(passed, entry))
        return entry


class Occurrences:
    """How many files with one content many roots have, at and below some paths."""

    def __init__(self, objects: Objects, paths: Sequence[bytes], content: bytes) -> None:
        self._objects = objects
        self._paths = Paths(objects, _outermost(paths) or [b"/"])
        self._content = content
        self._counts: dict[bytes, int] = {}
        """By the digest of a tree."""

    def at(self, root: RootId) -> tuple[int]:
        """How many a root has."""
        return (sum(self._count(entry) for entry in self._paths.at(root) if entry is not None),)

    def _count(self, entry: Entry) -> int:
        """Iterative: trees may be deeper than Python's stack. A tree that was counted is not opened again."""
        if not isinstance(entry.content, Tree):
            return int(content_of(entry) == self._content)
        top = entry.content.tree
        todo = [top]
        opened: dict[bytes, tuple[int, list[bytes]]] = {}
        while todo:
            tree = todo[-1]
            if tree in self._counts:
                todo.pop()
                continue
            if tree not in opened:
                opened[tree] = self._open(tree)
                todo += [below for below in opened[tree][1] if below not in self._counts]
                continue
            files, below = opened.pop(todo.pop())
            self._counts[tree] = files + sum(self._counts[one] for one in below)
        return self._counts[top]

    def _open(self, tree: bytes) -> tuple[int, list[bytes]]:
        """How many files with the content are in a directory itself, and the trees in it."""
        files, below = 0, []
        for entry in Directory(self._objects, tree):
            if isinstance(entry.content, Tree):
                below.append(entry.content.tree)
            else:
                files += content_of(entry) == self._content
        return files, below


def _outermost(paths: Sequence[bytes]) -> list[bytes]:
    """The paths without those that are below another one: what is there would count twice."""
    found: list[list[bytes]] = []
    for names in sorted(map(split_path, paths)):
        if not found or names[: len(found[-1])] != found[-1]:
            found.append(names)
    return [b"/".join(names) for names in found]
