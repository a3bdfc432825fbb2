"""Both sides walked at once, from the root down, as far as they differ from their base and from one another.

At each path there are three entries, of which any may be missing:

    ours is theirs       nothing is to do: both did the same, or nothing
    theirs is the base   ours stands
    ours is the base     theirs is taken, as a whole: what is below it is not opened
    all three differ     directories are walked; of other files, attributes and content are merged separately

So the cost is that of the paths at which the sides differ. What comes of it is not a tree but `edits`: what has to be
replaced in our root. Nothing is written before Merge.write().

There are no renames: a file that one side moved was deleted at one path and added at another. If the other side
changed it, that is a conflict at the old path.
"""

from __future__ import annotations

import stat
import sys
from collections.abc import Iterator
from typing import TypeAlias

from msgspec.structs import replace

from vcs.blobreader import file_pieces
from vcs.blobs import BlobWriter
from vcs.links import holds_links
from vcs.merging import hardlinks
from vcs.merging.attributes import merge_attributes
from vcs.merging.drivers import cache_command, driver_for
from vcs.merging.edits import below, edited
from vcs.merging.text import merge_lines
from vcs.merging.values import Favour, Kind, MergeConflict, Merged, Stale, Texts, deed
from vcs.model import Chunked, Content, Data, Entry, RootId, Tree
from vcs.scratch import Scratch
from vcs.snapshot import Snapshot
from vcs.texts import TEXT_MAX, is_binary
from vcs.trees import Sink, differing_entries, write_root

_DRIVER_MAX = 64 << 20
"""Bytes of a file that has a driver: records and logs are merged in a time that grows as they do."""

_Three: TypeAlias = "tuple[Entry | None, Entry | None, Entry | None]"


def merge_roots(base: Snapshot, ours: Snapshot, theirs: Snapshot, favour: Favour = None) -> Merge:
    """The three-way merge of roots of one store. Reads only; Merge.write() writes."""
    merge = Merge(base, ours, theirs, favour)
    merge.run()
    return merge


