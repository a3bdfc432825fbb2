"""Names in any order -> a tree in memory -> trees in a sink. For archives, whose members come as their writer pleased.

Nothing is ever extracted, and no name can leave the tree:

    a path       has its leading `/`, empty names and `.` dropped, all by one function; one with `..` is refused
    a parent     that is missing becomes a directory (root's, 0755, time 0); one that is a symbolic link or any other
                 kind of file is refused, never followed: archives made from a directory have none, and readers that
                 follow them disagree on where they lead
    a duplicate  replaces what was there; a directory over a directory gives it new attributes and keeps what is below
    a hard link  joins a name that is already in the tree, and is no more than another name of the same file: what
                 replaces one of the names leaves the others as they were

An entry waits as its encoding, which takes 250 bytes with its place in the tree, about half of what objects would.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator

import msgspec
from msgspec.structs import replace

from vcs.encoding import NAME_MAX
from vcs.errors import BadInput
from vcs.links import NO_TREE, LinkGroups
from vcs.model import Entry, Symlink, Tree, type_name
from vcs.snapshot import split_path
from vcs.trees import Sink, write_tree

ENTRIES_MAX = 5_000_000
"""The most names that a tree may have: about 1.3 GB in memory."""
PACKED_MAX = 1 << 30
"""The most bytes that names and packed entries may take: a few long attributes are well, millions are an attack."""

_SIZE_MAX = (1 << 63) - 1

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(Entry).decode


class Held:
    """An entry that may still change, or has several names."""

    __slots__ = ("packed",)

    def __init__(self, entry: Entry) -> None:
        self.packed = _pack(entry)

    @property
    def entry(self) -> Entry:
        return _unpack(self.packed)

    @entry.setter
    def entry(self, entry: Entry) -> None:
        self.packed = _pack(entry)


class HeldDirectory(Held):
    """A directory and its names. `is_implied` if only names below it were given, and not itself."""

    __slots__ = ("is_implied", "names")

    def __init__(self, entry: Entry, is_implied: bool = False) -> None:
        super().__init__(entry)
        self.names: dict[bytes, Node] = {}
        self.is_implied = is_implied


Node = bytes | Held
"""What a name stands for: a packed entry if nothing more will happen to it."""


class TreeBuilder:
    """A tree in memory. A name that cannot be added is BadInput; the builder is of no use after that."""

    def __init__(self, entries_max: int = ENTRIES_MAX, packed_max: int = PACKED_MAX) -> None:
        self._root = self._directory(_implied(b""), is_implied=True)
        self._entries_left = entries_max
        self._packed_left = packed_max
        self._has_links = False

    def add(self, path: bytes, entry: Entry) -> None:
        """Put an entry at a path; the entry's own name is not looked at, nor a directory's content."""
        self._put(path, entry, held=False)

    def hold(self, path: bytes, entry: Entry) -> Held:
        """The same for an entry that will be given another value before `finish`."""
        node = self._put(path, entry, held=True)
        assert isinstance(node, Held)
        return node

    def link(self, path: bytes, target: bytes) -> None:
        """Make `path` another name of the file at `target`, which must be there and no directory."""
        parent, name = self._place(path)
        if name == b"":
            raise BadInput("the root cannot be a hard link")
        shared = self._share(target)
        before = parent.names.get(name)
        if before is shared:
            return
        self._has_links = True
        self._set(parent, name, shared)

    def finish(self, sink: Sink) -> Entry:
        """Write every directory, deepest first, and return the root's entry. The builder is empty afterwards."""
        links = self._count_links(LinkGroups())
        order: list[tuple[HeldDirectory | None, bytes, HeldDirectory]] = []
        stack: list[tuple[HeldDirectory | None, bytes, HeldDirectory]] = [(None, b"", self._root)]
        while stack:
            item = stack.pop()
            order.append(item)
            directory = item[2]
            stack.extend(
                (directory, name, node) for name, node in _sorted(directory) if isinstance(node, HeldDirectory)
            )
        while True:
            parent, name, directory = order.pop()
            done = _write(sink, directory, links)
            directory.names = {}
            if parent is None:
                return done
            parent.names[name] = _pack(done)

    def _put(self, path: bytes, entry: Entry, held: bool) -> Node:
        is_dir = stat.S_ISDIR(entry.mode)
        parent, name = self._place(path)
        if not name:
            if not is_dir:
                raise BadInput("the root must be a directory")
            return self._update(self._root, replace(entry, name=b"", content=NO_TREE))
        if is_dir:
            entry = replace(entry, name=name, content=NO_TREE)
            there = parent.names.get(name)
            if isinstance(there, HeldDirectory):
                return self._update(there, entry)
            return self._set(parent, name, self._directory(entry))
        entry = entry if entry.name == name else replace(entry, name=name)
        return self._set(parent, name, Held(entry) if held else _pack(entry))

    def _directory(self, entry: Entry, is_implied: bool = False) -> HeldDirectory:
        return HeldDirectory(entry, is_implied)

    def _update(self, directory: HeldDirectory, entry: Entry) -> HeldDirectory:
        directory.entry = entry
        directory.is_implied = False
        self._spend(len(directory.packed))
        return directory

    def _set(self, parent: HeldDirectory, name: bytes, node: Node) -> Node:
        if name not in parent.names:
            self._count_name()
        self._spend(len(name) + len(node if isinstance(node, bytes) else node.packed))
        parent.names[name] = node
        return node

    def _count_name(self, size: int = 0) -> None:
        self._entries_left -= 1
        if self._entries_left < 0:
            raise BadInput("the archive has more names than one root may have")
        self._spend(size)

    def _spend(self, size: int) -> None:
        self._packed_left -= size
        if self._packed_left < 0:
            raise BadInput("the names and attributes of the archive are larger than one root's may be")

    def _place(self, path: bytes) -> tuple[HeldDirectory, bytes]:
        """The directory that a path's last name is in, made if it is missing, and that name (empty for the root)."""
        names = split_path(path)
        for name in names:
            if len(name) > NAME_MAX or b"\0" in name:
                raise BadInput(f"{name[:NAME_MAX]!r} cannot be a name: it is too long or has NULs")
        if not names:
            return self._root, b""
        here = self._root
        for position, name in enumerate(names[:-1]):
            below = here.names.get(name)
            if not isinstance(below, HeldDirectory):
                if below is not None:
                    raise not_a_directory(below, b"/".join(names[: position + 1]))
                below = self._directory(_implied(name), is_implied=True)
                self._set(here, name, below)
            here = below
        return here, names[-1]

    def _share(self, target: bytes) -> Held:
        """The file at `target` in the form that can have several names."""
        names = split_path(target)
        here = self._root
        for name in names[:-1]:
            below = here.names.get(name)
            if not isinstance(below, HeldDirectory):
                return self._elsewhere(target, below)
            here = below
        node = here.names.get(names[-1]) if names else self._root
        if node is None:
            return self._elsewhere(target, node)
        if isinstance(node, HeldDirectory):
            raise BadInput(f"a hard link to {target!r}, which is a directory", target=target)
        if isinstance(node, bytes):
            node = here.names[names[-1]] = Held(_unpack(node))
        return node

    def _elsewhere(self, target: bytes, _way: Node | None) -> Held:
        """The file at `target`, which was not added; `_way` is what was, on the way to it."""
        raise BadInput(f"a hard link to {target!r}, which is not in the archive before it", target=target)

    def _count_links(self, groups: LinkGroups) -> LinkGroups:
        """Add the groups of hard links, by the identity of what their names share."""
        stack = [(b"/", self._root)] if self._has_links else []
        while stack:
            prefix, directory = stack.pop()
            for name, node in directory.names.items():
                if isinstance(node, HeldDirectory):
                    stack.append((prefix + name + b"/", node))
                elif isinstance(node, Held):
                    groups.add(id(node), prefix + name)
        return groups


