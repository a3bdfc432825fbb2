"""Plain copies: every range comes back, verified; what is damaged, foreign, stale or too much is not used."""

from __future__ import annotations

import fcntl
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest
from blake3 import blake3
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.collecting import NOW
from tests.support.values import file as entry_of
from tests.support.values import root as make_root
from vcs import plain, plainwriter
from vcs.blobreader import list_items
from vcs.blobs import BlobWriter
from vcs.check import check
from vcs.check.caches import check_caches
from vcs.check.report import Report
from vcs.collect import collect
from vcs.errors import Corrupt, Missing
from vcs.history import BRANCHES, Author
from vcs.model import Chunked, Data
from vcs.plain import (
    PAGE,
    Plain,
    PlainCopy,
    bytes_path,
    digest_of_copy,
    is_copied,
    left_bytes,
    open_plain,
    sums_path,
)
from vcs.plainwriter import allowed, mend, save_plain
from vcs.repair import repair
from vcs.store import Store
from vcs.testing import MemoryStore

Piece: TypeAlias = tuple[bool, int]
"""Bytes, or a hole, of so many bytes."""
Part: TypeAlias = Callable[[Path, bytes], Path]
"""One of the two files of a copy: bytes_path or sums_path."""

AUTHOR = Author("A", "a@example.org", 1_700_000_000)
PIECES: st.SearchStrategy[list[Piece]] = st.lists(
    st.tuples(
        st.booleans(),
        st.integers(1, 1 << 20) | st.integers(1, 3 * PAGE) | st.sampled_from([PAGE - 1, PAGE, PAGE + 1, 16 * PAGE]),
    ),
    min_size=1, max_size=4,
)  # fmt: skip
FIRST_SUM = 65 + 32 + 17 + 8
SIZES = {"list": 1_234_567, "chunk": 300_001}
"""Of a file that is a list of chunks, and of one that is one chunk. Their last pages are not full."""
PROJECT = Path(__file__).parents[2]
WRITER = """
import sys
from pathlib import Path
from vcs.blobreader import list_items
from vcs.model import Chunked
from vcs.plainwriter import save_plain
from vcs.store import Store

class Waiting:
    def get(self, digest):
        if digest == last:
            print("at the last chunk", flush=True)
            sys.stdin.readline()
        return store.get(digest)

with Store.open(Path(sys.argv[1])) as store:
    content = Chunked(int(sys.argv[3]), bytes.fromhex(sys.argv[2]), 0)
    last = list(list_items(store, content.list))[-1].digest
    assert save_plain(Waiting(), store.caches, content)
"""
"""A process that makes the copy of a large file, and waits in the middle of it."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.create(tmp_path / "store") as opened:
        yield opened
    with Store.open(tmp_path / "store") as again:
        assert [problem for problem in check(again).problems if problem.kind != "cache"] == []


def written(sink: object, pieces: list[bytes | int]) -> Plain:
    """A file of these bytes and holes."""
    writer = BlobWriter(sink)  # type: ignore[arg-type]
    for piece in pieces:
        if isinstance(piece, int):
            writer.hole(piece)
        else:
            writer.feed(piece)
    return writer.finish()


@pytest.fixture(params=SIZES)
def file(store: Store, request: pytest.FixtureRequest) -> Plain:
    """A file that `main` has, of either kind."""
    made = on_main(store, SIZES[request.param])
    assert isinstance(made, Chunked if request.param == "list" else Data)
    return made


@pytest.fixture
def large(store: Store) -> Chunked:
    """A file of many chunks that `main` has."""
    made = on_main(store, 3_000_000)
    assert isinstance(made, Chunked)
    return made


def on_main(store: Store, size: int) -> Plain:
    with store.batch() as batch:
        made = written(batch, [content(size)])
        top = make_root(batch, {"large": entry_of(made)})
    commit = store.add_commit(top, {}, "one\n", AUTHOR)
    store.history.move(BRANCHES + "main", commit, None, "one", AUTHOR)
    return made


def content(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def saved(store: Store, file: Plain) -> Path:
    """Make the copy of a file; returns where its bytes are."""
    assert save_plain(store, store.caches, file)
    return bytes_of(store, file)


def bytes_of(store: Store, file: Plain) -> Path:
    return bytes_path(store.caches, digest_of_copy(file))


def sums_of(store: Store, file: Plain) -> Path:
    return sums_path(store.caches, digest_of_copy(file))


def opened(store: Store, file: Plain) -> PlainCopy | None:
    """Its copy. Whoever does not read it is told the same of whether it is there."""
    copy = open_plain(store.caches, digest_of_copy(file), file.size)
    assert copy is None or is_copied(store.caches, digest_of_copy(file), file.size)
    return copy


def is_none(store: Store, file: Plain) -> bool:
    """Whether there is no copy of a file, whoever asks."""
    return opened(store, file) is None and not is_copied(store.caches, digest_of_copy(file), file.size)


def is_right(store: Store, file: Plain) -> bool:
    """Whether there is a copy of a file of content(), and all of it is what it should be."""
    copy = opened(store, file)
    assert copy is not None
    data = copy.read(0, file.size)
    copy.close()
    return data == memoryview(content(file.size))


def aside(path: Path) -> Path:
    """Where one of the parts is while it is being written."""
    return path.with_name(f"{path.name}.new")


def flip(path: Path, place: int) -> None:
    """Change one bit, in a file that nobody may write to."""
    data = bytearray(path.read_bytes())
    data[place] ^= 4
    rewrite(path, data)


def rewrite(path: Path, data: bytes | bytearray) -> None:
    path.chmod(0o600)
    path.write_bytes(data)


def there(caches: Path) -> list[str]:
    """All files of the caches."""
    return sorted(str(path.relative_to(caches)) for path in caches.rglob("*") if not path.is_dir())


def parts(*files: Plain) -> list[str]:
    """What the caches have, if they have the copies of these files and nothing else."""
    names = [digest_of_copy(file).hex() for file in files]
    return sorted([f"plain/{name}" for name in names] + [f"plain-{name}" for name in names])


def room(store: Store, *files: Plain) -> int:
    """The bytes of these files' copies."""
    return sum(path.stat().st_size for file in files for path in (bytes_of(store, file), sums_of(store, file)))


