"""Bytes and values: against the kernel's own header, compiled, and against whatever bytes there are."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
from enum import Enum
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusefs.wire import protocol, replies, requests
from fusefs.wire.protocol import Init, Notify, Opcode, OpenFlag

HEADER = Path("/usr/include/linux/fuse.h")
needs_header = pytest.mark.skipif(
    not HEADER.exists() or shutil.which("gcc") is None, reason="needs gcc and linux/fuse.h (linux-libc-dev)"
)

ATTRIBUTES = (101, 102, 103, 104, 104, 104, 105, 105, 105, 0o100644, 106, 107, 108, 109, 4096)
LISTED = (101, 102, 103, 104, 105, 0o100644, 106, 107, 108, 109)
_ATTR_C = (
    "{.ino=101,.size=102,.blocks=103,.atime=104,.mtime=104,.ctime=104,.atimensec=105,.mtimensec=105,.ctimensec=105,"
    ".mode=0100644,.nlink=106,.uid=107,.gid=108,.rdev=109,.blksize=4096}"
)
_ENDLESS_C = ".entry_valid=~0ULL,.attr_valid=~0ULL"

REPLIES = {
    "struct fuse_out_header x={.len=16,.error=-2,.unique=9}": replies.error(9, 2),
    "struct fuse_entry_out x={.nodeid=101," + _ENDLESS_C + ",.attr=" + _ATTR_C + "}": replies.entry(
        ATTRIBUTES, replies.ENDLESS, replies.ENDLESS
    ),
    "struct fuse_entry_out x={.entry_valid=5}": replies.no_entry(5),
    "struct fuse_attr_out x={.attr_valid=5,.attr=" + _ATTR_C + "}": replies.attributes(5, ATTRIBUTES),
    "struct {struct fuse_direntplus d; char n[8];} x={{{.nodeid=101,"
    + _ENDLESS_C
    + ",.attr="
    + _ATTR_C
    + '},{.ino=101,.off=7,.namelen=3,.type=8}},"abc"}': b"".join(replies.dirents_plus([(*LISTED, b"abc")], 4096, 7)),
    'struct {struct fuse_direntplus d; char n[8];} x={{{0},{.ino=3,.off=7,.namelen=8,.type=4}},"abcdefgh"}': (
        replies.dirent_plus_bare(3, 7, 4, b"abcdefgh")
    ),
    'struct {struct fuse_dirent d; char n[16];} x={{.ino=3,.off=7,.namelen=9,.type=4},"abcdefghi"}': replies.dirent(
        3, 7, 4, b"abcdefghi"
    ),
    "struct fuse_init_out x={.major=7,.minor=38,.max_readahead=1,.flags=2,.flags2=3,.max_background=64,"
    ".congestion_threshold=48,.max_write=4,.time_gran=1,.max_pages=5}": replies.init(2 | 3 << 32, 1, 64, 4, 5),
    "struct fuse_statfs_out x={.st={.bsize=4096,.frsize=4096,.namelen=255}}": replies.statfs(4096, 255),
    "struct fuse_open_out x={.open_flags=10}": replies.opened(10),
    "struct fuse_getxattr_out x={.size=11}": replies.size(11),
    "struct fuse_lseek_out x={.offset=12}": replies.position(12),
    "struct {struct fuse_out_header h; struct fuse_notify_inval_inode_out n;} x={{.len=40,.error=2},{.ino=13}}": (
        replies.drop_pages(13)
    ),
    "struct {struct fuse_out_header h; struct fuse_notify_inval_inode_out n;}"
    " x={{.len=40,.error=2},{.ino=13,.off=-1}}": replies.still_known(13),
    "struct fuse_out_header x={.len=16,.error=7}": replies.resend(),
}
"""A struct as C writes it, and what we send for it."""

REQUESTS = {
    "struct fuse_in_header x={.len=40,.opcode=1,.unique=2,.nodeid=3,.uid=4,.gid=5,.pid=6}": (
        requests.header,
        requests.Header(40, 1, 2, 3, 4, 5, 6),
    ),
    "struct fuse_init_in x={.major=7,.minor=38,.max_readahead=1,.flags=2,.flags2=3}": (
        requests.init,
        requests.InitRequest(7, 38, 1, 2 | 3 << 32),
    ),
    "struct fuse_read_in x={.offset=1ULL<<40,.size=2}": (requests.read, (1 << 40, 2)),
    'struct {struct fuse_getxattr_in i; char n[5];} x={{.size=3},"user"}': (requests.getxattr, (3, b"user")),
    "struct fuse_getxattr_in x={.size=3}": (requests.listxattr, 3),
    "struct fuse_lseek_in x={.offset=4,.whence=3}": (requests.lseek, (4, 3)),
    "struct fuse_forget_in x={.nlookup=5}": (requests.forget, 5),
    "struct {struct fuse_batch_forget_in i; struct fuse_forget_one o[2];} x={{.count=2},{{1,2},{3,4}}}": (
        requests.batch_forget,
        [(1, 2), (3, 4)],
    ),
    "struct fuse_interrupt_in x={.unique=6}": (requests.interrupt, 6),
}
"""A struct as C writes it, and what we read in it."""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The bytes of every struct above, by its C text, as gcc lays them out."""
    here = tmp_path_factory.mktemp("layout")
    dump = 'for (size_t i = 0; i < sizeof x; i++) printf("%02x", ((unsigned char *)&x)[i]); puts("");'
    blocks = [f"{{ static {text}; {dump} }}" for text in [*REPLIES, *REQUESTS]]
    names = [name for name in _constants() if re.search(rf"\b{name}\b", HEADER.read_text())]
    numbers = [f'printf("%llu\\n", (unsigned long long){name});' for name in names]
    source = (
        "#include <stdio.h>\n#include <linux/fuse.h>\nint main(void) {\n" + "\n".join([*blocks, *numbers]) + "\n}\n"
    )
    (here / "layout.c").write_text(source)
    subprocess.run(["gcc", "-w", "-o", here / "layout", here / "layout.c"], check=True)
    lines = subprocess.run([here / "layout"], check=True, capture_output=True, text=True).stdout.split()
    structs = [bytes.fromhex(line) for line in lines[: len(blocks)]]
    found = dict(zip([*REPLIES, *REQUESTS], structs, strict=True))
    return found | {
        name: int(line).to_bytes(8, "little") for name, line in zip(names, lines[len(blocks) :], strict=True)
    }


