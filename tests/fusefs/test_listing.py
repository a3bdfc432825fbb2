"""Directories of any size: a large one is opened node by node, and shows the same names with the same numbers."""

from __future__ import annotations

import errno

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from fusefs import filesystem, listing
from fusefs.listing import LargeListing, Listing, Listings
from fusefs.wire.protocol import Opcode
from tests.fusefs.fake_kernel import FakeKernel
from tests.support.small_nodes import shrink_nodes
from tests.support.values import DIRECTORY, FILE, Spec, directory, file, root
from vcs.blobs import put_data
from vcs.encoding import check_tree, encode_tree_index
from vcs.errors import Corrupt
from vcs.model import EMPTY_FILE, Entry, Link, RootId, Tree, TreeItem
from vcs.testing import MemoryStore
from vcs.trees import Directory, write_root, write_tree

COUNT = 20_000


class Counting(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.opened = 0

    def get(self, digest: bytes) -> bytes:
        self.opened += 1
        return super().get(digest)


def flat(store: MemoryStore, count: int = COUNT) -> Entry:
    """A directory of files."""
    tree = write_tree(store, [Entry(b"f%07d" % number, FILE, 0, 0, 0, EMPTY_FILE) for number in range(count)])
    return Entry(b"", DIRECTORY, 0, 0, 0, tree)


def tree_of(entry: Entry) -> Tree:
    assert isinstance(entry.content, Tree)
    return entry.content


def top_of(kernel: FakeKernel, made: RootId) -> int:
    return kernel.walk(b"trees", made.hex().encode()).nodeid


NAMES = st.integers(0, 400).map(lambda number: f"n{number:03}")
SPECS: st.SearchStrategy[Spec] = st.dictionaries(
    NAMES,
    st.just(b"") | st.just(b"x") | st.dictionaries(NAMES, st.just(b"") | st.dictionaries(NAMES, st.just(b""))),
    max_size=60,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(spec=SPECS)
def test_large_directories_show_what_small_ones_do(spec: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names, order, offsets, numbers and types, by listing and by name, with many levels of nodes."""
    with monkeypatch.context() as patch:
        shrink_nodes(patch)
        store = MemoryStore()
        made = root(store, spec)
        shown = []
        for whole in (10_000, 4):
            patch.setattr(listing, "_WHOLE_MOST", whole)
            with FakeKernel(store) as kernel:
                shown.append(everything(kernel, top_of(kernel, made)))
            with FakeKernel(store) as kernel:
                by_name = looked_up(kernel, top_of(kernel, made), spec)
            assert by_name == {path: number for path, number, *_ in shown[-1]}
        assert shown[0] == shown[1]


def everything(kernel: FakeKernel, node: int, path: str = "") -> list[tuple[str, int, int, int]]:
    found = []
    plain = kernel.readdir(node, 4096)[2:]
    for item in kernel.readdirplus(node, 1024)[2:]:
        here = f"{path}/{item.name.decode()}"
        found.append((here, item.nodeid, item.offset, item.attr.mode))
        assert plain.pop(0) == (item.name, item.nodeid, item.attr.mode >> 12)
        if item.attr.mode >> 12 == 4:
            found += everything(kernel, item.nodeid, here)
    assert not plain
    return found


def looked_up(kernel: FakeKernel, node: int, spec: Spec, path: str = "") -> dict[str, int]:
    numbers = {}
    for name, value in reversed(list(spec.items())):
        found = kernel.lookup(node, str(name).encode())
        assert found is not None
        assert kernel.lookup(node, str(name).encode() + b"-") is None
        numbers[f"{path}/{name}"] = found.nodeid
        if isinstance(value, dict):
            numbers |= looked_up(kernel, found.nodeid, value, f"{path}/{name}")
    assert kernel.lookup(node, b"a") is None
    return numbers


def test_the_first_names_and_any_one_name_open_one_path_of_nodes() -> None:
    store = Counting()
    made = write_root(store, flat(store))
    with FakeKernel(store) as kernel:
        store.opened = 0
        top = top_of(kernel, made)
        found = kernel.lookup(top, b"f0012345")
        assert found is not None
        assert found.nodeid == top + 12_346
        assert store.opened <= 1 + 3 + 2, "the root, and paths of nodes"
    with FakeKernel(store) as kernel:
        top = top_of(kernel, made)
        store.opened = 0
        body = kernel.get(Opcode.READDIRPLUS, top, bytes(16) + (4096).to_bytes(4, "little") + bytes(20))
        assert len(body) > 3000
        assert store.opened <= 3
        names = [item.name for item in kernel.readdirplus(top)][2:]
        assert names == [b"f%07d" % number for number in range(COUNT)]
        assert store.opened < 2 * COUNT // 80, "each node is opened once, not once a message"


def test_a_large_directory_of_directories_is_gone_through_once() -> None:
    store = Counting()
    below = directory(store, {"a": b"", "b": b""})
    names = [replace(below, name=b"d%05d" % number) for number in range(COUNT)]
    made = write_root(store, Entry(b"", DIRECTORY, 0, 0, 0, write_tree(store, names)))
    with FakeKernel(store) as kernel:
        store.opened = 0
        top = top_of(kernel, made)
        nodes = store.opened
        for number in (COUNT - 1, 0, 7_777):
            found = kernel.lookup(top, b"d%05d" % number)
            assert found is not None
            assert found.nodeid == top + 1 + 3 * number
        assert store.opened - nodes <= 9


def test_what_is_kept_of_a_directory_does_not_grow_with_it() -> None:
    store = MemoryStore()
    listings = Listings(store)
    for entry in (flat(store, 9_000), flat(store, 60_000)):
        opened = listings.open(tree_of(entry))
        assert isinstance(opened, LargeListing)
        assert opened.weight == listing._LARGE_WEIGHT
    assert isinstance(listings.open(tree_of(flat(store, 8_000))), Listing)


def test_large_listings_give_no_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel would keep them until memory runs short. A name that is wanted has its node, as ever."""
    monkeypatch.setattr(filesystem, "NODES_LISTED", 1000)
    store = MemoryStore()
    made = root(store, {"many": flat(store, 3000), "few": {"a": b"a", "d": {"b": b""}}})
    with FakeKernel(store) as kernel:
        nodes = kernel.filesystem.table.nodes
        top = top_of(kernel, made)
        many = kernel.lookup(top, b"many")
        assert many is not None
        before = len(nodes)
        found = kernel.readdirplus(many.nodeid)[2:]
        assert [item.name for item in found] == [b"f%07d" % number for number in range(3000)]
        assert not any(item.nodeid for item in found)
        assert len(nodes) == before
        assert {kind for _, _, kind in kernel.readdir(many.nodeid)[2:]} == {8}
        last = kernel.lookup(many.nodeid, b"f0002999")
        assert last is not None
        assert last.nodeid == many.nodeid + 3000
        assert all(item.nodeid for item in kernel.readdirplus(top)[2:])


def test_a_large_directory_whose_sums_lie_is_damaged() -> None:
    """A name counted as another one's would be taken for its file."""
    store = MemoryStore()
    entry = flat(store, 10_000)
    tree = tree_of(entry)
    for wrong in (9_999, 10_001, 0):
        with pytest.raises(Corrupt):
            Listings(store).open(replace(tree, entries=wrong))
    hidden = replace(directory(store, {"x": b""}), name=b"f0005000x")
    entries = [*Directory(store, tree.tree), hidden]
    with_one_below = write_tree(store, entries)
    lying = Listings(store).open(replace(with_one_below, entries=len(entries)))
    assert lying.find(b"f0000001") is not None
    with pytest.raises(Corrupt):
        lying.find(b"f0005000x")
    assert Listings(store).open(with_one_below).find(b"f0005000x") is not None


def test_a_node_that_is_not_as_long_as_it_should_be_is_an_error_of_its_names_alone() -> None:
    store = MemoryStore()
    entry = flat(store, 10_000)
    items = check_tree(store.get(tree_of(entry).tree))
    assert isinstance(items[1], TreeItem)
    lie = [items[0], replace(items[1], count=items[1].count + 1), *items[2:]]
    tree = store.put_tree(encode_tree_index(lie))
    made = write_root(store, replace(entry, content=Tree(tree, 10_001, 0, 0)))
    with FakeKernel(store) as kernel:
        top = top_of(kernel, made)
        assert kernel.lookup(top, b"f0000001") is not None
        assert kernel.fails(Opcode.LOOKUP, top, items[1].first + b"\0") == errno.EIO


def test_hard_links_within_a_large_directory_are_one_node() -> None:
    store = MemoryStore()
    linked = file(put_data(store, b"same"), link=Link(b"g" * 16, 2))
    files = list(Directory(store, tree_of(flat(store, 9_000)).tree))
    names = [*files, replace(linked, name=b"a"), replace(linked, name=b"z")]
    entry = Entry(b"", DIRECTORY, 0, 0, 0, write_tree(store, names))
    made = write_root(store, entry)
    with FakeKernel(store) as kernel:
        top = top_of(kernel, made)
        one, other = kernel.lookup(top, b"a"), kernel.lookup(top, b"z")
        assert one is not None
        assert other is not None
        assert one.nodeid == other.nodeid
