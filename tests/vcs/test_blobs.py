"""File contents as objects: the same bytes come back, holes stay holes, and small changes stay small."""

import mmap
import os
import random
import subprocess
import sys
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vcs.blobreader import AROUND_MOST, BlobReader, file_pieces, list_items
from vcs.blobs import CHUNK_MAX, CHUNK_MIN, LARGE, BlobWriter, cuts_of, put_data, write_file, write_list
from vcs.encoding import NODE_LIMIT
from vcs.extents import data_extents
from vcs.model import EMPTY_FILE, Chunked, Data, ListItem
from vcs.testing import MemoryStore

MIB = 1 << 20


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def stored(store: MemoryStore, data: bytes) -> Data | Chunked:
    writer = BlobWriter(store)
    writer.feed(data)
    return writer.finish()


def cuts(data: bytes) -> list[int]:
    """Where a large file's chunks end."""
    store = MemoryStore()
    content = stored(store, data)
    assert isinstance(content, Chunked)
    return list(accumulate(item.length for item in list_items(store, content.list)))


def whole(store: MemoryStore, content: Data | Chunked) -> bytes:
    return b"".join(data or bytes(hole) for hole, data in file_pieces(store, content))


@pytest.mark.parametrize("size", [0, 1, CHUNK_MIN, CHUNK_MAX, CHUNK_MAX + 1, 5 * MIB, 9 * MIB + 7])
def test_every_size_comes_back(size: int) -> None:
    store = MemoryStore()
    data = noise(size)
    content = stored(store, data)
    assert whole(store, content) == data
    assert content.size == size
    assert isinstance(content, Data if size <= CHUNK_MAX else Chunked)
    if isinstance(content, Chunked):
        lengths = [item.length for item in list_items(store, content.list)]
        assert all(CHUNK_MIN <= length <= CHUNK_MAX for length in lengths[:-1])
        assert content.allocated == size


def test_an_empty_file_needs_no_object() -> None:
    store = MemoryStore()
    assert put_data(store, b"") == EMPTY_FILE == stored(store, b"")
    assert list(file_pieces(store, EMPTY_FILE)) == []
    assert not store.objects


@settings(max_examples=15)
@given(st.lists(st.integers(1, 3 * MIB), min_size=1, max_size=12), st.integers(0, 9))
def test_the_pieces_it_is_fed_in_do_not_matter(pieces: list[int], seed: int) -> None:
    data = noise(6 * MIB, seed)
    store = MemoryStore()
    writer = BlobWriter(store)
    start = 0
    for length in [*pieces, len(data)]:
        writer.feed(memoryview(data)[start : start + length])
        start += length
    assert writer.finish() == stored(MemoryStore(), data)


def test_a_byte_inserted_at_the_front_leaves_most_chunks() -> None:
    data = noise(8 * MIB)
    store = MemoryStore()
    before = {item.digest for item in list_items(store, stored(store, data).list)}  # type: ignore[union-attr]
    after = [item.digest for item in list_items(store, stored(store, b"!" + data).list)]  # type: ignore[union-attr]
    assert sum(digest not in before for digest in after) <= 2


def test_where_a_chunk_ends_depends_on_its_own_bytes_alone() -> None:
    """So a chunk of an earlier version need not be searched for, whatever follows it."""
    data = noise(4 * MIB)
    first, *_, last = ends = cuts(data)
    assert (first > CHUNK_MIN, last) == (True, len(data))
    for end in ends[:-1]:
        for change in (1, 0x80):
            assert end in cuts(data[:end] + bytes([data[end] ^ change]) + data[end + 1 :])


def test_bytes_appended_leave_all_chunks_but_the_last() -> None:
    data = noise(8 * MIB)
    store = MemoryStore()
    before = [item.digest for item in list_items(store, stored(store, data).list)]  # type: ignore[union-attr]
    after = [item.digest for item in list_items(store, stored(store, data + b"more").list)]  # type: ignore[union-attr]
    assert after[: len(before) - 1] == before[:-1]


# -- holes


def answer(seek: Callable[[], int]) -> int:
    """Where it leads, or -ENXIO."""
    try:
        return seek()
    except OSError as error:
        return -(error.errno or 0)


