"""Files that are given before the kernel asks: which, when, and that nobody waits for somebody who waits."""

from __future__ import annotations

import os
import random
import struct
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

from fusefs.readahead import ReadAhead
from fusefs.session import Session
from fusefs.wire.protocol import Opcode
from tests.fusefs.fake_kernel import FakeKernel
from tests.fusefs.serving import needs_fuse, serving
from tests.support.values import Spec, file, root
from vcs.blobs import CHUNK_MAX, CHUNK_MIN, BlobWriter
from vcs.model import Entry
from vcs.testing import MemoryStore

STORE = 4
PAGE = 4096
LARGE = b"".join(b"%08x" % place for place in range(0, 4_000_000, 8))
"""Nothing in it comes twice, so its chunks are found where they are."""


class Ahead:
    """A kernel that is given files."""

    def __init__(self, spec: Spec, store: MemoryStore | None = None) -> None:
        self.store = store or MemoryStore()
        made = root(self.store, spec)
        self.kernel = FakeKernel(self.store)
        self._ahead = ReadAhead(self.kernel.theirs.fileno(), self.kernel.filesystem)
        self.kernel.session = Session(self.kernel.theirs.fileno(), self.kernel.filesystem, self._ahead)
        self.top = self.kernel.walk(b"trees", made.hex().encode()).nodeid
        self.given: dict[int, bytes] = {}
        self.pieces: list[tuple[int, int, bytes]] = []
        """The same, and what was given from elsewhere than a file's beginning: node, offset, bytes."""

    def list(self, node: int) -> dict[str, int]:
        return {found.name.decode(): found.nodeid for found in self.kernel.readdirplus(node)[2:]}

    def read(self, node: int, offset: int = 0, size: int = 1 << 20) -> None:
        """Read a file, whose answer and what is given meanwhile may come in any order."""
        body = struct.pack("<QQIIQII", 0, offset, size, 0, 0, 0, 0)
        message = struct.pack("<IIQQIIIHH", 80, Opcode.READ, 2, node, 0, 0, 0, 0, 0) + body
        self._sort(self.kernel.raw(message))

    def finish(self) -> dict[int, bytes]:
        """Everything that was given."""
        self._ahead.close()
        while True:
            try:
                self._sort([self.kernel.mine.recv(1 << 20)])
            except BlockingIOError:
                return self.given

    def _sort(self, messages: Iterable[bytes]) -> None:
        for message in messages:
            length, code, unique = struct.unpack_from("<IiQ", message)
            assert length == len(message)
            if not unique:
                assert code == STORE
                node, offset, size, _ = struct.unpack_from("<QQII", message, 16)
                assert size == len(message) - 40
                self.pieces.append((node, offset, message[40:]))
                if not offset:
                    self.given[node] = message[40:]


def numbered(count: int) -> dict[str, bytes]:
    return {f"f{number:03}": b"content %d" % number for number in range(count)}


def test_the_third_file_of_a_walk_is_there_before_it_is_wanted() -> None:
    ahead = Ahead(numbered(50))
    files = ahead.list(ahead.top)
    ahead.read(files["f000"])
    ahead.read(files["f001"])
    given = ahead.finish()
    assert given == {files[name]: content for name, content in numbered(50).items() if name > "f001"}


def test_a_single_file_and_files_out_of_order_give_nothing() -> None:
    ahead = Ahead(numbered(50))
    files = ahead.list(ahead.top)
    for name in ("f030", "f010", "f020", "f000", "f002", "f049"):
        ahead.read(files[name])
    assert ahead.finish() == {}


def test_what_the_kernel_does_not_know_is_not_given() -> None:
    ahead = Ahead({"a": numbered(10), "b": numbered(10)})
    top = ahead.list(ahead.top)
    files = ahead.list(top["a"])
    ahead.kernel.forget(files["f005"], 1)
    ahead.read(files["f000"])
    ahead.read(files["f001"])
    assert set(ahead.finish()) == {files[name] for name in ("f002", "f003", "f004")}


def test_a_walk_goes_into_a_directory_or_past_it() -> None:
    spec: Spec = {"a": b"a", "b": b"b", "c": {"d": b"d", "e": b"e"}, "f": b"f", "g": b"g", "h": b"h"}
    into = Ahead(spec)
    files = into.list(into.top)
    into.read(files["a"])
    into.read(files["b"])
    inner = into.list(files["c"])
    into.read(inner["d"])
    assert set(into.finish()) == {inner["e"], files["f"], files["g"], files["h"]}
    past = Ahead(spec)
    files = past.list(past.top)
    for name in ("a", "b", "f"):
        past.read(files[name])
    assert set(past.finish()) == {files["g"], files["h"]}


