"""Paths resolved to nodes, without any mount."""

from __future__ import annotations

import errno

import pytest

from fusefs.filesystem import FileSystem
from fusefs.journal import FIRST_NUMBER
from fusefs.paths import Paths
from tests.support.values import Spec, file, root
from vcs.blobs import put_data
from vcs.model import Link, RootId
from vcs.testing import MemoryStore


def opened(spec: Spec, limit: int = 100) -> tuple[FileSystem, Paths, bytes, list[RootId]]:
    """A file system with one root, its paths, the root's path, and which roots are to be kept."""
    store = MemoryStore()
    made = root(store, spec)
    store.add_commit(made, "main")
    filesystem = FileSystem(store)
    kept: list[RootId] = []
    paths = Paths(filesystem, lambda root: not kept.append(root), limit)
    return filesystem, paths, b"/trees/" + made.hex().encode(), kept


def refusal(paths: Paths, path: bytes) -> int | None:
    with pytest.raises(OSError, match=r"no such|not a directory") as caught:
        paths.node(path)
    return caught.value.errno


def test_a_path_is_its_node() -> None:
    filesystem, paths, top, kept = opened({"d": {"f": b"x"}})
    assert paths.node(b"/").number == 1
    assert paths.node(top + b"/d/f").entry.name == b"f"
    assert paths.node(top + b"/d/f") is paths.node(top + b"/d/f")
    assert len(kept) == 1
    assert filesystem.target(paths.node(b"/branches/main")) == b".." + top


def test_what_is_wrong_with_a_path() -> None:
    _, paths, top, _ = opened({"d": {"f": b"x"}})
    assert refusal(paths, top + b"/d/g") == errno.ENOENT
    assert refusal(paths, top + b"/x/y") == errno.ENOENT
    assert refusal(paths, top + b"/d/f/g") == errno.ENOTDIR
    assert refusal(paths, b"/branches/main/f") == errno.ENOTDIR


def test_a_root_that_is_going_is_not_there() -> None:
    store = MemoryStore()
    made = root(store, {"f": b"x"})
    filesystem = FileSystem(store)
    paths = Paths(filesystem, lambda _: False)
    assert refusal(paths, b"/trees/" + made.hex().encode()) == errno.ENOENT
    assert all(number < FIRST_NUMBER for number in filesystem.table.nodes), "it was dropped"


def test_a_path_deeper_than_the_stack() -> None:
    spec: Spec = {"f": b"x"}
    for _ in range(900):
        spec = {"d": spec}
    _, paths, top, _ = opened(spec, limit=100)
    deep = top + b"/d" * 900
    for _ in range(2):
        assert paths.node(deep + b"/f").entry.name == b"f"
    assert refusal(paths, deep + b"/absent" + b"/d" * 5000) == errno.ENOENT


def test_what_is_dropped_gives_its_nodes_back() -> None:
    filesystem, paths, top, _ = opened({f"{number:04}": b"" for number in range(5000)})
    first = paths.node(top + b"/0000").number
    for number in range(5000):
        paths.node(top + b"/%04d" % number)
        assert len(filesystem.table.nodes) < 120
    assert paths.node(top + b"/0000").number == first


def test_hard_links_keep_their_number() -> None:
    store = MemoryStore()
    linked = file(put_data(store, b"linked"), link=Link(b"g" * 16, 2))
    spec = {"a": linked, "between": {f"{number:04}": b"" for number in range(500)}, "z": {"b": linked}}
    made = root(store, spec)
    paths = Paths(FileSystem(store), lambda _: True, limit=50)
    top = b"/trees/" + made.hex().encode()
    before = paths.node(top + b"/a").number
    for number in range(500):
        paths.node(top + b"/between/%04d" % number)
    assert paths.node(top + b"/z/b").number == before


def test_a_name_above_the_roots_is_looked_up_each_time() -> None:
    store = MemoryStore()
    first, second = root(store, {"f": b"1"}), root(store, {"f": b"2"})
    filesystem = FileSystem(store)
    paths = Paths(filesystem, lambda _: True)
    store.add_commit(first, "main")
    before = paths.node(b"/branches/main")
    assert before is paths.node(b"/branches/main")
    store.add_commit(second, "main")
    after = paths.node(b"/branches/main")
    assert filesystem.target(after).endswith(second.hex().encode())
    assert after.number != before.number
    given_out = [node for number, node in filesystem.table.nodes.items() if number >= FIRST_NUMBER]
    assert given_out == [after], "the moved link's node was dropped"
