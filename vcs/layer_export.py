"""Two roots -> an image layer: a tar archive of what changed from the one to the other (OCI image-spec, layer.md).

    added, changed       the entry whole, with its data
    deleted              `.wh.NAME`, an empty file, before all else in its directory
    a directory that     its own entry, with its attributes, but not what is unchanged in it. All directories above a
    holds a change       change are such: without them some tools make them anew, with other attributes
    another type         the new entry alone, which takes the old one's place
    hard links           where one name of a group comes, all of them do, so that they are one file in the end

Nothing is opaque: a directory that was emptied has a whiteout for each name. Subtrees that are equal on both sides are
never opened, but where they hold names of a group of hard links that changed. The same two roots give the same bytes.

Sockets cannot be told, so on both sides they count as not being there. A name that begins with `.wh.` cannot be told
either, and is an error.
"""

from __future__ import annotations

import stat
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import TypeAlias

from vcs.errors import BadInput
from vcs.exporter import ExportResult, refusal
from vcs.links import holds_links
from vcs.model import Entry, Tree
from vcs.progress import Progress
from vcs.snapshot import Snapshot
from vcs.tar.writer import TarWriter, Writable
from vcs.tar_members import Members
from vcs.trees import Directory, differing_entries

WHITEOUT = b".wh."
"""What the name of a member that deletes begins with."""

_Pair: TypeAlias = tuple[bytes, Entry | None, Entry | None]
"""A path (empty for the top), what is there before, and what after."""


def export_layer(
    old: Snapshot | None, new: Snapshot, out: Writable, *, progress: Progress | None = None
) -> ExportResult:
    """Write the layer that makes `old` (None: nothing at all) to `new`; `out` is never sought, nor closed.

    The result's `entries` counts members. BadInput, with the path, for a name that no layer can hold; NoSpace or Denied
    where `out` cannot take more.
    """
    writer = TarWriter(out, acls_as_text=False)
    members = Members(new, writer, progress)
    here = b""
    try:
        for here, before, after in _Walk(old, new, _names_to_add(old, new)).run():
            name = here.rpartition(b"/")[2]
            if name.startswith(WHITEOUT):
                raise BadInput(
                    f"no image layer can hold {here!r}: there a name that begins with .wh. means a deletion", layer=here
                )
            if after is not None and not _is_socket(after):
                members.add(here, b"./" + here.lstrip(b"/"), after)
                continue
            if after is not None:
                members.skip(here)
            if before is not None and not _is_socket(before):
                members.add_empty(b"." + here[: -len(name)] + WHITEOUT + name)
        return members.close()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise refusal(error, here) from error


def _names_to_add(old: Snapshot | None, new: Snapshot) -> dict[bytes, set[bytes]]:
    """Unchanged names that must come too, by their directory: those of groups of hard links of which a name changed,
    and the directories on the way to them. Opens only what holds hard links."""
    if old is None:
        return {}
    found: defaultdict[bytes, int] = defaultdict(int)
    counts: dict[bytes, int] = {}
    for _, _, entry in _Walk(old, new, {}, holds_links).run():
        if entry is not None and entry.link is not None:
            found[entry.link.group] += 1
            counts[entry.link.group] = entry.link.count
    torn = {group for group, count in counts.items() if found[group] < count}
    names: defaultdict[bytes, set[bytes]] = defaultdict(set)
    if torn:
        for path, _, entry in _Walk(None, new, {}, holds_links).run():
            if entry is not None and entry.link is not None and entry.link.group in torn:
                while path:
                    path, _, name = path.rpartition(b"/")
                    names[path].add(name)
    return names


class _Walk:
    """Both roots at once, parents first, in each directory what is deleted before the rest, in byte order."""

    def __init__(
        self,
        old: Snapshot | None,
        new: Snapshot,
        names: dict[bytes, set[bytes]],
        wanted: Callable[[Entry], bool] = lambda _: True,
    ) -> None:
        """`names` are given too, by their directory, though they are equal. What is not `wanted` is not given, nor
        entered."""
        self._old = old
        self._new = new
        self._names = names
        self._wanted = wanted

    def run(self) -> Iterator[_Pair]:
        # With a stack of its own: trees may be deeper than Python's.
        before = self._old.root if self._old else None
        if before == self._new.root and not self._names:
            return
        stack: list[Iterator[_Pair]] = [iter([(b"", before, self._new.root)])]
        while stack:
            pair = next(stack[-1], None)
            if pair is None:
                stack.pop()
                continue
            path, before, after = pair
            if after is not None and not self._wanted(after):
                continue
            yield pair
            if after is not None and isinstance(after.content, Tree):
                below = before.content if before is not None and isinstance(before.content, Tree) else None
                stack.append(self._below(path, below, after.content))

    def _below(self, path: bytes, old: Tree | None, new: Tree) -> Iterator[_Pair]:
        if old is None or self._old is None:
            for entry in Directory(self._new.objects, new.tree):
                yield path + b"/" + entry.name, None, entry
            return
        gone: dict[bytes, Entry] = {}
        changed: dict[bytes, Entry] = {}
        if old.tree != new.tree:
            before, after = differing_entries(self._old.objects, old.tree, self._new.objects, new.tree)
            gone = {entry.name: entry for entry in before}
            changed = {entry.name: entry for entry in after if gone.get(entry.name) != entry}
            left = {entry.name for entry in after}
            yield from ((path + b"/" + name, entry, None) for name, entry in gone.items() if name not in left)
        equal = self._names.get(path, set()) - changed.keys()
        if equal:
            directory = Directory(self._new.objects, new.tree)
            changed.update((one.name, one) for one in map(directory.lookup, equal) if one is not None)
        for name in sorted(changed) if equal else changed:
            now = changed[name]
            yield path + b"/" + name, now if name in equal else gone.get(name), now


def _is_socket(entry: Entry) -> bool:
    return stat.S_ISSOCK(entry.mode)
