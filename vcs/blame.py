"""Which commit last wrote a file, each entry of a directory, or each line of a text.

What counts is content: a file's bytes, a link's target, what is in a directory. Owner, mode and times do not (`log`
with a path lists those changes too). The blame for something goes from a commit to the first parent that has the same,
and so on; where no parent has it, the commit wrote it. Renames are not followed.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass

from vcs.commitlog import Paths
from vcs.commits import Commit, Commits
from vcs.errors import BadInput
from vcs.model import Chunked, CommitId, Data, Entry, Tree, type_name
from vcs.snapshot import Snapshot
from vcs.store import Store
from vcs.texts import TEXT_MAX, is_binary, paired_lines, split_lines
from vcs.trees import Directory, differing_entries


@dataclass(frozen=True, slots=True)
class Blamed:
    """An entry, and the commit that wrote it."""

    entry: Entry
    commit: CommitId


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a text, with its end, and the commit that wrote it."""

    text: bytes
    commit: CommitId


def blame(store: Store, commit: CommitId, path: bytes) -> list[Blamed]:
    """Who wrote what is at a path in a commit: a row, or, of a directory, one for each entry in it, by name.

    Symbolic links are not followed. NotFound if there is nothing at the path.
    """
    search = _Search(store, path)
    start = search.commits.read(commit)
    entry = Snapshot(store, search.commits.root(start)).lookup(path)
    if isinstance(entry.content, Tree):
        found = dict(search.names(start))
        return [Blamed(child, found[child.name]) for child in Directory(store, entry.content.tree)]
    return [Blamed(entry, search.whole(start, entry))]


def blame_lines(store: Store, commit: CommitId, path: bytes) -> list[Line]:
    """Who wrote each line of a text. NotFound, or BadInput if there is no file, or none of lines: binary, or large."""
    search = _Search(store, path)
    start = search.commits.read(commit)
    entry = Snapshot(store, search.commits.root(start)).lookup(path)
    if not isinstance(entry.content, (Data, Chunked)):
        raise BadInput(f"{path!r} is not a file but a {type_name(entry)}: it has no lines", path=path, lines=False)
    lines = search.text(start, entry)
    if lines is None:
        what = "larger than 1 MiB" if entry.size > TEXT_MAX else "binary"
        raise BadInput(f"{path!r} is {what}: its lines cannot be told apart", path=path, lines=False)
    authors = search.lines(start, entry, lines)
    return [Line(text, author) for text, author in zip(lines, authors, strict=True)]


class _Search:
    """The search for who wrote what is at one path."""

    def __init__(self, store: Store, path: bytes) -> None:
        self._store = store
        self.commits = Commits(store.history.raw)
        self._paths = Paths(store, [path])

    def snapshot(self, commit: Commit) -> Snapshot:
        return Snapshot(self._store, self.commits.root(commit))

    def _parents(self, commit: Commit) -> Iterator[tuple[Commit, Entry]]:
        """The parents in which there is something at the path, and what."""
        for name in dict.fromkeys(commit.parents):
            parent = self.commits.read(name)
            entry = self._paths.at(self.commits.root(parent))[0]
            if entry is not None:
                yield parent, entry

    def whole(self, commit: Commit, entry: Entry) -> CommitId:
        """Who wrote a file as a whole."""
        while True:
            for parent, other in self._parents(commit):
                if _same(entry, other):
                    commit = parent
                    break
            else:
                return commit.id

    # -- a directory

    def names(self, start: Commit) -> Iterator[tuple[bytes, CommitId]]:
        """Who wrote each entry of the directory. Each is with one commit at a time, so the order does not matter."""
        top = self._paths.at(self.commits.root(start))[0]
        assert top is not None
        assert isinstance(top.content, Tree)
        names = {child.name for child in Directory(self._store, top.content.tree)}
        todo = [(start, top, names)]
        while todo:
            commit, directory, names = todo.pop()
            for parent, other in self._parents(commit):
                stay = self._written(directory, other) & names
                names -= stay  # in place: of a million names, few are written at once
                if names:
                    todo.append((parent, other, names))
                names = stay
                if not names:
                    break
            yield from ((name, commit.id) for name in names)

    def _written(self, new: Entry, old: Entry) -> set[bytes]:
        """The names in a directory that are not the same in another."""
        assert isinstance(new.content, Tree)
        if not isinstance(old.content, Tree):
            return {child.name for child in Directory(self._store, new.content.tree)}
        if old.content.tree == new.content.tree:
            return set()
        before, after = differing_entries(self._store, old.content.tree, self._store, new.content.tree)
        had = {child.name: child for child in before}
        return {child.name for child in after if child.name not in had or not _same(child, had[child.name])}

    # -- lines

    def text(self, commit: Commit, entry: Entry) -> list[bytes] | None:
        """The lines of a file; None if it is binary, large, or no file."""
        content = entry.content
        if not isinstance(content, (Data, Chunked)) or content.size > TEXT_MAX:
            return None
        data = self.snapshot(commit).read(content)
        return None if is_binary(data) else split_lines(data)

    def lines(self, start: Commit, entry: Entry, lines: list[bytes]) -> list[CommitId]:
        """Who wrote each line. Each is with one commit at a time, by its place there and its place in the result."""
        found = [start.id] * len(lines)
        todo = [(start, entry, lines, [(place, place) for place in range(len(lines))])]
        while todo:
            commit, entry, lines, held = todo.pop()
            for parent, other, before, kept in self._earlier(commit, entry, lines):
                passed = [(kept[here], result) for here, result in held if here in kept]
                held = [(here, result) for here, result in held if here not in kept]
                if passed:
                    todo.append((parent, other, before, passed))
                if not held:
                    break
            for _, result in held:
                found[result] = commit.id
        return found

    def _earlier(
        self, commit: Commit, entry: Entry, lines: list[bytes]
    ) -> Iterator[tuple[Commit, Entry, list[bytes], dict[int, int]]]:
        """The texts of the parents, and where in each it has which line; one that is the same is the only one."""
        parents = list(self._parents(commit))
        for parent, other in parents:
            if _same(entry, other):
                yield parent, other, lines, {place: place for place in range(len(lines))}
                return
        for parent, other in parents:
            before = self.text(parent, other)
            if before is not None:
                kept = paired_lines(before, lines)
                yield parent, other, before, {here: there for there, here in kept.items()}


def _same(one: Entry, other: Entry) -> bool:
    return stat.S_IFMT(one.mode) == stat.S_IFMT(other.mode) and one.content == other.content
