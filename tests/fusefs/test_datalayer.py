"""What overlays are told of their data layer, when a program gets a plain copy, and which links stay."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import stat
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusefs.datadir import LOCK, DataDirectory, name_of, number_of, remove_stale
from fusefs.datalayer import FILE_LEAST, DataLayer, is_program
from fusefs.filesystem import FileSystem
from fusefs.readahead import ReadAhead
from fusefs.rights import sees_trusted
from fusefs.session import Session
from fusefs.wire.protocol import Opcode
from tests.fusefs.fake_kernel import FakeKernel
from tests.fusefs.serving import until
from tests.support.values import Spec, file, link, root
from vcs.blobreader import list_items
from vcs.blobs import BlobWriter, put_data
from vcs.model import Chunked, Data, Entry, RootId
from vcs.plain import Plain, bytes_path, digest_of_copy, remove
from vcs.plainwriter import save_plain
from vcs.profiles import open_profile, profile_path, save_profile
from vcs.testing import MemoryStore

NAMESPACE = b"trusted" if sees_trusted() else b"user"
METACOPY, REDIRECT, OPAQUE = (NAMESPACE + b".overlay." + name for name in (b"metacopy", b"redirect", b"opaque"))
ELF = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)


def program(size: int = 3 * FILE_LEAST, kind: int = 3, fill: bytes = b"p") -> bytes:
    """What begins as an executable does."""
    return ELF + bytes([kind, 0]) + (fill * (size // len(fill) + 1))[: size - len(ELF) - 2]


@dataclass
class Maker:
    """Stands where a process makes copies: says which were asked for, and is let go by the test."""

    asked: list[list[Plain]] = field(default_factory=list)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    is_over: bool = False
    """Nobody lets later ones go."""

    def __call__(self, _store: Path, contents: Iterable[Plain]) -> subprocess.Popen[bytes]:
        given = subprocess.DEVNULL if self.is_over else subprocess.PIPE
        made = subprocess.Popen([sys.executable, "-c", "input()"], stdin=given, stderr=subprocess.DEVNULL)
        self.processes.append(made)
        self.asked.append(list(contents))
        return made

    def finish(self) -> None:
        """Let all end."""
        for made in self.processes:
            if made.stdin is not None and not made.stdin.closed:
                made.stdin.close()
            made.wait()


class Serving:
    """A root as a worker shows it to overlays, and a store's caches beside it."""

    def __init__(self, place: Path, spec: Spec, store: MemoryStore | None = None) -> None:
        self.caches = place / "caches"
        self.caches.mkdir(parents=True)
        (place / "run").mkdir()
        self.place = place
        self.store = store or MemoryStore()
        self.root: RootId = root(self.store, spec)
        self.data = DataDirectory.make(place / "run")
        self.maker = Maker()
        self.kernel = FakeKernel(self.store, init=False)
        self.kernel.filesystem, self.layer = self.worker()
        device = self.kernel.theirs.fileno()
        self.ahead = ReadAhead(device, self.kernel.filesystem)
        self.kernel.session = Session(device, self.kernel.filesystem, self.ahead)
        self.kernel.init()

    def worker(self) -> tuple[FileSystem, DataLayer]:
        """The file system as another worker of the same mount has it."""
        layer = DataLayer(self.place, self.data.path, self.maker, delay=0.0)
        return FileSystem(self.store, journal=self.kernel.journal, layer=layer), layer

    def lower(self, *path: bytes) -> int:
        return self.kernel.walk(b".treering", b"lowers", self.root.hex().encode(), *path).nodeid

    def content(self, *path: bytes) -> Plain:
        found = self.kernel.filesystem.node(self.lower(*path)).entry.content
        assert isinstance(found, Data | Chunked)
        return found

    def copy(self, *path: bytes) -> None:
        """Make the plain copy of a file."""
        assert save_plain(self.store, self.caches, self.content(*path))
        self.layer.look_again()

    def answer(self, number: int, name: bytes) -> bytes | int:
        """An attribute, or an errno."""
        reply = self.kernel.xattr(number, name, 4096)
        return reply.error or reply.body

    def links(self) -> list[str]:
        return sorted(name for name in os.listdir(self.data.path) if name != LOCK)

    def close(self) -> None:
        self.maker.is_over = True
        self.maker.finish()
        self.ahead.close()
        self.kernel.__exit__(None, None, None)
        self.data.remove()


