"""Canonical bytes of trees, roots and chunk lists, and their digests.

One value has exactly one encoding, so equal values have equal digests; whatever decodes but is not canonical (unsorted
names, a mode that contradicts the content, bytes that encode otherwise) is refused. docs/format.md has the bytes.

Long sequences are split into nodes by a rule that looks at the items alone, so that the same sequence always gives
the same nodes, and a change in the middle leaves the others untouched (a "prolly tree").
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Generic, TypeVar

import msgspec
from blake3 import blake3

from vcs.errors import Corrupt
from vcs.model import (
    DIGEST_SIZE,
    Chunked,
    Data,
    Device,
    Entry,
    Link,
    ListItem,
    Special,
    Symlink,
    Tree,
    TreeItem,
)

Item = TypeVar("Item")

NODE_LIMIT = 256
"""A sequence of at most so many items is one node."""
_SPLIT_MASK = 0x3F
"""A longer one is cut after an item whose hash has these bits clear: a node of 80 items (8 kB of entries) on average,
so that a commit of ten files writes ten of those, and not ten whole directories."""
SPLIT_MIN = 16
"""But never before so many items: a run of equal items would make nodes of one item each, and the split never end."""
_SPLIT_MAX = 1024
"""And after so many items in any case, against names chosen to never cut."""

NAME_MAX = 255
LINK_GROUP_SIZE = 16
_NS = 1 << 63
_ID_MAX = (1 << 32) - 1


class _TreeNode(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=0):
    entries: list[Entry]


class _TreeIndex(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=1):
    items: list[TreeItem]


class _ListNode(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=2):
    items: list[ListItem]


class _ListIndex(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=3):
    items: list[ListItem]


class _Root(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=4):
    entry: Entry


_encode = msgspec.msgpack.Encoder().encode
_tree_decoder = msgspec.msgpack.Decoder(_TreeNode | _TreeIndex)
_list_decoder = msgspec.msgpack.Decoder(_ListNode | _ListIndex)
_root_decoder = msgspec.msgpack.Decoder(_Root)

_UNDECODED = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""The second of a text where none belongs, the third of what is nested deeply in it."""


def digest(data: bytes | memoryview) -> bytes:
    """BLAKE3 of `data`, 32 bytes."""
    return blake3(data).digest()


def encode_entries(entries: Sequence[Entry]) -> bytes:
    """A tree node of entries, which must be sorted by name."""
    return _encode(_TreeNode(list(entries)))


def encode_tree_index(items: Sequence[TreeItem]) -> bytes:
    return _encode(_TreeIndex(list(items)))


def encode_list(items: Sequence[ListItem], leaf: bool) -> bytes:
    return _encode(_ListNode(list(items)) if leaf else _ListIndex(list(items)))


def encode_root(entry: Entry) -> bytes:
    return _encode(_Root(entry))


def decode_tree(data: bytes) -> list[Entry] | list[TreeItem]:
    """The entries of a tree node, or the items of an index node. Corrupt if it is neither."""
    try:
        node = _tree_decoder.decode(data)
    except _UNDECODED as error:
        raise Corrupt(f"a tree cannot be decoded: {error}") from error
    return node.entries if isinstance(node, _TreeNode) else node.items


def decode_list(data: bytes) -> tuple[list[ListItem], bool]:
    """The items of a chunk list node, and whether they are chunks (True) or further lists."""
    try:
        node = _list_decoder.decode(data)
    except _UNDECODED as error:
        raise Corrupt(f"a chunk list cannot be decoded: {error}") from error
    return node.items, type(node) is _ListNode


def decode_root(data: bytes) -> Entry:
    """The root entry. Corrupt if the bytes are no root."""
    try:
        entry = _root_decoder.decode(data).entry
    except _UNDECODED as error:
        raise Corrupt(f"a root cannot be decoded: {error}") from error
    if entry.name or not isinstance(entry.content, Tree):
        raise Corrupt("a root must be a directory without a name")
    return entry