def blocks(caches: Path) -> int:
    """The bytes on the disk that all files of the caches have."""
    return sum((caches / name).stat().st_blocks * 512 for name in there(caches))


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


def damaged(caches: Path, store: MemoryStore) -> list[Path]:
    """What fsck tells of."""
    report = Report()
    check_caches(caches, store.objects.__contains__, report)
    assert len(report.problems) == len(report.caches)
    return sorted(report.caches)


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


def earlier(file: Plain) -> bytes:
    """A copy as the first version wrote it, all in one file."""
    pages = [content(file.size)[start : start + PAGE].ljust(PAGE, b"\0") for start in range(0, file.size, PAGE)]
    body = (b"treering plain 1\n" + file.size.to_bytes(8, "little")).ljust(PAGE - 97, b"\0") + b"".join(pages)
    body += b"".join(blake3(page).digest()[:8] for page in pages)
    return digest_of_copy(file).hex().encode() + b"\n" + blake3(body).digest() + body


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


# -- making them


def test_nobody_makes_what_is_there_or_being_made(store: Store, file: Plain) -> None:
    new = aside(sums_of(store, file))
    with new.open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert not save_plain(store, store.caches, file)
        collect(store, since=NOW)
        assert there(store.caches) == [new.name]
    path = saved(store, file)  # what the dead one has left is taken over
    before = path.stat().st_ino, sums_of(store, file).stat().st_ino
    assert not save_plain(store, store.caches, file)
    assert (path.stat().st_ino, sums_of(store, file).stat().st_ino) == before
    assert there(store.caches) == parts(file)