def test_windows_follow_one_another_with_a_message_each() -> None:
    """Of 2,000 files of 4 KiB, the kernel asks for the first two and then for one in each window."""
    content = bytes(4096)
    ahead = Ahead({f"f{number:04}": content for number in range(2000)})
    files = ahead.list(ahead.top)
    asked = 0
    for node in files.values():
        if node not in ahead.given:
            ahead.read(node)
            ahead._sort(_later(ahead))
            asked += 1
    assert len(ahead.finish()) + asked >= 2000
    assert asked < 60


def _later(ahead: Ahead) -> Iterator[bytes]:
    """What the thread has written, once it has nothing left."""
    while ahead._ahead._queued != ahead._ahead._done:
        try:
            yield ahead.kernel.mine.recv(1 << 20)
        except BlockingIOError:
            continue
    while True:
        try:
            yield ahead.kernel.mine.recv(1 << 20)
        except BlockingIOError:
            return


def test_a_damaged_file_ends_a_window_and_nothing_else() -> None:
    ahead = Ahead(numbered(10))
    files = ahead.list(ahead.top)
    content = ahead.kernel.filesystem.node(files["f005"]).entry.content
    del ahead.store.objects[content.chunk]  # type: ignore[union-attr]
    ahead.read(files["f000"])
    ahead.read(files["f001"])
    assert set(ahead.finish()) == {files[name] for name in ("f002", "f003", "f004")}


def large_file(store: MemoryStore) -> Entry:
    writer = BlobWriter(store)
    writer.feed(LARGE)
    return file(writer.finish())


class Blocks(MemoryStore):
    """Chunks lie in blocks of three."""

    def __init__(self) -> None:
        super().__init__()
        self.chunks: list[bytes] = []

    def put_chunk(self, data: bytes | memoryview, digest: bytes | None = None) -> bytes:
        self.chunks.append(super().put_chunk(data, digest))
        return self.chunks[-1]

    def are_together(self, one: bytes, other: bytes) -> bool:
        return self._block_of(one) == self._block_of(other)

    def _block_of(self, digest: bytes) -> int:
        return self.chunks.index(digest) // 3


def test_a_small_read_within_a_large_file_brings_the_rest_of_its_block() -> None:
    store = Blocks()
    ahead = Ahead({"large": large_file(store)}, store)
    node = ahead.list(ahead.top)["large"]
    place = 200 * PAGE
    ahead.read(node, place, PAGE)
    ahead.finish()
    ((of, start, data),) = ahead.pieces
    assert of == node
    assert start % PAGE == len(data) % PAGE == 0
    assert start <= place < start + len(data)
    assert LARGE[start : start + len(data)] == data
    assert 3 * CHUNK_MIN - 3 * PAGE <= len(data) <= 3 * CHUNK_MAX


