"""COPY, ADD and WORKDIR on roots: nothing is unpacked on the machine, and no content is read again.

    chosen      the entries that a source's words name in a snapshot, links followed
    Placing     a root with entries put into it: directories are merged, files replaced, missing directories made

Owners and modes are changed on the way. Hard links among what is copied by one source stay hard links of one another.
"""

from __future__ import annotations

import posixpath
import stat
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from blake3 import blake3
from msgspec.msgpack import encode
from msgspec.structs import replace

from runtime.building.patterns import compiled, has_magic
from vcs.errors import BadInput
from vcs.links import LinkGroups, holds_links, linked_entries, rewrite_links
from vcs.merging.edits import below, edited, name_of, parent
from vcs.model import Chunked, Data, Entry, Link, RootId, Symlink, Tree
from vcs.scratch import Scratch
from vcs.snapshot import Snapshot
from vcs.trees import Directory, Objects, write_root, write_tree

Owner = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Chosen:
    """Something to be copied."""

    name: bytes
    """Under which it goes into a directory; empty for a snapshot's root."""
    entry: Entry
    owner: Owner | None = None
    """None for its own."""
    mode: int | None = None
    is_archive: bool = False
    """The entry is the root of an archive that is unpacked."""


def chosen(snapshot: Snapshot, source: str) -> list[tuple[bytes, Entry]]:
    """The names and entries that a source names, in order. A path as it is must be there, a pattern may name nothing;
    neither leads out of the snapshot. ValueError for what is no pattern."""
    text = posixpath.normpath("/" + source.lstrip("/")).lstrip("/")
    if not has_magic(text):
        path = text.encode("utf-8", "surrogateescape")
        entry = snapshot.find(snapshot.resolve(path))
        return [] if entry is None else [(name_of(b"/" + path), entry)]
    found = [b"/"]
    for part in text.split("/"):
        pattern = compiled(part) if has_magic(part) else None
        found = [path for above in found for path in _matching(snapshot, above, part, pattern)]
    return [(name_of(path), entry) for path in found if (entry := snapshot.find(snapshot.resolve(path))) is not None]


def _matching(snapshot: Snapshot, above: bytes, part: str, pattern: object) -> Iterator[bytes]:
    entry = snapshot.find(snapshot.resolve(above))
    if entry is None or not entry.is_dir:
        return
    if pattern is None:
        yield below(above, part.encode("utf-8", "surrogateescape"))
        return
    for child in snapshot.directory(entry):
        if pattern.fullmatch(child.name.decode("utf-8", "surrogateescape")):  # type: ignore[attr-defined]
            yield below(above, child.name)


def content_digest(objects: Objects, entry: Entry, *, owners: bool) -> bytes:
    """What an entry is, times apart: names, types, modes, contents, attributes, all below it. `owners`: those too."""
    hasher = blake3(b"treering build 1\0")
    stack = [entry]
    while stack:
        here = stack.pop()
        content = here.content
        if isinstance(content, Tree):
            children = list(Directory(objects, content.tree))
            said: object = len(children)
            stack.extend(children)
        else:
            said = content
        owner = (here.uid, here.gid) if owners else None
        name = b"" if here is entry else here.name
        hasher.update(encode((name, here.mode, owner, here.xattrs, said)))
    return hasher.digest()