def three_others(store: Store) -> list[Plain]:
    """Copied files, that which was used longest ago last."""
    others = []
    for age in range(3):
        with store.batch() as batch:
            others.append(written(batch, [content(1_000_000 + age)]))
        saved(store, others[-1])
        os.utime(sums_of(store, others[-1]), (1_000_000_000 - age, 1_000_000_000 - age))
    return others


def without(store: Store, file: Plain) -> int:
    """The bytes that the copy of a file has, when it is made; it is not there."""
    saved(store, file)
    size = room(store, file)
    plain.remove(store.caches, digest_of_copy(file))
    assert is_none(store, file)
    return size


@pytest.mark.parametrize(("more", "kept"), [(0, 1), (1_100_000, 2), (-1, 0)])
def test_those_used_longest_ago_make_room(store: Store, file: Plain, more: int, kept: int) -> None:
    """As many as have to, to the byte."""
    others, size = three_others(store), without(store, file)
    assert save_plain(store, store.caches, file, size + room(store, others[0]) + more)
    assert there(store.caches) == parts(*others[:kept], file)


def hold(store: Store, file: Plain) -> Path:
    """Give a copy's bytes another name, as for an overlay."""
    link = store.path / "run" / digest_of_copy(file).hex()
    link.hardlink_to(bytes_of(store, file))
    return link


def test_copies_that_are_held_do_not_make_room(store: Store, file: Plain) -> None:
    """Not even if they were used longest ago; what they have counts."""
    others, size = three_others(store), without(store, file)
    link = hold(store, others[2])
    assert save_plain(store, store.caches, file, size + room(store, others[2]))
    assert there(store.caches) == parts(others[2], file)
    link.unlink()
    plain.remove(store.caches, digest_of_copy(file))
    assert save_plain(store, store.caches, file, size)
    assert there(store.caches) == parts(file)


def test_nothing_makes_room_if_too_much_is_held(store: Store, file: Plain) -> None:
    """Neither the held ones nor the others, if these are not enough."""
    others, size = three_others(store), without(store, file)
    hold(store, others[0])
    hold(store, others[1])
    before = there(store.caches)
    assert before == parts(*others)
    assert not save_plain(store, store.caches, file, size + room(store, *others[:2]) - 1)
    assert there(store.caches) == before
    assert is_right(store, others[2])
    hold(store, others[2])
    assert not save_plain(store, store.caches, file, size + room(store, *others) - 1)
    assert there(store.caches) == before
    assert save_plain(store, store.caches, file, size + room(store, *others))
    assert there(store.caches) == parts(*others, file)


def test_what_is_too_large_is_not_copied(store: Store, file: Plain, monkeypatch: pytest.MonkeyPatch) -> None:
    size = without(store, file)
    assert not save_plain(store, store.caches, file, size - 1)
    assert not save_plain(store, store.caches, file, file.size)
    assert not save_plain(store, store.caches, file, 0)
    monkeypatch.setattr(plainwriter, "LEFT_FREE", 1.0)
    assert not save_plain(store, store.caches, file)
    assert there(store.caches) == []
    monkeypatch.undo()
    assert save_plain(store, store.caches, file, size)


@pytest.mark.parametrize("lost", [Chunked(1_234_567, bytes(32), 1_234_567), Data(1_234, bytes(32))])
def test_what_cannot_be_read_leaves_nothing(store: Store, lost: Plain) -> None:
    with pytest.raises(Missing):
        save_plain(store, store.caches, lost)
    assert there(store.caches) == []


class Breaking(MemoryStore):
    """Objects of which one cannot be had."""

    broken = b""
    error: BaseException = Missing("it is not there")

    def __init__(self, caches: Path) -> None:
        super().__init__()
        self.caches = caches

    def get(self, digest: bytes) -> bytes:
        if digest == self.broken:
            assert any(path.stat().st_size for path in self.caches.glob("plain/*.new")), "some of it is written"
            raise self.error
        return super().get(digest)


