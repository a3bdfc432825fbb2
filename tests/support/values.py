"""Trees as sentences, and trees by chance: what tests of the store are made of.

`root(sink, {"etc": {"passwd": b"root"}, "bin": link("usr/bin")})` writes a filesystem and returns its RootId. A value
in the mapping is bytes (a file), a mapping (a directory), or an Entry whose name is filled in.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping
from typing import Any, TypeAlias

from hypothesis import strategies as st
from msgspec.structs import replace

from vcs.blobs import put_data
from vcs.model import Chunked, Data, Device, Entry, Link, RootId, Special, Symlink, Tree
from vcs.trees import Sink, write_root, write_tree

Spec: TypeAlias = Mapping[Any, Any]
"""Names (str or bytes) and what they are: bytes, an Entry, or again a Spec."""

FILE = stat.S_IFREG | 0o644
DIRECTORY = stat.S_IFDIR | 0o755
NO_DIGEST = bytes(32)
EMPTY_TREE = Tree(NO_DIGEST, 0, 0, 0)


def file(content: Data | Chunked, mode: int = 0o644, **fields: Any) -> Entry:
    """A regular file without a name."""
    return replace(Entry(b"", stat.S_IFREG | mode, 0, 0, 0, content), **fields)


def link(target: str | bytes) -> Entry:
    """A symbolic link without a name."""
    raw = target.encode() if isinstance(target, str) else target
    return Entry(b"", stat.S_IFLNK | 0o777, 0, 0, 0, Symlink(raw))


def directory(sink: Sink, spec: Spec, **fields: Any) -> Entry:
    """Write a directory; its entry has no name yet."""
    entries = []
    for name, value in spec.items():
        raw = name.encode() if isinstance(name, str) else name
        if isinstance(value, bytes):
            value = file(put_data(sink, value))
        elif isinstance(value, Mapping):
            value = directory(sink, value)
        entries.append(replace(value, name=raw))
    return replace(Entry(b"", DIRECTORY, 0, 0, 0, write_tree(sink, entries)), **fields)


def root(sink: Sink, spec: Spec, **fields: Any) -> RootId:
    """Write a whole filesystem."""
    return write_root(sink, directory(sink, spec, **fields))


# -- by chance

names = st.binary(min_size=1, max_size=255).filter(
    lambda name: b"/" not in name and b"\0" not in name and name not in (b".", b"..")
)
digests = st.binary(min_size=32, max_size=32)
xattrs = st.dictionaries(st.binary(min_size=1, max_size=40), st.binary(max_size=60), max_size=3).map(
    lambda found: tuple(sorted(found.items()))
)
links = st.builds(Link, st.binary(min_size=16, max_size=16), st.integers(2, 1 << 32))
_ids = st.integers(0, (1 << 32) - 1)
_times = st.integers(-(1 << 63), (1 << 63) - 1)
_sizes = st.integers(1, 1 << 62)


def _typed(*kinds: int) -> st.SearchStrategy[int]:
    return st.builds(int.__or__, st.sampled_from(kinds), st.integers(0, 0o7777))


def _entries_of(modes: st.SearchStrategy[int], contents: st.SearchStrategy[object]) -> st.SearchStrategy[Entry]:
    return st.builds(Entry, names, modes, _ids, _ids, _times, contents, xattrs, st.none() | links)


chunked = st.builds(
    lambda size, listing, holes: Chunked(size, listing, size - min(size, holes)),
    _sizes,
    digests,
    st.integers(0, 1 << 62),
)
files = _entries_of(_typed(stat.S_IFREG), st.just(Data(0, b"")) | st.builds(Data, _sizes, digests) | chunked)
symlinks = _entries_of(
    _typed(stat.S_IFLNK), st.builds(Symlink, st.binary(min_size=1, max_size=300).filter(lambda raw: b"\0" not in raw))
)
devices = _entries_of(_typed(stat.S_IFCHR, stat.S_IFBLK), st.builds(Device, _ids, _ids))
specials = _entries_of(_typed(stat.S_IFIFO, stat.S_IFSOCK), st.just(Special()))
directories = st.builds(
    Entry, names, _typed(stat.S_IFDIR), _ids, _ids, _times,
    st.builds(Tree, digests, st.integers(0, 1 << 40), st.integers(0, 1 << 62), st.integers(0, 1 << 40)), xattrs,
)  # fmt: skip
entries = files | symlinks | devices | specials | directories
entry_lists = st.lists(entries, max_size=30, unique_by=lambda entry: entry.name).map(
    lambda found: sorted(found, key=lambda entry: entry.name)
)
"""Any directory's entries, sorted; every content that a canonical tree can hold."""
