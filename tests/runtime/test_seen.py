"""What a scan saw: kept, found again, and not relied on where it must not be."""

from __future__ import annotations

import mmap
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runtime.capturing.openfiles import open_files, processes_of
from runtime.upper import Distrust, seen, watch
from runtime.upper.look import Hints, look_at, look_everywhere
from tests.runtime.overlay_cases import Layers, needs_root

pytestmark = needs_root

LATER = 1 << 62


@pytest.fixture
def layers(tmp_path: Path) -> Layers:
    made = Layers(tmp_path)
    (made.lower / "etc").mkdir()
    (made.lower / "etc/motd").write_text("base")
    assert made.base
    (made.upper / "d/sub").mkdir(parents=True)
    for name in ("a", "d/b", "d/sub/c", "d/sub/odd\nname"):
        (made.upper / name).write_text(name)
    return made


def test_it_is_found_again(layers: Layers, tmp_path: Path) -> None:
    first = layers.scan(since=LATER).seen
    path = tmp_path / "seen"
    seen.save(path, first, b"boot")
    found = seen.load(path, layers.base.id, b"boot")
    assert found is not None
    assert vars(found) == vars(first)
    assert (found.files, found.plain) == (4, True)
    assert found.directories[b"d/sub"].names == [b"c", b"odd\nname"]
    assert look_everywhere(layers.upper, found) == {}


def test_another_boot_another_base_and_damage(layers: Layers, tmp_path: Path) -> None:
    path = tmp_path / "seen"
    assert seen.load(path, layers.base.id, b"boot") is None
    assert not seen.is_damaged(path)
    first = layers.scan(since=LATER).seen
    seen.save(path, first, b"boot")
    assert seen.load(path, layers.base.id, b"another boot") is None
    assert seen.load(path, first.root, b"boot") is None
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert seen.is_damaged(path)
    assert seen.load(path, layers.base.id, b"boot") is None
    for left in (b"", bytes(len(data))):  # by a power cut
        path.write_bytes(left)
        assert not seen.is_damaged(path)
        assert seen.load(path, layers.base.id, b"boot") is None


def test_a_file_that_has_just_changed_is_not_relied_on(layers: Layers) -> None:
    first = layers.scan().seen
    assert set(first.directories[b"d"].ctimes) == {0}
    assert look_everywhere(layers.upper, first)[b"d"].names == {b"b"}
    assert layers.scan(before=first).files == 4


def test_distrusted_files_are_read_again(layers: Layers) -> None:
    first = layers.scan(since=LATER).seen
    inode = (layers.upper / "a").stat().st_ino
    distrust = Distrust(frozenset({b"d/b"}), frozenset({inode}))
    hints = Hints(inodes={inode}, paths={b"d/b", b"nowhere/x", b"d"})
    changes = look_at(first, hints)
    assert {path: change.names for path, change in changes.items()} == {b"": {b"a"}, b"d": {b"b"}}
    again = layers.scan(before=first, changes=changes, distrust=distrust, since=LATER)
    assert (again.files, again.root) == (2, first.root)
    assert [again.seen.directories[path].ctimes[0] for path in (b"", b"d")] == [0, 0]


def test_files_of_a_moved_directory_are_not_read(layers: Layers) -> None:
    first = layers.scan(since=LATER).seen
    (layers.upper / "d").rename(layers.upper / "moved")
    again = layers.scan(before=first)
    assert again.files == 0
    assert again.root == layers.scan().root


@pytest.mark.skipif(watch._linux() < watch._FIRST_LINUX, reason="needs Linux 6.6")
def test_the_kernel_tells_what_happens_below_an_overlay(layers: Layers) -> None:
    with layers.mounted() as merged:
        told = watch.watched(layers.upper)
        assert told is not None
        try:
            inode = {name: (layers.upper / name).stat().st_ino for name in ("a", "d/b", "d/sub/c")}
            directory = {name: (layers.upper / name).stat().st_ino for name in (".", "d", "d/sub")}
            (merged / "a").write_text("written")
            (merged / "d/b").chmod(0o600)
            (merged / "new").touch()
            (merged / "etc/motd").unlink()
            (merged / "d/sub").rename(merged / "renamed")
            told.read()
        finally:
            told.close()
    assert told.complete
    assert {inode["a"], inode["d/b"]} <= told.hints.inodes
    assert inode["d/sub/c"] not in told.hints.inodes
    assert told.hints.names[directory["."]] >= {b"new", b"etc", b"renamed"}
    assert told.hints.names[directory["d"]] == {b"sub"}


@pytest.mark.skipif(watch._linux() < watch._FIRST_LINUX, reason="needs Linux 6.6")
def test_a_file_that_cannot_be_looked_up_is_not_taken_for_one_that_is_gone(layers: Layers) -> None:
    """What was told of it would be lost, and a commit would take it for unchanged."""
    told = watch.watched(layers.upper)
    assert told is not None
    try:
        (layers.upper / "gone").touch()
        (layers.upper / "gone").unlink()
        told.read()
        assert told.complete
        inode = (layers.upper / "a").stat().st_ino
        (layers.upper / "a").write_text("written")
        with no_more_descriptors():
            told.read()
        assert not told.complete
        assert inode not in told.hints.inodes
        (layers.upper / "a").write_text("again")
        told.read()
        assert inode in told.hints.inodes
    finally:
        told.close()


@contextmanager
def no_more_descriptors() -> Iterator[None]:
    """This process can open nothing meanwhile."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_where_nothing_can_be_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError):
        watch.Watch(tmp_path / "none")
    assert watch.watched(tmp_path / "none") is None
    monkeypatch.setattr(watch, "_FIRST_LINUX", (99, 0))
    assert watch.watched(tmp_path) is None


def test_open_and_mapped_files(tmp_path: Path) -> None:
    names = ("mapped", "readonly", "written", "read", "gone", "linked", "other\nname")
    paths = {name: tmp_path / name for name in names}
    for path in paths.values():
        path.write_bytes(b"x" * 4096)
    files = {name: paths[name].open("rb" if name in ("read", "readonly") else "r+b") for name in names}
    maps = [mmap.mmap(files[name].fileno(), 4096) for name in ("mapped", "other\nname")]
    maps.append(mmap.mmap(files["readonly"].fileno(), 4096, prot=mmap.PROT_READ))
    for name in ("mapped", "readonly", "other\nname"):
        files[name].close()
    (tmp_path / "still").hardlink_to(paths["linked"])
    for name in ("gone", "linked"):
        paths[name].unlink()
    try:
        found = open_files([os.getpid(), 1 << 30])
    finally:
        for memory in maps:
            memory.close()
        for file in files.values():
            file.close()
    here = {name: os.fsencode(path)[1:] for name, path in paths.items()}
    assert {here["mapped"], here["readonly"], here["other\nname"]} <= found.mapped
    assert here["written"] in found.writable
    assert here["read"] not in found.writable
    assert found.nameless == {(tmp_path / "still").stat().st_ino}
    assert os.getpid() in processes_of(os.getpid())
