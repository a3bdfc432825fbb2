"""A tree with names changed is the tree that writing all its entries anew would give, at the cost of the change."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.support import values
from tests.support.small_nodes import shrink_nodes
from vcs.encoding import check_tree
from vcs.model import Data, Entry, Link, Tree
from vcs.testing import MemoryStore
from vcs.tree_edit import edit_tree
from vcs.trees import Directory, TreeWriter, write_tree

DEPTH = 3
"""Levels of a tree of 100,000 entries."""


class Counting(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.opened: list[bytes] = []

    def get(self, digest: bytes) -> bytes:
        self.opened.append(digest)
        return super().get(digest)


def entry(number: int, version: int = 0) -> Entry:
    """An entry whose sums tell where it went wrong; some are directories, some have hard links."""
    name = b"n%07d" % number
    if number % 7 == 3:
        below = Tree(bytes(32), number % 5, version, number % 3)
        return Entry(name, values.DIRECTORY, 0, 0, version, below)
    link = Link(b"%016d" % number, 2) if number % 11 == 5 else None
    return Entry(name, values.FILE, version, 0, 0, Data(number + 1, bytes(32)), link=link)


@pytest.fixture
def small_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink_nodes(monkeypatch)


def edited(store: MemoryStore, tree: Tree, changes: dict[bytes, Entry | None]) -> Tree:
    return edit_tree(store, Directory(store, tree.tree), tree, changes)


def check_edit(old: list[Entry], changes: dict[bytes, Entry | None]) -> None:
    """Edit, and compare with writing everything; the old tree's nodes and no others are read."""
    store = Counting()
    before = write_tree(store, old)
    there = set(store.objects)
    wanted = {one.name: one for one in old} | changes
    expected = write_tree(MemoryStore(), [one for one in wanted.values() if one is not None])
    store.opened.clear()
    assert edited(store, before, changes) == expected
    assert there.issuperset(store.opened)
    assert len(store.opened) == len(set(store.opened)), "a node was opened twice"
    assert [one.name for one in Directory(store, expected.tree)] == sorted(
        name for name, one in wanted.items() if one is not None
    )


@st.composite
def edits(draw: st.DrawFn, most: int) -> tuple[list[Entry], dict[bytes, Entry | None]]:
    """Entries, and changes: single names anywhere, and whole ranges replaced, removed or filled."""
    count = draw(st.integers(0, most))
    step = draw(st.sampled_from([1, 3]))
    old = [entry(number * step) for number in range(count)]
    changes: dict[bytes, Entry | None] = {}
    last = count * step + 5
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, last))
        length = draw(st.sampled_from([1, 1, 2, 10, most // 4, most]))
        version = draw(st.integers(0, 2))
        remove = draw(st.booleans())
        for number in range(start, min(start + length, last), draw(st.sampled_from([1, 1, 2, 5]))):
            changed = entry(number, version)
            changes[changed.name] = None if remove else changed
    return old, changes


@pytest.mark.usefixtures("small_nodes")
@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits(120))
def test_an_edited_tree_is_as_if_written_anew_with_many_levels(
    case: tuple[list[Entry], dict[bytes, Entry | None]],
) -> None:
    check_edit(*case)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(edits(1500))
def test_an_edited_tree_is_as_if_written_anew(case: tuple[list[Entry], dict[bytes, Entry | None]]) -> None:
    check_edit(*case)


@pytest.mark.parametrize("before", [0, 1, 255, 256, 257, 258, 300])
@pytest.mark.parametrize("after", [0, 1, 255, 256, 257, 258, 300])
def test_around_the_limit_of_one_node(before: int, after: int) -> None:
    """From one node to many and back, at the end and at the beginning."""
    old = [entry(number) for number in range(before)]
    new: dict[bytes, Entry | None] = {one.name: one for one in (entry(number) for number in range(after))}
    removed: dict[bytes, Entry | None] = {one.name: None for one in old if one.name not in new}
    check_edit(old, removed | new)
    check_edit(old, {one.name: None for one in old[: max(0, before - after)]})


@pytest.mark.usefixtures("small_nodes")
@pytest.mark.parametrize("count", range(0, 60, 3))
def test_every_way_to_remove_and_to_grow_by_one(count: int) -> None:
    old = [entry(2 * number) for number in range(count)]
    for position in range(count):
        check_edit(old, {old[position].name: None})
    for number in range(-1, 2 * count + 2, 2):
        name = b"a" if number < 0 else entry(number).name
        check_edit(old, {name: replace(entry(number), name=name)})
    check_edit(old, {one.name: None for one in old})


@pytest.fixture(scope="module")
def large() -> tuple[Counting, Tree, list[Entry]]:
    store = Counting()
    entries = [entry(number) for number in range(100_000)]
    return store, write_tree(store, entries), entries


def test_an_edit_opens_and_writes_the_paths_to_its_names(large: tuple[Counting, Tree, list[Entry]]) -> None:
    store, tree, entries = large
    chance = random.Random(1)
    for _ in range(20):
        picked = chance.sample(range(100_000), 3)
        changes: dict[bytes, Entry | None] = {
            entries[picked[0]].name: replace(entries[picked[0]], mtime=77),
            entries[picked[1]].name: None,
            entries[picked[2]].name + b"x": replace(entries[picked[2]], name=entries[picked[2]].name + b"x"),
        }
        store.opened.clear()
        before = set(store.objects)
        after = edited(store, tree, changes)
        # A cut that goes or moves costs the nodes beside it; more than one more path a change is chance upon chance.
        assert len(store.opened) <= 2 * 3 * DEPTH
        written = set(store.objects) - before
        assert len(written) <= 2 * 3 * DEPTH
        assert sum(len(store.objects[digest]) for digest in written) < 100_000
        assert after.entries == tree.entries + 1 - 1 - sum(
            one.content.entries for one in [entries[picked[1]]] if isinstance(one.content, Tree)
        ) + sum(one.content.entries for one in [entries[picked[2]]] if isinstance(one.content, Tree))


def test_an_edit_that_changes_nothing_writes_nothing(large: tuple[Counting, Tree, list[Entry]]) -> None:
    store, tree, entries = large
    before = len(store.objects)
    same: dict[bytes, Entry | None] = {entries[5].name: entries[5], b"absent": None}
    assert edited(store, tree, same) is tree
    assert edited(store, tree, {}) is tree
    assert len(store.objects) == before


@pytest.mark.usefixtures("small_nodes")
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 40), max_size=12))
def test_a_tree_that_comes_in_parts_is_the_one_written_at_once(lengths: list[int]) -> None:
    store = MemoryStore()
    entries = [entry(number) for number in range(sum(lengths))]
    writer = TreeWriter(store)
    start = 0
    for length in lengths:
        writer.extend(entries[start : start + length])
        start += length
    assert writer.close() == write_tree(MemoryStore(), entries)
    for data in store.objects.values():
        check_tree(data)


def test_a_tree_that_comes_in_parts_is_written_as_it_comes() -> None:
    store = MemoryStore()
    writer = TreeWriter(store)
    for start in range(0, 8_000, 500):
        writer.extend([entry(number) for number in range(start, start + 500)])
        held = start + 500 - sum(len(check_tree(data)) for data in store.objects.values())
        assert held < 1024, "what is certain is written"
    assert writer.close().entries >= 8_000
