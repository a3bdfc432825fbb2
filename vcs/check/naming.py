"""Which commits and paths need what is damaged. Run only if something is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TypeAlias, cast

from vcs.check.report import Faults, Kind, Problem, Report
from vcs.encoding import decode_list, decode_root, decode_tree
from vcs.errors import TreeringError
from vcs.model import Chunked, CommitId, Data, Entry, RootId, Tree, TreeItem
from vcs.trees import Objects


def name_faults(
    objects: Objects, roots: Iterable[tuple[CommitId, RootId]], faults: Faults, report: Report, layers: dict[bytes, str]
) -> None:
    """Turn faults into problems of the report: each with the first commit and path that need it.

    `roots` are all commits, newest first. `layers` has the layer of an object that is damaged, by its digest.
    """
    naming = _Naming(objects, faults)
    for commit, root in roots:
        report.affected += naming.visit(commit, root)
    known: list[tuple[_Key, tuple[Kind, str]]] = [*faults.objects.items(), *faults.entries.items()]
    for key, (kind, message) in known:
        digest = key if isinstance(key, bytes) else key[0]
        place = naming.places.get(key) or Problem(kind, message)
        layer = layers.get(digest, "")
        report.problems.append(replace(place, kind=kind, message=message, object=digest.hex(), layer=layer))


_NO_COMMIT = CommitId("")
_Key: TypeAlias = bytes | tuple[bytes, bytes]


@dataclass(slots=True)
class _Frame:
    """A directory on the way down."""

    tree: bytes
    path: bytes
    todo: list[Entry]
    is_tainted: bool = False


@dataclass(slots=True)
class _Naming:
    objects: Objects
    faults: Faults
    places: dict[_Key, Problem] = field(default_factory=dict)
    _tainted: dict[bytes, bool] = field(default_factory=dict)
    """By tree: whether something at or below it is wrong."""
    _in_lists: dict[bytes, list[bytes]] = field(default_factory=dict)
    """By chunk list: which of its nodes and chunks are wrong."""
    _commit: CommitId = _NO_COMMIT

    def visit(self, commit: CommitId, root: RootId) -> bool:
        """Whether something in a commit is wrong."""
        self._commit = commit
        is_tainted = self._note(root, b"/") | self._note((root, b""), b"/")
        if root not in self._tainted:
            try:
                entry = decode_root(self.objects.get(root))
            except TreeringError:
                self._tainted[root] = True
            else:
                self._tainted[root] = self._descend(cast(Tree, entry.content).tree)
        return is_tainted or self._tainted[root]

    def _note(self, key: _Key, path: bytes) -> bool:
        known = self.faults.objects if isinstance(key, bytes) else self.faults.entries
        if key not in known:
            return False
        place = self.places.get(key)
        if place is None:
            self.places[key] = Problem("object", "", self._commit, path)
        elif (place.commit, place.path) != (self._commit, path):
            self.places[key] = replace(place, others=place.others + 1)
        return True

    def _descend(self, top: bytes) -> bool:
        """Visit a tree and those below it that were not visited before; whether something in it is wrong."""
        if top in self._tainted:
            return self._tainted[top]
        stack = [self._open(top, b"")]
        while True:
            frame = stack[-1]
            if frame.todo:
                entry = frame.todo.pop()
                tree, path = cast(Tree, entry.content).tree, frame.path + b"/" + entry.name
                if tree not in self._tainted:
                    stack.append(self._open(tree, path))
                elif self._tainted[tree]:
                    self._note(tree, path)
                    frame.is_tainted = True
                continue
            stack.pop()
            self._tainted[frame.tree] = frame.is_tainted
            if not stack:
                return frame.is_tainted
            stack[-1].is_tainted |= frame.is_tainted

    def _open(self, tree: bytes, path: bytes) -> _Frame:
        """Look at what is in one directory."""
        frame = _Frame(tree, path, [])
        nodes = [tree]
        while nodes:
            node = nodes.pop()
            frame.is_tainted |= self._note(node, path or b"/")
            try:
                items = decode_tree(self.objects.get(node))
            except TreeringError:
                frame.is_tainted = True
                continue
            if items and isinstance(items[0], TreeItem):
                nodes += [item.digest for item in reversed(items) if isinstance(item, TreeItem)]
                continue
            for entry in cast("list[Entry]", items):
                frame.is_tainted |= self._check_entry(node, entry, path + b"/" + entry.name)
            frame.todo += [entry for entry in reversed(cast("list[Entry]", items)) if entry.is_dir]
        return frame

    def _check_entry(self, node: bytes, entry: Entry, path: bytes) -> bool:
        is_tainted = self._note((node, entry.name), path)
        content = entry.content
        if isinstance(content, Data):
            is_tainted |= self._note(content.chunk, path)
        elif isinstance(content, Chunked):
            for digest in self._wrong_in_list(content.list):
                is_tainted |= self._note(digest, path)
        return is_tainted

    def _wrong_in_list(self, top: bytes) -> list[bytes]:
        if top not in self._in_lists:
            found = dict.fromkeys(digest for digest in self._parts(top) if digest in self.faults.objects)
            self._in_lists[top] = list(found)
        return self._in_lists[top]

    def _parts(self, top: bytes) -> Iterator[bytes]:
        """The nodes and chunks of a chunk list."""
        todo = [top]
        while todo:
            digest = todo.pop()
            yield digest
            try:
                items, leaf = decode_list(self.objects.get(digest))
            except TreeringError:
                continue
            if leaf:
                yield from (item.digest for item in items)
            else:
                todo += [item.digest for item in items]
