"""Groups of hard links: found while a tree is built, and counted again when names of a root go."""

from __future__ import annotations

import os
import stat
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.support.small_nodes import shrink_nodes
from vcs.importer import import_directory
from vcs.links import NO_TREE, LinkGroups, PendingTree, Recount, group_id, linked_entries, settle
from vcs.model import EMPTY_FILE, Entry, Link, RootId, Tree
from vcs.snapshot import Snapshot
from vcs.testing import MemoryStore
from vcs.tree_edit import edit_tree
from vcs.trees import write_root

Spec = dict[str, "Spec | int | None"]
"""A directory: names with a directory, the number of a file, or None for a file without hard links."""


def entry(name: str, directory: bool = False) -> Entry:
    mode = stat.S_IFDIR | 0o755 if directory else stat.S_IFREG | 0o644
    return Entry(name.encode(), mode, 0, 0, 0, NO_TREE if directory else EMPTY_FILE)


def built(store: MemoryStore, spec: Spec, base: RootId | None = None) -> Snapshot:
    """A root by the module's scheme."""
    groups = LinkGroups(base)

    def build(name: str, names: Spec, path: str) -> PendingTree:
        tree = PendingTree(entry(name, directory=True))
        for child, below in names.items():
            here = f"{path}/{child}"
            if isinstance(below, dict):
                subtree = build(child, below, here)
                done = subtree.close(store)
                tree.add_pending(subtree) if done is None else tree.add(done)
            elif below is None:
                tree.add(entry(child))
            else:
                groups.add(below, here.encode())
                tree.add_linked(entry(child), below)
        return tree

    return Snapshot(store, write_root(store, settle(store, build("", spec, ""), groups)))


def members(root: Snapshot) -> dict[bytes, list[bytes]]:
    """Each group's paths; the counts and the sums of the trees are checked on the way."""
    found = defaultdict(list)
    links: dict[bytes, Link] = {}
    for path, item in root.walk():
        if item.link is not None:
            found[item.link.group].append(path)
            assert links.setdefault(item.link.group, item.link) == item.link
        if isinstance(item.content, Tree):
            assert item.content.linked == len(list(linked_entries(root.objects, item)))
    assert {group: len(paths) for group, paths in found.items()} == {g: link.count for g, link in links.items()}
    return found


def test_a_group_is_named_for_its_smallest_path_and_the_base() -> None:
    store = MemoryStore()
    root = built(store, {"z": 1, "d": {"b": 1, "a": None}, "e": {"c": 1}})
    assert members(root) == {group_id(None, b"/d/b"): [b"/d/b", b"/e/c", b"/z"]}
    later = built(store, {"z": 1, "d": {"b": 1}}, root.id)
    assert list(members(later)) == [group_id(root.id, b"/d/b")] != list(members(root))


def test_a_group_id_is_what_the_format_says() -> None:
    assert group_id(None, b"/a").hex() == "4c8d77188bb1162c53e6f07c43230384"
    assert group_id(None, b"/a") == group_id(RootId(bytes(32)), b"/a")


def test_a_file_with_one_name_in_the_tree_has_no_link() -> None:
    root = built(MemoryStore(), {"a": 1, "b": 2, "c": {"d": 2}})
    assert root.lookup(b"a").link is None
    assert len(members(root)) == 1


def test_directories_without_links_do_not_wait() -> None:
    store = MemoryStore()
    tree = PendingTree(entry("d", directory=True))
    tree.add(entry("f"))
    done = tree.close(store)
    assert done is not None
    assert isinstance(done.content, Tree)
    tree.add_linked(entry("g"), 1)
    assert tree.close(store) is None


def test_the_same_tree_is_kept_when_only_the_time_differs() -> None:
    store = MemoryStore()
    tree = PendingTree(Entry(b"d", stat.S_IFDIR, 0, 0, 5, NO_TREE))
    base = tree.close(store)
    assert base is not None
    for mode, expected in ((stat.S_IFDIR, 5), (stat.S_IFDIR | 0o1000, 9)):
        now = PendingTree(Entry(b"d", mode, 0, 0, 9, NO_TREE), unless_only_time_of=base)
        done = now.close(store)
        assert done is not None
        assert done.mtime == expected


def test_recount_rewrites_only_what_lost_names() -> None:
    store = MemoryStore()
    root = built(store, {"a": 1, "b": {"c": 1, "d": 2}, "e": {"f": 2}, "g": {"h": None}})
    recount = Recount(store, set(members(root)))
    keep = [root.lookup(b"a"), root.lookup(b"b")]
    for item in keep:
        recount.count(item)
    assert recount.apply(store, keep[0]) is keep[0]
    changed = recount.apply(store, keep[1])
    assert [item.link is None for item in Snapshot.directory(root, changed)] == [False, True]
    without_links = root.lookup(b"g")
    assert recount.apply(store, without_links) is without_links


def relink(store: MemoryStore, root: Entry, touched: set[bytes]) -> Entry:
    """The root with the counts of these groups as its names have them now."""
    recount = Recount(store, touched)
    recount.count(root)
    return recount.apply(store, root)


def test_a_recount_without_changes_gives_the_same_root() -> None:
    store = MemoryStore()
    root = built(store, {"a": 1, "b": {"c": 1}})
    assert relink(store, root.root, set(members(root))) is root.root