def _implied(name: bytes) -> Entry:
    """A directory that the archive does not describe."""
    return Entry(name, stat.S_IFDIR | 0o755, 0, 0, 0, NO_TREE)


def _sorted(directory: HeldDirectory) -> list[tuple[bytes, Node]]:
    return sorted(directory.names.items(), key=_first)


def _first(item: tuple[bytes, Node]) -> bytes:
    return item[0]


def entry_of(node: Node) -> Entry:
    """What a name holds."""
    return _unpack(node) if isinstance(node, bytes) else node.entry


def not_a_directory(node: Node, path: bytes) -> BadInput:
    entry = entry_of(node)
    target = f" to {entry.content.target!r}" if isinstance(entry.content, Symlink) else ""
    return BadInput(f"it lies below {path!r}, which is a {type_name(entry)}{target}, not a directory", parent=path)


def _write(sink: Sink, directory: HeldDirectory, links: LinkGroups) -> Entry:
    tree: Tree = write_tree(sink, _entries(directory, links))
    if tree.size > _SIZE_MAX:
        raise BadInput("the files of the archive together are larger than any file system")
    return replace(directory.entry, content=tree)


def _entries(directory: HeldDirectory, links: LinkGroups) -> Iterator[Entry]:
    for name, node in directory.names.items():
        if isinstance(node, Held):
            yield replace(node.entry, name=name, link=links.link(id(node)))
        else:
            yield _unpack(node)
