"""A directory with one of everything that a root filesystem can hold. Made by root, on a file system with ACLs."""

from __future__ import annotations

import os
import socket
import stat
import struct
from pathlib import Path

import pytest

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: owners, devices, trusted.* attributes")

NOBODY = 0xFFFFFFFF
LONG = b"n" * 255
CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)  # cap_net_bind_service, effective
SPARSE_SIZE = 48 << 20


def acl(*entries: tuple[int, int, int]) -> bytes:
    """The kernel's bytes of an ACL: (tag, permissions, number) each (linux/posix_acl_xattr.h)."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


ACCESS = acl((1, 6, NOBODY), (2, 7, 4242), (4, 4, NOBODY), (8, 5, 4343), (16, 7, NOBODY), (32, 4, NOBODY))
DEFAULT = acl((1, 7, NOBODY), (2, 5, 4242), (4, 5, NOBODY), (16, 5, NOBODY), (32, 0, NOBODY))


def make(top: Path, *, sockets: bool = True, linked_specials: bool = True) -> Path:
    """Make the tree at `top`, which must not exist.

    No archive can hold `sockets`, and GNU tar forgets which FIFOs and devices are linked (`linked_specials`).
    """
    top.mkdir()
    here = os.fsencode(top)
    _files(top, here)
    _directories(top)
    _specials(top)
    if sockets:
        with socket.socket(socket.AF_UNIX) as unix:
            unix.bind(str(top / "socket"))
        os.chmod(top / "socket", 0o751)
    _links(top, linked_specials)
    _times(here)
    return top


def _files(top: Path, here: bytes) -> None:
    (top / "empty").touch()
    (top / "small").write_bytes(b"text\n")
    (top / "block").write_bytes(bytes(range(256)) * 2)
    (top / "large").write_bytes(os.urandom(1 << 20) * 3 + b"end")
    with open(top / "sparse", "wb") as file:
        file.write(b"begin")
        for megabyte in range(1, 40, 2):
            file.seek(megabyte << 20)
            file.write(b"x" * (4096 + megabyte))
        file.truncate(SPARSE_SIZE)
    with open(top / "hole", "wb") as file:
        file.truncate(1 << 20)
    with open(top / "hole-first", "wb") as file:
        file.seek(1 << 20)
        file.write(b"y" * 4096)
    for name in (b"not-\xff\xfe-utf8", b"new\nline", b"a space", "ümlaut".encode(), b"-dash", b"back\\slash", LONG):
        Path(os.fsdecode(here + b"/" + name)).write_bytes(name)
    _attribute_files(top)


def _attribute_files(top: Path) -> None:
    (top / "setuid").write_bytes(b"#!")
    os.chown(top / "setuid", 12345, 54321)
    os.chmod(top / "setuid", 0o6755)
    (top / "secret").write_bytes(b"secret")
    os.chmod(top / "secret", 0)
    (top / "nobody").touch()
    os.chown(top / "nobody", 4_000_000_000, 3_000_000)
    (top / "capable").write_bytes(b"\x7fELF")
    os.setxattr(top / "capable", "security.capability", CAPABILITY)
    (top / "acl").touch()
    os.setxattr(top / "acl", "system.posix_acl_access", ACCESS)
    (top / "xattrs").touch()
    for name, value in {
        "user.a=b%3Dc%": b"\0\xff=\n",
        "user.empty": b"",
        "trusted.t": b"1",
        "user.long": b"v" * 1000,
    }.items():
        os.setxattr(top / "xattrs", name, value)


def _directories(top: Path) -> None:
    deep = top / "read-only" / "below"
    deep.mkdir(parents=True)
    (deep / "file").write_bytes(b"inside")
    os.chmod(deep, 0o500)
    os.chmod(top / "read-only", 0o555)
    (top / "sticky").mkdir()
    os.chmod(top / "sticky", 0o3777)
    (top / "defaults").mkdir()
    os.setxattr(top / "defaults", "system.posix_acl_default", DEFAULT)
    os.setxattr(top / "defaults", "user.dir", b"yes")
    long = top / "/".join(["directory-with-a-long-name"] * 12)
    long.mkdir(parents=True)
    (long / "file").write_bytes(b"far down")
    os.chmod(top, 0o751)
    os.chown(top, 7, 8)
    os.setxattr(top, "user.top", b"top")


def _specials(top: Path) -> None:
    os.mkfifo(top / "fifo")
    os.chmod(top / "fifo", 0o1622)
    os.mknod(top / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(top / "disk", stat.S_IFBLK | 0o660, os.makedev(259, 1048575))
    os.mknod(top / "whiteout", stat.S_IFCHR, os.makedev(0, 0))
    (top / "symlink").symlink_to("/absolute/../target")
    os.lchown(top / "symlink", 99, 98)
    os.setxattr(top / "symlink", "trusted.link", b"on a link", follow_symlinks=False)
    (top / "dangling").symlink_to("x" * 4000)


def _links(top: Path, specials: bool) -> None:
    os.link(top / "small", top / "a-link")
    os.link(top / "small", top / "sticky" / "link")
    os.link(top / "sparse", top / "z-link")
    os.link(top / "symlink", top / "symlink-link", follow_symlinks=False)
    if specials:
        os.link(top / "fifo", top / "fifo-link")
        os.link(top / "null", top / "null-link")


def _times(here: bytes) -> None:
    """Give everything a time of its own: whole seconds, nanoseconds, before 1970, after 2038."""
    times = [1, 10**9, 1_700_000_000_123_456_789, -(10**9), -1_500_000_001, 4_100_000_000_000_000_001]
    paths = [here]
    for place, directories, files in os.walk(here):
        paths += [os.path.join(place, name) for name in directories + files]
    for position, path in enumerate(sorted(paths, reverse=True)):
        time = times[position % len(times)] + position
        os.utime(path, ns=(time, time), follow_symlinks=False)
