"""One value, one encoding: round trips of anything canonical, refusal of everything else."""

import contextlib
import stat

import msgspec
import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.support import values
from vcs.encoding import (
    NODE_LIMIT,
    check_entry,
    check_name,
    check_tree,
    decode_list,
    decode_root,
    decode_tree,
    digest,
    encode_entries,
    encode_list,
    encode_root,
    encode_tree_index,
    split,
)
from vcs.errors import Corrupt
from vcs.model import Chunked, Data, Device, Entry, Link, ListItem, Special, Symlink, Tree, TreeItem

GOOD = Entry(b"x", stat.S_IFREG | 0o644, 0, 0, 0, Data(1, bytes(32)))
DIRECTORY = Entry(b"d", stat.S_IFDIR | 0o755, 0, 0, 0, values.EMPTY_TREE)


@given(values.entry_lists)
def test_a_tree_comes_back_and_is_canonical(entries: list[Entry]) -> None:
    data = encode_entries(entries)
    assert decode_tree(data) == entries
    assert check_tree(data) == entries


@given(st.lists(st.builds(TreeItem, values.names, values.digests, st.integers(1, 1 << 40)), min_size=1, max_size=20,
                unique_by=lambda item: item.first))  # fmt: skip
def test_an_index_node_comes_back_and_is_canonical(items: list[TreeItem]) -> None:
    items.sort(key=lambda item: item.first)
    assert check_tree(encode_tree_index(items)) == items


@given(
    st.lists(st.builds(ListItem, st.integers(1, 1 << 62), st.just(b"") | values.digests), max_size=20), st.booleans()
)
def test_a_chunk_list_comes_back(items: list[ListItem], leaf: bool) -> None:
    assert decode_list(encode_list(items, leaf)) == (items, leaf)


@given(values.directories)
def test_a_root_comes_back(entry: Entry) -> None:
    root = replace(entry, name=b"")
    assert decode_root(encode_root(root)) == root


@given(values.entry_lists, values.entry_lists)
def test_equal_values_are_exactly_those_with_equal_digests(one: list[Entry], other: list[Entry]) -> None:
    assert (one == other) == (digest(encode_entries(one)) == digest(encode_entries(other)))


@given(st.binary(max_size=300))
def test_any_bytes_are_decoded_or_refused_as_corrupt(data: bytes) -> None:
    for decode in (check_tree, decode_list, decode_root):
        with contextlib.suppress(Corrupt):
            decode(data)


@given(values.entry_lists.filter(bool), st.data())
def test_a_changed_byte_is_refused_or_is_another_value(entries: list[Entry], data: st.DataObject) -> None:
    good = encode_entries(entries)
    at = data.draw(st.integers(0, len(good) - 1))
    bad = good[:at] + bytes([good[at] ^ data.draw(st.integers(1, 255))]) + good[at + 1 :]
    try:
        found = check_tree(bad)
    except Corrupt:
        return
    assert found != entries


@pytest.mark.parametrize(
    "bad",
    [
        replace(GOOD, mode=0o644),
        replace(GOOD, mode=stat.S_IFDIR | 0o755),
        replace(GOOD, mode=GOOD.mode | 1 << 16),
        replace(GOOD, content=Symlink(b"a")),
        replace(GOOD, uid=-1),
        replace(GOOD, gid=1 << 32),
        replace(GOOD, mtime=1 << 63),
        replace(GOOD, xattrs=((b"b", b""), (b"a", b""))),
        replace(GOOD, xattrs=((b"a", b""), (b"a", b""))),
        replace(GOOD, content=Data(0, bytes(32))),
        replace(GOOD, content=Data(5, b"")),
        replace(GOOD, content=Data(-5, bytes(32))),
        replace(GOOD, content=Data(5, bytes(31))),
        replace(GOOD, content=Chunked(5, bytes(32), 6)),
        replace(GOOD, content=Chunked(0, bytes(32), 0)),
        replace(GOOD, content=Chunked(5, b"", 5)),
        replace(GOOD, link=Link(bytes(15), 2)),
        replace(GOOD, link=Link(bytes(16), 1)),
        replace(GOOD, mode=stat.S_IFLNK | 0o777, content=Symlink(b"")),
        replace(GOOD, mode=stat.S_IFLNK | 0o777, content=Symlink(b"a\0b")),
        replace(GOOD, mode=stat.S_IFCHR, content=Device(1 << 32, 0)),
        replace(GOOD, mode=stat.S_IFIFO, content=Device(0, 0)),
        replace(GOOD, mode=stat.S_IFCHR, content=Special()),
        replace(DIRECTORY, content=Tree(b"", 0, 0, 0)),
        replace(DIRECTORY, content=Tree(bytes(32), -1, 0, 0)),
        replace(DIRECTORY, link=Link(bytes(16), 2)),
    ],
    ids=str,
)
def test_an_entry_that_no_filesystem_has_is_refused(bad: Entry) -> None:
    check_entry(GOOD)
    check_entry(DIRECTORY)
    with pytest.raises(Corrupt):
        check_entry(bad)
    with pytest.raises(Corrupt):
        check_tree(encode_entries([bad]))


