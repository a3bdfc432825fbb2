"""What the kernel and other processes of ours say: FUSE requests, files of /proc and cgroups, lines on sockets."""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import suppress

from fusefs import mounting
from fusefs.control import request_of
from fusefs.session import Session
from fusefs.wire import requests
from fusefs.wire.protocol import Opcode
from fusefs.wire.requests import Malformed
from runtime.cgroups import parsing, places
from runtime.cli.takeover import parse_request
from runtime.supervision.attachments import fields_of
from tests.fusefs.fake_kernel import IN_HEADER, FakeKernel
from tests.fuzz.target import Target
from tests.support.values import link, root
from vcs.errors import TreeringError
from vcs.testing import MemoryStore

# -- FUSE


_PARSERS: tuple[Callable[[bytes], object], ...] = (
    requests.header, requests.init, requests.name, requests.read, requests.getxattr, requests.listxattr, requests.lseek,
    requests.forget, requests.batch_forget, requests.interrupt,
)  # fmt: skip


def fuse_request(data: bytes) -> None:
    """Each parser of a message, which knows no error but Malformed; the session makes EINVAL of it."""
    for parse in _PARSERS:
        try:
            parse(data)
        except Malformed:
            pass


def _store() -> MemoryStore:
    store = MemoryStore()
    spec = {"etc": {"passwd": b"root"}, "bin": link("etc"), "many": {f"n{n}": b"" for n in range(40)}}
    store.add_commit(root(store, spec), "main")
    return store


_STORE = _store()


def fuse_session(data: bytes) -> None:
    """Messages to a session: for each an opcode, a node, the length of its body, and the body. Each has one answer or
    none, and no handler fails of itself: what a session catches to live on is a finding here."""
    with FakeKernel(_STORE) as kernel:
        kernel.session._failure = _strict(kernel.session)  # type: ignore[assignment, method-assign]
        at = count = 0
        while at + 3 <= len(data) and count < 16:
            opcode, node, size = data[at : at + 3]
            body = data[at + 3 : at + 3 + size]
            at, count = at + 3 + size, count + 1
            head = IN_HEADER.pack(IN_HEADER.size + len(body), opcode, count * 2, node, 0, 0, 1, 0, 0)
            reply = kernel.session.answer(memoryview(head + body))
            if reply is not None:
                whole = b"".join(bytes(part) for part in reply)
                length, error, unique = struct.unpack_from("<IiQ", whole)
                assert length == len(whole), "a reply of another length than it says"
                assert unique == count * 2
                assert -4096 < error <= 0
        with suppress(BlockingIOError):  # what it said unasked: nobody may leave before it is read
            while kernel.mine.recv(1 << 16):
                pass


def _strict(session: Session) -> Callable[[int, int, Exception], int]:
    usual = session._failure

    def failure(opcode: int, nodeid: int, error: Exception) -> int:
        if not isinstance(error, (TreeringError, Malformed, OSError)):
            raise Unexpected(f"{Opcode(opcode).name} of node {nodeid}: {error!r}") from error
        return usual(opcode, nodeid, error)

    return failure


class Unexpected(BaseException):
    """Passes a session, which catches every Exception."""


def _message(opcode: int, node: int, body: bytes = b"") -> bytes:
    return bytes([opcode, node, len(body)]) + body


_READ = struct.pack("<QQII", 0, 0, 4096, 0) + bytes(16)
_SESSION = (
    _message(Opcode.LOOKUP, 1, b"trees\0") + _message(Opcode.LOOKUP, 1, b"branches\0") + _message(Opcode.READDIRPLUS, 1, _READ)
    + _message(Opcode.LOOKUP, 3, b"main\0") + _message(Opcode.READDIR, 4, _READ) + _message(Opcode.GETATTR, 4, bytes(16)),
    _message(Opcode.GETXATTR, 1, struct.pack("<II", 0, 0) + b"user.a\0") + _message(Opcode.LISTXATTR, 1, bytes(8))
    + _message(Opcode.STATFS, 1) + _message(Opcode.LSEEK, 1, bytes(24)) + _message(Opcode.FORGET, 2, bytes(8)),
    _message(Opcode.BATCH_FORGET, 0, struct.pack("<IIQQ", 1, 0, 2, 1)) + _message(Opcode.INTERRUPT, 0, bytes(8))
    + _message(Opcode.OPEN, 1, bytes(8)) + _message(Opcode.READLINK, 3) + _message(Opcode.READ, 2, _READ),
)  # fmt: skip
_REQUESTS = (
    IN_HEADER.pack(40, 1, 2, 1, 0, 0, 1, 0, 0), struct.pack("<IIIII44x", 7, 45, 4096, 0, 0), b"name\0", _READ,
    struct.pack("<IIQQ", 1, 0, 2, 1),
)  # fmt: skip