class Merge:
    """What our root has to become."""

    def __init__(self, base: Snapshot, ours: Snapshot, theirs: Snapshot, favour: Favour) -> None:
        self.base, self.ours, self.theirs = base, ours, theirs
        self.favour = favour
        self.edits: dict[bytes, Entry | None] = {}
        """What is to be at a path; None for nothing."""
        self.conflicts: list[MergeConflict] = []
        """Sorted by path. With a favoured side, `edits` has what it did; else ours is left there."""
        self.stale: list[Stale] = []
        """Sorted by path."""
        self.joined: list[tuple[bytes, bytes, bytes]] = []
        """Paths that both sides made a name of another file: the path, our group, and theirs."""
        self._linked: set[str] = set()
        """The sides that changed something at or below which there are hard links."""
        self.contents = Scratch(ours.objects, keep=sys.maxsize)
        """What the result has that no side does: contents, and trees, held until it is written."""
        self.objects = ours.objects

    def write(self, sink: Sink) -> RootId:
        """Write the merged root."""
        if not self.edits:
            return self.ours.id
        self.contents.copy_to(sink)
        return write_root(sink, edited(self.objects, sink, self.ours.root, self.edits))

    def run(self) -> None:
        """Merge. Iterative: trees may be deeper than Python's stack."""
        todo: list[tuple[bytes, _Three]] = [(b"/", (self.base.root, self.ours.root, self.theirs.root))]
        while todo:
            path, three = todo.pop()
            todo += self._merge(path, *three)
        if len(self._linked) > 1:
            hardlinks.settle(self)
        self.conflicts.sort(key=lambda conflict: (conflict.path, conflict.kind))
        self.stale.sort(key=lambda stale: stale.path)

    def merged_snapshot(self) -> Snapshot:
        """The result as it is now, in memory; merged contents cannot be read from it."""
        scratch = Scratch(self.objects)
        return Snapshot(scratch, write_root(scratch, edited(self.objects, scratch, self.ours.root, self.edits)))

    # -- one path

    def _merge(
        self, path: bytes, base: Entry | None, ours: Entry | None, theirs: Entry | None
    ) -> list[tuple[bytes, _Three]]:
        """Merge one path; returns what is to be merged below it."""
        self._note_links(base, ours, theirs)
        if _same(ours, theirs) or _same(base, theirs):
            return []
        if _same(base, ours):
            self.edits[path] = theirs
        elif ours is None or theirs is None:
            self._deleted(path, base, ours, theirs)
        elif ours.is_dir and theirs.is_dir:
            return self._directories(path, base, ours, theirs)
        elif stat.S_IFMT(ours.mode) != stat.S_IFMT(theirs.mode):
            self._choose("type" if base else "added", path, base, ours, theirs)
        elif (merged := self.merge_files(path, base, ours, theirs)) != ours:
            self.edits[path] = merged
        return []

    def _note_links(self, base: Entry | None, ours: Entry | None, theirs: Entry | None) -> None:
        """Note which sides changed something with hard links: those that made any one's file another count both."""
        base_holds, *holds = (entry is not None and holds_links(entry) for entry in (base, ours, theirs))
        changed = [side != base for side in (ours, theirs)]
        is_walked = all(entry is not None and entry.is_dir for entry in (ours, theirs))
        for name, is_changed, is_linked in zip(("ours", "theirs"), changed, holds, strict=True):
            if is_changed and (base_holds or is_linked or (all(changed) and any(holds) and not is_walked)):
                self._linked.add(name)

    def _deleted(self, path: bytes, base: Entry | None, ours: Entry | None, theirs: Entry | None) -> None:
        """One side deleted what the other changed; unless that changed only what followed from other changes."""
        left = ours or theirs
        assert base is not None
        assert left is not None
        before = replace(base, link=None, mtime=left.mtime if base.is_dir else base.mtime)
        if before == replace(left, link=None):
            if ours is not None:
                self.edits[path] = None
        else:
            self._choose("deleted", path, base, ours, theirs)

    def _choose(self, kind: Kind, path: bytes, base: Entry | None, ours: Entry | None, theirs: Entry | None) -> None:
        """Of two entries that exclude one another, the favoured one."""
        command = cache_command(path)
        if command is not None:
            self.stale.append(Stale(path, command))
            return
        self.conflicts.append(MergeConflict(kind, path, deed(base, ours), deed(base, theirs)))
        if self.favour == "theirs":
            self.edits[path] = theirs

    def _directories(self, path: bytes, base: Entry | None, ours: Entry, theirs: Entry) -> list[tuple[bytes, _Three]]:
        """Merge a directory's attributes; returns the names in it that differ."""
        was = base if base is not None and base.is_dir else None
        entry, clashes = merge_attributes(was, ours, theirs, self.favour)
        self._note_clashes(path, was, ours, theirs, clashes)
        if entry != ours:
            self.edits[path] = entry
        return [(below(path, name), three) for name, three in self._names(was, ours, theirs)]

    def _names(self, base: Entry | None, ours: Entry, theirs: Entry) -> Iterator[tuple[bytes, _Three]]:
        """The names that a side changed. Nodes of large directories that two of them share are not opened."""
        if base is None:
            our, their = self._differing(ours, theirs)
            for name in {**our, **their}:
                yield name, (None, our.get(name), their.get(name))
            return
        was_ours, our = self._differing(base, ours)
        was_theirs, their = self._differing(base, theirs)
        for name in {**was_ours, **our, **was_theirs, **their}:
            before = was_ours.get(name) or was_theirs.get(name)
            # What is in a node that a side shares with the base is what the base has.
            is_open = name in was_ours or name in our, name in was_theirs or name in their
            yield (
                name,
                (
                    before,
                    our.get(name) if is_open[0] else before,
                    their.get(name) if is_open[1] else before,
                ),
            )

    def _differing(self, old: Entry, new: Entry) -> tuple[dict[bytes, Entry], dict[bytes, Entry]]:
        assert isinstance(old.content, Tree)
        assert isinstance(new.content, Tree)
        sides = differing_entries(self.objects, old.content.tree, self.objects, new.content.tree)
        before, after = ({entry.name: entry for entry in side} for side in sides)
        return before, after

    # -- files

    def merge_files(self, path: bytes, base: Entry | None, ours: Entry, theirs: Entry) -> Entry:
        """What comes of two files of the same type, neither of them a directory; notes conflicts."""
        was = base if base is not None and stat.S_IFMT(base.mode) == stat.S_IFMT(ours.mode) else None
        if (command := cache_command(path)) is not None and ours.content != theirs.content:
            self.stale.append(Stale(path, command))
            return ours
        groups = [entry and entry.link and entry.link.group for entry in (was, ours, theirs)]
        if groups[1] and groups[2] and len({*groups}) == 3:
            self.joined.append((path, groups[1], groups[2]))
        entry, clashes = merge_attributes(was, ours, theirs, self.favour)
        self._note_clashes(path, was, ours, theirs, clashes)
        content = self._merge_contents(path, was, ours, theirs)
        return entry if content == entry.content else replace(entry, content=content)

    def _note_clashes(self, path: bytes, base: Entry | None, ours: Entry, theirs: Entry, clashes: list[str]) -> None:
        if clashes:
            detail = ", ".join(clashes)
            told = (deed(base, ours), deed(base, theirs))
            self.conflicts.append(MergeConflict("attributes" if base else "added", path, *told, detail))

    def _merge_contents(self, path: bytes, base: Entry | None, ours: Entry, theirs: Entry) -> Content:
        was = base.content if base else None
        if ours.content in (was, theirs.content):
            return theirs.content
        if theirs.content == was:
            return ours.content
        merged = self._merge_texts(path, was, ours.content, theirs.content)
        if merged is None or merged.clashes:
            kind: Kind = "content" if base else "added"
            detail = ", ".join(merged.clashes) if merged else ""
            self.conflicts.append(MergeConflict(kind, path, deed(base, ours), deed(base, theirs), detail))
        if merged is None:
            return theirs.content if self.favour == "theirs" else ours.content
        return self.held(merged.data)

    def _merge_texts(self, path: bytes, base: Content | None, ours: Content, theirs: Content) -> Merged | None:
        """What comes of two contents; None if they cannot be merged at all."""
        driver = driver_for(path)
        limit = _DRIVER_MAX if driver else TEXT_MAX
        contents = [content for content in (base, ours, theirs) if content is not None]
        if not all(isinstance(content, (Data, Chunked)) and content.size <= limit for content in contents):
            return None
        texts = Texts(None if base is None else self.read(base), self.read(ours), self.read(theirs), self.favour)
        if driver:
            return driver(texts)
        if base is None or any(is_binary(text or b"") for text in texts[:3]):
            return None
        return merge_lines(texts)

    def read(self, content: Content) -> bytes:
        """A file's whole content, of any side's."""
        assert isinstance(content, (Data, Chunked))
        return b"".join(data or bytes(hole) for hole, data in file_pieces(self.objects, content))

    def held(self, data: bytes) -> Content:
        """Hold a content until the merge is written."""
        writer = BlobWriter(self.contents)
        writer.feed(data)
        return writer.finish()


def _same(one: Entry | None, other: Entry | None) -> bool:
    """Whether two entries are the same but for the number of names of a file, which is counted in the end."""
    if one is None or other is None or one.link is None or other.link is None:
        return one == other
    return replace(one, link=other.link) == other and one.link.group == other.link.group