@pytest.mark.parametrize("bad", [b"", b".", b"..", b"a/b", b"a\0b", b"x" * 256])
def test_a_name_that_no_directory_has_is_refused(bad: bytes) -> None:
    with pytest.raises(Corrupt):
        check_name(bad)
    with pytest.raises(Corrupt):
        check_tree(encode_entries([replace(GOOD, name=bad)]))


@pytest.mark.parametrize("names", [(b"b", b"a"), (b"a", b"a")])
def test_names_must_be_sorted_and_unique(names: tuple[bytes, ...]) -> None:
    with pytest.raises(Corrupt, match="not sorted"):
        check_tree(encode_entries([replace(GOOD, name=name) for name in names]))
    with pytest.raises(Corrupt, match="not sorted"):
        check_tree(encode_tree_index([TreeItem(name, bytes(32), 1) for name in names]))


def test_a_second_encoding_of_the_same_value_is_refused() -> None:
    # msgpack allows a longer integer than needed: 0xcc 0x01 is 1, as is 0x01.
    data = encode_entries([replace(GOOD, uid=1)])
    at = data.index(b"\x01\x00\x00\x93")
    longer = data[:at] + b"\xcc" + data[at:]
    assert decode_tree(longer) == decode_tree(data)
    with pytest.raises(Corrupt, match="not canonical"):
        check_tree(longer)


def test_bytes_after_the_value_are_refused() -> None:
    for decode in (check_tree, decode_tree):
        with pytest.raises(Corrupt):
            decode(encode_entries([GOOD]) + b"\0")


def test_kinds_cannot_be_taken_for_one_another() -> None:
    tree, listing, root = encode_entries([]), encode_list([], True), encode_root(replace(DIRECTORY, name=b""))
    for decode, others in ((decode_tree, (listing, root)), (decode_list, (tree, root)), (decode_root, (tree, listing))):
        for data in others:
            with pytest.raises(Corrupt):
                decode(data)
    assert len({digest(data) for data in (tree, listing, root)}) == 3


@pytest.mark.parametrize("bad", [DIRECTORY, replace(GOOD, name=b"")])
def test_a_root_is_a_directory_without_a_name(bad: Entry) -> None:
    with pytest.raises(Corrupt, match="root"):
        decode_root(encode_root(bad))


# -- splitting


def _key(number: int) -> bytes:
    return number.to_bytes(4, "big")


@given(st.integers(0, 5000), st.integers(0, 5000))
def test_splitting_loses_nothing_and_keeps_the_order(start: int, count: int) -> None:
    items = range(start, start + count)
    parts = list(split(items, _key))
    assert [item for part in parts for item in part] == list(items)
    assert all(parts) or not count
    assert len(parts) == 1 or count > NODE_LIMIT


def test_one_change_leaves_nearly_all_nodes_as_they_were() -> None:
    items = list(range(0, 40_000, 2))
    before = {tuple(part) for part in split(items, _key)}
    assert len(before) > 100
    for changed in ([*items[:10_000], 20_001, *items[10_000:]], items[:7_000] + items[7_001:]):
        after = {tuple(part) for part in split(sorted(changed), _key)}
        assert len(after - before) <= 2


def test_names_chosen_to_cut_always_or_never_are_bounded() -> None:
    always = next(n for n in range(1 << 16) if not blake3(_key(n)).digest(1)[0] & 0x3F)
    never = next(n for n in range(1 << 16) if blake3(_key(n)).digest(1)[0] & 0x3F)
    assert {len(part) for part in list(split([always] * 4096, _key))[:-1]} == {16}
    assert {len(part) for part in list(split([never] * 4096, _key))[:-1]} == {1024}


def test_the_decoder_is_not_told_types_by_the_data() -> None:
    with pytest.raises(Corrupt):
        decode_tree(msgspec.msgpack.encode([0, [["name", 1, 2, 3, 4, [99, 1], [], None]]]))