@pytest.mark.parametrize("error", [Missing("it is not there"), KeyboardInterrupt()])
def test_who_is_interrupted_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    store = Breaking(tmp_path)
    made = written(store, [content(3_000_000)])
    assert isinstance(made, Chunked)
    store.broken, store.error = list(list_items(store, made.list))[-1].digest, error
    with pytest.raises(type(error)):
        save_plain(store, tmp_path, made)
    assert there(tmp_path) == []
    store.broken = b""
    assert save_plain(store, tmp_path, made)
    assert damaged(tmp_path, store) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a small disk is mounted")
@pytest.mark.parametrize("size", [1 << 20, (2 << 20) + PAGE])
def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """One on which not even the bytes find room, and one on which the sums do not."""
    monkeypatch.setattr(plainwriter, "LEFT_FREE", -100.0)
    store, disk = MemoryStore(), tmp_path / "disk"
    made = written(store, [content(2 << 20)])
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "treering-test", str(disk)], check=True)
    try:
        with pytest.raises(OSError, match="No space"):
            save_plain(store, disk, made)
        assert there(disk) == []
        subprocess.run(["mount", "-o", "remount,size=3m", str(disk)], check=True)
        assert save_plain(store, disk, made)
        assert damaged(disk, store) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("more", [-5, 5, -PAGE, PAGE])
def test_a_list_that_is_not_as_long_as_its_file_is_not_copied(store: Store, large: Chunked, more: int) -> None:
    """As nobody can read that file: overlays would have its bytes, too many or too few."""
    wrong = Chunked(large.size + more, large.list, large.size + more)
    with pytest.raises(Corrupt):
        save_plain(store, store.caches, wrong)
    assert is_none(store, wrong)
    assert there(store.caches) == []


def test_what_cannot_be_put_in_its_place_leaves_nothing(store: Store, file: Plain) -> None:
    sums_of(store, file).mkdir()
    with pytest.raises(IsADirectoryError):
        save_plain(store, store.caches, file)
    assert there(store.caches) == []
    sums_of(store, file).rmdir()


def test_the_process_makes_a_copy_as_far_as_the_setting_allows(store: Store, file: Plain) -> None:
    size = without(store, file)
    set_room(store, str(size - 1))
    assert plainwriter.begin(store.path, [file]).wait() == 0
    assert there(store.caches) == []
    set_room(store, str(size))
    assert plainwriter.begin(store.path, [file]).wait() == 0
    assert is_right(store, file)
    assert there(store.caches) == parts(file)
    assert not check(store).problems


def test_the_process_makes_the_copies_of_many_files(store: Store) -> None:
    """Of both kinds, without those that it cannot make."""
    with store.batch() as batch:
        files = [written(batch, [content(size)]) for size in (1, 700_000, PAGE, 600_000, 20_000)]
        top = make_root(batch, {str(number): entry_of(file) for number, file in enumerate(files)})
    store.history.move(BRANCHES + "main", store.add_commit(top, {}, "one\n", AUTHOR), None, "one", AUTHOR)
    lost: list[Plain] = [Chunked(700_000, bytes(32), 700_000), Data(5, bytes(32)), Data(5 << 30, b"\1" * 32)]
    assert plainwriter.begin(store.path, iter([*files[:2], *lost, *files[2:]])).wait() == 0
    assert all(is_right(store, file) for file in files)
    assert there(store.caches) == parts(*files)
    assert plainwriter.begin(store.path, iter([])).wait() == 0
    assert not check(store).problems


def set_room(store: Store, size: str) -> None:
    history = store.path / "history.git"
    subprocess.run(["git", "-C", str(history), "config", plainwriter.SETTING, size], check=True)


def test_settings() -> None:
    assert [allowed(text) for text in ("0", "1", "3k", "2M", "1g", "", "-1", "1.5g", "off")] == [
        0, 1, 3 << 10, 2 << 20, 1 << 30, 0, 0, 0, 0,
    ]  # fmt: skip


# -- gc


