"""The parts of the tar format by themselves: numbers, records, times, ACLs, maps."""

from __future__ import annotations

import doctest
import io
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import rich_tree
from tests.support.raw_tar import END, directory, member, patch, pax
from vcs.errors import BadInput
from vcs.snapshot import Snapshot
from vcs.tar import pax as pax_module
from vcs.tar.acl import acl_from_text, acl_to_text, mode_under
from vcs.tar.block import Header, build_header, number, parse_header
from vcs.tar.pax import build_records, format_time, parse_records, parse_time, xattr_of, xattr_record
from vcs.tar.sparse import SparseMap, build_map, read_map
from vcs.tar.stream import Stream
from vcs.tar_import import import_tar
from vcs.testing import MemoryStore


def nobody(_kind: bytes, _name: bytes) -> None:
    return None


def test_examples_in_the_documentation() -> None:
    assert doctest.testmod(pax_module).failed == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (b"0000644\0", 0o644),
        (b"   644 \0", 0o644),
        (b"644\0\xff\xff\xff", 0o644),
        (b"77777777", 0o77777777),
        (bytes(8), 0),
    ],
)
def test_octal_numbers(field: bytes, value: int) -> None:
    assert number(field, "number") == value


@given(st.integers(-(1 << 94), (1 << 94) - 1))
def test_base_256_numbers(value: int) -> None:
    field = bytearray((value % (1 << 96)).to_bytes(12, "big"))
    field[0] = field[0] & 0x7F | 0x80
    assert number(bytes(field), "time", signed=True) == value


@given(
    st.builds(
        Header,
        st.binary(max_size=100).filter(lambda b: b"\0" not in b),
        st.integers(0, 0o7777),
        st.integers(0, 0o7777777),
        st.integers(0, 0o7777777),
        st.integers(0, 0o77777777777),
        st.integers(0, 0o77777777777),
        st.just(ord("3")),
        st.binary(max_size=100).filter(lambda b: b"\0" not in b),
        st.integers(0, 0o7777777),
        st.integers(0, 0o7777777),
    )
)
def test_headers_round_trip(header: Header) -> None:
    assert parse_header(build_header(header)) == header


def test_prefixes_of_ustar_star_and_gnu() -> None:
    block = patch(member(b"name"), 345, b"pre/fix")
    assert parse_header(block).name == b"pre/fix/name"
    star = patch(patch(block, 345 + 131, b"00000000001\0"), 508, b"tar\0")
    assert parse_header(star).name == b"pre/fix/name"
    assert parse_header(patch(block, 257, b"ustar  \0")).name == b"name"
    assert parse_header(patch(block, 257, bytes(8))).name == b"name"


def test_a_checksum_of_signed_characters() -> None:
    block = member(b"\xff\xfe\x80")
    total = sum(b - 256 if b > 127 else b for b in block[:148] + b" " * 8 + block[156:])
    assert parse_header(block[:148] + b"%06o\0 " % total + block[156:]).name == b"\xff\xfe\x80"


_words = st.binary(min_size=1, max_size=120).filter(lambda b: b"=" not in b)


@given(st.lists(st.tuples(_words, st.binary(max_size=1100))))
def test_records_round_trip(records: list[tuple[bytes, bytes]]) -> None:
    assert parse_records(build_records(records)) == records


@given(st.integers(-(1 << 63), (1 << 63) - 1))
def test_times_round_trip(time: int) -> None:
    assert parse_time(format_time(time)) == time


def test_times_round_down() -> None:
    assert [parse_time(t) for t in (b"1.9999999999", b"-1.0000000001", b"-0.5")] == [
        1_999_999_999,
        -1_000_000_001,
        -500_000_000,
    ]


@given(st.binary(min_size=1, max_size=255).filter(lambda b: b"\0" not in b), st.binary(max_size=100))
def test_attributes_round_trip(name: bytes, value: bytes) -> None:
    assert [xattr_of(*record) for record in parse_records(build_records([xattr_record(name, value)]))] == [
        (name, value)
    ]


def test_an_attribute_as_libarchive_writes_it() -> None:
    assert xattr_of(b"LIBARCHIVE.xattr.user.a%3Db", b"AP8") == (b"user.a=b", b"\0\xff")


# -- ACLs

_ids = st.lists(st.integers(0, (1 << 32) - 2), unique=True, max_size=5).map(sorted)
_bits = st.integers(0, 7)


@st.composite
def _acls(draw: st.DrawFn) -> bytes:
    none = rich_tree.NOBODY
    users = [(2, draw(_bits), number) for number in draw(_ids)]
    groups = [(8, draw(_bits), number) for number in draw(_ids)]
    entries = [(1, draw(_bits), none), *users, (4, draw(_bits), none), *groups, (16, draw(_bits), none)]
    return rich_tree.acl(*entries, (32, draw(_bits), none))


