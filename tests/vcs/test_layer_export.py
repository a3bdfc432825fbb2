"""Image layers: what is in them for known changes, and, by chance, that applying one to what was gives what is."""

from __future__ import annotations

import io
import stat
import tarfile

import pytest
from hypothesis import given

from tests.support.plans import Plan, build, plans
from tests.support.values import Spec, directory, file, root
from vcs.blobs import put_data
from vcs.errors import BadInput
from vcs.layer_export import export_layer
from vcs.model import Entry, RootId, Special
from vcs.snapshot import Snapshot
from vcs.testing import MemoryStore

# -- an applier of our own: nothing of it is shared with the code under test


class Node:
    """A file of the applied tree. Hard links are the same Node."""

    def __init__(self, member: tarfile.TarInfo, data: bytes) -> None:
        self.children: dict[str, Node] = {}
        self.update(member, data)

    def update(self, member: tarfile.TarInfo, data: bytes) -> None:
        xattrs = {key: value for key, value in member.pax_headers.items() if key.startswith("SCHILY.")}
        number = (member.devmajor, member.devminor) if member.isdev() else ()
        time = member.pax_headers.get("mtime", str(int(member.mtime)))
        self.is_dir = member.isdir()
        self.facts = (member.type, member.mode, member.uid, member.gid, time, member.linkname, data, number)
        self.xattrs = xattrs


def apply(top: Node | None, layer: bytes) -> Node:
    """Apply a layer as layer.md says: whiteouts delete what lower layers have, the rest takes its name's place."""
    fresh: set[int] = set()
    with tarfile.open(fileobj=io.BytesIO(layer), errors="surrogateescape", encoding="utf-8") as archive:
        for member in archive:
            parts = [part for part in member.name.split("/") if part not in ("", ".")]
            file = archive.extractfile(member) if member.isreg() else None
            data = file.read() if file else b""
            if not parts:
                if top is None:
                    top = Node(member, data)
                else:
                    top.update(member, data)
                continue
            assert top is not None
            above = found(top, parts[:-1])
            name = parts[-1]
            if name.startswith(".wh."):
                assert data == b""
                assert id(above.children[name[4:]]) not in fresh
                del above.children[name[4:]]
            elif member.islnk():
                target = [part for part in member.linkname.split("/") if part not in ("", ".")]
                above.children[name] = found(top, target)
                assert id(above.children[name]) in fresh
            else:
                old = above.children.get(name)
                if old is not None and old.is_dir and member.isdir():
                    old.update(member, data)
                else:
                    above.children[name] = Node(member, data)
                fresh.add(id(above.children[name]))
    assert top is not None
    return top


def found(top: Node, parts: list[str]) -> Node:
    for part in parts:
        top = top.children[part]
    return top


def told(top: Node) -> dict[str, object]:
    """Every path, with its facts and which paths are the same file."""
    paths: dict[int, list[str]] = {}
    nodes: dict[str, Node] = {}
    todo = [("", top)]
    while todo:
        path, node = todo.pop()
        nodes[path] = node
        paths.setdefault(id(node), []).append(path)
        todo += [(f"{path}/{name}", child) for name, child in node.children.items()]
    return {path: (node.facts, node.xattrs, sorted(paths[id(node)])) for path, node in nodes.items()}


def layer_of(store: MemoryStore, old: RootId | None, new: RootId) -> bytes:
    out = io.BytesIO()
    export_layer(Snapshot(store, old) if old else None, Snapshot(store, new), out)
    return out.getvalue()


def members(data: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(data), errors="surrogateescape", encoding="utf-8") as archive:
        return [f"{one.name} -> {one.linkname}" if one.islnk() else one.name for one in archive]


# -- by chance


@given(plans, plans)
def test_a_layer_applied_to_what_was_gives_what_is(before: Plan, after: Plan) -> None:
    store = MemoryStore()
    old, new = build(store, before), build(store, after)
    whole = apply(None, layer_of(store, None, new))
    base = apply(None, layer_of(store, None, old))
    if old != new:
        layer = layer_of(store, old, new)
        assert layer == layer_of(store, old, new)
        base = apply(base, layer)
    assert told(base) == told(whole)