def test_gc_takes_the_copies_of_files_that_go(store: Store, file: Plain) -> None:
    saved(store, file)
    with store.batch() as batch:
        gone = written(batch, [content(700_000)]), written(batch, [content(70_000)])
    for one in gone:
        aside(saved(store, one)).write_bytes(bytes(1000))
        aside(sums_of(store, one)).write_bytes(b"0" * 64 + b"\n" + bytes(1000))
    collect(store, since=NOW)
    assert there(store.caches) == parts(file)
    assert is_right(store, file)
    assert not check(store).problems


def test_a_dry_run_of_gc_foretells_what_copies_free(store: Store, file: Plain) -> None:
    """Of files that are not in the store, and of what is left of copies."""
    collect(store, since=NOW)
    saved(store, file)
    elsewhere = MemoryStore()
    gone = [written(elsewhere, [content(size)]) for size in (700_000, 700_001, 700_002, 70_000)]
    for one in gone:
        assert save_plain(elsewhere, store.caches, one)
    bytes_of(store, gone[1]).unlink()
    sums_of(store, gone[2]).unlink()
    for one in (gone[0], file):
        aside(bytes_of(store, one)).write_bytes(bytes(50_000))
        aside(sums_of(store, one)).write_bytes(b"")
    aside(sums_of(store, gone[1])).write_bytes(bytes(500))
    before, names = blocks(store.caches), there(store.caches)
    predicted = collect(store, since=NOW, dry_run=True)
    assert there(store.caches) == names
    done = collect(store, since=NOW)
    assert there(store.caches) == parts(file)
    assert done.freed == predicted.freed == before - blocks(store.caches) > 1_400_000
    assert not check(store).problems


def test_bytes_that_nobody_makes_sums_of_are_left(store: Store, file: Plain) -> None:
    """Not those of a copy, and not while somebody makes it."""
    path, new = saved(store, file), aside(sums_of(store, file))
    assert list(left_bytes(store.caches)) == []
    aside(path).write_bytes(bytes(1000))
    assert list(left_bytes(store.caches)) == [aside(path)], "its writer has ended"
    sums_of(store, file).unlink()
    assert sorted(left_bytes(store.caches)) == [path, aside(path)]
    with new.open("wb") as other:
        assert sorted(left_bytes(store.caches)) == [path, aside(path)], "its writer is dead"
        fcntl.flock(other, fcntl.LOCK_EX)
        assert list(left_bytes(store.caches)) == []
        collect(store, since=NOW)
        assert there(store.caches) == sorted([new.name, f"plain/{path.name}", f"plain/{path.name}.new"])
    collect(store, since=NOW)
    assert there(store.caches) == []
    assert list(left_bytes(store.caches)) == []


def test_gc_leaves_alone_what_is_being_made(store: Store, large: Chunked) -> None:
    with writing(store, large) as writer:
        new = there(store.caches)
        assert new == sorted(f"{name}.new" for name in parts(large))
        collect(store, since=NOW)
        assert there(store.caches) == new
        assert not check(store).problems
        writer.communicate("\n")
    assert writer.returncode == 0
    assert there(store.caches) == parts(large)
    assert is_right(store, large)
    assert not check(store).problems


def test_gc_takes_what_a_killed_writer_has_left(store: Store, large: Chunked) -> None:
    collect(store, since=NOW)
    with writing(store, large) as writer:
        writer.kill()
    assert there(store.caches) == sorted(f"{name}.new" for name in parts(large))
    assert not check(store).problems
    left = blocks(store.caches)
    assert left >= 1 << 20
    assert collect(store, since=NOW, dry_run=True).freed == left
    assert collect(store, since=NOW).freed == left
    assert there(store.caches) == []


def test_what_a_killed_writer_has_left_is_taken_over(store: Store, large: Chunked) -> None:
    with writing(store, large) as writer:
        writer.kill()
    saved(store, large)
    assert is_right(store, large)
    assert there(store.caches) == parts(large)
    assert not check(store).problems


