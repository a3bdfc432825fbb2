"""Attributes of real files, read as an entry's fields."""

from __future__ import annotations

import errno
import os
import socket
import stat
import subprocess
from pathlib import Path

import pytest

from vcs.attributes import (
    entry_of,
    is_kept,
    pinned_symlink,
    read_error,
    read_pinned_xattrs,
    read_xattrs,
    special_content,
)
from vcs.errors import BadInput, Denied, NoSpace
from vcs.model import EMPTY_FILE, Device, Special, Symlink

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def pinned(path: Path) -> int:
    return os.open(path, os.O_PATH | os.O_NOFOLLOW)


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("user.x", True),
        ("trusted.x", True),
        ("security.capability", True),
        ("security.ima", True),
        ("system.posix_acl_access", True),
        ("system.posix_acl_default", True),
        ("security.selinux", False),
        ("security.apparmor", False),
        ("security.SMACK64EXEC", False),
        ("security.evm", False),
        ("system.nfs4_acl", False),
        ("btrfs.compression", False),
    ],
)
def test_which_are_kept(name: str, kept: bool) -> None:
    assert is_kept(name) is kept


@needs_root
def test_extended_attributes_of_every_kind(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    assert read_xattrs(os.fsencode(path)) == ()
    os.setxattr(path, "user.z", b"\0\xff")
    os.setxattr(path, b"user.\xff", b"")
    os.setxattr(path, "trusted.a", b"1")
    subprocess.run(["setcap", "cap_net_raw+ep", path], check=True)
    subprocess.run(["setfacl", "-m", "u:1234:rw", path], check=True)
    found = read_xattrs(str(path))
    assert [name for name, _ in found] == [
        b"security.capability",
        b"system.posix_acl_access",
        b"trusted.a",
        b"user.z",
        b"user.\xff",
    ]
    assert dict(found)[b"user.z"] == b"\0\xff"
    fd = os.open(path, os.O_RDONLY)
    pin = pinned(path)
    assert read_xattrs(fd) == read_pinned_xattrs(pin) == found
    os.close(fd)
    os.close(pin)


@needs_root
def test_a_symbolic_links_own_and_not_its_targets(tmp_path: Path) -> None:
    (tmp_path / "target").touch()
    os.setxattr(tmp_path / "target", "trusted.t", b"target")
    link = tmp_path / "link"
    link.symlink_to("target")
    assert read_xattrs(os.fsencode(link)) == ()
    os.setxattr(link, "trusted.l", b"link", follow_symlinks=False)
    fd = pinned(link)
    assert read_xattrs(os.fsencode(link)) == read_pinned_xattrs(fd) == ((b"trusted.l", b"link"),)
    assert pinned_symlink(fd) == Symlink(b"target")
    os.close(fd)


@needs_root
def test_a_pinned_device_or_fifo_is_not_opened(tmp_path: Path) -> None:
    os.mknod(tmp_path / "dead", stat.S_IFCHR | 0o600, os.makedev(4095, 1))
    os.mkfifo(tmp_path / "fifo")
    for name in ("dead", "fifo"):
        os.setxattr(tmp_path / name, "trusted.t", b"1")
        fd = pinned(tmp_path / name)
        assert read_pinned_xattrs(fd) == ((b"trusted.t", b"1"),)
        os.close(fd)


def test_a_file_system_without_extended_attributes() -> None:
    assert read_xattrs(b"/proc/self/status") == ()
    fd = os.open("/proc/self/status", os.O_PATH)
    assert read_pinned_xattrs(fd) == ()
    os.close(fd)


def test_an_attribute_that_vanishes_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.touch()
    os.setxattr(path, "user.stays", b"1")
    listed = os.listxattr
    monkeypatch.setattr(os, "listxattr", lambda *args, **kw: [*listed(*args, **kw), "user.gone"])
    assert read_xattrs(os.fsencode(path)) == ((b"user.stays", b"1"),)


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_xattrs(os.fsencode(tmp_path / "none"))


@needs_root
def test_every_field_of_an_entry(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.touch()
    os.chown(path, 70_000, 4_000_000_000)
    path.chmod(0o6751)
    os.utime(path, ns=(0, -1_500_000_001))
    entry = entry_of(b"f", path.lstat(), EMPTY_FILE, ((b"user.a", b""),))
    assert (entry.name, oct(entry.mode), entry.uid, entry.gid) == (b"f", "0o106751", 70_000, 4_000_000_000)
    assert (entry.mtime, entry.xattrs, entry.link) == (-1_500_000_001, ((b"user.a", b""),), None)


@needs_root
def test_special_files(tmp_path: Path) -> None:
    os.mknod(tmp_path / "c", stat.S_IFCHR, os.makedev(4095, 1_048_575))
    os.mknod(tmp_path / "b", stat.S_IFBLK, os.makedev(8, 1))
    os.mkfifo(tmp_path / "p")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
    found = [special_content((tmp_path / name).lstat()) for name in "cbps"]
    assert found == [Device(4095, 1_048_575), Device(8, 1), Special(), Special()]
    with pytest.raises(BadInput):
        special_content(tmp_path.lstat())


def test_whose_fault_a_failed_call_is() -> None:
    kinds = {
        errno.EACCES: Denied,
        errno.EPERM: Denied,
        errno.ENOSPC: NoSpace,
        errno.EDQUOT: NoSpace,
        errno.EIO: BadInput,
    }
    for number, kind in kinds.items():
        error = read_error(OSError(number, os.strerror(number)), b"/x")
        assert type(error) is kind
        assert error.facts == {"path": b"/x", "errno": number}