def test_a_recount_in_a_large_directory_writes_the_nodes_of_the_group() -> None:
    store = MemoryStore()
    spec: Spec = {f"f{number:05}": None for number in range(20_000)}
    root = built(store, {"d": spec | {"f00010": 1, "f10000": 1, "gone": 1}})
    whole = root.lookup(b"d")
    assert isinstance(whole.content, Tree)
    tree = edit_tree(store, root.directory(whole), whole.content, {b"gone": None})
    before = len(store.objects)
    changed = relink(store, replace(whole, content=tree), set(members(root)))
    assert len(store.objects) - before <= 2 * 3, "the paths of two names"
    assert {entry.name: entry.link.count for entry in linked_entries(store, changed) if entry.link} == {
        b"f00010": 2,
        b"f10000": 2,
    }


def test_depth_is_not_limited_by_pythons_stack() -> None:
    store = MemoryStore()
    tree = PendingTree(entry("bottom", directory=True))
    groups = LinkGroups()
    for name in ("x", "y", "z"):
        groups.add(1, name.encode())
        tree.add_linked(entry(name), 1)
    for _ in range(3000):
        above = PendingTree(entry("d", directory=True))
        above.add_pending(tree)
        tree = above
    root = settle(store, tree, groups)
    group = next(linked_entries(store, root)).link
    assert group is not None
    assert relink(store, root, {group.group}) is root


SPECS = st.recursive(
    st.dictionaries(st.sampled_from("abcd"), st.one_of(st.none(), st.integers(0, 5)), max_size=4),
    lambda below: st.dictionaries(st.sampled_from("abcdef"), st.one_of(below, st.integers(0, 5)), max_size=5),
    max_leaves=8,
)


@given(spec=SPECS, gone=st.sets(st.integers(0, 30)))
def test_a_recount_after_any_names_are_gone(spec: Spec, gone: set[int]) -> None:
    store = MemoryStore()
    before = built(store, spec)
    groups_before = members(before)
    touched: set[bytes] = set()
    numbers = iter(range(1000))

    def without(item: Entry) -> Entry:
        tree = PendingTree(item)
        for child in before.directory(item):
            if next(numbers) in gone:
                touched.update(found.link.group for found in linked_entries(store, child) if found.link)
            else:
                tree.add(without(child) if child.is_dir else child)
        return settle(store, tree, LinkGroups())

    root = relink(store, without(before.root), touched)
    after = Snapshot(store, write_root(store, root))
    paths = {path for path, _ in after.walk()}
    expected = {group: [p for p in found if p in paths] for group, found in groups_before.items()}
    assert members(after) == {group: found for group, found in expected.items() if len(found) > 1}


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(spec=SPECS, gone=st.sets(st.integers(0, 30)))
@example(spec={"a": {"a": 0, "b": 0}}, gone={0})
def test_a_tree_that_starts_from_the_base_is_as_if_its_names_were_added(
    spec: Spec, gone: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where counts of hard links change in names that are not touched."""
    with monkeypatch.context() as patch:
        shrink_nodes(patch)
        store = MemoryStore()
        before = built(store, spec)
        touched: set[bytes] = set()
        results = []
        for start in (False, True):
            numbers = iter(range(1000))

            def changed(item: Entry, start: bool = start, numbers: Iterator[int] = numbers) -> PendingTree:
                tree = PendingTree(item)
                if start and isinstance(item.content, Tree):
                    tree.start_from(before.directory(item), item.content)
                for child in before.directory(item):
                    number = next(numbers)
                    if number in gone:
                        touched.update(found.link.group for found in linked_entries(store, child) if found.link)
                        if start:
                            tree.remove(child.name)
                    elif child.is_dir and number % 2:
                        below = changed(child)
                        done = below.close(store)
                        tree.add_pending(below) if done is None else tree.add(done)
                    elif not start:
                        tree.add(child)
                return tree

            tree = changed(before.root)
            recount = Recount(store, touched)
            for found in tree.base_links():
                recount.count(found)
            is_empty, closed = tree.is_empty(), tree.close(store)
            assert closed is None or is_empty == (closed == PendingTree(before.root).close(store))
            results.append(settle(store, tree, LinkGroups(), recount.apply if recount.changed() else None))
            assert is_empty == (results[-1] == PendingTree(before.root).close(store))
        assert results[0] == results[1]
        members(Snapshot(store, write_root(store, results[1])))


@pytest.mark.parametrize("linked", [(), (7,), (5_000, 29_999)])
def test_names_that_come_in_order_are_written_as_they_come(linked: tuple[int, ...]) -> None:
    """Until one has to wait; the root is the same."""
    names = [entry(f"f{number:05}") for number in range(30_000)]
    results = []
    for ordered in (False, True):
        store = MemoryStore()
        tree = PendingTree(entry("d", directory=True), ordered=store if ordered else None)
        groups = LinkGroups()
        for number, item in enumerate(names):
            if number in linked:
                groups.add("file", b"/d/" + item.name)
                groups.add("file", b"/elsewhere/" + item.name)
                tree.add_linked(item, "file")
            else:
                tree.add(item)
        assert bool(store.objects) == (ordered and min(linked, default=30_000) > 4096)
        done = tree.close(store)
        assert (done is None) == bool(linked)
        results.append(done or settle(store, tree, groups))
    assert results[0] == results[1]


def test_an_import_agrees_with_the_file_system(tmp_path: Path) -> None:
    (tmp_path / "in/d").mkdir(parents=True)
    (tmp_path / "in/a").write_text("a")
    (tmp_path / "in/d/a").hardlink_to(tmp_path / "in/a")
    (tmp_path / "outside").hardlink_to(tmp_path / "in/a")
    (tmp_path / "in/b").write_text("b")
    (tmp_path / "outside-b").hardlink_to(tmp_path / "in/b")
    os.link(tmp_path / "in/b", tmp_path / "c")
    store = MemoryStore()
    root = Snapshot(store, import_directory(store, tmp_path / "in").root)
    assert members(root) == {group_id(None, b"/a"): [b"/a", b"/d/a"]}
