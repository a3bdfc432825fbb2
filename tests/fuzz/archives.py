"""Archives: tar, layers of images, what they are compressed with, and ACLs as text."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from functools import lru_cache

import zstandard

from tests.fuzz.target import Target
from tests.support.raw_tar import END, directory, hard_link, member, padded, patch, pax, resum, symlink
from tests.support.values import root
from vcs.decompress import Limits, decompressed
from vcs.layer_import import import_layer
from vcs.model import RootId
from vcs.snapshot import Snapshot
from vcs.tar.acl import acl_from_text, acl_to_text, mode_under
from vcs.tar.pax import build_records, parse_records, parse_time
from vcs.tar.sparse import build_map
from vcs.tar_import import import_tar
from vcs.testing import MemoryStore

_BLOCK = 512
_MOST = 4 << 20
"""Bytes that a target takes out of a stream."""


def summed(data: bytes) -> bytes:
    """An archive whose headers have right checksums, wherever a block looks like one."""
    blocks = [data[at : at + _BLOCK] for at in range(0, len(data), _BLOCK)]
    return b"".join(
        resum(block) if len(block) == _BLOCK and (block[257:262] == b"ustar" or block[124:135].isdigit()) else block
        for block in blocks
    )


def _sample() -> list[bytes]:
    sparse = build_map([(0, 3), (1024, 2)])
    gnu = patch(member(b"old", b"abc", kind=b"S", size=3), 257, b"ustar  \0")
    gnu = patch(gnu[:512], 386, b"%011o\0%011o\0" % (0, 3)) + gnu[512:]
    gnu = patch(gnu[:512], 483, b"%011o\0" % 4096) + gnu[512:]
    acl = b"user::rwx,user:7:r-x,group::r-x,mask::rwx,other::---"
    xattrs = pax((b"mtime", b"-1.5"), (b"SCHILY.xattr.user.a", b"\0b"), (b"SCHILY.acl.access", acl))
    version_1 = pax(
        (b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"),
        (b"GNU.sparse.name", b"s"), (b"GNU.sparse.realsize", b"4096"),
    )  # fmt: skip
    version_0 = pax((b"GNU.sparse.size", b"4096"), (b"GNU.sparse.map", b"0,3"), (b"LIBARCHIVE.xattr.user.b", b"YQ=="))
    return [
        directory(b"d/") + member(b"d/f", b"data") + symlink(b"l", b"d/f") + hard_link(b"h", b"d/f") + END,
        xattrs + member(b"x", b"1") + pax((b"uid", b"7"), kind=b"g") + member(b"y", b"2") + END,
        member(b"x", b"n" * 120 + b"\0", kind=b"L") + member(b"y", b"t" * 120 + b"\0", kind=b"K") + symlink(b"a", b"b") + END,
        version_1 + member(b"s", sparse + b"abcde") + END,
        version_0 + member(b"t", b"abc") + gnu + END,
        member(b"etc/passwd", b"root:x:0:0:\n") + pax((b"SCHILY.acl.default", b"u::rwx,u:root:r,g::r,m::r,o::r"))
        + directory(b"e/") + member(b"c", kind=b"3") + member(b"p", kind=b"6") + END,
    ]  # fmt: skip


def _layers() -> list[bytes]:
    return [
        *_sample(),
        member(b".wh.etc") + member(b"usr/.wh..wh..opq") + member(b"usr/new", b"1") + END,
        hard_link(b"again", b"etc/passwd") + member(b"bin") + directory(b"etc/") + member(b".wh..wh.plnk/x") + END,
        symlink(b"etc/up", b"..") + member(b"etc/passwd/x") + END,
    ]


_WORDS = (
    b"ustar\x0000", b"ustar  \0", b"GNU.sparse.map=", b"GNU.sparse.size=", b"SCHILY.xattr.", b"SCHILY.acl.access=",
    b"LIBARCHIVE.xattr.", b"path=", b"linkpath=", b"size=", b"mtime=", b"hdrcharset=BINARY", b"../", b".wh.", b".wh..wh..opq",
    b"\x80\0\0\0\0\0\0\0\x7f\xff\xff\xff", b"77777777777\0", b"\0" * 512,
)  # fmt: skip


def _archive(data: bytes) -> None:
    store = MemoryStore()
    found = import_tar(io.BytesIO(data), store, limits=Limits(_MOST, 100))
    list(Snapshot(store, found.root).walk())


def tar(data: bytes) -> None:
    """As it is, and with its checksums mended: else a flip never gets further than the first block."""
    again = summed(data)
    if again != data:
        try:
            _archive(again)
        except TARGETS[0].refusals:
            pass
    _archive(data)


@lru_cache(1)
def _base() -> tuple[MemoryStore, RootId]:
    store = MemoryStore()
    return store, root(store, {"etc": {"passwd": b"root:x:0:0::/:\n", "d": {"e": b""}}, "usr": {}, "bin": b"1"})


def layer(data: bytes) -> None:
    objects, base = _base()
    store = MemoryStore()
    store.objects.update(objects.objects)
    found = import_layer(io.BytesIO(summed(data)), store, store, base)
    list(Snapshot(store, found.root).walk())


def _compressed() -> list[bytes]:
    plain = b"some text " * 20
    frame = zstandard.ZstdCompressor().compress(plain)
    skippable = b"\x50\x2a\x4d\x18\x04\0\0\0abcd"
    return [
        gzip.compress(plain, mtime=0) + gzip.compress(b"more", mtime=0),
        bz2.compress(plain), lzma.compress(plain), lzma.compress(plain) + bytes(4) + lzma.compress(b""),
        frame + frame, skippable + frame, frame + skippable, plain,
    ]  # fmt: skip


def decompress(data: bytes) -> None:
    stream = decompressed(io.BytesIO(data), Limits(free=1 << 20, ratio=100))
    taken = 0
    while taken < _MOST and (piece := stream.read(1 << 16)):
        assert len(piece) <= 1 << 16, "more than was asked for"
        taken += len(piece)


def acl(data: bytes) -> None:
    raw = acl_from_text(data, lambda _kind, name: 7 if name == b"known" else None)
    mode_under(raw, 0o644)
    acl_to_text(raw)


def acl_bytes(data: bytes) -> None:
    assert 0 <= mode_under(data, 0o100644) <= 0o107777
    acl_to_text(data)


def records(data: bytes) -> None:
    for keyword, value in parse_records(data):
        if keyword == b"mtime":
            parse_time(value)


_ACL = b"user::rwx\nuser:1000:r-x,group::r-x\nmask::rwx\nother::r--"

TARGETS = (
    Target("tar", tar, _sample, _WORDS),
    Target("layer", layer, _layers, _WORDS),
    Target("decompress", decompress, _compressed, (b"\x28\xb5\x2f\xfd", b"\x1f\x8b\x08", b"BZh9", b"\xfd7zXZ\0")),
    Target("acl-text", acl, lambda: [_ACL, b"u::rw,u:known:r,g::r,m::r,o::r"], (b"default:", b"mask", b"known")),
    Target("acl-bytes", acl_bytes, lambda: [acl_from_text(_ACL, lambda *_: None), padded(b"\2\0\0\0")]),
    Target("pax", records, lambda: [build_records([(b"mtime", b"-1.25"), (b"path", b"a=b"), (b"uid", b"7")])]),
)
