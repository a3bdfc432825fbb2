"""Starts of containers: what is read is noted, and comes from a profile the next time, unless that is no good."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fusefs import starts as starts_module
from fusefs.starts import Reads, Starts
from fusefs.sweep import Part
from tests.fusefs.fake_kernel import FakeKernel
from tests.support.scarcity import no_threads
from tests.support.values import file, root
from vcs.blobs import BlobWriter, put_data
from vcs.encoding import digest
from vcs.model import Chunked, Data, RootId
from vcs.profiles import open_profile, profile_path, save_profile
from vcs.snapshot import Profile
from vcs.testing import MemoryStore

FILES = {f"f{number}": b"%d" % number * 5000 for number in range(6)}
LARGE = bytes(range(256)) * 8000


class Clock:
    """A time that tests set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Machine:
    """A store with one root, and the mount of a service that has just started."""

    kernel: FakeKernel = None  # type: ignore[assignment]

    def __init__(self, tmp_path: Path) -> None:
        self.store = MemoryStore()
        writer = BlobWriter(self.store)
        writer.feed(LARGE)
        self.root = root(self.store, {"bin": dict(FILES), "large": file(writer.finish())})
        self.path = profile_path(tmp_path, self.root)
        self.begin()

    def begin(self) -> None:
        """Another service: it remembers nothing."""
        self.close()
        self.clock = Clock()
        self.starts = Starts(self.store, self.clock)
        self.kernel = FakeKernel(self.starts)

    def close(self) -> None:
        if self.kernel is not None:
            self.kernel.__exit__(None, None, None)

    def start(self, number: int = 1) -> None:
        self.starts.begin(number, self.root, self.path)

    def read(self, *names: str, offset: int = 0, size: int = 1 << 20) -> bytes:
        path = (name.encode() for name in names)
        node = self.kernel.walk(b"trees", self.root.hex().encode(), *path).nodeid
        return self.kernel.read(node, offset, size)

    def keep(self, reads: Reads) -> None:
        """What the runtime does with it."""
        save_profile(self.path.parent, self.root, reads.objects, self.store)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path)
    yield made
    made.close()


def test_a_start_notes_what_is_read_in_order(machine: Machine) -> None:
    machine.start()
    for name in ("f3", "f1", "f3"):
        machine.read("bin", name)
    reads = machine.starts.finish(1)
    chunks = [digest(FILES[name]) for name in ("f3", "f1")]
    assert [found for found in reads.objects if found in chunks] == chunks
    assert machine.root in reads.objects, "what leads to the files is noted too"
    assert len(set(reads.objects)) == len(reads.objects)
    assert reads.size == reads.new == sum(len(machine.store.get(found)) for found in reads.objects)
    assert machine.starts.finish(1) == Reads()


def test_what_is_read_before_and_after_is_not_noted(machine: Machine) -> None:
    machine.read("bin", "f0")
    machine.start()
    machine.read("bin", "f1")
    machine.clock.now += starts_module.SECONDS
    machine.read("bin", "f2")
    found = machine.starts.finish(1).objects
    assert digest(FILES["f1"]) in found
    assert digest(FILES["f0"]) not in found
    assert digest(FILES["f2"]) not in found