Run = tuple[bool, int]
"""Whether it is data, and how long."""


@settings(max_examples=40)
@given(st.lists(st.tuples(st.booleans(), st.integers(1, 900_000)), min_size=1, max_size=6), st.data())
def test_runs_of_data_and_holes_read_as_one_file(runs: list[Run], data: st.DataObject) -> None:
    store = MemoryStore()
    writer = BlobWriter(store)
    expected = bytearray()
    for is_data, length in runs:
        piece = noise(length, length) if is_data else bytes(length)
        expected += piece
        if is_data:
            writer.feed(piece)
        else:
            writer.hole(length)
    content = writer.finish()
    assert whole(store, content) == expected
    if isinstance(content, Data):
        return
    assert content.allocated == sum(length for is_data, length in runs if is_data)
    reader = BlobReader(store, content)
    for _ in range(5):
        offset = data.draw(st.integers(0, len(expected) + 10))
        size = data.draw(st.integers(0, len(expected)))
        assert reader.read(offset, size) == expected[offset : offset + size]


def test_neighbouring_holes_become_one() -> None:
    store = MemoryStore()
    writer = BlobWriter(store)
    for _ in range(3):
        writer.hole(4096)
    content = writer.finish()
    assert isinstance(content, Chunked)
    assert list(list_items(store, content.list)) == [ListItem(3 * 4096, b"")]
    assert (content.size, content.allocated) == (3 * 4096, 0)