@dataclass(slots=True)
class Placing:
    """A root into which entries are put, one after another."""

    draft: Scratch
    """Where its trees are held."""
    root: Entry
    time: int
    """Nanoseconds since 1970: of directories that are made."""
    _touched: set[bytes] = field(default_factory=set)

    def into(self, target: str, items: Sequence[Chosen]) -> None:
        """Copy to a path; one that ends in a slash is a directory. BadInput."""
        is_directory = target.endswith("/")
        for item in items:
            snapshot = self._snapshot()
            path = snapshot.resolve(target.encode("utf-8", "surrogateescape"))
            existing = snapshot.find(path)
            if item.is_archive or item.entry.is_dir:
                self._merge(path, item)
            elif is_directory or (existing is not None and existing.is_dir):
                if not item.name:
                    raise BadInput("the root itself is no file", path=path)
                inside = below(path, item.name)
                known = snapshot.find(inside)
                if known is not None and isinstance(known.content, Symlink):
                    inside = snapshot.resolve(inside)
                self._merge(inside, item)
            else:
                self._merge(path, item)

    def directory(self, path: str, owner: Owner = (0, 0)) -> None:
        """Have a directory, and those above it. BadInput if something else is there."""
        edits: dict[bytes, Entry | None] = {}
        self._make_above(below(self._snapshot().resolve(path.encode("utf-8", "surrogateescape")), b"x"), owner, edits)
        self._apply(edits)

    def finish(self) -> RootId:
        """The root, whose new trees are in the draft."""
        if self._touched:
            counts = dict.fromkeys(self._touched, 0)
            before: dict[bytes, int] = {}
            for entry in linked_entries(self.draft, self.root):
                if entry.link is not None and entry.link.group in counts:
                    counts[entry.link.group] += 1
                    before[entry.link.group] = entry.link.count
            changed = {
                group: Link(group, count) if count > 1 else None
                for group, count in counts.items() if count and count != before[group]
            }  # fmt: skip
            self.root = rewrite_links(self.draft, self.draft, self.root, changed)
        return write_root(self.draft, self.root)

    # -- details

    def _snapshot(self) -> Snapshot:
        return Snapshot(self.draft, write_root(self.draft, self.root))

    def _apply(self, edits: dict[bytes, Entry | None]) -> None:
        if edits:
            self.root = edited(self.draft, self.draft, self.root, edits)

    def _make_above(self, path: bytes, owner: Owner, edits: dict[bytes, Entry | None]) -> None:
        """The directories above a path that are missing, root's unless they are to have an owner."""
        snapshot = self._snapshot()
        here = b"/"
        for name in path.strip(b"/").split(b"/")[:-1]:
            here = below(here, name)
            entry = snapshot.find(here) if here not in edits else edits[here]
            if entry is None:
                empty = write_tree(self.draft, [])
                edits[here] = Entry(name, stat.S_IFDIR | 0o755, *owner, self.time, empty)
            elif not entry.is_dir:
                raise BadInput(f"{here.decode(errors='backslashreplace')} is not a directory", path=here)

    def _merge(self, path: bytes, item: Chosen) -> None:
        """Put an entry at a path: a directory into a directory, all else in place of what is there."""
        edits: dict[bytes, Entry | None] = {}
        self._make_above(path, item.owner or (0, 0), edits)
        snapshot = self._snapshot()
        links = self._links(path, item)
        stack: list[tuple[bytes, Entry, Entry | None]] = [(path, item.entry, snapshot.find(path))]
        while stack:
            here, entry, existing = stack.pop()
            if existing is not None and existing.is_dir != entry.is_dir:
                text = here.decode(errors="backslashreplace")
                kind = "a directory" if existing.is_dir else "no directory"
                raise BadInput(
                    f"{text} is {kind} in the root, and {'not ' * existing.is_dir}in what is copied", path=here
                )
            if existing is not None and existing.link is not None:
                self._touched.add(existing.link.group)
            if existing is None or not isinstance(existing.content, Tree) or not isinstance(entry.content, Tree):
                edits[here] = self._retold(here, entry, item, links)
                continue
            if here != path and not (item.is_archive and _is_implied(entry)):
                edits[here] = replace(_changed(entry, item), name=name_of(here), content=existing.content)
            known = Directory(self.draft, existing.content.tree)
            for child in Directory(self.draft, entry.content.tree):
                stack.append((below(here, child.name), child, known.lookup(child.name)))
        self._apply(edits)

    def _links(self, path: bytes, item: Chosen) -> LinkGroups:
        """The hard links of what is copied, where they come to be."""
        groups = LinkGroups(write_root(self.draft, self.root))
        stack = [(path, item.entry)] if holds_links(item.entry) else []
        while stack:
            here, entry = stack.pop()
            if isinstance(entry.content, Tree):
                children = filter(holds_links, Directory(self.draft, entry.content.tree))
                stack.extend((below(here, child.name), child) for child in children)
            elif entry.link is not None:
                groups.add(entry.link.group, here)
        return groups

    def _retold(self, path: bytes, top: Entry, item: Chosen, links: LinkGroups) -> Entry:
        """An entry as it comes to be, all below it too."""
        if item.owner is None and item.mode is None and not holds_links(top):
            return replace(top, name=name_of(path))
        order: list[tuple[bytes, Entry]] = []
        children: dict[bytes, list[Entry]] = defaultdict(list)
        stack = [(path, replace(top, name=name_of(path)))]
        while stack:
            here, entry = stack.pop()
            if not isinstance(entry.content, Tree):
                changed = _changed(entry, item)
                if entry.link is not None:
                    changed = replace(changed, link=links.link(entry.link.group))
                children[parent(here) if here != path else b""].append(changed)
                continue
            order.append((here, entry))
            stack.extend((below(here, child.name), child) for child in Directory(self.draft, entry.content.tree))
        for here, entry in reversed(order):
            tree = write_tree(self.draft, children.pop(here, []))
            made = replace(_changed(entry, item), content=tree)
            children[parent(here) if here != path else b""].append(made)
        return children[b""][0]


def _changed(entry: Entry, item: Chosen) -> Entry:
    if item.owner is not None:
        entry = replace(entry, uid=item.owner[0], gid=item.owner[1])
    if item.mode is not None and not isinstance(entry.content, Symlink):
        entry = replace(entry, mode=stat.S_IFMT(entry.mode) | item.mode)
    return entry


def _is_implied(entry: Entry) -> bool:
    """Whether an archive most likely says nothing of a directory that it has something in (vcs.assembly)."""
    return entry.mtime == 0 and entry.mode == stat.S_IFDIR | 0o755 and not (entry.uid or entry.gid)


def is_content(entry: Entry) -> bool:
    """Whether an entry is a file with content."""
    return isinstance(entry.content, (Data, Chunked)) and entry.size > 0
