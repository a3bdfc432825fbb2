"""Archives as real tools make them give the same root as the directory they were made from."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.support import rich_tree
from tests.support.rich_tree import needs_root
from vcs.errors import BadInput
from vcs.importer import import_directory
from vcs.model import Chunked, Entry
from vcs.snapshot import Snapshot
from vcs.tar_import import import_tar
from vcs.testing import MemoryStore

ALL = ["--xattrs", "--xattrs-include=*", "--acls"]
COMPRESSORS = {"gzip": "gzip", "bzip2": "bzip2", "xz": "xz -T2", "zstd": "zstd -T2 --long=27"}


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rich_tree.make(tmp_path_factory.mktemp("tar") / "source", sockets=False, linked_specials=False)


def gnu_tar(source: Path, *options: str, names: tuple[str, ...] = (".",)) -> bytes:
    return subprocess.run(["tar", *options, "-C", source, "-cf", "-", *names], capture_output=True, check=True).stdout


def read(data: bytes) -> Snapshot:
    store = MemoryStore()
    return Snapshot(store, import_tar(io.BytesIO(data), store).root)


def text(snapshot: Snapshot, *aspects: str) -> dict[bytes, tuple[object, ...]]:
    return {
        path: tuple(getattr(entry, aspect) for aspect in aspects) for path, entry in snapshot.walk() if path != b"/"
    }


@needs_root
@pytest.mark.parametrize("sparse", ["0.0", "0.1", "1.0"])
def test_a_posix_archive_is_the_same_root_as_its_directory(rich: Path, sparse: str) -> None:
    store = MemoryStore()
    data = gnu_tar(rich, "--format=posix", f"--sparse-version={sparse}", "--sparse", *ALL)
    result = import_tar(io.BytesIO(data), store)
    direct = import_directory(store, rich)
    assert result.root == direct.root
    assert (result.entries, result.size) == (direct.entries, direct.size)


@needs_root
def test_acls_as_text_only(rich: Path) -> None:
    """`tar --acls` alone writes text; the numbers in the tree have no names on this machine."""
    data = gnu_tar(rich, "--format=posix", "--acls", names=("./acl", "./defaults"))
    view = read(data)
    assert view.lookup(b"acl").xattrs == ((b"system.posix_acl_access", rich_tree.ACCESS),)
    assert view.lookup(b"defaults").xattrs == ((b"system.posix_acl_default", rich_tree.DEFAULT),)


@needs_root
@pytest.mark.parametrize("form", ["gnu", "oldgnu", "ustar", "v7"])
def test_older_formats_keep_what_they_can(rich: Path, tmp_path: Path, form: str) -> None:
    source = tmp_path / "plain"
    shutil.copytree(rich, source, symlinks=True, ignore=lambda _d, names: [n for n in names if not _plain(form, n)])
    os.link(source / "small", source / "another")
    source_view = Snapshot(store := MemoryStore(), import_directory(store, source).root)
    sparse = ["--sparse"] if form in ("gnu", "oldgnu") else []
    view = read(gnu_tar(source, f"--format={form}", "--mtime=@1234567890", *sparse))
    aspects = ("mode", "uid", "gid", "content", "link") if sparse else ("mode", "uid", "gid", "size", "link")
    files = {p: a for p, a in text(view, *aspects).items() if not view.lookup(p).is_dir}
    assert files == {p: a for p, a in text(source_view, *aspects).items() if not source_view.lookup(p).is_dir}
    assert {entry.mtime for _, entry in view.walk()} == {1234567890 * 10**9}
    assert text(view, "mode", "uid").keys() == text(source_view, "mode", "uid").keys()


def _plain(form: str, name: str) -> bool:
    special = {"fifo", "fifo-link", "null", "null-link", "disk", "whiteout"}
    if name in special | {"socket"} or name.startswith(("acl", "xattrs", "capable", "z-link")):
        return False
    if form in ("gnu", "oldgnu"):
        return True
    # ustar and v7 have no long names and no large numbers, and the 3 GiB sparse file would be written out.
    return len(os.fsencode(name)) < 20 and name not in ("sparse", "nobody", "dangling")


@needs_root
def test_gnu_long_names_numbers_and_times(tmp_path: Path) -> None:
    long = tmp_path / "top" / "/".join(["d" * 100] * 5)
    long.mkdir(parents=True)
    (long / "file").touch()
    (long / "link").symlink_to("t" * 300)
    os.link(long / "file", long / "hard")
    os.chown(long / "file", 4_000_000_000, 3_000_000)
    os.utime(long / "file", (-100, -100))
    store = MemoryStore()
    data = gnu_tar(tmp_path / "top", "--format=gnu")
    got = Snapshot(store, import_tar(io.BytesIO(data), store).root)
    expected = Snapshot(store, import_directory(store, tmp_path / "top").root)
    aspects = ("mode", "uid", "gid", "content", "link")
    files = [p for p, e in expected.walk() if not e.is_dir]
    assert len(files) == 3
    for path in files:
        assert [getattr(got.lookup(path), a) for a in aspects] == [getattr(expected.lookup(path), a) for a in aspects]
    assert got.lookup(files[0]).mtime == -100 * 10**9


@needs_root
def test_an_old_gnu_sparse_file_with_extension_blocks(rich: Path) -> None:
    view = read(gnu_tar(rich, "--format=gnu", "--sparse", names=("sparse",)))
    store = MemoryStore()
    direct = Snapshot(store, import_directory(store, rich).root).lookup(b"sparse")
    content = view.lookup(b"sparse").content
    assert isinstance(content, Chunked)
    assert content == direct.content
    assert content.size == rich_tree.SPARSE_SIZE


@needs_root
@pytest.mark.parametrize("name", COMPRESSORS)
def test_compressed(rich: Path, name: str) -> None:
    store = MemoryStore()
    data = gnu_tar(rich, "--format=posix", "--sparse", *ALL, f"--use-compress-program={COMPRESSORS[name]}")
    assert import_tar(io.BytesIO(data), store).root == import_directory(store, rich).root


@needs_root
def test_from_a_pipe(rich: Path) -> None:
    store = MemoryStore()
    command: list[str | Path] = ["tar", "--format=posix", "--sparse", *ALL, "-C", rich, "-cf", "-", "."]
    with subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdout
        result = import_tar(process.stdout, store)
    assert process.returncode == 0
    assert result.root == import_directory(store, rich).root


@needs_root
@pytest.mark.skipif(not shutil.which("bsdtar"), reason="needs bsdtar (libarchive-tools)")
@pytest.mark.parametrize("form", ["pax", "gnutar", "ustar"])
def test_bsdtar(rich: Path, form: str) -> None:
    # libarchive's other formats have no room for these, and drop an ACL's mask from the mode.
    names = ("*" + "n" * 200, "*nobody", "*dangling", "sparse", "z-link", "acl")
    left_out = [f"--exclude={name}" for name in names] if form != "pax" else []
    command = ["bsdtar", f"--format={form}", "--numeric-owner", "-C", str(rich), *left_out, "-cf", "-", "."]
    view = read(subprocess.run(command, capture_output=True, check=form == "pax").stdout)
    direct = Snapshot(store := MemoryStore(), import_directory(store, rich).root)
    assert len(list(view.walk())) > 20
    for path, entry in view.walk():
        other = direct.lookup(path)
        assert (entry.mode, entry.uid, entry.gid) == (other.mode, other.uid, other.gid), path
        if form == "pax":
            assert _comparable(entry) == _comparable(other), path


def _comparable(entry: Entry) -> tuple[object, ...]:
    # libarchive stores no trusted.* attributes, and reads capabilities with an option only.
    kept = [pair for pair in entry.xattrs if pair[0].startswith((b"user.", b"system."))]
    # Of a time before 1970 it writes the fraction without borrowing: -2.5 for what POSIX and GNU call -1.5.
    time = max(entry.mtime, 0)
    return entry.name, time, kept, entry.link, entry.size


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_pythons_tarfile(form: int) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for number in range(3):
            member = tarfile.TarInfo(f"{'d' * 60}/{'e' * 60}/{number}")
            member.size, member.mode, member.mtime, member.uid = number, 0o640, 1234, 7
            archive.addfile(member, io.BytesIO(b"x" * number))
    view = read(out.getvalue())
    entries = [entry for _, entry in view.walk() if entry.is_file]
    assert [(e.size, e.mode & 0o7777, e.mtime, e.uid) for e in entries] == [
        (n, 0o640, 1234 * 10**9, 7) for n in range(3)
    ]


@pytest.mark.parametrize("options", [("gnu",), ("posix", "--sparse-version=0.1"), ("posix", "--sparse-version=1.0")])
def test_a_terabyte_of_nothing(tmp_path: Path, options: tuple[str, ...]) -> None:
    with open(tmp_path / "huge", "wb") as file:
        file.seek(1 << 40)
        file.write(b"end")
    form, *more = options
    view = read(gnu_tar(tmp_path, f"--format={form}", *more, "--sparse", names=("huge",)))
    direct = Snapshot(store := MemoryStore(), import_directory(store, tmp_path).root)
    assert view.lookup(b"huge").content == direct.lookup(b"huge").content


def test_an_empty_archive_and_none_at_all() -> None:
    root = read(subprocess.run(["tar", "-T/dev/null", "-cf-"], capture_output=True, check=True).stdout).root
    assert (root.mode & 0o7777, root.uid, root.mtime) == (0o755, 0, 0)
    with pytest.raises(BadInput, match="truncated"):
        read(b"")
    with pytest.raises(BadInput, match="not a tar header"):
        read(b"#!/bin/sh\n" * 200)
