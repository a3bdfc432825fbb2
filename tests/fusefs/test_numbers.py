"""Numbers mean the same to all who share a journal, whoever came first; and they lead back to their files."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from fusefs import journal as journal_module
from fusefs.filesystem import FileSystem
from fusefs.inodes import Folder, Node
from fusefs.journal import FIRST_NUMBER, Journal, Kind, Ranges, record
from fusefs.listing import Listings
from fusefs.numbers import Numbers, key_records
from tests.support.values import FILE, Spec, file, root
from vcs.blobs import put_data
from vcs.model import EMPTY_FILE, Entry, Link, RootId
from vcs.testing import MemoryStore
from vcs.trees import write_tree

NAMES = st.sampled_from("abcd")
FILES = st.sampled_from([b"1", b"2"]) | st.tuples(st.sampled_from(b"gh"), st.sampled_from([b"1", b"2"]))
"""Content, or a group of hard links and content."""
SPECS = st.recursive(
    st.dictionaries(NAMES, FILES, max_size=3), lambda inner: st.dictionaries(NAMES, FILES | inner, max_size=3),
    max_leaves=12,
)  # fmt: skip


@pytest.fixture
def journal() -> Journal:
    return Journal.create()


def made_of(store: MemoryStore, spec: object, counts: dict[object, int]) -> Spec:
    assert isinstance(spec, dict)
    return {
        name: made_of(store, value, counts)
        if isinstance(value, dict)
        else file(put_data(store, value[1]), link=Link(bytes([value[0]]) * 16, counts[value]))
        if isinstance(value, tuple) and counts[value] > 1
        else (value[1] if isinstance(value, tuple) else value)
        for name, value in spec.items()
    }


def counted(spec: object, counts: dict[object, int]) -> dict[object, int]:
    assert isinstance(spec, dict)
    for value in spec.values():
        if isinstance(value, dict):
            counted(value, counts)
        else:
            counts[value] = counts.get(value, 0) + 1
    return counts


class Reader:
    """Somebody who looks at everything below a root."""

    def __init__(self, source: MemoryStore, journal: Journal) -> None:
        self.fs = FileSystem(source, journal=journal)

    def top(self, made: RootId) -> Folder:
        node = self.fs.lookup(self.fs.node(2), made.hex().encode())
        assert isinstance(node, Folder)
        return node

    def visit(self, folder: Folder) -> Iterator[tuple[bytes, Node]]:
        """Paths and nodes."""
        listing = self.fs.listing(folder)
        run = listing.run_at(0)
        for node, entry in zip(self.fs.children(folder, listing, run, 0, len(run.entries)), run.entries, strict=True):
            path = b"%b/%b" % (folder.path, entry.name)
            yield path, node
            if isinstance(node, Folder):
                yield from self.visit(node)


@given(st.lists(SPECS, min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_by_chance_all_readers_see_the_same_numbers(specs: list[object], chance: object) -> None:
    store = MemoryStore()
    roots = [root(store, made_of(store, spec, counted(spec, {}))) for spec in specs]
    journal = Journal.create()
    readers = [Reader(store, journal) for _ in range(3)]
    order = [(reader, made) for reader in readers for made in dict.fromkeys(roots)]
    chance.shuffle(order)  # type: ignore[attr-defined]
    seen: dict[tuple[RootId, bytes], int] = {}
    files: dict[int, object] = {}
    visits = [(made, reader.visit(reader.top(made))) for reader, made in order]
    while visits:  # all at once, each going on at any time
        made, visit = visits[chance.randrange(len(visits))]  # type: ignore[attr-defined]
        found = next(visit, None)
        if found is None:
            visits.remove((made, visit))
            continue
        path, node = found
        assert seen.setdefault((made, path), node.number) == node.number
        entry = node.entry
        is_folder = isinstance(node, Folder)
        what = (made, path) if is_folder else entry if entry.link is not None else (path, entry)
        assert files.setdefault(node.number, what) == what or entry.link is not None, "one number, two files"
    late = Reader(store, journal)
    for (made, path), number in seen.items():
        again = late.fs.node(number)
        if isinstance(again, Folder):
            assert (again.root, again.path) == (made, path)
        else:
            where = late.fs.node(seen.get((made, path.rpartition(b"/")[0]), late.top(made).number))
            held = late.fs.lookup(where, path.rpartition(b"/")[2])
            assert held is not None
            assert held.number == number
            assert replace(held.entry, name=b"") == replace(again.entry, name=b"")


@given(st.lists(SPECS, min_size=2, max_size=4, unique_by=repr))
def test_by_chance_the_same_path_with_the_same_entry_is_one_file(specs: list[object]) -> None:
    store = MemoryStore()
    journal = Journal.create()
    numbers: dict[object, set[int]] = {}
    for spec in specs:
        reader = Reader(store, journal)
        for path, node in reader.visit(reader.top(root(store, made_of(store, spec, counted(spec, {}))))):
            if not isinstance(node, Folder) and node.entry.link is None:
                numbers.setdefault((path, node.entry), set()).add(node.number)
    assert all(len(each) == 1 for each in numbers.values())


def test_a_key_has_one_number_for_everybody(journal: Journal) -> None:
    first, second = (Numbers(journal, Listings(MemoryStore())) for _ in range(2))
    keys = [b"k", b"k" * 32, b"k" * 33, b"long " * 100, b"\0", b"k" * 31]
    given_out = {key: (first if place % 2 else second).number_of(key) for place, key in enumerate(keys)}
    assert len(set(given_out.values())) == len(keys)
    third = Numbers(journal, Listings(MemoryStore()))
    for numbers in (first, second, third):
        assert {key: numbers.number_of(key) for key in keys} == given_out
        assert {numbers.key_of(number): number for number in given_out.values()} == given_out
        assert numbers.key_of(999) is None


def test_what_two_write_at_once_counts_once(journal: Journal) -> None:
    """Both have seen that a key, or a root, has no number yet; and one of them dies in the middle of a long key."""
    key = b"a key that takes several records, " * 5
    records = key_records(key)
    journal.append(records[:64])
    journal.append(record(Kind.ROOT, 0, digest=b"r" * 32, amount=10))
    journal.append(records)
    journal.append(record(Kind.ROOT, 0, digest=b"r" * 32, amount=10))
    journal.append(records)
    journal.append(record(Kind.ROOT, 0, digest=b"s" * 32, amount=0))
    ranges = Ranges()
    for _, found in journal.news():
        ranges.take(found)
    assert ranges.first == {b"r" * 32: FIRST_NUMBER, b"s" * 32: FIRST_NUMBER + 12}
    assert ranges.keys == {key: FIRST_NUMBER + 11}


def _append(descriptor: int, digest: bytes) -> None:
    for _ in range(2000):
        Journal(descriptor).append(record(Kind.LEAN, 1, digest=digest * 32))


def test_processes_append_at_the_same_time(journal: Journal) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_append, args=(journal.descriptor, b"%d" % number)) for number in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0] * 4
    found = [each.digest for _, each in journal.news()]
    assert len(found) == 8000
    assert {each: found.count(each) for each in set(found)} == {b"%d" % number * 32: 2000 for number in range(4)}
    assert os.fstat(journal.descriptor).st_size == 8000 * 64


def test_a_directory_of_many_names_is_walked_by_its_counts(journal: Journal) -> None:
    store = MemoryStore()
    few = [Entry(b"inner", FILE, 0, 0, 0, EMPTY_FILE)]
    inner = Entry(b"", 0o040755, 0, 0, 0, write_tree(store, few))
    many = {f"{number:06}": inner if number % 7 == 3 else b"%d" % (number % 3) for number in range(20_000)}
    made = root(store, {"a": b"a", "many": many, "z": b"z"})
    reader, late = Reader(store, journal), Reader(store, journal)
    top = reader.top(made)
    folder = reader.fs.lookup(top, b"many")
    assert isinstance(folder, Folder)
    for name in (b"000000", b"000003", b"010000", b"010001", b"019996", b"019999"):
        node = reader.fs.lookup(folder, name)
        assert node is not None
        again = late.fs.node(node.number)
        assert again.entry == node.entry
        if isinstance(node, Folder):
            below = reader.fs.lookup(node, b"inner")
            assert below is not None
            assert late.fs.node(below.number).entry == below.entry
    assert len(late.fs.table.nodes) < 30
    with pytest.raises(OSError, match="no such node"):
        late.fs.node(10**9)


def test_a_root_with_more_names_than_numbers_gets_none(journal: Journal) -> None:
    numbers = Numbers(journal, Listings(MemoryStore()))
    with pytest.raises(OSError, match="more names"):
        numbers.first_number(RootId(b"r" * 32), journal_module.LAST_NUMBER)
    assert numbers.first_number(RootId(b"s" * 32), 5) == FIRST_NUMBER


def test_a_root_that_is_dropped_gives_no_numbers_any_more(journal: Journal) -> None:
    """It may be collected as garbage; others that shared its files have numbers of their own from then on."""
    store = MemoryStore()
    old = root(store, {"d": {"kept": b"kept", "gone": b"gone"}})
    new = root(store, {"d": {"kept": b"kept"}})
    reader, other = Reader(store, journal), Reader(store, journal)
    before = dict(reader.visit(reader.top(old)))
    shared = dict(reader.visit(reader.top(new)))
    assert shared[b"/d/kept"].number == before[b"/d/kept"].number
    before_top = reader.top(old)
    first = before_top.number
    journal.append(record(Kind.DROP, first))
    for each in (reader, other):
        own = dict(each.visit(each.top(new)))
        assert own[b"/d/kept"].number > max(node.number for node in before.values())
        assert each.top(old).number != first
    stale = dict(reader.visit(before_top))
    assert {path: node.number for path, node in stale.items()} == {path: node.number for path, node in before.items()}
    assert reader.fs.node(own[b"/d/kept"].number).entry == own[b"/d/kept"].entry


def test_a_successor_reads_a_long_journal_in_a_few_pieces(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it costs is counted in reads: 100,000 directories that were opened, in a root of a million files."""
    store = MemoryStore()
    made = root(store, {"d": {"f": b"f"}})
    journal.append(record(Kind.ROOT, 0, digest=b"r" * 32, amount=1_000_000))
    paths = (number.to_bytes(16, "little") for number in range(100_000))
    journal.append(
        b"".join(record(Kind.DIRECTORY, FIRST_NUMBER + 1 + number, path) for number, path in enumerate(paths))
    )
    reads = []
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda *given: reads.append(given) or pread(*given))
    late = Reader(store, journal)
    assert len(reads) <= 8
    top = late.top(made)
    assert top.number == FIRST_NUMBER + 1_000_001
    assert [path for path, _ in late.visit(top)] == [b"/d", b"/d/f"]