def test_seek_answers_as_lseek_does(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        for start in (1 * MIB, 3 * MIB):
            file.seek(start)
            file.write(noise(70_000))
        file.truncate(5 * MIB)
    store = MemoryStore()
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        content = write_file(store, file.fileno(), status)
        assert isinstance(content, Chunked)
        reader = BlobReader(store, content)
        for offset in (0, MIB, MIB + 5, 2 * MIB, 3 * MIB, 3 * MIB + 60_000, 4 * MIB, 5 * MIB - 1):
            for whence in (os.SEEK_DATA, os.SEEK_HOLE):
                expected = answer(lambda at=offset, how=whence: os.lseek(file.fileno(), at, how))
                assert answer(lambda at=offset, how=whence: reader.seek(at, how)) == expected
        with pytest.raises(OSError, match="No such device"):
            reader.seek(5 * MIB, os.SEEK_HOLE)
    assert whole(store, content) == path.read_bytes()
    assert content.allocated == status.st_blocks * 512


@pytest.mark.parametrize("together", [True, False])
def test_what_is_around_an_offset_is_what_the_file_has_there(together: bool) -> None:
    store = MemoryStore()
    writer = BlobWriter(store)
    data = noise(4 * MIB)
    writer.feed(data)
    writer.hole(MIB + 5)
    writer.feed(data[:300])
    content = writer.finish()
    assert isinstance(content, Chunked)
    expected = data + bytes(MIB + 5) + data[:300]
    reader = BlobReader(store, content)
    for offset in range(0, len(expected) + 2, 40_001):
        start, chunks = reader.around(offset, lambda _one, other: together and bool(other))
        found = b"".join(chunks)
        assert found == expected[start : start + len(found)]
        if 4 * MIB <= offset < len(expected) - 300 or offset >= len(expected):
            assert found == b"", "a hole, or past the end"
        else:
            assert start <= offset < start + len(found)
            assert len(found) <= AROUND_MOST
            assert (len(chunks) > 1) == (together and offset < 4 * MIB)


def test_more_is_expected_of_a_reader_the_more_he_has_read_in_order() -> None:
    store = MemoryStore()
    content = stored(store, noise(40 * MIB))
    assert isinstance(content, Chunked)
    expected: list[bytes] = []
    reader = BlobReader(store, content, lambda digests: expected.extend(digests))
    length = {item.digest: item.length for item in reader.items()}

    def more(offset: int, size: int = MIB) -> float:
        """How many MiB are expected after a range: up to a chunk more than it takes."""
        expected.clear()
        reader.parts(offset, size)
        return round((sum(map(length.__getitem__, expected)) - size) / MIB)

    assert [more(at * MIB) for at in range(12)] == [2, 2, 2, 3, 4, 5, 6, 7, 8, 8, 8, 8]
    assert more(30 * MIB) == 0, "somewhere else, which nothing says will go on"
    assert [more(at * MIB) for at in range(31, 35)] == [2, 2, 3, 4], "it did: the beginning counts anew"
    assert [more(35 * MIB, 4096), more(35 * MIB + 4096, 4096)] == [0, 0], "who reads a little is not in a hurry"
    assert more(39 * MIB) == 0, "and the file ends"
    more(0)
    assert reader.alone(20 * MIB, 4096, lambda _, start, end: bytes(end - start))
    assert more(20 * MIB + 4096) == 2, "what came alone counts as read"


def test_a_terabyte_of_nothing_is_never_read(tmp_path: Path) -> None:
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.seek(1 << 39)
        file.write(b"middle")
        file.truncate(1 << 40)
    store = MemoryStore()
    with path.open("rb") as file:
        content = write_file(store, file.fileno(), os.fstat(file.fileno()))
    assert isinstance(content, Chunked)
    assert content.size == 1 << 40
    assert content.allocated <= 1 << 16
    assert BlobReader(store, content).read((1 << 39) - 2, 10) == b"\0\0middle\0\0"


@pytest.mark.parametrize("size", [10, CHUNK_MAX, 2 * MIB])
def test_a_file_that_shrank_is_stored_as_it_was_read_and_one_that_grew_as_long_as_it_was(
    tmp_path: Path, size: int
) -> None:
    path = tmp_path / "f"
    for claimed in (size // 2, size * 2):
        path.write_bytes(noise(claimed))
        status = path.stat()
        data = noise(size)
        path.write_bytes(data)
        store = MemoryStore()
        with path.open("rb") as file:
            content = write_file(store, file.fileno(), status)
        assert whole(store, content) == data[:claimed]
        assert content.size == min(size, claimed)


@pytest.mark.parametrize("size", [10, 2 * CHUNK_MAX, 5 * MIB])
def test_a_file_that_grows_faster_than_it_is_read_has_an_end(tmp_path: Path, size: int) -> None:
    path = tmp_path / "log"
    path.write_bytes(noise(size))
    status = path.stat()
    os.truncate(path, 1 << 40)
    store = MemoryStore()
    with path.open("rb") as file:
        content = write_file(store, file.fileno(), status)
    assert whole(store, content) == noise(size)


def test_extents_of_an_ordinary_file(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(noise(10_000))
    with path.open("rb") as file:
        assert [(e.gap, e.start, e.length) for e in data_extents(file.fileno(), 10_000)] == [(0, 0, 10_000)]
        assert list(data_extents(file.fileno(), 0)) == []


def test_a_file_that_is_cut_short_between_two_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "file").open("w+b") as file:
        file.write(b"x" * 10_000)
        file.flush()
        seek = os.lseek

        def cut(fd: int, position: int, whence: int) -> int:
            found = seek(fd, position, whence)
            if whence == os.SEEK_DATA:
                os.ftruncate(fd, 0)
            return found

        monkeypatch.setattr(os, "lseek", cut)
        assert [(e.gap, e.start, e.length) for e in data_extents(file.fileno(), 10_000)] == [(0, 0, 10_000)]


# -- lists


@pytest.mark.parametrize("count", [1, NODE_LIMIT, NODE_LIMIT + 1, 40_000])
def test_a_list_of_any_length_comes_back(count: int) -> None:
    store = MemoryStore()
    items = [ListItem(n + 1, n.to_bytes(32, "big")) for n in range(count)]
    assert list(list_items(store, write_list(store, items))) == items


def test_a_list_of_equal_items_ends() -> None:
    store = MemoryStore()
    items = [ListItem(CHUNK_MAX, bytes(32))] * 50_000
    assert list(list_items(store, write_list(store, items))) == items


def test_holes_in_a_large_file_keep_their_places() -> None:
    """Beyond 8 MiB, chunks are digested by a thread: a hole must not overtake them."""
    store = MemoryStore()
    writer = BlobWriter(store)
    piece = random.Random(4).randbytes(1 << 20)
    expected = []
    for number in range(14):
        writer.feed(piece)
        if number % 4 == 3:
            writer.hole(4096)
            expected.append((number + 1) * len(piece) + 4096 * (number // 4))
    content = writer.finish()
    assert isinstance(content, Chunked)
    starts, position = [], 0
    for item in list_items(store, content.list):
        if not item.digest:
            starts.append(position)
        position += item.length
    assert starts == expected
    reader = BlobReader(store, content)
    assert reader.read(0, content.size) == (piece * 4 + bytes(4096)) * 3 + piece * 2


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_what_a_file_was_before_does_not_matter_to_the_result(data: st.DataObject) -> None:
    """With or without an earlier version, whatever was done to it: the same chunks at the same places."""
    seeded = random.Random(data.draw(st.integers(0, 1000)))
    old = seeded.randbytes(3_000_000)
    holes = data.draw(st.booleans())
    new = bytearray(old)
    for _ in range(data.draw(st.integers(0, 4))):
        at = seeded.randrange(len(new))
        match data.draw(st.sampled_from(("overwrite", "insert", "delete", "cut", "append"))):
            case "overwrite":
                new[at : at + 100] = seeded.randbytes(100)
            case "insert":
                new[at:at] = seeded.randbytes(seeded.randrange(1, 5000))
            case "delete":
                del new[at : at + seeded.randrange(1, 200_000)]
            case "cut":
                del new[max(at, 1) :]
            case _:
                new += seeded.randbytes(100_000)

    def written(content: bytes, store: MemoryStore, before: dict[int, ListItem] | None, hole: bool) -> Data | Chunked:
        writer = BlobWriter(store, before)
        half = len(content) // 2
        writer.feed(content[:half])
        writer.hole(4096 if hole else 0)
        writer.feed(content[half:])
        return writer.finish()

    store = MemoryStore()
    before = cuts_of(store, written(old, store, None, holes))
    hole = data.draw(st.booleans())
    assert written(bytes(new), store, before, hole) == written(bytes(new), MemoryStore(), None, hole)


@pytest.mark.parametrize("change", ["nothing", "overwrite", "insert", "delete", "cut", "append"])
def test_a_large_file_read_by_its_earlier_cuts_is_cut_as_without_them(tmp_path: Path, change: str) -> None:
    seeded = random.Random(change)
    old = seeded.randbytes(LARGE + 3_000_000)
    new, at = bytearray(old), 5_000_000
    match change:
        case "overwrite":
            new[at : at + 8192] = seeded.randbytes(8192)
        case "insert":
            new[at:at] = seeded.randbytes(777)
        case "delete":
            del new[at : at + 777]
        case "cut":
            del new[LARGE + 100_000 :]
        case "append":
            new += seeded.randbytes(100_000)
    file = tmp_path / "file"

    def written(content: bytes, before: dict[int, ListItem] | None) -> tuple[MemoryStore, Data | Chunked]:
        file.write_bytes(content)
        store = MemoryStore()
        with file.open("rb") as opened:
            return store, write_file(store, opened.fileno(), os.fstat(opened.fileno()), before)

    store, content = written(old, None)
    before = cuts_of(store, content)
    assert before
    assert written(bytes(new), before)[1] == written(bytes(new), None)[1]


def test_a_large_file_is_read_through_the_same_memory(tmp_path: Path) -> None:
    """64 MiB in windows of 1 MiB: by far fewer pages are asked of the kernel than are read. In a process of its own."""
    (tmp_path / "large").write_bytes(noise(64 << 20))
    program = (
        "import os, resource, sys\n"
        "from vcs.blobs import write_file\n"
        "from vcs.scratch import Scratch\n"
        "from vcs.testing import MemoryStore\n"
        "fd = os.open(sys.argv[1], os.O_RDONLY)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "write_file(Scratch(MemoryStore()), fd, os.fstat(fd))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "large"], capture_output=True, check=True, timeout=60
    )
    assert int(ended.stdout) < (64 << 20) // mmap.PAGESIZE // 2