def test_who_is_not_root_takes_it_over_too(tmp_path: Path) -> None:
    """Of bytes that nobody may write to."""
    store, nobody = MemoryStore(), 65534
    made = written(store, [content(700_000)])
    tmp_path.chmod(0o777)
    pid = os.fork()
    if not pid:
        try:
            os.chdir(tmp_path)
            if os.geteuid() == 0:
                os.setresgid(nobody, nobody, nobody)
                os.setresuid(nobody, nobody, nobody)
            caches = Path("caches")
            (caches / "plain").mkdir(parents=True)
            new = aside(bytes_path(caches, digest_of_copy(made)))
            new.write_bytes(b"half of it")
            new.chmod(0o400)
            os._exit(0 if save_plain(store, caches, made) else 1)
        except BaseException:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert there(tmp_path / "caches") == parts(made)
    assert damaged(tmp_path / "caches", store) == []


def writing(store: Store, file: Chunked) -> subprocess.Popen[str]:
    """A process that is making the copy of a file, and goes on when it gets a line."""
    arguments = [sys.executable, "-c", WRITER, str(store.path), file.list.hex(), str(file.size)]
    made = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=PROJECT)
    assert made.stdout is not None
    assert made.stdout.readline() == "at the last chunk\n"
    return made


def test_gc_is_not_stopped_by_what_is_no_copy(store: Store, file: Plain) -> None:
    """Whatever is under the names of bytes: of nobody's, and of those of a file that goes."""
    saved(store, file)
    elsewhere = MemoryStore()
    gone = written(elsewhere, [content(70_000)])
    assert save_plain(elsewhere, store.caches, gone)
    bytes_of(store, gone).unlink()
    bytes_of(store, gone).mkdir()
    top = store.caches / "plain"
    for name in ("1" * 64, "2" * 64 + ".new"):
        (top / name).mkdir()
    os.mkfifo(top / ("3" * 64))
    (top / ("4" * 64)).symlink_to(bytes_of(store, file))
    collect(store, since=NOW)
    assert is_right(store, file)
    assert not sums_of(store, gone).exists()
    assert not check(store).problems


# -- fsck


def told(store: Store) -> set[Path]:
    """The caches that a check tells of."""
    report = check(store)
    assert [problem.kind for problem in report.problems] == ["cache"] * len(report.caches)
    return report.caches


@pytest.mark.parametrize(("part", "place"), [
    *((bytes_path, place) for place in (0, 100, 2 * PAGE, 200_000, -1)),
    *((sums_path, place) for place in (3, 70, 100, 115, FIRST_SUM, -3)),
])  # fmt: skip
def test_fsck_tells_of_a_damaged_copy(store: Store, file: Plain, part: Part, place: int) -> None:
    saved(store, file)
    assert not check(store).problems
    flip(part(store.caches, digest_of_copy(file)), place)
    assert told(store) == {sums_of(store, file)}


@pytest.mark.parametrize("size", [0, 1, PAGE, 10 * PAGE + 1, -1, -PAGE])
def test_fsck_tells_of_bytes_that_are_cut_off(store: Store, file: Plain, size: int) -> None:
    path = saved(store, file)
    rewrite(path, path.read_bytes()[:size])
    assert told(store) == {sums_of(store, file)}


@pytest.mark.parametrize("more", [b"\0", bytes(PAGE), content(2 * PAGE)])
def test_fsck_tells_of_bytes_that_are_too_many(store: Store, file: Plain, more: bytes) -> None:
    path = saved(store, file)
    rewrite(path, path.read_bytes() + more)
    assert told(store) == {sums_of(store, file)}


@pytest.mark.parametrize(
    "make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("elsewhere")], ids=["directory", "fifo", "link"]
)
def test_fsck_tells_of_bytes_that_are_no_file(store: Store, file: Plain, make: Callable[[Path], None]) -> None:
    """As of any other cache that is none (test_check); nobody waits for it."""
    path = saved(store, file)
    path.unlink()
    make(path)
    assert told(store) == {sums_of(store, file)}


def test_fsck_tells_of_damage_in_what_the_earlier_version_left(store: Store, file: Plain) -> None:
    path = sums_of(store, file)
    path.write_bytes(earlier(file))
    flip(path, 2 * PAGE)
    assert told(store) == {path}