Make: TypeAlias = Callable[..., Serving]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[Serving] = []

    def one(spec: Spec, store: MemoryStore | None = None) -> Serving:
        made.append(Serving(tmp_path / f"store-{len(made)}", spec, store))
        return made[-1]

    yield one
    for each in made:
        each.close()


@pytest.fixture
def serving(make: Make) -> Serving:
    store = MemoryStore()
    writer = BlobWriter(store)
    writer.feed(program(2_000_000, kind=2, fill=random.Random(4).randbytes(1_000_003)))
    large = file(writer.finish())
    tools = {"tool": program(), "small": program(FILE_LEAST - 1), "large": large}
    return make({"bin": tools, "text": b"t" * 50_000}, store)


# -- answers


def test_a_file_with_a_copy_is_referred_to_it(serving: Serving) -> None:
    for path in ((b"bin", b"tool"), (b"bin", b"large"), (b"text",)):
        number = serving.lower(*path)
        assert serving.answer(number, METACOPY) == errno.ENODATA
        assert serving.answer(number, REDIRECT) == errno.ENODATA
        serving.copy(*path)
        assert serving.answer(number, METACOPY) == b""
        link = serving.answer(number, REDIRECT)
        assert isinstance(link, bytes)
        name = link.removeprefix(b"/").decode()
        assert name == name_of(number, digest_of_copy(serving.content(*path)))
        expected = serving.kernel.read(number, 0, 1 << 20) + serving.kernel.read(number, 1 << 20, 1 << 20)
        assert (serving.data.path / name).read_bytes() == expected
    assert len(serving.links()) == 3


def test_the_view_has_no_data_layer(serving: Serving) -> None:
    """Whoever mounts an overlay of his own over it has none, and must get all bytes from there."""
    serving.copy(b"bin", b"tool")
    number = serving.kernel.walk(b"trees", serving.root.hex().encode(), b"bin", b"tool").nodeid
    assert number != serving.lower(b"bin", b"tool")
    folder = serving.kernel.walk(b"trees", serving.root.hex().encode(), b"bin").nodeid
    for asked in (number, folder):
        assert [serving.answer(asked, name) for name in (METACOPY, REDIRECT, OPAQUE)] == [errno.ENODATA] * 3
    assert serving.links() == []


def test_directories_are_opaque_to_overlays_and_nothing_else_is_told(serving: Serving) -> None:
    folder, text = serving.lower(b"bin"), serving.lower(b"text")
    assert serving.answer(folder, OPAQUE) == b"y"
    assert serving.answer(folder, REDIRECT) == errno.ENODATA
    assert serving.answer(folder, METACOPY) == errno.ENODATA
    assert serving.answer(text, OPAQUE) == errno.ENODATA
    assert serving.answer(text, b"security.capability") == errno.ENODATA
    for number in (folder, text):
        assert serving.kernel.get(Opcode.LISTXATTR, number, bytes(8)) == bytes(8), "none is listed"


def test_a_container_cannot_forge_an_answer(make: Make) -> None:
    """What a commit has under these names is served escaped, and never as ours."""
    hostile = ((METACOPY, b""), (OPAQUE, b"y"), (REDIRECT, b"/etc/shadow"))
    store = MemoryStore()
    serving = make({"file": Entry(b"", 0o100644, 0, 0, 0, put_data(store, program()), hostile)}, store)
    number = serving.lower(b"file")
    assert [serving.answer(number, name) for name, _ in hostile] == [errno.ENODATA] * 3
    escaped = NAMESPACE + b".overlay.overlay.redirect"
    assert serving.answer(number, escaped) == b"/etc/shadow"
    serving.copy(b"file")
    assert serving.answer(number, METACOPY) == b""
    assert serving.answer(number, REDIRECT) == b"/" + os.fsencode(serving.links()[0])
    assert serving.answer(number, escaped) == b"/etc/shadow"


