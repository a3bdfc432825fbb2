"""Plain copies: every range comes back, verified; what is damaged, foreign or stale is none."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.collecting import NOW
from tests.vcs.plain.copies import (
    FIRST_SUM,
    Part,
    Piece,
    content,
    damaged,
    earlier,
    flip,
    is_none,
    is_right,
    opened,
    parts,
    rewrite,
    saved,
    sums_of,
    there,
    written,
)
from vcs import plain
from vcs.check import check
from vcs.collect import collect
from vcs.plain import (
    PAGE,
    Plain,
    bytes_path,
    digest_of_copy,
    open_plain,
    sums_path,
)
from vcs.plainwriter import save_plain
from vcs.store import Store
from vcs.testing import MemoryStore

PIECES: st.SearchStrategy[list[Piece]] = st.lists(
    st.tuples(
        st.booleans(),
        st.integers(1, 1 << 20) | st.integers(1, 3 * PAGE) | st.sampled_from([PAGE - 1, PAGE, PAGE + 1, 16 * PAGE]),
    ),
    min_size=1, max_size=4,
)  # fmt: skip


# -- what they hold


@given(pieces=PIECES, chance=st.randoms(use_true_random=False))
@example([(False, 1)], random.Random(1))
@example([(False, PAGE)], random.Random(2))
@example([(False, 512 << 10)], random.Random(3))
@example([(False, 600_000), (True, 1)], random.Random(4))
@example([(False, 600_000), (True, 3 * PAGE)], random.Random(5))
@example([(False, 250 * PAGE), (True, PAGE)], random.Random(6))
@example([(True, 100)], random.Random(7))
@example([(True, 2 * PAGE), (False, 5)], random.Random(8))
@example([(False, 5), (True, 100), (False, 5)], random.Random(9))
def test_every_range_comes_back(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[Piece], chance: random.Random
) -> None:
    """Of one chunk, of many, and of holes; and no byte can change unnoticed."""
    caches, store = tmp_path_factory.mktemp("caches"), MemoryStore()
    data = [size if is_hole else content(size) for is_hole, size in pieces]
    whole = b"".join(bytes(piece) if isinstance(piece, int) else piece for piece in data)
    made = written(store, data)
    digest = digest_of_copy(made)
    assert save_plain(store, caches, made)
    copy = open_plain(caches, digest, made.size)
    assert copy is not None
    assert copy.size == len(whole)
    assert copy.read(0, len(whole)) == memoryview(whole)
    for _ in range(20):
        offset, size = chance.randrange(len(whole) + PAGE), chance.randrange(3 * PAGE)
        assert copy.read(offset, size) == memoryview(whole[offset : offset + size])
    assert bytes_path(caches, digest).read_bytes() == whole
    assert damaged(caches, store) == []
    place = chance.randrange(len(whole))
    flip(bytes_path(caches, digest), place)
    assert copy.read(place, 1) is None
    assert damaged(caches, store) == [sums_path(caches, digest)]
    copy.close()
    copy.close()


def test_a_copy_is_the_file_itself_and_nobody_writes_to_it(store: Store, file: Plain) -> None:
    path = saved(store, file)
    status = path.stat()
    assert (status.st_mode, status.st_size, status.st_nlink) == (0o100400, file.size, 1)
    assert path.read_bytes() == content(file.size)
    assert path.parent.stat().st_mode == 0o040700
    assert there(store.caches) == parts(file)
    assert not check(store).problems


def test_the_sums_are_what_the_documentation_says(store: Store, file: Plain) -> None:
    """Of a last page that is shorter, that of the bytes it has."""
    saved(store, file)
    data, digest = content(file.size), digest_of_copy(file)
    sums = [blake3(data[start : start + PAGE]).digest()[:8] for start in range(0, file.size, PAGE)]
    body = b"treering plain 2\n" + file.size.to_bytes(8, "little") + b"".join(sums)
    assert sums_of(store, file).read_bytes() == digest.hex().encode() + b"\n" + blake3(body).digest() + body


@pytest.mark.parametrize("pieces", [[b"a", 200 << 20, content(600_000)], [content(600_000), 200 << 20], [200 << 20]])
def test_holes_take_no_room(tmp_path: Path, pieces: list[bytes | int]) -> None:
    store = MemoryStore()
    made = written(store, pieces)
    assert save_plain(store, tmp_path, made)
    status = bytes_path(tmp_path, digest_of_copy(made)).stat()
    assert status.st_size == made.size
    assert status.st_blocks * 512 < 4 << 20
    assert sums_path(tmp_path, digest_of_copy(made)).stat().st_size == FIRST_SUM + 8 * -(-made.size // PAGE)
    assert damaged(tmp_path, store) == []


@pytest.mark.parametrize("pieces", [[100], [PAGE], [9000], [10, 20, PAGE], [b"a" * PAGE, 100], [b"a", PAGE, 5]])
def test_what_is_a_hole_to_its_end_is_one_in_the_copy(tmp_path: Path, pieces: list[bytes | int]) -> None:
    """Overlayfs copies up no holes, and a file that has nothing else keeps its time."""
    store = MemoryStore()
    made = written(store, [*pieces, 1 << 20])
    assert save_plain(store, tmp_path, made)
    path = bytes_path(tmp_path, digest_of_copy(made))
    data = sum(len(piece) for piece in pieces if isinstance(piece, bytes))
    with path.open("rb") as file:
        end = -(-data // PAGE) * PAGE
        with pytest.raises(OSError, match="No such device or address"):
            os.lseek(file.fileno(), end, os.SEEK_DATA)
    assert path.stat().st_size == made.size


def test_to_open_a_copy_is_to_use_it(store: Store, file: Plain) -> None:
    path, digest = saved(store, file), digest_of_copy(file)
    for use in (lambda: plain.used(store.caches, digest), lambda: is_right(store, file)):
        before = path.stat().st_mtime_ns
        os.utime(sums_of(store, file), (1_000_000_000, 1_000_000_000))
        use()
        assert sums_of(store, file).stat().st_mtime > 1_000_000_000
        assert path.stat().st_mtime_ns == before, "programs are had from it, which see when it was changed"
    assert not check(store).problems


# -- what is no copy


@pytest.mark.parametrize(("part", "place"), [(bytes_path, 0), (bytes_path, 2 * PAGE - 1), (bytes_path, -1),
                                             (sums_path, FIRST_SUM), (sums_path, -1)])  # fmt: skip
def test_a_page_that_is_not_what_it_was_is_not_given(store: Store, file: Plain, part: Part, place: int) -> None:
    """In a page, or in its sum; the others are given."""
    saved(store, file)
    flip(part(store.caches, digest_of_copy(file)), place)
    number = (file.size if place < 0 else place if part == bytes_path else 0) // PAGE
    copy = opened(store, file)
    assert copy is not None
    assert copy.read(number * PAGE + 5, 10) is None
    assert copy.read((number - 1 if number else 1) * PAGE, PAGE) is not None
    assert copy.read(0, file.size) is None
    copy.close()


@pytest.mark.parametrize(("part", "size"), [
    *((bytes_path, size) for size in (0, 1, PAGE, -1, -PAGE)),
    *((sums_path, size) for size in (0, 50, 97, 110, FIRST_SUM, -1, -8)),
])  # fmt: skip
def test_what_is_cut_off_is_no_copy(store: Store, file: Plain, part: Part, size: int) -> None:
    saved(store, file)
    path = part(store.caches, digest_of_copy(file))
    rewrite(path, path.read_bytes()[:size])
    assert is_none(store, file)
    saved(store, file)
    assert is_right(store, file), "another is made in its place"
    assert not check(store).problems


@pytest.mark.parametrize("part", [bytes_path, sums_path])
def test_what_is_too_long_is_no_copy(store: Store, file: Plain, part: Part) -> None:
    saved(store, file)
    path = part(store.caches, digest_of_copy(file))
    rewrite(path, path.read_bytes() + bytes(8))
    assert is_none(store, file)
    assert open_plain(store.caches, digest_of_copy(file), file.size + 8) is None


@pytest.mark.parametrize("part", [bytes_path, sums_path])
def test_one_part_is_no_copy(store: Store, file: Plain, part: Part) -> None:
    """And nothing is damaged where one of them is missing."""
    assert is_none(store, file)
    saved(store, file)
    part(store.caches, digest_of_copy(file)).unlink()
    assert is_none(store, file)
    assert not check(store).problems
    saved(store, file)
    assert is_right(store, file)
    assert not check(store).problems


@pytest.mark.parametrize("part", [bytes_path, sums_path])
def test_what_is_something_else_is_no_copy(store: Store, file: Plain, part: Part) -> None:
    """Under either name, with the other part beside it."""
    saved(store, file)
    path = part(store.caches, digest_of_copy(file))
    elsewhere = path.rename(store.path / "run/part")
    path.write_bytes(os.urandom(50_000))
    assert is_none(store, file)
    path.unlink()
    path.mkdir()
    assert is_none(store, file)
    path.rmdir()
    os.mkfifo(path)
    assert is_none(store, file)
    path.unlink()
    path.symlink_to(elsewhere)
    assert is_none(store, file)
    path.unlink()
    elsewhere.rename(path)
    assert is_right(store, file)


def test_other_bytes_of_the_same_size_are_not_given(store: Store, file: Plain) -> None:
    rewrite(saved(store, file), content(file.size + 1)[1:])
    copy = opened(store, file)
    assert copy is not None
    assert all(copy.read(offset, 1) is None for offset in range(0, file.size, PAGE))
    copy.close()


@pytest.mark.parametrize("with_bytes", [False, True])
def test_a_copy_of_the_earlier_version_is_none_and_makes_way(store: Store, file: Plain, with_bytes: bool) -> None:
    """And it is not damaged; gc leaves it alone."""
    if with_bytes:
        saved(store, file)
    path = sums_of(store, file)
    path.write_bytes(earlier(file))
    assert is_none(store, file)
    assert not check(store).problems
    collect(store, since=NOW)
    assert path.exists()
    saved(store, file)
    assert is_right(store, file)
    assert there(store.caches) == parts(file)
    assert not check(store).problems
