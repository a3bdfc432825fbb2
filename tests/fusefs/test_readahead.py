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
from tests.support.values import Spec, root
from vcs.testing import MemoryStore

STORE = 4


class Ahead:
    """A kernel that is given files."""

    def __init__(self, spec: Spec) -> None:
        self.store = MemoryStore()
        made = root(self.store, spec)
        self.kernel = FakeKernel(self.store)
        self._ahead = ReadAhead(self.kernel.theirs.fileno(), self.kernel.filesystem)
        self.kernel.session = Session(self.kernel.theirs.fileno(), self.kernel.filesystem, self._ahead)
        self.top = self.kernel.walk(b"trees", made.hex().encode()).nodeid
        self.given: dict[int, bytes] = {}

    def list(self, node: int) -> dict[str, int]:
        return {found.name.decode(): found.nodeid for found in self.kernel.readdirplus(node)[2:]}

    def read(self, node: int) -> None:
        """Read a file, whose answer and what is given meanwhile may come in any order."""
        body = struct.pack("<QQIIQII", 0, 0, 1 << 20, 0, 0, 0, 0)
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
                assert (offset, size) == (0, len(message) - 40)
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


# -- for real

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