@given(_acls())
def test_acls_round_trip(data: bytes) -> None:
    text = acl_to_text(data)
    assert text is not None
    assert acl_from_text(text, nobody) == data


def test_what_setfacl_says(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    subprocess.run(["setfacl", "-m", "u:4242:rwx,g:4343:rx,u:77:-,m::rw", file], check=True)
    data = os.getxattr(file, "system.posix_acl_access")
    text = acl_to_text(data)
    said = subprocess.run(["getfacl", "-ncpE", file], capture_output=True, check=True).stdout
    assert text == said.strip()
    assert mode_under(data, 0o100000) == file.stat().st_mode


def test_spellings_of_acls() -> None:
    expected = rich_tree.acl(
        (1, 6, rich_tree.NOBODY),
        (2, 7, 9),
        (4, 4, rich_tree.NOBODY),
        (16, 7, rich_tree.NOBODY),
        (32, 0, rich_tree.NOBODY),
    )
    for text in (
        b"user::rw-,user:9:rwx,group::r--,mask::rwx,other::---",
        b"other::---\nmask::rwx\nuser:bin:rwx:9\nuser::rw-\ngroup::r--\n",
        b"u::rw,u:9:rwx,g::r,m:rwx,o:",
        b"user::rw-\t#effective\nuser:9:rwx  # said\ngroup::r--\nmask::rwx\nother::---",
    ):
        assert acl_from_text(text, nobody) == expected
    assert acl_from_text(b"user::rw-,group::r--,other::r--", nobody) == b""


@pytest.mark.parametrize(
    "data", [b"", b"\2\0\0\0x", b"\3\0\0\0" + bytes(8), rich_tree.acl((1, 7, 0)), rich_tree.acl((3, 0, 0))]
)
def test_what_is_no_acl_stays_an_attribute(data: bytes) -> None:
    assert acl_to_text(data) is None
    assert mode_under(data, 0o100640) == 0o100640


def _with_names(*members: bytes) -> Snapshot:
    acl = pax((b"SCHILY.acl.access", b"user::rw-,user:web:r-x,group::r--,group:web:r--,mask::rwx,other::---"))
    store = MemoryStore()
    data = acl + member(b"file", mode=0o600) + b"".join(members) + END
    return Snapshot(store, import_tar(io.BytesIO(data), store).root)


def test_names_in_acls_are_the_archives_own() -> None:
    passwd = member(b"./etc/passwd", b"root:x:0:0::/:/bin/sh\nweb:x:901:902::/:\nbad line\nweb:x:1:1\n")
    group = member(b"etc/group", b"root:x:0:\nweb:x:902:\n")
    entry = _with_names(passwd, group).lookup(b"file")
    none = rich_tree.NOBODY
    acl = rich_tree.acl((1, 6, none), (2, 5, 901), (4, 4, none), (8, 4, 902), (16, 7, none), (32, 0, none))
    assert entry.xattrs == ((b"system.posix_acl_access", acl),)
    assert entry.mode & 0o777 == 0o670
    with pytest.raises(BadInput, match=r"names the user b'web', whose number the archive does not tell") as caught:
        _with_names()
    assert caught.value.facts["member"] == b"file"


def test_a_directory_said_again_loses_the_acl_it_had() -> None:
    acl = pax((b"SCHILY.acl.default", b"user::rwx,user:web:r-x,group::r--,mask::rwx,other::---"))
    store = MemoryStore()
    data = acl + directory(b"d") + member(b"d/f") + directory(b"d", 0o700) + END
    view = Snapshot(store, import_tar(io.BytesIO(data), store).root)
    assert view.lookup(b"d").xattrs == ()


# -- sparse maps


@given(st.lists(st.tuples(st.integers(0, 1 << 40), st.integers(0, 1 << 40)), max_size=80))
def test_maps_round_trip(pairs: list[tuple[int, int]]) -> None:
    position, extents = 0, []
    for gap, length in pairs:
        extents.append((position + gap, length))
        position += gap + length
    data = build_map(extents)
    sparse, taken = read_map(Stream(io.BytesIO(data)), position)
    assert list(sparse) == extents
    assert taken == len(data)
    assert sparse.data_size == sum(length for _, length in extents)


def test_whole_blocks() -> None:
    def whole(*lengths: int) -> bool:
        sparse = SparseMap(10_000)
        for position, length in enumerate(lengths):
            sparse.add(position * 2000, length)
        return sparse.is_whole_blocks

    assert whole()
    assert whole(512, 1024, 5)
    assert whole(512, 5, 0)
    assert not whole(5, 512)
    assert not whole(512, 5, 0, 1)
