"""Small roots by chance, of few names, so that edits from one to the next meet."""

from __future__ import annotations

import stat
from collections.abc import Mapping

from hypothesis import strategies as st
from msgspec.structs import replace

from tests.support.values import file, link
from vcs.blobs import put_data
from vcs.links import LinkGroups, PendingTree, settle
from vcs.model import Device, Entry, RootId, Special
from vcs.trees import Sink, write_root

Plan = Mapping[bytes, object]
"""Names to: a number (a file of that kind), or a plan (a directory). Equal numbers from LINKED on are one file."""
LINKED = 6
NAMES = st.sampled_from([b"a", b"b", b"c", b"\xff\xfe", b"n" * 120])
plans = st.recursive(
    st.dictionaries(NAMES, st.integers(0, 9), max_size=4),
    lambda below: st.dictionaries(NAMES, st.integers(0, 9) | below, max_size=4),
    max_leaves=12,
)


def build(store: Sink, plan: Plan) -> RootId:
    """A root as a plan says, its hard links with counts and groups as an import makes them."""
    groups = LinkGroups(None)

    def entry(name: bytes, kind: int) -> Entry:
        match kind:
            case 0:
                return file(put_data(store, b""), name=name)
            case 1:
                return replace(link(b"target\xff"), name=name, mtime=-1_500_000_000)
            case 2:
                return Entry(name, stat.S_IFCHR | 0o600, 0, 0, 0, Device(1, 3))
            case 3:
                return Entry(name, stat.S_IFIFO | 0o644, 7, 8, 1_000_000_001, Special())
            case 4:
                return file(put_data(store, b"x" * 600), 0o4755, name=name, xattrs=((b"user.note", b"\0\xff"),))
            case 9:
                return Entry(name, stat.S_IFSOCK | 0o644, 0, 0, 0, Special())
            case _:
                return file(put_data(store, b"%d" % kind), name=name, uid=kind)

    def pending(name: bytes, below: Plan, path: bytes) -> PendingTree:
        tree = PendingTree(Entry(name, stat.S_IFDIR | 0o755, len(below), 0, len(below), None))  # type: ignore[arg-type]
        for key, value in sorted(below.items()):
            here = path + b"/" + key
            if isinstance(value, Mapping):
                tree.add_pending(pending(key, value, here))
            else:
                assert isinstance(value, int)
                if LINKED <= value < 9:
                    groups.add(value, here)
                    tree.add_linked(entry(key, value), value)
                else:
                    tree.add(entry(key, value))
        return tree

    top = pending(b"", plan, b"")
    return write_root(store, settle(store, top, groups))