def _constants() -> dict[str, int]:
    prefixes: list[tuple[str, type[Enum]]] = [
        ("FUSE_", Opcode),
        ("FUSE_", Init),
        ("FUSE_NOTIFY_", Notify),
        ("FOPEN_", OpenFlag),
    ]
    found = {f"{prefix}{member.name}": member.value for prefix, kind in prefixes for member in kind}
    return found | {
        "FUSE_KERNEL_VERSION": protocol.KERNEL_VERSION,
        "FUSE_ROOT_ID": protocol.ROOT_ID,
        "FUSE_MIN_READ_BUFFER": protocol.MIN_READ_BUFFER,
        "FUSE_UNIQUE_RESEND": protocol.UNIQUE_RESEND,
    }


@needs_header
@pytest.mark.parametrize("text", REPLIES)
def test_replies_are_laid_out_as_the_kernel_has_them(compiled: dict[str, bytes], text: str) -> None:
    assert REPLIES[text] == compiled[text]


@needs_header
@pytest.mark.parametrize("text", REQUESTS)
def test_requests_are_read_as_the_kernel_has_them(compiled: dict[str, bytes], text: str) -> None:
    parse, expected = REQUESTS[text]
    assert parse(compiled[text]) == expected


@needs_header
def test_numbers_are_the_kernels(compiled: dict[str, bytes]) -> None:
    found = {name: int.from_bytes(compiled[name], "little") for name in _constants() if name in compiled}
    assert found == {name: _constants()[name] for name in found}
    assert len(found) >= len(_constants()) - 5, "STATX, RESEND and ALLOW_IDMAP are younger than some headers"


PARSERS = [
    *(requests.header, requests.init, requests.name, requests.read, requests.getxattr, requests.listxattr),
    *(requests.lseek, requests.forget, requests.batch_forget, requests.interrupt),
]


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_malformed(body: bytes) -> None:
    for parse in PARSERS:
        try:
            parse(body)
        except requests.Malformed:
            continue


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))))
def test_a_batch_is_read_whole_and_not_beyond(pairs: list[tuple[int, int]]) -> None:
    body = struct.pack("<II", len(pairs), 0) + b"".join(struct.pack("<QQ", *pair) for pair in pairs)
    assert requests.batch_forget(body) == pairs
    assert requests.batch_forget(body + b"more") == pairs
    with pytest.raises(requests.Malformed):
        requests.batch_forget(body[:-1])


@given(st.binary(min_size=1, max_size=255).filter(lambda name: b"\0" not in name))
def test_names_take_the_room_that_is_reckoned(name: bytes) -> None:
    for encoded, size in (
        (replies.dirents_plus([(*LISTED, name)], 4096, 1)[0], replies.dirent_plus_size(name)),
        (replies.dirent_plus_bare(1, 1, 4, name), replies.dirent_plus_size(name)),
        (replies.dirent(1, 1, 4, name), replies.dirent_size(name)),
    ):
        assert len(encoded) == size
        assert size % 8 == 0
        assert name in encoded
    assert requests.name(name + b"\0") == name


def test_old_kernels_send_a_short_init() -> None:
    assert requests.init(struct.pack("<IIII", 7, 31, 5, 6)) == requests.InitRequest(7, 31, 5, 6)


@pytest.mark.parametrize("body", [b"", b"\0", b"abc"])
def test_a_name_that_is_empty_or_does_not_end_is_malformed(body: bytes) -> None:
    with pytest.raises(requests.Malformed):
        requests.name(body)