# -- /proc and cgroups


def mountinfo(data: bytes) -> None:
    found = places.parse(data)
    assert found is not None


def mount_line(data: bytes) -> None:
    """A line as the kernel writes it, its fields those of the input: mount points are anybody's words."""
    fields = [bytes(b for b in word if b not in b" \n\\") or b"x" for word in (*data.split(b"\0"), b"", b"", b"")][:3]
    escaped = [b"".join(b"\\%03o" % byte if byte < 48 else bytes([byte]) for byte in field) for field in fields]
    found = mounting.parse_mount(b"1 2 0:3 %b %b rw - fuse.x %b rw\n" % tuple(escaped))
    assert [found.root, found.point, found.source] == fields


def cgroup_files(data: bytes) -> None:
    """Pure, and nothing is ever raised, as the module says."""
    for read in (
        parsing.number, parsing.keyed, parsing.blkio, parsing.io_stat, parsing.cpu_max, parsing.memberships, parsing.stat,
        parsing.fields,
    ):  # fmt: skip
        read(data)


# -- sockets


def service_line(data: bytes) -> None:
    """What a client of a FUSE service says: not a request, or an object that says what to do."""
    found = request_of(data)
    assert found is None or "do" in found


def attach_message(data: bytes) -> None:
    found = fields_of(data)
    assert found is None or isinstance(found, dict)


def fork_request(data: bytes) -> None:
    """What a client asks the fork server for; a ValueError ends the child that was made for it."""
    try:
        parse_request(data, [])
    except ValueError:
        pass


_MOUNTINFO = (
    b"25 30 0:23 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
    b"26 30 0:24 /a /sys/fs/cgroup/cpu\\040x rw - cgroup cgroup rw,cpu,cpuacct\n"
)
_CGROUP = (
    b"usage_usec 7\nuser_usec 3\n", b"8:0 rbytes=1 wbytes=2 rios=3 wios=4\n", b"max 100000\n", b"8:0 Read 7\n8:0 Write 8\nTotal 15\n",
    b"3:cpu,cpuacct:/a\n1:name=systemd:/b\n0::/c\n", b"1 (a) b) S " + b"7 " * 40, b"VmRSS:\t 12 kB\nThreads:\t1\n", b"123\n",
)  # fmt: skip
_LINES = (
    b'{"do":"lease"}',
    b'{"do":"starting","root":"' + b"a" * 64 + b'","profile":null}',
    b'{"do":"stop","force":true}',
)

TARGETS = (
    Target("fuse-request", fuse_request, lambda: _REQUESTS, (b"\xff\xff\xff\xff",), refusals=()),
    Target("fuse-session", fuse_session, lambda: _SESSION, tuple(bytes([code]) + b"\1\0" for code in Opcode), refusals=()),
    Target("mountinfo", mountinfo, lambda: [_MOUNTINFO], (b" - cgroup2 ", b"\\040", b"name="), refusals=()),
    Target("mount-line", mount_line, lambda: [b"/\0/mnt/a b\0store"], refusals=()),
    Target("cgroup-files", cgroup_files, lambda: _CGROUP, (b"9" * 30, b"max", b"kB"), refusals=()),
    Target("service-line", service_line, lambda: _LINES, (b"[[[[", b'{"do":', b"1e999", b"9" * 30), refusals=()),
    Target("attach-message", attach_message, lambda: _LINES, (b"[[[[", b'{"a":', b"9" * 30), refusals=()),
    Target("fork-request", fork_request, lambda: [b"1\0" b"1\0" b"1\0key\0" b"3\0ls\0A=b", b"0\0" b"0\0" b"0\0key"], refusals=()),
)  # fmt: skip
