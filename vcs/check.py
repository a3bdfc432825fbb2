"""Checking a store: every object that a ref can reach is there, has its digest, and means something.

First the graph (commits, roots, trees, chunk lists), then the chunks in the order in which they lie in the layers, so
that each block is decompressed once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from blake3 import blake3

from vcs.blobs import list_items
from vcs.encoding import NODE_LIMIT, check_entry, check_tree, decode_root
from vcs.errors import Corrupt, Damaged, TreeringError
from vcs.model import Chunked, CommitId, Data, Entry, RootId, Tree, TreeItem
from vcs.scratch import Scratch
from vcs.store import Store
from vcs.trees import sums_of, write_tree

Progress = Callable[[str, int, int], None]
"""Called with what is being checked, how much is done, and of how much (0: not known yet)."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, named by the first commit and path that need it (empty for a layer)."""

    message: str
    commit: str = ""
    path: bytes = b""


@dataclass(slots=True)
class Report:
    """What a check found. `unreachable` objects are no problem: garbage that nothing refers to."""

    problems: list[Problem] = field(default_factory=list)
    commits: int = 0
    trees: int = 0
    chunks: int = 0
    bytes_read: int = 0
    unreachable: int = 0


def check(store: Store, progress: Progress | None = None) -> Report:
    """Check everything reachable, and that each layer's bytes have the digest that is its name."""
    return _Check(store, progress or (lambda *_: None)).run()


class _Check:
    def __init__(self, store: Store, progress: Progress) -> None:
        self._store = store
        self._progress = progress
        self._report = Report()
        self._roots: set[bytes] = set()
        self._lists: set[bytes] = set()
        self._sums: dict[bytes, tuple[int, int, int]] = {}
        self._nodes: set[bytes] = set()
        self._chunks: dict[bytes, tuple[int, CommitId, bytes]] = {}
        self._commit = CommitId("")

    def run(self) -> Report:
        self._store.index.refresh()
        self._check_layers()
        commits = self._commits()
        for done, commit in enumerate(commits):
            self._progress("commits", done, len(commits))
            self._check_commit(commit)
        self._check_chunks()
        known = self._roots | self._nodes | self._lists | self._chunks.keys()
        self._report.unreachable = sum(digest not in known for digest in self._store.index.objects())
        return self._report

    def _problem(self, error: Exception | str, path: bytes = b"") -> None:
        self._report.problems.append(Problem(str(error), self._commit, path))

    def _check_layers(self) -> None:
        layers = self._store.index.layers()
        total, done = sum(layers.values()), 0
        for name, size in layers.items():
            self._progress("layers", done, total)
            hasher = blake3()
            try:
                with self._store.layer_path(name).open("rb") as file:
                    while data := file.read(1 << 20):
                        hasher.update(data)
            except OSError as error:
                self._problem(f"layer {name.hex()} cannot be read: {error.strerror}")
                continue
            if hasher.digest() != name:
                self._problem(f"layer {name.hex()} is damaged: its bytes do not have its digest")
            done += size

    def _commits(self) -> list[CommitId]:
        try:
            return self._store.commit_ids()
        except TreeringError as error:
            self._problem(error)
            return []

    def _check_commit(self, commit: CommitId) -> None:
        self._commit = commit
        self._report.commits += 1
        try:
            info = self._store.commit(commit)
            self._store.history.config(commit)
        except TreeringError as error:
            self._problem(error)
            return
        if info.root not in self._roots:
            self._check_root(info.root)

    def _check_root(self, root: RootId) -> None:
        self._roots.add(root)
        try:
            entry = decode_root(self._store.get(root))
            check_entry(entry)
        except Damaged as error:
            self._problem(error, b"/")
            return
        self._check_below(entry)

    def _check_below(self, root: Entry) -> None:
        """Check everything below a root entry. Iterative: trees may be deeper than Python's stack."""
        todo = [(b"", root)]
        while todo:
            path, entry = todo.pop()
            content = entry.content
            if isinstance(content, Tree):
                for child in self._check_tree(content, path):
                    todo.append((path + b"/" + child.name, child))
            elif isinstance(content, Chunked):
                self._check_list(content, path)
            elif isinstance(content, Data) and content.size:
                self._chunks.setdefault(content.chunk, (content.size, self._commit, path))

    def _check_tree(self, claimed: Tree, path: bytes) -> list[Entry]:
        """The entries of a tree that was not checked before. Its sums are those of its entries, as these claim them."""
        entries: list[Entry] = []
        if claimed.tree not in self._sums:
            try:
                entries = self._entries(claimed.tree)
            except Damaged as error:
                self._problem(error, path or b"/")
                return []
            self._sums[claimed.tree] = sums_of(entries)
            self._report.trees += 1
        if self._sums[claimed.tree] != (claimed.entries, claimed.size, claimed.linked):
            self._problem("a directory's sums do not fit its entries", path or b"/")
        return entries

    def _entries(self, tree: bytes) -> list[Entry]:
        """The entries of a tree. Corrupt unless it is cut into nodes in the one way that writing them does."""
        entries: list[Entry] = []
        todo: list[Entry | TreeItem] = []
        todo += reversed(self._node(tree))
        is_cut = bool(todo) and isinstance(todo[0], TreeItem)
        while todo:
            item = todo.pop()
            if isinstance(item, TreeItem):
                todo += reversed(self._node(item.digest))
            else:
                entries.append(item)
        if (is_cut or len(entries) > NODE_LIMIT) and write_tree(Scratch(self._store), entries).tree != tree:
            raise Corrupt("a large directory is not cut into nodes as it should be")
        return entries

    def _node(self, digest: bytes) -> list[Entry] | list[TreeItem]:
        self._nodes.add(digest)
        return check_tree(self._store.get(digest))

    def _check_list(self, content: Chunked, path: bytes) -> None:
        if content.list in self._lists:
            return
        try:
            items = list(list_items(_Noting(self._store, self._lists), content.list))
        except Damaged as error:
            self._problem(error, path)
            return
        if sum(item.length for item in items) != content.size:
            self._problem("a file's chunks are not as long as the file", path)
        for item in items:
            if item.digest:
                self._chunks.setdefault(item.digest, (item.length, self._commit, path))

    def _check_chunks(self) -> None:
        places = []
        for digest, (length, commit, path) in self._chunks.items():
            place = self._store.index.find(digest)
            order = (place.layer, place.block, place.start) if place else (0, 0, 0)
            places.append((order, digest, length, commit, path))
        total = sum(length for length, _, _ in self._chunks.values())
        for _, digest, length, commit, path in sorted(places):
            self._commit = commit
            try:
                if len(self._store.get(digest)) != length:
                    self._problem(f"chunk {digest.hex()} is not as long as it should be", path)
            except Damaged as error:
                self._problem(error, path)
            self._report.chunks += 1
            self._report.bytes_read += length
            self._progress("chunks", self._report.bytes_read, total)


class _Noting:
    """Objects, with a note of which were read."""

    def __init__(self, store: Store, seen: set[bytes]) -> None:
        self._store = store
        self._seen = seen

    def get(self, digest: bytes) -> bytes:
        self._seen.add(digest)
        return self._store.get(digest)