class Cutter(Generic[Item]):
    """Cuts a sequence of more than NODE_LIMIT items into nodes while it is read, after items whose key's hash says so.

    Where a node ends depends on its own items alone. So cutting may begin wherever a node begins, and two sequences
    that are equal after an item that ends a node in both are cut equally from there on.
    """

    def __init__(self, key: Callable[[Item], bytes]) -> None:
        self._key = key
        self.rest: list[Item] = []
        """The items after the last node; at the sequence's end they are a node too, unless there are none."""

    def feed(self, items: Iterable[Item]) -> Iterator[list[Item]]:
        """The nodes that end with one of the next items."""
        rest = self.rest
        for item in items:
            rest.append(item)
            length = len(rest)
            if length < SPLIT_MIN:
                continue
            if length == _SPLIT_MAX or not blake3(self._key(item)).digest(1)[0] & _SPLIT_MASK:
                self.rest = []
                yield rest
                rest = self.rest


def split(items: Sequence[Item], key: Callable[[Item], bytes]) -> Iterator[Sequence[Item]]:
    """The nodes of a whole sequence: one, if it has no more than NODE_LIMIT items.

    >>> [len(part) for part in split(range(3), lambda n: bytes([n]))]
    [3]
    """
    if len(items) <= NODE_LIMIT:
        yield items
        return
    cutter = Cutter(key)
    yield from cutter.feed(items)
    if cutter.rest:
        yield cutter.rest


def check_entry(entry: Entry) -> None:
    """Raise Corrupt unless the entry is one that a filesystem can have and has one encoding only."""
    problem = _entry_problem(entry)
    if problem:
        raise Corrupt(f"entry {entry.name!r}: {problem}", name=entry.name)


_MODE_OF: dict[type, tuple[int, ...]]
_MODE_OF = {Symlink: (stat.S_IFLNK,), Tree: (stat.S_IFDIR,), Data: (stat.S_IFREG,), Chunked: (stat.S_IFREG,)}
_MODE_OF |= {Device: (stat.S_IFCHR, stat.S_IFBLK), Special: (stat.S_IFIFO, stat.S_IFSOCK)}


def _entry_problem(entry: Entry) -> str | None:
    if entry.mode >> 16 or stat.S_IFMT(entry.mode) not in _MODE_OF[type(entry.content)]:
        return f"mode {entry.mode:o} does not fit its content"
    if not (0 <= entry.uid <= _ID_MAX and 0 <= entry.gid <= _ID_MAX and -_NS <= entry.mtime < _NS):
        return "owner or time out of range"
    names = [name for name, _ in entry.xattrs]
    if any(a >= b for a, b in pairwise(names)):
        return "extended attributes are not sorted"
    return _content_problem(entry.content) or _link_problem(entry)


def _content_problem(content: object) -> str | None:
    match content:
        case Data(size, chunk):
            good = len(chunk) == DIGEST_SIZE and size > 0 if size else not chunk
        case Chunked(size, chunks, allocated):
            good = len(chunks) == DIGEST_SIZE and 0 <= allocated <= size and size > 0
        case Tree(tree, entries, size, linked):
            good = len(tree) == DIGEST_SIZE and min(entries, size, linked) >= 0
        case Symlink(target):
            good = len(target) > 0 and b"\0" not in target
        case Device(major, minor):
            good = 0 <= major <= _ID_MAX and 0 <= minor <= _ID_MAX
        case _:
            good = True
    return None if good else "its content is malformed"


def _link_problem(entry: Entry) -> str | None:
    if entry.link is None:
        return None
    if type(entry.content) is Tree:
        return "a directory cannot have a hard link"
    return None if _good_link(entry.link) else "its hard link is malformed"


def _good_link(link: Link) -> bool:
    return len(link.group) == LINK_GROUP_SIZE and link.count >= 2


def check_name(name: bytes) -> None:
    """Raise Corrupt unless `name` can be a name in a directory."""
    if not name or name in (b".", b"..") or len(name) > NAME_MAX or b"/" in name or b"\0" in name:
        raise Corrupt(f"{name!r} cannot be a name in a directory", name=name)


def check_tree(data: bytes) -> list[Entry] | list[TreeItem]:
    """Decode a tree strictly: sorted, unique, valid names, valid entries, and byte for byte canonical."""
    items = decode_tree(data)
    names = [item.name if isinstance(item, Entry) else item.first for item in items]
    for name in names:
        check_name(name)
    if any(a >= b for a, b in pairwise(names)):
        raise Corrupt("a tree's names are not sorted")
    for item in items:
        if isinstance(item, Entry):
            check_entry(item)
    again = encode_tree_index(items) if items and isinstance(items[0], TreeItem) else encode_entries(items)  # type: ignore[arg-type]
    if again != data:
        raise Corrupt("a tree's encoding is not canonical")
    return items
