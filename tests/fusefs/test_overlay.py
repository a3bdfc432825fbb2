"""A snapshot as an overlay's lower, with the options that containers get."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fusefs.serving import needs_fuse, overlay, serving
from tests.support.rich_tree import NOBODY, acl
from tests.support.values import directory, file, link, root
from vcs.blobs import BlobWriter, put_data
from vcs.model import Device, Entry, Link, RootId
from vcs.testing import MemoryStore

pytestmark = needs_fuse

TERA = 1 << 40
SYNTHETIC_METACOPY = ((b"trusted.overlay.metacopy", b""), (b"trusted.overlay.redirect", b"/secret"))


def sample(store: MemoryStore) -> RootId:
    writer = BlobWriter(store)
    writer.feed(b"head")
    writer.hole(TERA)
    writer.feed(b"tail")
    hard = file(put_data(store, b"linked"), link=Link(b"g" * 16, 2))
    readable = acl((1, 6, NOBODY), (2, 4, 4242), (4, 0, NOBODY), (16, 4, NOBODY), (32, 0, NOBODY))
    opaque = directory(store, {"inside": b"inside"}, xattrs=((b"trusted.overlay.opaque", b"y"),))
    return root(
        store,
        {
            "bin": {"tool": file(put_data(store, b"tool"), 0o4755), "alias": link("tool")},
            "big": b"b" * 400_000,
            "sparse": file(writer.finish()),
            "hard": {"a": hard, "b": hard},
            "guarded": file(put_data(store, b"guarded"), 0o640, xattrs=((b"system.posix_acl_access", readable),)),
            "secret": file(put_data(store, b"secret"), 0o600),
            "trap": file(put_data(store, b"trap"), xattrs=SYNTHETIC_METACOPY),
            "opaque": opaque,
            "null": Entry(b"", stat.S_IFCHR | 0o666, 0, 0, 0, Device(1, 3)),
            "dir": {"one": b"1", "two": b"2", "sub": {"three": b"3"}},
        },
    )


@pytest.fixture
def merged(tmp_path: Path) -> Iterator[Path]:
    store = MemoryStore()
    store.add_commit(sample(store), "main")
    lower = tmp_path / "mnt"
    with serving(store, lower) as point, overlay((point / "branches/main").resolve(), tmp_path / "overlay") as merged:
        yield merged


def upper(merged: Path) -> Path:
    return merged.parent / "upper"


def test_reading(merged: Path) -> None:
    assert sorted(os.listdir(merged / "dir")) == ["one", "sub", "two"]
    assert (merged / "bin/alias").read_bytes() == b"tool"
    assert (merged / "big").read_bytes() == b"b" * 400_000
    assert stat.S_IMODE(os.stat(merged / "bin/tool").st_mode) == 0o4755
    (merged / "null").write_bytes(b"gone")
    assert (merged / "null").read_bytes() == b""
    assert os.stat(merged / "hard/a").st_ino == os.stat(merged / "hard/b").st_ino
    assert os.stat(merged / "hard/a").st_nlink == 2


def test_writing(merged: Path) -> None:
    (merged / "dir/one").write_bytes(b"changed")
    (merged / "dir/new").write_bytes(b"new")
    os.unlink(merged / "dir/two")
    os.rename(merged / "dir", merged / "moved")
    os.chmod(merged / "big", 0o600)
    assert (merged / "moved/one").read_bytes() == b"changed"
    assert sorted(os.listdir(merged / "moved")) == ["new", "one", "sub"]
    assert (merged / "moved/sub/three").read_bytes() == b"3"
    assert not (merged / "dir").exists()
    assert os.getxattr(upper(merged) / "moved", "trusted.overlay.redirect") == b"dir"
    assert os.getxattr(upper(merged) / "big", "trusted.overlay.metacopy") == b""
    assert os.stat(upper(merged) / "big").st_blocks * 512 <= 4096, "chmod copies no data"
    assert (merged / "big").read_bytes() == b"b" * 400_000


def test_a_sparse_terabyte_is_copied_up_without_its_hole(merged: Path) -> None:
    with open(merged / "sparse", "r+b", buffering=0) as opened:
        os.pwrite(opened.fileno(), b"new!", 100)
    status = os.stat(upper(merged) / "sparse")
    assert status.st_size == TERA + 8
    assert status.st_blocks * 512 < 8 << 20, "overlayfs copies a megabyte at a time"
    with open(merged / "sparse", "rb", buffering=0) as opened:
        assert os.pread(opened.fileno(), 8, 98) == b"\0\0new!\0\0"
        assert os.pread(opened.fileno(), 10, TERA + 4) == b"tail"


def test_overlay_attributes_inside_a_commit_are_not_obeyed(merged: Path) -> None:
    """With metacopy=on a raw one would show another file's content: here the one that only root may read."""
    assert (merged / "trap").read_bytes() == b"trap"
    assert os.listdir(merged / "opaque") == ["inside"]
    assert os.getxattr(merged / "trap", "trusted.overlay.redirect") == b"/secret", "a container sees what it set"
    assert "trusted.overlay.metacopy" in os.listxattr(merged / "trap")


def as_user(uid: int, action: Callable[[], object]) -> int:
    """What a process of another user gets: 0, or the errno."""
    child = os.fork()
    if not child:
        status = 255
        try:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            action()
            status = 0
        except OSError as error:
            status = error.errno or 254
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_access_lists_are_enforced(merged: Path) -> None:
    root_fd = os.open(merged, os.O_PATH | os.O_DIRECTORY)  # pytest's own directories let nobody else through
    try:

        def read(name: str) -> None:
            os.close(os.open(name, os.O_RDONLY, dir_fd=root_fd))

        assert as_user(4242, lambda: read("guarded")) == 0
        assert as_user(4343, lambda: read("guarded")) == 13
        assert as_user(4343, lambda: read("secret")) == 13
        assert as_user(4343, lambda: read("big")) == 0
    finally:
        os.close(root_fd)