def test_what_lies_beside_the_lowers(serving: Serving) -> None:
    lowers = serving.kernel.walk(b".treering", b"lowers").nodeid
    data = serving.kernel.walk(b".treering", b"lowers", b"data").nodeid
    assert serving.kernel.get(Opcode.READLINK, data) == os.fsencode(serving.data.path)
    names = [name for name, _, _ in serving.kernel.readdir(lowers)]
    assert names[:2] == [b".", b".."]
    assert b"data" in names
    assert serving.kernel.lookup(lowers, b"0" * 64) is None
    plain = FakeKernel(serving.store)
    with plain:
        assert plain.lookup(plain.walk(b".treering").nodeid, b"lowers") is None, "a mount without a data layer"


def test_numbers_of_lowers_are_found_again_and_share_files_among_themselves(serving: Serving) -> None:
    other = root(serving.store, {"bin": {"tool": program()}, "more": b"more"})
    number = serving.lower(b"bin", b"tool")
    assert serving.kernel.walk(b".treering", b"lowers", other.hex().encode(), b"bin", b"tool").nodeid == number
    again, _ = serving.worker()
    again.numbers.catch_up()
    node = again.node(number)
    assert node.entry == serving.kernel.filesystem.node(number).entry
    assert again.numbers.is_lower(number)
    folder = again.node(serving.lower())
    above = again.node(serving.kernel.walk(b".treering", b"lowers").nodeid)
    assert getattr(folder, "parent", None) == above.number


def test_another_worker_knows_what_one_has_said(serving: Serving) -> None:
    """An overlay's two questions may reach two workers, of which one has not seen the copy yet."""
    number = serving.lower(b"bin", b"tool")
    other, _ = serving.worker()
    other.numbers.catch_up()
    assert other.xattr(other.node(number), METACOPY) is None
    serving.copy(b"bin", b"tool")
    assert serving.answer(number, METACOPY) == b""
    remove(serving.caches, digest_of_copy(serving.content(b"bin", b"tool")))
    assert other.asks_layer(other.node(number), REDIRECT)
    assert other.xattr(other.node(number), REDIRECT) == serving.answer(number, REDIRECT)
    assert other.xattr(other.node(number), METACOPY) is None, "there is no copy any more"


@pytest.mark.parametrize("spoil", ["no bytes", "short", "no sums", "no directory"])
def test_what_is_no_copy_is_not_referred_to(serving: Serving, spoil: str) -> None:
    serving.copy(b"bin", b"tool")
    digest = digest_of_copy(serving.content(b"bin", b"tool"))
    path = bytes_path(serving.caches, digest)
    if spoil == "no bytes":
        path.unlink()
    elif spoil == "short":
        path.chmod(0o600)
        os.truncate(path, 100)
    elif spoil == "no sums":
        (serving.caches / f"plain-{digest.hex()}").unlink()
    else:
        (serving.data.path / LOCK).unlink()
        serving.data.path.rename(serving.data.path.with_name("elsewhere"))
    assert serving.answer(serving.lower(b"bin", b"tool"), METACOPY) == errno.ENODATA
    assert serving.kernel.read(serving.lower(b"bin", b"tool"), 0, 1 << 20) == program()
    if spoil == "no directory":
        serving.data.path.with_name("elsewhere").rename(serving.data.path)


def test_nothing_is_linked_while_the_holder_looks(serving: Serving) -> None:
    serving.copy(b"bin", b"tool")
    number = serving.lower(b"bin", b"tool")
    with (serving.data.path / LOCK).open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert serving.answer(number, METACOPY) == errno.ENODATA
    assert serving.answer(number, METACOPY) == b""


# -- listings

MANY = {f"d{number:02}": {"f": b"f", "l": link("f"), "s": {"x": b"x"}} for number in range(30)}


def listed(serving: Serving, *path: bytes) -> list[tuple[bytes, int, int, int]]:
    """Names with their numbers, their nodes' (0: it comes without), and their types."""
    found = serving.kernel.readdirplus(serving.lower(*path))
    return [(one.name, one.ino, one.nodeid, one.kind) for one in found if one.name not in (b".", b"..")]


def nodeless(names: list[tuple[bytes, int, int, int]]) -> list[bytes]:
    return [name for name, _, node, _ in names if not node]