def test_files_that_are_looked_at_are_not_written_down(journal: Journal) -> None:
    """So a million of them cost a successor nothing."""
    store = MemoryStore()
    made = root(store, {"many": {f"{number:05}": b"%d" % number for number in range(5000)}})
    reader = Reader(store, journal)
    nodes = dict(reader.visit(reader.top(made)))
    assert len(nodes) == 5001
    assert os.fstat(journal.descriptor).st_size == 64 * 3, "the root and its two directories"


@pytest.mark.parametrize("which", [0, 1])
def test_a_root_may_be_dropped_at_any_moment(journal: Journal, monkeypatch: pytest.MonkeyPatch, which: int) -> None:
    """Just when a directory of it is opened, or one that shares its files."""
    store = MemoryStore()
    old = root(store, {"d": {"kept": b"kept"}})
    new = root(store, {"d": {"kept": b"kept"}, "more": b"more"})
    reader = Reader(store, journal)
    tops = [reader.top(old), reader.top(new)]
    list(reader.visit(tops[0]))
    append = Journal.append
    dropped: list[bytes] = []

    def dropping(self: Journal, records: bytes) -> None:
        first = b"" if dropped else record(Kind.DROP, tops[which].number)
        dropped.append(first)
        append(self, first + records)

    monkeypatch.setattr(Journal, "append", dropping)
    nodes = dict(reader.visit(tops[1]))
    assert dropped
    assert all(tops[1].number < node.number <= tops[1].number + 3 for node in nodes.values())
