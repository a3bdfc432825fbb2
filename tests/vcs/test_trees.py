"""Directories as objects: every size gives back what was written, and a change rewrites one path."""

import itertools
import stat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.support import values
from tests.support.values import directory, file, link
from vcs.encoding import NODE_LIMIT, check_tree, encode_tree_index
from vcs.errors import Corrupt
from vcs.model import Data, Entry, Link, Tree, TreeItem
from vcs.testing import MemoryStore
from vcs.trees import Directory, differing_entries, read_root, sums_of, write_root, write_tree

SIZES = (0, 1, NODE_LIMIT - 1, NODE_LIMIT, NODE_LIMIT + 1, 10_000, 60_000)


def many(count: int, mtime: int = 0) -> list[Entry]:
    return [Entry(b"n%07d" % n, values.FILE, 0, 0, mtime, Data(n + 1, bytes(32))) for n in range(count)]


class Counting(MemoryStore):
    """Counts what is opened and written."""

    def __init__(self) -> None:
        super().__init__()
        self.opened = 0

    def get(self, digest: bytes) -> bytes:
        self.opened += 1
        return super().get(digest)


@pytest.mark.parametrize("count", SIZES)
def test_every_size_gives_back_what_was_written(count: int) -> None:
    store = MemoryStore()
    entries = many(count)
    tree = write_tree(store, reversed(entries))
    found = Directory(store, tree.tree)
    assert list(found) == entries
    assert len(found) == count
    assert (tree.entries, tree.size, tree.linked) == (count, count * (count + 1) // 2, 0)
    assert found.is_large == (count > NODE_LIMIT)
    for entry in itertools.islice(entries, 0, None, max(1, count // 50)):
        assert found.lookup(entry.name) == entry
    for absent in (b"a", b"n0000000x", b"z"):
        assert found.lookup(absent) is None
    for data in store.objects.values():
        check_tree(data)


@pytest.mark.parametrize("count", [5, 10_000])
def test_entries_can_start_anywhere(count: int) -> None:
    store = MemoryStore()
    entries = many(count)
    found = Directory(store, write_tree(store, entries).tree)
    for start in {0, 1, 79, 256, count // 2, count - 1, count, count + 5}:
        assert list(found.entries(start)) == entries[start:]


def test_a_lookup_in_a_large_directory_opens_one_path() -> None:
    store = Counting()
    entries = many(60_000)
    tree = write_tree(store, entries)
    store.opened = 0
    assert Directory(store, tree.tree).lookup(entries[33_333].name) == entries[33_333]
    assert store.opened <= 4


def test_one_changed_name_rewrites_one_path_of_nodes() -> None:
    store = MemoryStore()
    entries = many(60_000)
    write_tree(store, entries)
    before = len(store.objects)
    entries[30_000] = replace(entries[30_000], mtime=1)
    write_tree(store, entries)
    assert len(store.objects) - before <= 4


@settings(max_examples=25)
@given(st.sampled_from([3, 300, 3000]), st.lists(st.tuples(st.sampled_from("amd"), st.integers(0, 2999)), max_size=8))
def test_differing_entries_hold_every_difference(count: int, edits: list[tuple[str, int]]) -> None:
    store = MemoryStore()
    old = {entry.name: entry for entry in many(count)}
    new = dict(old)
    for letter, number in edits:
        name = b"n%07d" % (number % count)
        if letter == "d":
            new.pop(name, None)
        else:
            name += b"x" if letter == "a" else b""
            new[name] = Entry(name, values.FILE, 1, 1, 1, Data(1, bytes(32)))
    trees = [write_tree(store, side.values()).tree for side in (old, new)]
    before, after = differing_entries(store, trees[0], store, trees[1])
    wanted = {name for name in old.keys() | new.keys() if old.get(name) != new.get(name)}
    assert {e.name: e for e in before if e.name in wanted} == {n: old[n] for n in wanted & old.keys()}
    assert {e.name: e for e in after if e.name in wanted} == {n: new[n] for n in wanted & new.keys()}
    assert [e.name for e in before] == sorted(e.name for e in before)


def test_differing_entries_do_not_open_what_is_shared() -> None:
    store = Counting()
    entries = many(60_000)
    old = write_tree(store, entries).tree
    entries[100] = replace(entries[100], uid=7)
    new = write_tree(store, entries).tree
    store.opened = 0
    before, after = differing_entries(store, old, store, new)
    assert len(before) == len(after) < 1024
    assert store.opened <= 8


@pytest.mark.parametrize(("few", "many_"), [(250, 260), (20_000, 24_000)])
def test_differing_entries_of_trees_of_unequal_height(few: int, many_: int) -> None:
    """What one side has and the other has not is opened; not the whole of both because one grew a level."""
    store = Counting()
    old, new = (write_tree(store, many(count)).tree for count in (few, many_))
    heights = [height(store, tree) for tree in (old, new)]
    assert heights[0] < heights[1]
    for one, other in ((old, new), (new, old)):
        store.opened = 0
        sides = differing_entries(store, one, store, other)
        assert {e.name for e in sides[0]} ^ {e.name for e in sides[1]} == {e.name for e in many(many_)[few:]}
        assert sum(map(len, sides)) <= many_ - few + 2 * NODE_LIMIT + 1024
        assert store.opened < (many_ - few) // 16 + 20


def height(store: MemoryStore, tree: bytes) -> int:
    item = check_tree(store.get(tree))[0]
    return 1 + height(store, item.digest) if isinstance(item, TreeItem) else 0


def test_the_sums_count_what_is_below() -> None:
    store = MemoryStore()
    group = Link(bytes(16), 2)
    top = directory(store, {
        "a": b"12345",
        "b": {"c": b"1", "d": {"e": file(Data(3, bytes(32)), link=group)}, "empty": {}},
        "f": file(Data(3, bytes(32)), link=group),
        "s": link("somewhere/long"),
    })  # fmt: skip
    assert isinstance(top.content, Tree)
    assert (top.content.entries, top.content.size, top.content.linked) == (8, 12, 2)
    assert sums_of([top]) == (9, 12, 2)


def test_the_order_of_names_is_that_of_their_bytes() -> None:
    store = MemoryStore()
    names = [b"a", b"B", b"\xff", b"a.b", b"a b", b"\xc3\xa4", b"a\n"]
    tree = write_tree(store, [Entry(name, values.FILE, 0, 0, 0, Data(0, b"")) for name in names])
    assert [entry.name for entry in Directory(store, tree.tree)] == sorted(names)


def test_large_directories_of_equal_content_are_equal_whatever_was_before() -> None:
    one, other = MemoryStore(), MemoryStore()
    grown = many(5_000)
    write_tree(other, grown[:4_000])
    assert write_tree(one, grown) == write_tree(other, grown)


def test_a_root_is_read_as_written() -> None:
    store = MemoryStore()
    entry = directory(store, {"x": b"y"}, mode=stat.S_IFDIR | 0o1777, uid=3, mtime=-1, xattrs=((b"user.a", b"b"),))
    assert read_root(store, write_root(store, entry)) == entry


def test_an_index_node_counts_what_is_below() -> None:
    store = MemoryStore()
    tree = write_tree(store, many(40_000))
    top = check_tree(store.get(tree.tree))
    assert all(isinstance(item, TreeItem) for item in top)
    assert sum(item.count for item in top if isinstance(item, TreeItem)) == 40_000


def test_a_node_that_is_not_as_long_as_was_said_is_damaged() -> None:
    """Whoever goes by positions would take one entry for another."""
    store = MemoryStore()
    entries = many(600)
    good = write_tree(store, entries)
    items = check_tree(store.get(good.tree))
    assert isinstance(items[0], TreeItem)
    lie = [replace(items[0], count=items[0].count + 1), *items[1:]]
    tree = store.put_tree(encode_tree_index(lie))
    with pytest.raises(Corrupt):
        Directory(store, tree).lookup(entries[0].name)
    with pytest.raises(Corrupt):
        list(Directory(store, tree))


def test_a_directory_of_endless_levels_is_corrupt() -> None:
    """Each node holds the next alone: a lookup would go down until Python's stack ends."""
    store = MemoryStore()
    node = store.put_tree(encode_tree_index([TreeItem(b"a", bytes(32), 1)]))
    for _ in range(2000):
        node = store.put_tree(encode_tree_index([TreeItem(b"a", node, 1)]))
    with pytest.raises(Corrupt, match="too long a chain"):
        Directory(store, node).lookup(b"a")


def test_more_entries_than_can_be_counted_are_corrupt() -> None:
    store = MemoryStore()
    most = (1 << 63) - 1
    node = store.put_tree(encode_tree_index([TreeItem(b"a", bytes(32), most), TreeItem(b"b", bytes(32), most)]))
    with pytest.raises(Corrupt, match="counted"):
        Directory(store, node)
