"""Archives that lie, are broken, or want out: BadInput that says where, and nothing else ever leaves."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import stat
import tracemalloc
from collections.abc import Callable
from contextlib import suppress

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from tests.support.raw_tar import END, directory, hard_link, member, padded, patch, pax, symlink
from vcs.assembly import TreeBuilder
from vcs.decompress import Limits
from vcs.errors import BadInput
from vcs.model import Entry, Link, Symlink
from vcs.snapshot import Snapshot
from vcs.tar.pax import build_records
from vcs.tar_import import import_tar
from vcs.testing import MemoryStore


def read(data: bytes) -> Snapshot:
    store = MemoryStore()
    return Snapshot(store, import_tar(io.BytesIO(data), store).root)


def content(view: Snapshot, path: bytes) -> bytes:
    return view.read(view.lookup(path).content)  # type: ignore[arg-type]


def names(view: Snapshot) -> list[bytes]:
    return [path for path, _ in view.walk()][1:]


def refused(data: bytes, match: str) -> BadInput:
    with pytest.raises(BadInput, match=match) as caught:
        read(data)
    return caught.value


# -- names


def test_dot_dot_is_refused() -> None:
    for name in (b"../x", b"a/../../x", b"..", b"a/..", b"/../x"):
        error = refused(member(b"first") + member(name) + END, r"contains '\.\.'")
        assert error.facts["member"] == name
        assert error.facts["offset"] == 512


def test_dot_dot_in_an_extended_header_or_a_link() -> None:
    refused(pax((b"path", b"../x")) + member(b"harmless") + END, r"contains '\.\.'")
    refused(member(b"x", b"../y\0", kind=b"L") + member(b"harmless") + END, r"contains '\.\.'")
    refused(member(b"a") + hard_link(b"x", b"../a") + END, r"contains '\.\.'")


def test_spellings_of_one_name() -> None:
    data = directory(b"./") + b"".join(member(n, n) for n in (b"a//b", b"./a/./b", b"/a/b", b"//a///b", b"././/a/b"))
    view = read(data + END)
    assert names(view) == [b"/a", b"/a/b"]
    assert content(view, b"a/b") == b"././/a/b"


def test_parents_that_the_archive_does_not_name() -> None:
    view = read(member(b"a/b/c") + directory(b"a", 0o700) + END)
    assert view.lookup(b"a").mode == stat.S_IFDIR | 0o700
    parent = view.lookup(b"a/b")
    assert (parent.mode, parent.uid, parent.gid, parent.mtime) == (stat.S_IFDIR | 0o755, 0, 0, 0)


def test_below_a_symbolic_link_is_refused() -> None:
    for target in (b"/etc", b"../..", b"usr/lib"):
        error = refused(directory(b"usr/lib") + symlink(b"lib", target) + member(b"lib/x") + END, "a symlink to")
        assert error.facts["member"] == b"lib/x"
        refused(symlink(b"a/b", target) + directory(b"a/b/c/d") + END, "a symlink to")
        refused(member(b"f") + symlink(b"lib", target) + hard_link(b"lib/x", b"f") + END, "a symlink to")


def test_below_a_file_is_refused() -> None:
    refused(member(b"a") + member(b"a/b") + END, "which is a file, not a directory")


def test_names_too_long() -> None:
    assert len(names(read(pax((b"path", b"n" * 255)) + member(b"x") + END))[0]) == 256
    refused(pax((b"path", b"n" * 256)) + member(b"x") + END, "cannot be a name")
    refused(pax((b"path", b"d/" * 2100)) + member(b"x") + END, "longer than 4096")
    refused(member(b"x", b"d/" * 2100, kind=b"L") + member(b"x") + END, "longer than 4097")
    refused(pax((b"path", b"a\0b")) + member(b"x") + END, "NUL")
    refused(member(b"") + END, "without a name")
    assert len(names(read(pax((b"path", b"d/" * 2047)) + directory(b"x") + END))) == 2047


def test_the_root() -> None:
    view = read(directory(b"./", 0o1777) + END)
    assert (view.root.mode, view.root.uid, view.root.mtime) == (stat.S_IFDIR | 0o1777, 1, 3 * 10**9)
    refused(member(b"./") + member(b".", kind=b"6") + END, "root must be a directory")
    refused(member(b"a") + hard_link(b"/", b"a") + END, "root cannot be a hard link")


# -- duplicates and hard links


def test_the_last_duplicate_wins() -> None:
    data = member(b"a", b"1") + member(b"a", b"2") + directory(b"d") + member(b"d/x") + directory(b"d", 0o700)
    view = read(data + member(b"s") + directory(b"s") + directory(b"t") + member(b"t/y") + symlink(b"t", b"a") + END)
    assert names(view) == [b"/a", b"/d", b"/d/x", b"/s", b"/t"]
    assert content(view, b"a") == b"2"
    assert view.lookup(b"d").mode == stat.S_IFDIR | 0o700
    assert view.lookup(b"s").is_dir
    assert view.lookup(b"t").content == Symlink(b"a")


def test_a_duplicate_leaves_the_other_hard_links_alone() -> None:
    data = member(b"a", b"1") + hard_link(b"b", b"a") + hard_link(b"c", b"./b") + member(b"a", b"2")
    view = read(data + END)
    assert [content(view, n) for n in (b"a", b"b", b"c")] == [b"2", b"1", b"1"]
    group = view.lookup(b"b").link
    assert view.lookup(b"a").link is None
    assert isinstance(group, Link)
    assert group.count == 2
    assert view.lookup(b"c").link == group
    assert read(data + member(b"b") + END).lookup(b"c").link is None


def test_hard_links_that_lead_nowhere() -> None:
    for target in (b"missing", b"a/b", b"/etc/passwd", b""):
        refused(member(b"a") + hard_link(b"x", target) + END, "a hard link to")
    refused(hard_link(b"x", b"a") + member(b"a") + END, "not in the archive before it")
    refused(directory(b"d") + hard_link(b"x", b"d") + END, "is a directory")
    refused(hard_link(b"x", b"/") + END, "is a directory")


def test_a_hard_link_to_itself_and_over_its_parent() -> None:
    view = read(member(b"a", b"1") + hard_link(b"a", b"./a") + END)
    assert content(view, b"a") == b"1"
    assert view.lookup(b"a").link is None
    view = read(member(b"d/f", b"1") + hard_link(b"d", b"d/f") + END)
    assert names(view) == [b"/d"]
    assert content(view, b"d") == b"1"
    refused(member(b"a") + hard_link(b"a/b", b"a") + END, "not a directory")


def test_a_hard_link_with_and_without_the_data_it_speaks_of() -> None:
    link = member(b"b", kind=b"1", link=b"a", size=5)
    for rest in (member(b"c", b"c") + END, END):
        assert content(read(member(b"a", b"12345") + link + rest), b"b") == b"12345"
    view = read(member(b"a", b"12345") + link + padded(b"12345") + member(b"c", b"c") + END)
    assert content(view, b"b") == b"12345"
    assert names(view) == [b"/a", b"/b", b"/c"]


# -- numbers and sizes


@pytest.mark.parametrize(
    ("offset", "field"),
    [
        (124, b"-0000000001\0"),
        (124, b"\xff" * 12),
        (124, b"\x80" + b"\xff" * 11),
        (124, b"0x10\0"),
        (124, b"1_0\0"),
        (124, b" 1 2\0"),
        (108, b"\xff" * 8),
        (108, b"\x80\0\0\x01\0\0\0\0"),
        (136, b"\x80" + b"\xff" * 11),
        (100, b"9\0"),
    ],
)
def test_numbers_that_are_none(offset: int, field: bytes) -> None:
    error = refused(patch(member(b"x"), offset, field) + END, "octal|negative|range")
    assert error.facts["offset"] == 0


def test_an_infinite_size_does_not_loop() -> None:
    refused(patch(member(b"x"), 124, b"\x80" + bytes(3) + b"\x7f" + b"\xff" * 7) + END * 9, "truncated")


@pytest.mark.parametrize(
    "record",
    [
        (b"size", b"-1"),
        (b"size", b"1e3"),
        (b"size", b"9" * 30),
        (b"uid", b"4294967296"),
        (b"gid", b"\xd9\xa1"),
        (b"mtime", b"nan"),
        (b"mtime", b"1.2.3"),
        (b"mtime", b"1."),
        (b"mtime", b"9" * 19),
        (b"hdrcharset", b"UTF-7"),
        (b"SCHILY.xattr.", b"x"),
        (b"SCHILY.xattr." + b"n" * 256, b"x"),
        (b"SCHILY.xattr.user.big", b"x" * 65537),
        (b"LIBARCHIVE.xattr.user.x", b"*"),
        (b"SCHILY.acl.access", b"user::rwx"),
        (b"SCHILY.acl.access", b"user::rwx,group::r-x,other::q"),
        (b"GNU.sparse.major", b"7"),
        (b"GNU.sparse.map", b"0,1"),
    ],
)
def test_extended_headers_that_are_wrong(record: tuple[bytes, bytes]) -> None:
    error = refused(pax(record) + member(b"x") + END, "x")
    assert error.facts["offset"] == 0


@pytest.mark.parametrize(
    "raw", [b"5 a=1\n", b"7 a=1\n", b"6 a=1x", b"99999999999999999999 a=b\n", b"x", b"6 =11\n", b"-6 a=1\n"]
)
def test_records_that_are_wrong(raw: bytes) -> None:
    refused(member(b"p", raw, kind=b"x") + member(b"x") + END, "extended header|record length")
    # Behind a good record, what is missing must not be found in front of it: that looped for ever.
    refused(member(b"p", b"6 a=1\n" + raw, kind=b"x") + member(b"x") + END, "extended header|record length")


def test_extended_headers_out_of_place() -> None:
    refused(pax((b"uid", b"1")) + END, "last thing")
    refused(pax((b"uid", b"1")) * 2 + member(b"x") + END, "two extended headers")
    refused(pax((b"path", b"x"), kind=b"g") + member(b"x") + END, "global header")
    refused(member(b"p", size=(1 << 20) + 1, kind=b"x") + END, "longer than")
    refused(member(b"x", kind=b"M") + END, "not supported")


def test_a_global_header_speaks_of_all_that_follow() -> None:
    view = read(
        pax((b"uid", b"77"), (b"comment", b"c"), kind=b"g") + member(b"a") + pax((b"uid", b"5")) + member(b"b") + END
    )
    assert [view.lookup(n).uid for n in (b"a", b"b")] == [77, 5]


# -- sparse claims


def sparse(size: int, sparse_map: str, data: bytes = b"") -> bytes:
    records = (b"GNU.sparse.size", b"%d" % size), (b"GNU.sparse.map", sparse_map.encode())
    return pax(*records) + member(b"x", data) + END


def test_sparse_maps_that_lie() -> None:
    refused(sparse(10, "0,4", b"12345"), "says 4 bytes of data, but 5")
    refused(sparse(3, "0,4", b"1234"), "sparse map is wrong")
    refused(sparse(99, "5,2,0,2", b"1234"), "sparse map is wrong")
    refused(sparse(99, "0,3,2,1", b"1234"), "sparse map is wrong")
    refused(sparse(99, "0"), "odd number")
    refused(sparse(99, "0,-1"), "sparse length")
    refused(sparse(1 << 63, ""), "real size")
    refused(sparse(99, "0,2,50,2", b"1234"), "whole blocks")
    two = (b"GNU.sparse.size", b"9"), (b"GNU.sparse.numbytes", b"1")
    refused(pax(*two) + member(b"x", b"1") + END, "out of order")


def test_exabytes_of_nothing() -> None:
    view = read(sparse((1 << 63) - 1, ""))
    assert view.lookup(b"x").size == (1 << 63) - 1
    records = (b"GNU.sparse.size", b"%d" % ((1 << 63) - 1)), (b"GNU.sparse.map", b"")
    many = pax(*records) + member(b"a") + pax(*records) + member(b"b")
    refused(many + END, "larger than any file system")


def test_version_1_maps_that_lie() -> None:
    head = pax((b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.realsize", b"9"))
    for body in (b"1\n0\n", b"x\n", b"9999999\n", b"\n", b"-1\n", b"1" * 600):
        refused(head + member(b"x", padded(body)) + END, "sparse map|truncated|not a")
    refused(head + member(b"x", b"1\n0\n1\n") + END, "longer than its data")


# -- the archive as a whole


def everything() -> bytes:
    parts = [directory(b"./"), member(b"small", b"data"), member(b"large", b"z" * 600_000), symlink(b"s", b"t")]
    parts += [pax((b"path", b"p" * 200), (b"mtime", b"1.5")) + member(b"x", b"pax"), hard_link(b"h", b"small")]
    return b"".join(parts) + END


def test_every_truncation_is_noticed() -> None:
    data = everything()
    read(data)
    inside = len(data) - 1024
    for end in [*range(0, 4096, 37), *range(inside - 2048, inside + 512, 61), 300_000, inside]:
        error = refused(data[:end], "truncated: it ends at byte|truncated")
        assert error.facts["offset"] == end


def test_what_may_follow_the_end() -> None:
    data = everything()
    for rest in (b"", bytes(10240), b"\0" * 100, b"garbage", bytes(512) + b"g" * 5000):
        assert read(data + rest).id == read(data).id
    assert read(data[:-512]).id == read(data).id
    refused(data + everything(), "another archive follows")
    refused(data + bytes(5120) + everything(), "another archive follows")
    refused(data[:-512] + everything(), "lone block of zeros")


def test_a_changed_header_is_noticed() -> None:
    data = bytearray(everything())
    data[512 + 3] ^= 1
    assert refused(bytes(data), "checksum is wrong").facts["offset"] == 512


def test_a_stream_that_gives_little_at_a_time() -> None:
    class Trickle(io.RawIOBase):
        def __init__(self, data: bytes) -> None:
            self._data = io.BytesIO(data)

        def readable(self) -> bool:
            return True

        def read(self, size: int = -1) -> bytes:
            return self._data.read(min(size, 1000))

    store = MemoryStore()
    assert import_tar(Trickle(everything()), store).root == read(everything()).id


def test_a_stream_that_fails() -> None:
    class Failing(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            raise OSError(5, "Input/output error")

    class Nonblocking(io.RawIOBase):
        def read(self, size: int = -1) -> None:
            return None

    for stream in (Failing(), Nonblocking()):
        with pytest.raises(BadInput, match="cannot be read"):
            import_tar(stream, MemoryStore())


# -- compression


PACKERS: list[Callable[[bytes], bytes]] = [
    gzip.compress, bz2.compress, lzma.compress, zstandard.ZstdCompressor(write_checksum=True).compress,
]  # fmt: skip


@pytest.mark.parametrize("pack", PACKERS, ids=["gzip", "bzip2", "xz", "zstd"])
def test_compressed_streams(pack: Callable[[bytes], bytes]) -> None:
    data = everything()
    packed = pack(data)
    assert read(packed).id == read(data).id
    half = len(data) // 2
    assert read(pack(data[:half]) + pack(data[half:])).id == read(data).id
    if pack is not PACKERS[3]:
        assert read(packed + bytes(512)).id == read(data).id
    for end in (10, len(packed) // 2, len(packed) - 200):
        refused(packed[:end], "truncated|damaged")
    changed = bytearray(packed)
    changed[len(packed) // 2] ^= 0xFF
    with pytest.raises(BadInput):
        read(bytes(changed))
    with pytest.raises(BadInput):
        read(packed + b"something else" * 100)


def test_a_bomb_is_refused_while_it_expands() -> None:
    compressor = zstandard.ZstdCompressor()
    bomb = member(b"x", size=1 << 40) + bytes(8 << 20)
    limits = Limits(free=1 << 20, ratio=100)
    for packed in (compressor.compress(bomb), bz2.compress(bomb), gzip.compress(bomb), lzma.compress(bomb)):
        with pytest.raises(BadInput, match="expands beyond 100:1"):
            import_tar(io.BytesIO(packed), MemoryStore(), limits=limits)


def test_windows_larger_than_memory() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=28, compression_level=1)
    packed = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    refused(packed.compress(everything()) + packed.flush(), "zstd stream is damaged")
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 29}]
    refused(lzma.compress(everything(), filters=filters), "xz stream is damaged")


# -- memory


def test_metadata_is_bounded() -> None:
    builder = TreeBuilder(entries_max=10, packed_max=800)
    entry = Entry(b"", stat.S_IFREG, 0, 0, 0, Symlink(b"t" * 300))
    builder.add(b"a", entry)
    builder.add(b"a", entry)
    with pytest.raises(BadInput, match="larger than one root"):
        builder.add(b"b", entry)
    with pytest.raises(BadInput, match="more names"):
        TreeBuilder(entries_max=10).add(b"/".join([b"d"] * 12), entry)


def test_memory_per_member() -> None:
    header = member(b"directory/name-0000000")
    data = b"".join(patch(header, 15, b"%07d" % number) for number in range(20_000)) + END

    class Null:
        def put_tree(self, data: bytes | memoryview, digest: bytes | None = None) -> bytes:
            return bytes(32)

        put_chunk = put_tree

    stream = io.BytesIO(data)
    del data
    tracemalloc.start()
    try:
        import_tar(stream, Null())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # 15 MB stand still (buffers); writing the one directory takes its entries as objects once more.
    assert peak < 20_000 * 900 + (15 << 20)


# -- by chance: only BadInput leaves


def check(data: bytes) -> None:
    with suppress(BadInput):
        import_tar(io.BytesIO(data), MemoryStore(), limits=Limits(free=1 << 22, ratio=50))


@given(st.binary(max_size=3000))
def test_any_bytes(data: bytes) -> None:
    check(data)
    check(member(b"x", size=len(data)) + data)
    check(member(b"p", data, kind=b"x") + member(b"x") + END)
    for magic in (b"\x1f\x8b\x08", b"BZh9", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"\x50\x2a\x4d\x18"):
        check(magic + data)


_KEYWORDS = [b"path", b"linkpath", b"size", b"uid", b"gid", b"mtime", b"hdrcharset", b"SCHILY.devmajor"]
_KEYWORDS += [b"SCHILY.xattr.user.x", b"LIBARCHIVE.xattr.%zz", b"SCHILY.acl.access", b"SCHILY.acl.default"]
_KEYWORDS += [
    b"GNU.sparse." + k for k in (b"major", b"minor", b"name", b"realsize", b"size", b"map", b"offset", b"numbytes")
]
_values = (
    st.binary(max_size=12)
    | st.integers(-5, 1 << 70).map(lambda n: b"%d" % n)
    | st.sampled_from(
        [b"1", b"0", b"0,1", b"a/b", b"user:x:rwx,user::r,group::r,mask::r,other::r", b"1.5", b"-0.000000001", b""]
    )
)
_records = st.lists(st.tuples(st.sampled_from(_KEYWORDS), _values), max_size=6)
_kinds = st.sampled_from([bytes([b]) for b in b"0\x001234567xgLKSVDMX"])
_names = st.sampled_from([b"a", b"b", b"a/b", b"./a", b"/", b"..", b"a/", b"c/d/e"]) | st.binary(max_size=99)
_patches = st.lists(st.tuples(st.integers(100, 511), st.binary(min_size=1, max_size=12)), max_size=2)


@st.composite
def _members(draw: st.DrawFn) -> bytes:
    data = draw(st.binary(max_size=40) | st.builds(bytes.__add__, _records.map(build_records), st.binary(max_size=5)))
    size = draw(st.none() | st.integers(0, 2000))
    made = member(draw(_names), data, draw(_kinds), draw(_names), size)
    for offset, field in draw(_patches):
        made = patch(made[:512], offset, field[: 512 - offset]) + made[512:]
    records = draw(_records)
    return (pax(*records) if records else b"") + made


@given(st.lists(_members(), max_size=6), st.booleans())
def test_any_members(members: list[bytes], end: bool) -> None:
    check(b"".join(members) + (END if end else b""))


def test_damaged_archives() -> None:
    chance = random.Random(1)
    whole = everything()
    archives = [whole[:20_000] + END, *(pack(whole) for pack in PACKERS)]
    for _ in range(400):
        data = bytearray(chance.choice(archives))
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(min(len(data), 6000))] = chance.randrange(256)
        check(bytes(data))
