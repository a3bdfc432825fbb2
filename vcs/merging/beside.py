"""Both sides of each conflict beside each other in the merged root, for somebody to look at and decide.

For a conflict at FILE, each version that there is stands there as it was, with its owner, mode and attributes:

    FILE          what the merge without conflicts has: ours in what clashes. A text has both sides' lines, between
                  markers, where they clash
    FILE.ours     ours; not there if ours deleted it
    FILE.theirs   theirs; not there if theirs deleted it
    FILE.base     what both started from, if that had it

So nothing of either side is lost, whatever FILE is. A directory is there with all that is in it, where it is one
conflict as a whole; where its attributes clash, an empty one shows each side's. Names in it that were hard links of
one another are so in the copy; a single file's copy is a file of its own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from msgspec.structs import replace

from vcs.links import group_id, holds_links
from vcs.merging.drivers import cache_command, driver_for
from vcs.merging.edits import below, edited, name_of, parent
from vcs.merging.text import mark_lines
from vcs.merging.values import Labels, MergeConflict, Texts
from vcs.model import Content, Entry, Link, Tree
from vcs.snapshot import Snapshot
from vcs.texts import TEXT_MAX, is_binary
from vcs.trees import write_tree

if TYPE_CHECKING:
    from vcs.merging.walk import Merge

SIDES = (b".ours", b".theirs", b".base")
_NAME_MAX = 255


@dataclass(frozen=True, slots=True)
class Beside:
    """A conflict, and what of a merged root is about it."""

    conflict: MergeConflict
    files: tuple[bytes, ...] = ()
    """The paths at which the versions stand: absolute; none for a conflict of the image config."""
    is_marked: bool = False
    """Whether the file itself has markers."""


def lay_beside(merge: Merge, labels: Labels) -> list[Beside]:
    """Add to a merge's edits what puts both sides of its conflicts beside each other; returns them, in their order.

    For a merge in which no side was favoured.
    """
    laid: dict[bytes, tuple[tuple[bytes, ...], bool]] = {}
    result = merge.merged_snapshot()
    taken = {conflict.path for conflict in merge.conflicts}
    for path in sorted(taken):
        base, ours, theirs = (snapshot.find(path) for snapshot in (merge.base, merge.ours, merge.theirs))
        here = result.find(path)
        marked = _marked(merge, path, (base, ours, theirs), labels) if here and here.link is None else None
        if marked is not None:
            assert here is not None
            merge.edits[path] = replace(here, content=marked)
        versions = [(suffix, entry) for suffix, entry in zip(SIDES, (ours, theirs, base), strict=True) if entry]
        is_shared = bool(ours and theirs and ours.is_dir and theirs.is_dir)
        files = _names(result, taken, path, [suffix for suffix, _ in versions])
        for file, (_, entry) in zip(files, versions, strict=True):
            merge.edits[file] = _version(merge, file, entry, is_shared)
        taken.update(files)
        laid[path] = files, marked is not None
    return [Beside(conflict, *laid[conflict.path]) for conflict in merge.conflicts]


def _names(result: Snapshot, taken: Collection[bytes], path: bytes, suffixes: list[bytes]) -> tuple[bytes, ...]:
    """Paths for the versions of a file, all of the same form, at which there is nothing yet."""
    folder = parent(path)
    while (entry := result.find(folder)) is None or not entry.is_dir:
        folder = parent(folder)
    directory, name = result.directory(entry), name_of(path)
    for number in count(1):
        ends = [suffix + (b"-%d" % number if number > 1 else b"") for suffix in suffixes]
        names = [name[: _NAME_MAX - len(end)] + end for end in ends]
        paths = tuple(below(folder, one) for one in names)
        if not any(directory.lookup(one) for one in names) and not any(one in taken for one in paths):
            return paths
    raise AssertionError("count() has no end")


def _version(merge: Merge, path: bytes, entry: Entry, is_shared: bool) -> Entry:
    """A side's entry as it stands at another path."""
    entry = replace(entry, name=name_of(path), link=None)
    if not isinstance(entry.content, Tree):
        return entry
    if is_shared:
        return replace(entry, content=write_tree(merge.contents, []))
    return _with_links_apart(merge, path, entry) if entry.content.linked else entry


def _with_links_apart(merge: Merge, path: bytes, entry: Entry) -> Entry:
    """A directory's copy, in which names of one file are so among themselves."""
    groups: defaultdict[bytes, list[tuple[bytes, Entry]]] = defaultdict(list)
    for inner, found in _linked(merge, entry):
        assert found.link is not None
        groups[found.link.group].append((inner, found))
    edits: dict[bytes, Entry | None] = {}
    for members in groups.values():
        first = min(inner for inner, _ in members)
        link = Link(group_id(merge.ours.id, path + first), len(members)) if len(members) > 1 else None
        edits |= {inner: replace(found, link=link) for inner, found in members}
    return replace(edited(merge.objects, merge.contents, replace(entry, name=b""), edits), name=entry.name)


def _linked(merge: Merge, top: Entry) -> Iterator[tuple[bytes, Entry]]:
    """The names in a directory that have hard links, by their paths from there."""
    stack = [(b"/", top)]
    while stack:
        path, entry = stack.pop()
        if entry.is_dir:
            children = filter(holds_links, merge.ours.directory(entry))
            stack.extend((below(path, child.name), child) for child in children)
        else:
            yield path, entry


def _marked(
    merge: Merge, path: bytes, versions: tuple[Entry | None, Entry | None, Entry | None], labels: Labels
) -> Content | None:
    """A text with markers; None if it is none that is merged by its lines, or if no lines clash."""
    base, ours, theirs = versions
    was = base if base is not None and base.is_file else None
    there = [entry for entry in (was, ours, theirs) if entry is not None]
    if ours is None or theirs is None or not all(entry.is_file and entry.size <= TEXT_MAX for entry in there):
        return None
    if driver_for(path) or cache_command(path) is not None:
        return None
    data = None if was is None else merge.read(was.content)
    texts = Texts(data, merge.read(ours.content), merge.read(theirs.content), None)
    if any(is_binary(text or b"") for text in texts[:3]):
        return None
    marked = mark_lines(texts, labels)
    return merge.held(marked.data) if marked.clashes else None