def test_the_next_start_reads_from_the_profile(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.start()
    expected = machine.read("bin", "f1"), machine.read("large")
    machine.keep(machine.starts.finish(1))
    machine.begin()
    machine.start()
    get, asked = machine.store.get, []

    def watched(digest: bytes) -> bytes:
        asked.append(digest)
        return get(digest)

    monkeypatch.setattr(machine.store, "get", watched)
    assert (machine.read("bin", "f1"), machine.read("large")) == expected == (FILES["f1"], LARGE[: 1 << 20])
    assert asked == []
    assert machine.starts.profiled > 0
    machine.read("bin", "f2")
    assert digest(FILES["f2"]) in asked
    reads = machine.starts.finish(1)
    assert reads.new == len(FILES["f2"])
    machine.read("bin", "f1")
    assert digest(FILES["f1"]) in asked, "once it is over, the profile is closed"


def test_what_is_in_a_plain_copy_is_read_from_there(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not from the profile, unless somebody asks for it nevertheless."""
    machine.start()
    machine.read("bin", "f1")
    machine.read("bin", "f2")
    machine.keep(machine.starts.finish(1))
    machine.begin()
    copy, copied, other = tmp_path / "copy", digest(FILES["f1"]), digest(FILES["f2"])
    copy.write_bytes(bytes(9000))
    machine.starts.parts = lambda _: {copied: Part(copy, 100, 200)}
    got, told = [], []
    real_get, real_advise = Profile.get, os.posix_fadvise

    def get(self: Profile, wanted: bytes) -> bytes | None:
        got.append(wanted)
        return real_get(self, wanted)

    def advise(fd: int, offset: int, length: int, advice: int) -> None:
        told.append((os.readlink(f"/proc/self/fd/{fd}"), offset, length, advice))
        real_advise(fd, offset, length, advice)

    monkeypatch.setattr(Profile, "get", get)
    monkeypatch.setattr(os, "posix_fadvise", advise)
    machine.start()
    machine.starts._numbered[1]._reader.join()  # type: ignore[union-attr]
    assert (str(copy), 100, 200, os.POSIX_FADV_WILLNEED) in told
    assert copied not in got
    assert other in got
    profiled = [(offset, length) for name, offset, length, _ in told if name == str(machine.path)]
    place = machine.path.read_bytes().index(FILES["f1"])
    assert all(offset + length <= place or offset >= place + len(FILES["f1"]) for offset, length in profiled)
    assert machine.read("bin", "f1") == FILES["f1"]
    assert copied in got
    machine.starts.finish(1)


def test_what_overlays_have_from_copies_is_noted_too(machine: Machine) -> None:
    content = put_data(machine.store, FILES["f4"])
    assert isinstance(content, Data)
    large = machine.kernel.filesystem.node(machine.kernel.walk(b"trees", machine.root.hex().encode(), b"large").nodeid)
    assert isinstance(large.entry.content, Chunked)
    machine.starts.note_copy(content)
    machine.start()
    machine.starts.note_copy(content)
    machine.starts.note_copy(large.entry.content)
    reads = machine.starts.finish(1)
    assert reads.objects == (content.chunk, large.entry.content.list)
    assert content.size < reads.size < content.size + len(LARGE) // 100
    machine.keep(reads)
    profile = open_profile(machine.path)
    assert profile is not None
    assert [item.digest for item in profile.items] == [*reads.objects]
    profile.close()


@pytest.mark.parametrize("is_cold", [True, False])
def test_without_a_thread_the_profile_is_read_piece_by_piece(machine: Machine, is_cold: bool) -> None:
    machine.start()
    machine.read("bin", "f1")
    machine.keep(machine.starts.finish(1))
    machine.begin()
    if not is_cold:
        machine.start()
        machine.starts.finish(1)
    with no_threads():
        machine.start()
        assert machine.read("bin", "f1") == FILES["f1"]
    assert machine.starts.profiled > 0
    assert machine.starts.finish(1).new == 0


def test_a_damaged_profile_costs_nothing_but_time(machine: Machine) -> None:
    machine.start()
    machine.read("bin", "f1")
    machine.keep(machine.starts.finish(1))
    data = bytearray(machine.path.read_bytes())
    place = data.index(FILES["f1"])
    data[place] ^= 1
    machine.path.write_bytes(data)
    machine.begin()
    machine.start()
    assert machine.read("bin", "f1") == FILES["f1"]
    machine.starts.finish(1)
    machine.path.write_bytes(b"something else")
    machine.begin()
    machine.start()
    before = machine.starts.profiled
    assert machine.read("bin", "f1") == FILES["f1"]
    assert machine.starts.profiled == before


def test_a_start_soon_after_another_reads_nothing_unasked(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its files are in the page cache, most likely. If they are not, the first that is asked for tells."""
    machine.start()
    machine.read("bin", "f1")
    machine.keep(machine.starts.finish(1))
    machine.begin()
    warmed: list[Profile] = []
    monkeypatch.setattr(Profile, "warm", lambda self, _: warmed.append(self))
    machine.start(1)
    machine.starts.finish(1)
    assert len(warmed) == 1
    machine.start(2)
    machine.starts.finish(2)
    assert len(warmed) == 1
    machine.start(3)
    machine.read("bin", "f1")
    machine.read("bin", "f1")
    machine.starts.finish(3)
    assert len(warmed) == 2
    machine.clock.now += 3600
    machine.start(4)
    machine.starts.finish(4)
    assert len(warmed) == 3


def test_a_start_notes_so_much_and_no_more(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starts_module, "_BYTES_MAX", 12_000)
    machine.start()
    for name in FILES:
        machine.read("bin", name)
    assert machine.starts.finish(1).size <= 12_000


def test_so_many_starts_at_once_are_followed(machine: Machine) -> None:
    for number in range(100):
        machine.start(number)
    machine.read("bin", "f1")
    followed = [number for number in range(100) if machine.starts.finish(number).objects]
    assert followed == list(range(16))
    machine.start(200)
    machine.read("bin", "f1")
    assert machine.starts.finish(200).objects


def test_messages_of_the_holder(machine: Machine) -> None:
    assert machine.starts.told({"starting": 5, "root": machine.root.hex(), "profile": None}) is None
    machine.read("bin", "f1")
    reply = machine.starts.told({"started": 5})
    assert reply is not None
    assert reply["reads"] == 5
    assert digest(FILES["f1"]).hex() in reply["objects"]
    assert reply["size"] == reply["new"] > len(FILES["f1"])
    assert machine.starts.told({"started": 6}) == {"reads": 6, "objects": [], "size": 0, "new": 0}


def test_readers_are_told_what_is_expected_unless_the_profile_has_it(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected: list[bytes] = []
    tell: Callable[[Any], None] = expected.extend
    monkeypatch.setattr(machine.store, "expect", tell)
    machine.start()
    assert machine.read("large") == LARGE[: 1 << 20]
    assert len(expected) > 2
    machine.keep(machine.starts.finish(1))
    machine.begin()
    expected.clear()
    machine.start()
    profiled = machine.read("large")
    assert profiled == LARGE[: 1 << 20]
    assert not set(expected) & set(machine.starts.finish(1).objects)


def test_another_roots_profile_serves_what_it_has(machine: Machine) -> None:
    """A child commit's container starts with the profile of its parent: what both have comes from there."""
    machine.start()
    machine.read("bin", "f1")
    machine.keep(machine.starts.finish(1))
    machine.root = RootId(root(machine.store, {"bin": {**FILES, "f2": b"changed"}}))
    machine.begin()
    machine.start()
    assert machine.read("bin", "f1") == FILES["f1"]
    assert machine.starts.profiled > 0
    assert machine.read("bin", "f2") == b"changed"
    machine.starts.finish(1)


def test_while_a_container_starts_nothing_is_read_alone(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is noted, and comes from the profile the next time, is whole objects."""
    monkeypatch.setattr(machine.store, "part", lambda digest, start, end: machine.store.objects[digest][start:end])
    chunk = digest(FILES["f1"])
    assert machine.starts.part(chunk, 1, 5) == FILES["f1"][1:5]
    machine.start()
    assert machine.starts.part(chunk, 1, 5) is None
    machine.starts.finish(1)
    assert machine.starts.part(chunk, 1, 5) == FILES["f1"][1:5]