@pytest.mark.parametrize("seed", range(5))
def test_pages_between_blocks_are_given_when_both_were_read(seed: int) -> None:
    store = Blocks()
    ahead = Ahead({"large": large_file(store)}, store)
    node = ahead.list(ahead.top)["large"]
    places = list(range(PAGE, len(LARGE), PAGE))
    random.Random(seed).shuffle(places)
    known: set[int] = set()
    asked = 0
    for place in places:
        if place not in known:
            ahead.read(node, place, PAGE)
            ahead._sort(_later(ahead))
            asked += 1
            known |= {
                page for _, start, data in ahead.pieces for page in range(start, start + len(data), PAGE)
            }  # fmt: skip
    ahead.finish()
    assert all(LARGE[start : start + len(data)] == data for _, start, data in ahead.pieces)
    blocks = -(-len(store.chunks) // 3)
    assert asked < 2 * blocks, "some of those that lie in two blocks are asked for before the others are known"
    assert len(places) - len(known) < asked


def test_what_lies_around_a_page_in_two_blocks_is_right_at_once() -> None:
    """The page itself comes out of both, and no part of it is given as if it were all."""
    store = Blocks()
    ahead = Ahead({"large": large_file(store)}, store)
    node = ahead.list(ahead.top)["large"]
    ends = [sum(len(store.objects[name]) for name in store.chunks[: 3 * number]) for number in (1, 2, 3)]
    for end in ends:
        ahead.read(node, end - end % PAGE, PAGE)
    ahead.finish()
    assert ahead.pieces
    assert all(LARGE[start : start + len(data)] == data for _, start, data in ahead.pieces)
    assert all(start % PAGE == len(data) % PAGE == 0 for _, start, data in ahead.pieces)


def test_the_end_of_a_file_need_not_be_a_whole_page() -> None:
    store = MemoryStore()
    ahead = Ahead({"large": large_file(store)}, store)
    ahead.read(ahead.list(ahead.top)["large"], (len(LARGE) // PAGE - 1) * PAGE, PAGE)
    ahead.finish()
    assert LARGE.endswith(ahead.pieces[-1][2])


def test_a_damaged_neighbour_is_no_fault_of_whoever_did_not_ask_for_it() -> None:
    store = Blocks()
    ahead = Ahead({"large": large_file(store)}, store)
    del store.objects[store.chunks[1]]
    ahead.read(ahead.list(ahead.top)["large"], PAGE, PAGE)
    assert (ahead.finish(), ahead.pieces) == ({}, [])


def test_large_reads_and_holes_bring_nothing() -> None:
    store = MemoryStore()
    writer = BlobWriter(store)
    writer.feed(LARGE)
    writer.hole(1 << 30)
    ahead = Ahead({"large": file(writer.finish())}, store)
    node = ahead.list(ahead.top)["large"]
    ahead.read(node, 1 << 20, 1 << 20)
    ahead.read(node, 1 << 29, PAGE)
    ahead.read(node, 1 << 40, PAGE)
    ahead.finish()
    assert (ahead.pieces, ahead.given) == ([], {})


# -- for real

SCATTERED = """
import os, random, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
chance, size = random.Random(sys.argv[2]), os.fstat(fd).st_size
for _ in range(400):
    place = chance.randrange(size)
    if os.pread(fd, 5000, place) != b"".join(b"%08x" % at for at in range(place // 8 * 8, place + 5008, 8))[
        place % 8 : place % 8 + min(5000, size - place)
    ]:
        sys.exit(f"wrong bytes at {place}")
"""

READER = """
import os, random, sys
top, seed = sys.argv[1], int(sys.argv[2])
def walk(path):
    for entry in sorted(os.scandir(path), key=lambda entry: entry.name):
        if entry.is_dir(follow_symlinks=False):
            yield from walk(entry.path)
        else:
            yield entry.path
paths = list(walk(top)) if seed < 9 else walk(top)
if 0 < seed < 9:
    random.Random(seed).shuffle(paths)
for path in paths:
    fd = os.open(path, os.O_RDONLY)
    data = b"".join(iter(lambda: os.read(fd, 65536), b""))
    os.close(fd)
    if not data.startswith(os.path.relpath(path, top).encode() + b":") or data.strip(b"x")[-1:] != b":":
        sys.exit(f"{path}: {data[:100]!r}")
"""


def forest(prefix: str = "", depth: int = 2) -> Mapping[str, bytes | Spec]:
    """Files that begin with their own path, of all sizes around those of pages."""
    chance = random.Random(prefix)
    spec: dict[str, bytes | Spec] = {}
    for number in range(40):
        path = f"{prefix}f{number:02}"
        length = chance.choice([0, 1, 4095, 4096, 4097, 9000, 130_000, chance.randrange(40_000)])
        spec[f"f{number:02}"] = path.encode() + b":" + b"x" * max(0, length - len(path) - 1)
    if depth:
        spec |= {f"{letter}": forest(f"{prefix}{letter}/", depth - 1) for letter in "adgz"}
    return spec


@pytest.fixture(scope="module")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    store = MemoryStore()
    store.add_commit(root(store, forest()), "main")
    store.add_commit(root(store, {"large": large_file(store)}), "large")
    with serving(store, tmp_path_factory.mktemp("ahead") / "mnt", trace=True) as point:
        yield point, Path(f"{point}.log")


def drop_caches() -> None:
    Path("/proc/sys/vm/drop_caches").write_text("3\n")


@needs_fuse
def test_a_cold_walk_asks_for_few_files_and_reads_them_right(mounted: tuple[Path, Path]) -> None:
    point, log = mounted
    drop_caches()
    before = log.read_text().count(" READ node ")
    subprocess.run([sys.executable, "-c", READER, (point / "branches/main").resolve(), "9"], check=True)
    assert log.read_text().count(" READ node ") - before < 840 // 2


@needs_fuse
def test_many_readers_at_once_wait_for_nobody_and_read_right(mounted: tuple[Path, Path]) -> None:
    top = (mounted[0] / "branches/main").resolve()
    for _ in range(3):
        drop_caches()
        readers = [subprocess.Popen([sys.executable, "-c", READER, top, str(seed)]) for seed in (0, 0, 1, 2, 9, 9)]
        while any(reader.poll() is None for reader in readers):
            drop_caches()
            os.sched_yield()
        assert [reader.returncode for reader in readers] == [0] * 6


@needs_fuse
def test_scattered_reads_come_to_find_everything_there_and_right(mounted: tuple[Path, Path]) -> None:
    """Each brings a chunk, of which there are few: 400 reads of 5,000 bytes ask for less than half of their pages."""
    point, log = mounted
    path = (point / "branches/large").resolve() / "large"
    before = log.read_text().count(" READ node ")
    drop_caches()
    readers = [subprocess.Popen([sys.executable, "-c", SCATTERED, path, str(seed)]) for seed in range(3)]
    assert [reader.wait(60) for reader in readers] == [0] * 3
    assert log.read_text().count(" READ node ") - before < 400
