"""Hard links after a merge: the names of a group hold the same, and its count is right.

Names are merged one by one, so that a group may end up with names from both sides. Where both sides changed something
that has hard links, the links of the merged root are looked at as a whole:

- A group that both sides made of the same name, with an id of each one's own, is one group. If they made it a name
  of two files that the base has, there is a conflict.
- A group whose names do not all hold the same is one file with three versions, and is merged as one: who changed it on
  one side changed it under the names that the other side added.
- Where that cannot be, because one side has several files where the other has one, there is a conflict, and names that
  hold the same stay one file.
- A file that one side left with a single name, and did not change, is still the file that the other side gave more. If
  that side made several files of it, a name that the other gave it is a conflict.
"""

from __future__ import annotations

import stat
from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, TypeAlias

from msgspec.structs import replace

from vcs.links import group_id, holds_links
from vcs.merging.edits import below
from vcs.merging.values import MergeConflict, deed
from vcs.model import Entry, Link, RootId
from vcs.snapshot import Snapshot

if TYPE_CHECKING:
    from vcs.merging.walk import Merge

_Groups: TypeAlias = dict[bytes, dict[bytes, Entry]]
"""By group, the entry at each of its paths."""


def settle(merge: Merge) -> None:
    """Add to a merge's edits what makes the groups of its result whole."""
    result = merge.merged_snapshot()
    base = _groups(merge.base)
    aliases = _aliases(merge, base)
    ours, theirs, groups = (_groups(snapshot, aliases) for snapshot in (merge.ours, merge.theirs, result))
    before = {path: entry for members in groups.values() for path, entry in members.items()}
    for side, snapshot in ((ours, merge.ours), (theirs, merge.theirs)):
        for group in base.keys() & groups.keys() - side.keys():
            left = _left(base[group], snapshot)
            if len(left) > 1:
                _note(merge, groups[group].keys() - base[group].keys())
            for path in left if len(left) == 1 else ():
                entry = result.find(path)
                if _bare(left[path]) == _bare(base[group][path]) and entry and not (entry.is_dir or entry.link):
                    groups[group][path] = before[path] = entry
    for group, members in groups.items():
        versions = {_bare(entry) for entry in members.values()}
        if len(versions) > 1:
            members = _one_file(merge, members, base.get(group), ours.get(group), theirs.get(group))
        for path, entry in _counted(group, members, result.id):
            if entry != before[path]:
                merge.edits[path] = entry


def _aliases(merge: Merge, base: _Groups) -> dict[bytes, bytes]:
    """Groups that are the same file as another, since both sides gave them one name. Two files of the base are not one
    for that: it is a conflict."""
    found: dict[bytes, bytes] = {}
    for path, *pair in merge.joined:
        ours, theirs = (_resolved(found, group) for group in pair)
        if ours in base and theirs in base and ours != theirs:
            _note(merge, [path])
        elif ours != theirs:
            source, target = (ours, theirs) if theirs in base else (theirs, ours)
            found[source] = target
    return found


def _resolved(aliases: dict[bytes, bytes], group: bytes) -> bytes:
    while group in aliases:
        group = aliases[group]
    return group


def _groups(snapshot: Snapshot, aliases: dict[bytes, bytes] | None = None) -> _Groups:
    """The hard links of a root; opens the directories that have some at or below them."""
    found: _Groups = defaultdict(dict)
    stack = [(b"/", snapshot.root)]
    while stack:
        path, entry = stack.pop()
        if entry.is_dir:
            children = filter(holds_links, snapshot.directory(entry))
            stack.extend((below(path, child.name), child) for child in children)
        elif entry.link is not None:
            found[_resolved(aliases or {}, entry.link.group)][path] = entry
    return found


def _left(members: Iterable[bytes], side: Snapshot) -> dict[bytes, Entry]:
    """What is at the names of a file that has no two names any more in a side."""
    found = {path: side.find(path) for path in members}
    return {path: entry for path, entry in found.items() if entry is not None and not entry.is_dir}


def _note(merge: Merge, names: Iterable[bytes]) -> None:
    """Nobody knows which file these are names of: a conflict for each that has none yet."""
    for path in sorted(set(names) - {conflict.path for conflict in merge.conflicts}):
        base, ours, theirs = (snapshot.find(path) for snapshot in (merge.base, merge.ours, merge.theirs))
        merge.conflicts.append(MergeConflict("links", path, deed(base, ours), deed(base, theirs)))


def _bare(entry: Entry) -> Entry:
    """What all names of a file have in common."""
    return replace(entry, name=b"", link=None)


def _one_file(merge: Merge, members: dict[bytes, Entry], *sides: dict[bytes, Entry] | None) -> dict[bytes, Entry]:
    """The members of a group, holding what comes of all three versions of the file; or a conflict."""
    path = min(members)
    snapshots = merge.base, merge.ours, merge.theirs
    was, *changed = (
        _versions(members, side, snapshot, merge.base) for side, snapshot in zip(sides, snapshots, strict=True)
    )
    if len(was) < 2 and all(len(versions) == 1 for versions in changed):
        (our,), (their,) = changed
        if stat.S_IFMT(our.mode) == stat.S_IFMT(their.mode):
            merged = _merged(merge, members, next(iter(was), None), our, their)
            return {path: replace(merged, name=entry.name) for path, entry in members.items()}
    favoured = merge.theirs if merge.favour == "theirs" else merge.ours
    is_told = any(conflict.path in members for conflict in merge.conflicts)
    decided = {}
    for path, entry in members.items():
        base, ours, theirs = (snapshot.find(path) for snapshot in snapshots)
        if not is_told:
            merge.conflicts.append(MergeConflict("links", path, deed(base, ours), deed(base, theirs)))
        there = favoured.find(path)
        decided[path] = there if there is not None and not there.is_dir else entry
    return decided


def _versions(
    members: Iterable[bytes], group: dict[bytes, Entry] | None, snapshot: Snapshot, base: Snapshot
) -> set[Entry]:
    """What a side has as the file of these names: what its group holds, and what it changed at the other names."""
    found = {path: entry for path in members if (entry := snapshot.find(path)) is not None and not entry.is_dir}
    changed = {path: entry for path, entry in found.items() if entry != base.find(path)}
    return {_bare(entry) for entry in {**(changed if group or changed else found), **(group or {})}.values()}


def _merged(merge: Merge, members: Collection[bytes], base: Entry | None, ours: Entry, theirs: Entry) -> Entry:
    """The one file that came of three; a conflict is told once, if none of its names has one yet."""
    if ours == theirs or theirs == base:
        return ours
    if ours == base:
        return theirs
    known = len(merge.conflicts)
    merged = merge.merge_files(min(members), base, ours, theirs)
    if not {conflict.path for conflict in merge.conflicts[:known]}.isdisjoint(members):
        del merge.conflicts[known:]
    return merged


def _counted(group: bytes, members: dict[bytes, Entry], root: RootId) -> Iterable[tuple[bytes, Entry]]:
    """The members as they are once those that hold the same are one file: a group each, with the right count."""
    files: dict[Entry, list[bytes]] = defaultdict(list)
    for path in sorted(members):
        files[_bare(members[path])].append(path)
    for number, paths in enumerate(files.values()):
        name = group if not number else group_id(root, paths[0])
        link = Link(name, len(paths)) if len(paths) > 1 else None
        for path in paths:
            yield path, replace(members[path], link=link)
