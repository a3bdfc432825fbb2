"""A root with what is at some paths replaced: only the directories above those are opened, and written."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from msgspec.structs import replace

from vcs.errors import BadInput
from vcs.model import Entry, Tree
from vcs.tree_edit import edit_tree
from vcs.trees import Directory, Objects, Sink


def edited(objects: Objects, sink: Sink, root: Entry, edits: Mapping[bytes, Entry | None]) -> Entry:
    """The root entry with other entries at some absolute paths; None removes what is there.

    Where a directory and something below it are both edited, what is below counts too. `objects` need not have what is
    written to `sink`.
    """
    above = {b"/"}
    for path in edits:
        while path != b"/" and (path := parent(path)) not in above:
            above.add(path)
    order = sorted(above, key=lambda path: (path != b"/", path.count(b"/")))
    here: dict[bytes, Entry] = {}
    opened: dict[bytes, tuple[Directory, Tree]] = {}
    for path in order:
        entry = edits.get(path) if path in edits else root
        if path != b"/" and path not in edits:
            entry = opened[parent(path)][0].lookup(name_of(path))
        if entry is None or not isinstance(entry.content, Tree):
            raise BadInput(f"{path!r} is not a directory", path=path)
        here[path] = entry
        opened[path] = Directory(objects, entry.content.tree), entry.content
    changes: dict[bytes, dict[bytes, Entry | None]] = defaultdict(dict)
    for path, edit in edits.items():
        if path != b"/":
            changes[parent(path)][name_of(path)] = edit
    for path in reversed(order):
        directory, tree = opened[path]
        here[path] = replace(here[path], content=edit_tree(sink, directory, tree, changes[path]))
        if path != b"/":
            changes[parent(path)][name_of(path)] = here[path]
    return here[b"/"]


def parent(path: bytes) -> bytes:
    """The directory that a path is in.

    >>> parent(b"/etc/motd"), parent(b"/etc")
    (b'/etc', b'/')
    """
    return path.rpartition(b"/")[0] or b"/"


def name_of(path: bytes) -> bytes:
    """The last name of a path."""
    return path.rpartition(b"/")[2]


def below(directory: bytes, name: bytes) -> bytes:
    """The path of a name in a directory."""
    return (directory if directory == b"/" else directory + b"/") + name
