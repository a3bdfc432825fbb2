"""When a plain copy is asked for, and that what comes from one is right, or comes from the chunks."""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pytest

from fusefs.filesystem import FileSystem
from fusefs.inodes import Node
from fusefs.readahead import ReadAhead
from fusefs.scattered import AROUND, FILE_LEAST, SCATTERED_MOST, PlainCopies
from fusefs.session import Session
from fusefs.wire.protocol import Opcode
from tests.fusefs.fake_kernel import FakeKernel
from tests.support.values import file, root
from vcs.blobs import BlobWriter
from vcs.model import Chunked
from vcs.plain import PAGE, Plain, bytes_path, remove, sums_path
from vcs.plainwriter import mend, save_plain
from vcs.testing import MemoryStore

SIZE = FILE_LEAST
ENOUGH = SIZE >> 20
"""So many scattered reads make a copy worth while."""
LARGE = b"".join(b"%08x" % place for place in range(0, SIZE, 8))


class Copying:
    """A large file, seen by one worker; copies are made when it is said."""

    def __init__(self, place: Path) -> None:
        self.place = place
        (place / "caches").mkdir()
        self.store = MemoryStore()
        writer = BlobWriter(self.store)
        writer.feed(LARGE)
        content = writer.finish()
        assert isinstance(content, Chunked)
        self.content = content
        self.asked: list[Plain] = []
        self.processes: list[subprocess.Popen[bytes]] = []
        made = root(self.store, {"large": file(content), "small": b"small"})
        self.kernel = FakeKernel(self.store)
        self.copies = PlainCopies(place, self._begin)
        system = self.kernel.filesystem = FileSystem(self.store, journal=self.kernel.journal, copies=self.copies)
        device = self.kernel.theirs.fileno()
        self.ahead = ReadAhead(device, system)
        self.kernel.session = Session(device, system, self.ahead)
        self.node = self.kernel.walk(b"trees", made.hex().encode(), b"large").nodeid
        self._unique = 1000

    def _begin(self, store: Path, contents: Iterable[Plain]) -> subprocess.Popen[bytes]:
        assert store == self.place
        self.asked += contents
        waits = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.processes.append(waits)
        return waits

    @property
    def caches(self) -> Path:
        return self.place / "caches"

    @property
    def parts(self) -> tuple[Path, Path]:
        """Where the copy is: its bytes, and its sums."""
        return bytes_path(self.caches, self.content.list), sums_path(self.caches, self.content.list)

    def save(self) -> None:
        """Make the copy, as the process would."""
        assert save_plain(self.store, self.caches, self.content)

    def is_there(self) -> bool:
        """Whether the copy is; what is gone is gone wholly."""
        found = {path.exists() for path in self.parts}
        assert len(found) == 1
        return found.pop()

    def damage(self, part: int, number: int) -> None:
        """Change a byte: in one of the file's pages (0), or in that page's sum (1)."""
        path = self.parts[part]
        data = bytearray(path.read_bytes())
        data[(number - SIZE // PAGE) * 8 if part else number * PAGE] ^= 1
        path.chmod(0o600)
        path.write_bytes(data)

    def read(self, offset: int, size: int = PAGE) -> bytes:
        """Ask for a range; what is given besides is left where it is."""
        self._unique += 2
        body = struct.pack("<QQIIQII", 0, offset, size, 0, 0, 0, 0)
        for message in self.kernel.raw(
            struct.pack("<IIQQIIIHH", 80, Opcode.READ, self._unique, self.node, 0, 0, 0, 0, 0) + body
        ):
            _, code, unique = struct.unpack_from("<IiQ", message)
            if unique == self._unique:
                assert code == 0
                return message[16:]
        raise AssertionError("no answer")

    def end(self) -> None:
        self.ahead.close()
        for process in self.processes:
            process.communicate()


@pytest.fixture
def copying(tmp_path: Path) -> Iterator[Copying]:
    made = Copying(tmp_path)
    yield made
    made.end()


def scatter(copying: Copying, count: int) -> None:
    for number in range(count):
        offset = (number * 97 % (SIZE // PAGE - 1) + 1) * PAGE
        assert copying.read(offset) == LARGE[offset : offset + PAGE]


def test_a_copy_is_asked_for_once_when_enough_was_read(copying: Copying) -> None:
    scatter(copying, ENOUGH - 1)
    assert copying.asked == []
    scatter(copying, 3 * ENOUGH)
    assert copying.asked == [copying.content]


def test_one_copy_is_made_at_a_time(copying: Copying) -> None:
    other = Chunked(SIZE, b"\1" * 32, SIZE)
    scatter(copying, ENOUGH)
    for _ in range(2 * ENOUGH):
        copying.copies.was_scattered(other, PAGE)
    assert copying.asked == [copying.content]
    copying.processes[0].communicate(b"\n")
    copying.copies.was_scattered(other, PAGE)
    assert copying.asked == [copying.content, other]


def test_reads_in_large_pieces_ask_for_none(copying: Copying) -> None:
    for number in range(4 * ENOUGH):
        copying.read((number % 100 + 1) * (64 << 10), SCATTERED_MOST + PAGE)
    assert copying.asked == []


@pytest.mark.parametrize("size", [FILE_LEAST - 1, (4 << 30) + 1])
def test_of_files_that_are_small_or_huge_there_is_none(copying: Copying, size: int) -> None:
    other = Chunked(size, b"\1" * 32, size)
    for _ in range(5000):
        copying.copies.was_scattered(other, PAGE)
    assert copying.asked == []
    assert copying.copies.read(other, PAGE, PAGE) is None


def test_a_copy_that_comes_to_be_there_answers_and_gives_nothing_besides(copying: Copying) -> None:
    scatter(copying, 2)
    copying.save()
    copying.store.get = lambda _: pytest.fail("a chunk was read")  # type: ignore[assignment]
    for offset, size in ((PAGE, PAGE), (5, 10), (SIZE - 3, PAGE), (SIZE - SCATTERED_MOST, SCATTERED_MOST)):
        assert copying.read(offset, size) == LARGE[offset : offset + size]
    scatter(copying, 2 * ENOUGH)
    assert copying.asked == []


def test_who_reads_much_of_a_file_gets_what_is_around_from_its_copy(copying: Copying) -> None:
    copying.save()
    alone, given = SIZE // PAGE // 16, SIZE // AROUND
    copying.read(PAGE)
    places = [number * PAGE for number in range(2, 3 * alone + 2 * given)]
    told = [True] + [copying.copies.was_scattered(copying.content, place) for place in places]
    assert told[:alone] == [True] + [False] * (alone - 2) + [True], "the first was read, which counts"
    assert told.count(True) - 1 == 2 * given, "as much as all of it, and after twice as many reads once more"
    assert told[alone + given - 1 : 3 * alone + given - 2] == [False] * (2 * alone - 1)
    for offset in (0, PAGE, 5 * AROUND - 1, 5 * AROUND, SIZE - 1):
        around = copying.copies.around(copying.content, offset)
        assert around is not None
        start, data = around
        assert start <= offset < start + len(data)
        assert LARGE[start : start + len(data)] == data


def test_who_reads_the_same_pages_again_and_again_gets_nothing_besides(copying: Copying) -> None:
    """No memory keeps them, and it would keep the others no better."""
    copying.save()
    copying.read(PAGE)
    pages = SIZE // PAGE // 16 - 2
    for number in range(40 * pages):
        assert not copying.copies.was_scattered(copying.content, (2 + number % pages) * PAGE), number


@pytest.mark.parametrize("part", [0, 1])
def test_a_copy_that_is_damaged_around_is_to_be_mended(copying: Copying, part: int) -> None:
    copying.save()
    copying.damage(part, 5)
    copying.read(7 * PAGE)
    assert copying.copies.around(copying.content, AROUND) is not None
    assert copying.copies.around(copying.content, 7 * PAGE) is None
    assert copying.asked == [copying.content]
    assert copying.copies.around(copying.content, AROUND) is None


@pytest.mark.parametrize("part", [0, 1])
def test_a_damaged_copy_is_to_be_mended_and_the_chunks_answer(copying: Copying, part: int) -> None:
    copying.save()
    copying.damage(part, 5)
    assert copying.read(7 * PAGE) == LARGE[7 * PAGE : 8 * PAGE]
    assert copying.is_there()
    assert copying.asked == []
    assert copying.read(5 * PAGE) == LARGE[5 * PAGE : 6 * PAGE]
    assert copying.asked == [copying.content]
    assert copying.is_there(), "overlays may be reading it"
    mend(copying.store, copying.caches, copying.content.list)
    scatter(copying, 2)
    assert copying.copies.around(copying.content, PAGE) is None, "a disk that damages it once does so again"


def test_a_copy_of_another_size_is_none(copying: Copying) -> None:
    copying.save()
    other = Chunked(SIZE + 1, copying.content.list, SIZE)
    assert copying.copies.read(other, PAGE, PAGE) is None


@pytest.mark.parametrize("part", [0, 1])
def test_one_part_of_a_copy_is_none_and_the_chunks_answer(copying: Copying, part: int) -> None:
    """Until the other part is there."""
    copying.save()
    copying.parts[part].rename(copying.place / "part")
    scatter(copying, 2)
    assert copying.copies.read(copying.content, PAGE, PAGE) is None
    (copying.place / "part").rename(copying.parts[part])
    assert copying.copies.read(copying.content, PAGE, PAGE) == memoryview(LARGE[PAGE : 2 * PAGE])


def test_a_copy_that_is_open_is_read_when_its_names_are_gone(copying: Copying) -> None:
    """Another process has made room."""
    copying.save()
    copying.read(PAGE)
    remove(copying.caches, copying.content.list)
    copying.store.get = lambda _: pytest.fail("a chunk was read")  # type: ignore[assignment]
    scatter(copying, 2 * ENOUGH)
    assert copying.asked == []


def test_copies_that_are_open_have_a_bound(copying: Copying) -> None:
    copying.save()
    contents = []
    for number in range(20):
        digest = bytes([number]) * 32
        for part, path in zip((bytes_path, sums_path), copying.parts, strict=True):
            part(copying.caches, digest).hardlink_to(path)
        contents.append(Chunked(SIZE, digest, SIZE))
    for content in contents:
        assert copying.copies.read(content, PAGE, PAGE) == memoryview(LARGE[PAGE : 2 * PAGE])
    assert sum(copying.copies.around(content, 0) is not None for content in contents) == 16


# -- pages that come alone


def alone(copying: Copying, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Let parts of chunks be read alone; the chunks of which they were."""
    parts: list[bytes] = []

    def part(digest: bytes, start: int, end: int) -> bytes:
        parts.append(digest)
        return copying.store.objects[digest][start:end]

    monkeypatch.setattr(copying.store, "part", part)
    return parts


def given(copying: Copying, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The offsets around which something is given."""
    offsets: list[int] = []
    honest = copying.kernel.filesystem.around

    def around(node: Node, offset: int) -> tuple[int, Sequence[bytes | memoryview]]:
        offsets.append(offset)
        return honest(node, offset)

    monkeypatch.setattr(copying.kernel.filesystem, "around", around)
    return offsets


def test_a_page_that_came_alone_has_nothing_given_with_it(copying: Copying, monkeypatch: pytest.MonkeyPatch) -> None:
    parts, offsets = alone(copying, monkeypatch), given(copying, monkeypatch)
    copying.read(PAGE)
    chunk = parts[0]
    assert offsets == []
    places = [place for place in range(2, 16) if copying.read(place * PAGE) == LARGE[place * PAGE :][:PAGE]]
    assert parts.count(chunk) == 8, "the chunk is there from then on"
    assert offsets
    assert set(offsets) <= {place * PAGE for place in places}


def test_pages_that_come_alone_ask_for_a_copy_after_many_more(
    copying: Copying, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone(copying, monkeypatch)
    for number in range(16 * ENOUGH - 1):
        copying.copies.was_scattered(copying.content, PAGE, was_alone=True)
        assert copying.asked == [], number
    copying.copies.was_scattered(copying.content, PAGE, was_alone=True)
    assert copying.asked == [copying.content]


def test_a_copy_is_found_soon_by_who_reads_pages_alone(copying: Copying, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look for one takes as long as a page, so that it is not looked for each time."""
    parts = alone(copying, monkeypatch)
    scatter(copying, 3)
    copying.save()
    before = len(parts)
    scatter(copying, 40)
    assert len(parts) - before <= 20, "some pages have two parts"
    before = len(parts)
    scatter(copying, 20)
    assert len(parts) == before


def test_of_a_huge_file_a_page_comes_alone_too(copying: Copying) -> None:
    other = Chunked((4 << 30) + 1, b"\1" * 32, 0)
    assert copying.copies.was_scattered(other, PAGE)
    assert not copying.copies.was_scattered(other, PAGE, was_alone=True)