def test_fsck_says_nothing_of_bytes_that_are_left(store: Store, file: Plain) -> None:
    """Those are gc's."""
    path = saved(store, file)
    sums_of(store, file).unlink()
    aside(path).write_bytes(b"half of it")
    flip(path, 0)
    assert not check(store).problems


def test_a_repair_mends_a_damaged_copy(tmp_path: Path) -> None:
    """In place: who has it open, or has it by another name, has what is right from then on."""
    with Store.create(tmp_path / "store") as store:
        file = on_main(store, SIZES["list"])
        saved(store, file)
        caches, digest = store.caches, digest_of_copy(file)
    path = bytes_path(caches, digest)
    (caches / "other").hardlink_to(path)
    right = path.read_bytes()
    with (caches / "other").open("rb") as opened:
        flip(path, 5000)
        repaired = repair(tmp_path / "store")
        assert opened.read() == right
    assert repaired.report.problems == []
    assert repaired.done == [f"the plain copy {digest.hex()} is the file again"]
    assert path.stat().st_mode & 0o7777 == 0o400
    (caches / "other").unlink()


def test_a_repair_removes_a_copy_whose_sums_are_damaged(tmp_path: Path) -> None:
    with Store.create(tmp_path / "store") as store:
        file = on_main(store, SIZES["list"])
        saved(store, file)
        flip(sums_path(store.caches, digest_of_copy(file)), -1)
        caches, digest = store.caches, digest_of_copy(file)
    repaired = repair(tmp_path / "store")
    assert repaired.report.problems == []
    assert repaired.done == [f"the plain copy {digest.hex()} was deleted: it is made anew when it is wanted"]
    assert there(caches) == []


@pytest.mark.parametrize("damage", ["a byte", "cut short", "longer", "all", "a hole"])
@pytest.mark.parametrize("kind", SIZES)
def test_what_is_mended_is_the_file(store: Store, kind: str, damage: str) -> None:
    file = on_main(store, SIZES[kind])
    saved(store, file)
    digest = digest_of_copy(file)
    path = bytes_path(store.caches, digest)
    right, inode = path.read_bytes(), path.stat().st_ino
    wrong = {
        "a byte": right[:-1] + bytes([right[-1] ^ 1]),
        "cut short": right[:100],
        "longer": right + b"more",
        "all": bytes(byte ^ 255 for byte in right[:9000]),
        "a hole": bytes(len(right)),
    }[damage]
    path.chmod(0o600)
    path.write_bytes(wrong)
    assert not plain.is_whole(store.caches, digest)
    assert mend(store, store.caches, digest)
    assert (path.read_bytes(), path.stat().st_ino) == (right, inode)
    assert plain.is_whole(store.caches, digest)


def test_what_cannot_be_mended_is_removed(store: Store) -> None:
    file = on_main(store, SIZES["list"])
    saved(store, file)
    digest = digest_of_copy(file)
    with store.batch() as batch:
        other = written(batch, [content(SIZES["list"] - 5)])
    saved(store, other)
    body = plain.read_body(store.caches, digest_of_copy(other))
    assert body is not None
    name = digest.hex().encode() + b"\n"
    sums_path(store.caches, digest).write_bytes(name + blake3(body).digest() + body)
    with pytest.raises(Corrupt):
        mend(store, store.caches, digest)
    assert not sums_path(store.caches, digest).exists()
    assert not bytes_path(store.caches, digest).exists()
    with pytest.raises(Missing):
        mend(MemoryStore(), store.caches, digest_of_copy(other))
    assert there(store.caches) == []


def test_the_process_mends_what_is_damaged(store: Store) -> None:
    file = on_main(store, SIZES["list"])
    path = bytes_path(store.caches, digest_of_copy(file))
    saved(store, file)
    right, inode = path.read_bytes(), path.stat().st_ino
    flip(path, 77)
    assert plainwriter.begin(store.path, [file]).wait() == 0
    assert (path.read_bytes(), path.stat().st_ino) == (right, inode)