def test_who_asks_for_no_file_gets_directories_alone_with_nodes(make: Make) -> None:
    serving = make(MANY)
    before = [listed(serving, name) for name, *_ in listed(serving)]
    assert [nodeless(names) for names in before[:15]] == [[]] * 15
    assert nodeless(before[-1]) == [b"f", b"l"]
    for name, ino, node, kind in before[-1]:
        found = serving.kernel.lookup(serving.lower(b"d29"), name)
        assert found is not None
        assert (found.nodeid, found.attr.ino, found.attr.mode >> 12) == (ino, ino, kind)
        assert node in (0, ino)
    assert listed(serving, b"d29", b"s")[0][2] == 0
    assert serving.answer(serving.lower(b"d00", b"f"), METACOPY) == errno.ENODATA
    after = listed(serving, b"d29")
    assert nodeless(after) == []
    assert [(name, ino, kind) for name, ino, _, kind in after] == [
        (name, ino, kind) for name, ino, _, kind in before[-1]
    ]


def test_in_the_view_files_always_come_with_nodes(make: Make) -> None:
    """There nobody is heard to ask for them."""
    serving = make(MANY)
    for name in MANY:
        folder = serving.kernel.walk(b"trees", serving.root.hex().encode(), name.encode()).nodeid
        assert all(found.nodeid for found in serving.kernel.readdirplus(folder) if found.name not in (b".", b".."))


def test_a_large_directory_comes_in_pieces(make: Make) -> None:
    names: dict[str, Spec] = {f"{number:04}": {"x": b"x"} if number % 7 == 0 else b"f" for number in range(600)}
    serving = make({**MANY, "large": names})
    with_nodes = listed(serving, b"large")
    for name in MANY:
        listed(serving, name.encode())
    without = listed(serving, b"large")
    assert nodeless(without) == [name for name, _, _, kind in without if kind != stat.S_IFDIR >> 12]
    assert [(name, ino, kind) for name, ino, _, kind in without] == [
        (name, ino, kind) for name, ino, _, kind in with_nodes
    ]
    assert [name.decode() for name, *_ in without] == sorted(names)


# -- copies


def test_a_program_that_an_overlay_reads_is_wanted(serving: Serving) -> None:
    serving.kernel.read(serving.lower(b"bin", b"tool"), 0, 4096)
    until(lambda: len(serving.maker.asked) == 1)
    assert serving.maker.asked[0] == [serving.content(b"bin", b"tool")]
    serving.kernel.read(serving.lower(b"bin", b"tool"), 0, 4096)
    serving.kernel.read(serving.lower(b"bin", b"large"), 0, 4096)
    serving.kernel.read(serving.lower(b"bin", b"large"), 4096, 4096)
    serving.maker.finish()
    until(lambda: len(serving.maker.asked) == 2)
    assert serving.maker.asked[1] == [serving.content(b"bin", b"large")], "each once"


def test_what_is_no_program_is_not_wanted(make: Make) -> None:
    others = {
        "text": b"#!/bin/sh\n".ljust(50_000, b"#"),
        "object": program(kind=1),
        "small": program(FILE_LEAST - 1),
        "short": ELF,
        "empty": b"",
    }
    serving = make({**others, "zz": program()})
    for name in sorted(others, reverse=True):
        serving.kernel.read(serving.lower(name.encode()), 0, 4096)
    viewed = serving.kernel.walk(b"trees", serving.root.hex().encode(), b"zz").nodeid
    serving.kernel.read(viewed, 0, 4096)
    serving.kernel.read(serving.lower(b"zz"), 0, 4096)
    until(lambda: bool(serving.maker.asked))
    assert serving.maker.asked == [[serving.content(b"zz")]]


def test_who_reads_one_file_after_the_other_wants_none(make: Make) -> None:
    files: dict[str, Spec] = {f"{number:02}": program(fill=b"%02d" % number) for number in range(40)}
    serving = make({"bin": {"tool": program()}, "sbin": files})
    serving.kernel.readdirplus(serving.lower(b"sbin"))
    for number in range(40):
        serving.kernel.read(serving.lower(b"sbin", b"%02d" % number), 0, 65536)
    until(lambda: bool(serving.maker.asked))
    serving.kernel.read(serving.lower(b"bin", b"tool"), 0, 65536)
    serving.maker.finish()
    until(lambda: len(serving.maker.asked) == 2)
    # The first: nobody knows yet that he walks.
    assert serving.maker.asked == [[serving.content(b"sbin", b"00")], [serving.content(b"bin", b"tool")]]