# -- what is in them


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


BASE: Spec = {"etc": {"a": b"1", "b": b"2"}, "usr": {"bin": {"x": b"x"}}, "var": {"gone": b"", "dir": {"f": b""}}}


def changed(store: MemoryStore, after: Spec, before: Spec = BASE) -> list[str]:
    return members(layer_of(store, root(store, before), root(store, after)))


def test_only_what_changed_and_the_directories_above_it(store: MemoryStore) -> None:
    after = {**BASE, "etc": {"a": b"changed", "b": b"2", "c": b"new"}}
    assert changed(store, after) == [".", "./etc", "./etc/a", "./etc/c"]


def test_whiteouts_come_first(store: MemoryStore) -> None:
    after = {**BASE, "var": {"a": b"new"}}
    assert changed(store, after) == [".", "./var", "./var/.wh.dir", "./var/.wh.gone", "./var/a"]


def test_another_type_takes_the_place(store: MemoryStore) -> None:
    after = {"etc": b"a file", "usr": BASE["usr"], "var": {"gone": {"below": b""}, "dir": {"f": b""}}}
    assert changed(store, after) == [".", "./etc", "./var", "./var/gone", "./var/gone/below"]


def test_a_directory_that_was_emptied(store: MemoryStore) -> None:
    assert changed(store, {**BASE, "etc": {}}) == [".", "./etc", "./etc/.wh.a", "./etc/.wh.b"]


def test_all_names_of_a_group_of_which_one_moved(store: MemoryStore) -> None:
    old = build(store, {b"a": {b"a": 7}, b"b": {b"b": 7, b"c": 5}})
    # The same id, as a commit of a container gives it: only the name differs.
    (entry,) = [one for path, one in Snapshot(store, old).walk(b"/") if path == b"/a/a"]
    new_a = directory(store, {"a": entry}, mode=stat.S_IFDIR | 0o755, uid=1, mtime=1)
    new_b = directory(store, {"moved": entry, "c": file(put_data(store, b"5"), uid=5)}, uid=2, mtime=2)
    new = root(store, {"a": new_a, "b": new_b}, uid=2, mtime=2)
    assert members(layer_of(store, old, new)) == [
        ".", "./a", "./a/a", "./b", "./b/.wh.b", "./b/moved -> ./a/a",
    ]  # fmt: skip


def test_sockets_count_as_not_there(store: MemoryStore) -> None:
    socket = Entry(b"", stat.S_IFSOCK | 0o755, 0, 0, 0, Special())
    old, new = root(store, {"s": socket, "f": b"file"}), root(store, {"f": socket})
    out = io.BytesIO()
    result = export_layer(Snapshot(store, old), Snapshot(store, new), out)
    assert members(out.getvalue()) == [".", "./.wh.f"]
    assert [path for path, _ in result.skipped] == [b"/f"]


@pytest.mark.parametrize("name", [".wh.x", ".wh..wh..opq"])
def test_a_name_that_no_layer_can_hold(store: MemoryStore, name: str) -> None:
    odd = root(store, {"etc": {name: b""}})
    for old in (None, root(store, {}), root(store, {"etc": {}})):
        with pytest.raises(BadInput, match=r"\.wh\.") as caught:
            layer_of(store, old, odd)
        assert caught.value.facts["layer"] == b"/etc/" + name.encode()


def test_what_is_equal_is_not_opened(store: MemoryStore) -> None:
    shared = {str(number): {"deep": {"file": b"%d" % number}} for number in range(20)}
    old, new = root(store, {**shared, "x": b"1"}), root(store, {**shared, "x": b"2"})
    asked: list[bytes] = []

    class Counting(MemoryStore):
        def get(self, digest: bytes) -> bytes:
            asked.append(digest)
            return store.get(digest)

    export_layer(Snapshot(Counting(), old), Snapshot(Counting(), new), io.BytesIO())
    assert len(asked) <= 5  # two roots, their two trees, the file
