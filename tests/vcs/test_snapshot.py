"""The read interface: finding, resolving, walking and reading."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.values import Spec, file, link, root
from vcs.blobs import BlobWriter
from vcs.errors import BadInput, NotFound
from vcs.model import EMPTY_FILE, Chunked, Data
from vcs.snapshot import Snapshot, split_path
from vcs.testing import MemoryStore

TREE: Spec = {
    "etc": {"passwd": b"root", "alternatives": {}, "odd\n\xff": b"x", b"\xff\xfe": b"raw"},
    "bin": link("usr/bin"),
    "usr": {"bin": {"sh": link("dash"), "dash": b"#!"}, "lib": {"up": link("../.."), "abs": link("/etc")}},
    "loop": link("loop"),
    "out": link("../../../etc"),
    "dangling": link("nowhere/at/all"),
}


@pytest.fixture
def snapshot() -> Snapshot:
    store = MemoryStore()
    return Snapshot(store, root(store, TREE))


def test_paths_are_found_however_they_are_written(snapshot: Snapshot) -> None:
    for path in (b"/etc/passwd", b"etc/passwd", b"//etc/./passwd/", b"./etc//passwd"):
        assert snapshot.lookup(path).name == b"passwd"
    for path in (b"", b"/", b".", b"//"):
        assert snapshot.lookup(path) is snapshot.root
    assert snapshot.lookup(b"etc/\xff\xfe").content == Data(3, snapshot.lookup(b"etc/\xff\xfe").content.chunk)  # type: ignore[union-attr]


@pytest.mark.parametrize("path", [b"nothing", b"etc/passwd/x", b"bin/sh", b"etc/Passwd"])
def test_what_is_not_there(snapshot: Snapshot, path: bytes) -> None:
    assert snapshot.find(path) is None
    with pytest.raises(NotFound) as caught:
        snapshot.lookup(path)
    assert caught.value.facts["path"] == path


def test_dots_that_lead_upwards_are_refused_where_links_are_not_followed(snapshot: Snapshot) -> None:
    with pytest.raises(BadInput, match=r"\.\."):
        snapshot.lookup(b"etc/../etc")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"bin/sh", b"/usr/bin/dash"),
        (b"usr/lib/up/etc/passwd", b"/etc/passwd"),
        (b"usr/lib/abs", b"/etc"),
        (b"usr/lib/abs/../etc/passwd", b"/etc/passwd"),
        (b"out", b"/etc"),
        (b"../../..", b"/"),
        (b"dangling", b"/nowhere/at/all"),
        (b"etc/new/er", b"/etc/new/er"),
        (b"/", b"/"),
    ],
)
def test_links_are_followed_inside_the_root(snapshot: Snapshot, path: bytes, expected: bytes) -> None:
    assert snapshot.resolve(path) == expected


def test_a_loop_of_links_ends(snapshot: Snapshot) -> None:
    with pytest.raises(BadInput, match="too many"):
        snapshot.resolve(b"loop/x")


def test_a_walk_meets_parents_first_and_names_in_byte_order(snapshot: Snapshot) -> None:
    paths = [path for path, _ in snapshot.walk()]
    assert paths[0] == b"/"
    assert len(paths) == len(set(paths)) == snapshot.root.content.entries + 1  # type: ignore[union-attr]
    assert paths == sorted(paths, key=lambda path: path.split(b"/"))
    assert [path for path, _ in snapshot.walk(b"usr/bin")] == [b"/usr/bin", b"/usr/bin/dash", b"/usr/bin/sh"]
    assert [path for path, _ in snapshot.walk(b"/etc/passwd")] == [b"/etc/passwd"]
    for path, entry in snapshot.walk():
        assert snapshot.lookup(path) == entry


def test_a_file_has_no_directory(snapshot: Snapshot) -> None:
    with pytest.raises(BadInput, match="not a directory"):
        snapshot.directory(snapshot.lookup(b"etc/passwd"))


@given(st.integers(0, 3000), st.integers(0, 3000))
def test_reading_a_range_is_slicing(offset: int, size: int) -> None:
    store = MemoryStore()
    writer = BlobWriter(store)
    writer.feed(b"abc" * 300)
    writer.hole(500)
    writer.feed(b"xyz" * 300)
    content = writer.finish()
    whole = b"abc" * 300 + bytes(500) + b"xyz" * 300
    snapshot = Snapshot(store, root(store, {"f": file(content), "small": b"small", "empty": file(EMPTY_FILE)}))
    assert isinstance(content, Chunked)
    assert snapshot.read(content, offset, size) == whole[offset : offset + size]
    assert snapshot.read(content) == whole
    small = snapshot.lookup(b"small").content
    assert isinstance(small, Data)
    assert snapshot.read(small, offset, size) == b"small"[offset : offset + size]
    assert snapshot.read(EMPTY_FILE, offset, size) == b""


@given(st.lists(st.sampled_from([b"", b".", b"a", b"\xff", b"a b"]), max_size=6))
def test_splitting_a_path_keeps_its_names(parts: list[bytes]) -> None:
    assert split_path(b"/".join(parts)) == [part for part in parts if part not in (b"", b".")]