@given(st.binary(max_size=40))
def test_any_beginning(head: bytes) -> None:
    assert is_program(head) == (head[:4] == b"\x7fELF" and int.from_bytes(head[16:18], "little") in (2, 3, 512, 768))
    assert is_program(memoryview(head)) == is_program(head)
    assert is_program(ELF + head) == (head[:2] in (b"\2\0", b"\3\0", b"\0\2", b"\0\3"))


def test_of_a_profile_the_ranges_in_copies_are_told(serving: Serving) -> None:
    for path in ((b"bin", b"tool"), (b"bin", b"large")):
        serving.copy(*path)
    large, tool, text = serving.content(b"bin", b"large"), serving.content(b"bin", b"tool"), serving.content(b"text")
    assert isinstance(large, Chunked)
    assert isinstance(tool, Data)
    chunks = [item.digest for item in list_items(serving.store, large.list)]
    assert len(chunks) > 1
    digests = [serving.root, large.list, chunks[0], tool.chunk, digest_of_copy(text)]
    save_profile(serving.caches, serving.root, digests, serving.store)
    profile = open_profile(profile_path(serving.caches, serving.root))
    assert profile is not None
    parts = serving.layer.parts(profile)
    assert parts.keys() == {*chunks, tool.chunk}
    for digest, part in parts.items():
        data = part.path.read_bytes()[part.offset : part.offset + part.length]
        assert data == serving.store.get(digest)
    profile.close()


def test_of_a_file_of_which_a_profile_has_no_chunk_the_beginning_is_told(serving: Serving) -> None:
    """Whoever noted it has read it from its copy."""
    serving.copy(b"bin", b"large")
    large = digest_of_copy(serving.content(b"bin", b"large"))
    save_profile(serving.caches, serving.root, [serving.root, large], serving.store)
    profile = open_profile(profile_path(serving.caches, serving.root))
    assert profile is not None
    part = serving.layer.parts(profile)[large]
    profile.close()
    assert (part.path, part.offset) == (bytes_path(serving.caches, large), 0)
    assert part.length >= 2_000_000


def test_who_is_told_of_a_copy_is_told_of(serving: Serving) -> None:
    told: list[Plain] = []
    serving.layer.told = told.append
    serving.copy(b"bin", b"tool")
    for path in ((b"bin", b"tool"), (b"bin", b"large")):
        serving.answer(serving.lower(*path), METACOPY)
    assert told == [serving.content(b"bin", b"tool")]


# -- the directory


def test_links_of_what_the_kernel_knows_stay(serving: Serving) -> None:
    for path in ((b"bin", b"tool"), (b"text",)):
        serving.copy(*path)
        assert serving.answer(serving.lower(*path), METACOPY) == b""
    known = serving.lower(b"text")
    (serving.data.path / "x").touch()
    serving.data.prune(known.__eq__)
    assert [number_of(name) for name in serving.links()] == [known, None]
    (serving.data.path / "x").unlink()
    assert bytes_path(serving.caches, digest_of_copy(serving.content(b"text"))).stat().st_nlink == 2
    serving.data.prune(lambda _: False)
    assert serving.links() == []
    assert serving.answer(known, METACOPY) == b"", "and are made again when they are asked for"


def test_nobody_is_waited_for(serving: Serving) -> None:
    """A worker that was stopped while it links must not stop the holder."""
    serving.copy(b"text")
    assert serving.answer(serving.lower(b"text"), METACOPY) == b""
    with (serving.data.path / LOCK).open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        with pytest.raises(BlockingIOError):
            serving.data.prune(lambda _: False)
    assert len(serving.links()) == 1


def test_what_nobody_holds_is_removed(tmp_path: Path) -> None:
    held, dead = DataDirectory.make(tmp_path), DataDirectory.make(tmp_path)
    (dead.path / "1.00").write_bytes(b"bytes")
    os.close(dead.descriptor)
    inherited = os.dup(held.descriptor)
    os.close(held.descriptor)
    (tmp_path / "data/file").touch()
    remove_stale(tmp_path)
    assert sorted(os.listdir(tmp_path / "data")) == sorted(["file", held.path.name]), "a worker that lives holds it"
    os.close(inherited)
    made = DataDirectory.make(tmp_path)
    assert sorted(os.listdir(tmp_path / "data")) == sorted(["file", made.path.name])
    made.remove()
    remove_stale(tmp_path / "nowhere")
