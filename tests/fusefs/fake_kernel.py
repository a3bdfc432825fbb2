"""Be the kernel: requests into one end of a socket pair, the session's replies out of it, exact bytes and no root."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from types import TracebackType

from fusefs.filesystem import FileSystem
from fusefs.journal import Journal
from fusefs.memory import RequestMemory
from fusefs.session import Session
from fusefs.wire.protocol import Init, Opcode
from vcs.snapshot import Source

ALL_FLAGS = sum(Init)
IN_HEADER = struct.Struct("<IIQQIIIHH")
ENTRY_OUT = struct.Struct("<QQQQII")
ATTR = struct.Struct("<QQQQQQIIIIIIIIII")
DIRENT = struct.Struct("<QQII")


@dataclass(frozen=True)
class Reply:
    """What came back."""

    error: int
    """An errno, 0 for success."""
    body: bytes


@dataclass(frozen=True)
class Attr:
    """struct fuse_attr."""

    ino: int
    size: int
    blocks: int
    mtime: tuple[int, int]
    mode: int
    nlink: int
    uid: int
    gid: int
    rdev: int


@dataclass(frozen=True)
class Found:
    """struct fuse_entry_out, and the name in a directory where it came from one."""

    nodeid: int
    name_lifetime: int
    lifetime: int
    attr: Attr
    name: bytes = b""
    offset: int = 0
    ino: int = 0
    kind: int = 0
    """What a directory says of the file."""


def attr_of(body: bytes, offset: int = 0) -> Attr:
    ino, size, blocks, _, mtime, _, _, nanoseconds, _, mode, nlink, uid, gid, rdev, _, _ = ATTR.unpack_from(
        body, offset
    )
    return Attr(ino, size, blocks, (mtime, nanoseconds), mode, nlink, uid, gid, rdev)


class FakeKernel:
    """A kernel that mounts a source. Use as a context manager."""

    def __init__(self, source: Source, init: bool = True, flags: int = ALL_FLAGS) -> None:
        self.mine, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
        self.mine.setblocking(False)
        self.journal = Journal.create()
        self.slot = RequestMemory(-1).slot(0)
        self.filesystem = FileSystem(source, uid=7, gid=8, time=1_500_000_000, journal=self.journal)
        self.session = Session(self.theirs.fileno(), self.filesystem, slot=self.slot)
        self.notices: list[bytes] = []
        """Whole messages that the session sent unasked."""
        self._unique = 0
        if init:
            assert self.init(flags=flags).error == 0

    def __enter__(self) -> FakeKernel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.mine.close()
        assert not self.session.step(), "the session goes on after the connection's end"
        self.theirs.close()

    def raw(self, message: bytes) -> list[bytes]:
        """Send bytes; every message that comes back."""
        self.mine.send(message)
        assert self.session.step()
        found = []
        while True:
            try:
                found.append(self.mine.recv(2 << 20))
            except BlockingIOError:
                return found

    def ask(self, opcode: int, nodeid: int = 0, body: bytes = b"") -> Reply | None:
        """A request and its reply, None if there was none."""
        self._unique += 2
        header = IN_HEADER.pack(IN_HEADER.size + len(body), opcode, self._unique, nodeid, 1000, 1000, 42, 0, 0)
        reply = None
        for message in self.raw(header + body):
            length, error, unique = struct.unpack_from("<IiQ", message)
            assert length == len(message)
            if not unique:
                self.notices.append(message)
                continue
            assert unique == self._unique
            assert reply is None
            assert error <= 0
            assert not error or length == 16
            reply = Reply(-error, message[16:])
        return reply

    def get(self, opcode: int, nodeid: int, body: bytes = b"") -> bytes:
        """The body of a successful reply."""
        reply = self.ask(opcode, nodeid, body)
        assert reply is not None
        assert reply.error == 0
        return reply.body

    def fails(self, opcode: int, nodeid: int, body: bytes = b"") -> int:
        """The errno of a reply."""
        reply = self.ask(opcode, nodeid, body)
        assert reply is not None
        assert reply.error
        return reply.error

    def init(self, major: int = 7, minor: int = 45, flags: int = ALL_FLAGS) -> Reply:
        body = struct.pack("<IIIII44x", major, minor, 131072, flags & 0xFFFFFFFF, flags >> 32)
        reply = self.ask(Opcode.INIT, 0, body)
        assert reply is not None
        return reply

    # -- what a kernel does all day

    def lookup(self, parent: int, name: bytes) -> Found | None:
        """The node of a name, None if there is none; `missing_lifetime` tells how long that holds."""
        reply = self.ask(Opcode.LOOKUP, parent, name + b"\0")
        assert reply is not None
        self.missing_lifetime = 0
        if reply.error:
            assert reply.error == 2
            return None
        nodeid, _, name_lifetime, lifetime, _, _ = ENTRY_OUT.unpack_from(reply.body)
        if not nodeid:
            self.missing_lifetime = name_lifetime
            return None
        return Found(nodeid, name_lifetime, lifetime, attr_of(reply.body, ENTRY_OUT.size))

    def walk(self, *names: bytes) -> Found:
        """Look up one name after the other, from the top."""
        node = 1
        for name in names:
            found = self.lookup(node, name)
            assert found is not None, name
            node = found.nodeid
        assert found is not None
        return found

    def getattr(self, nodeid: int) -> Attr:
        return attr_of(self.get(Opcode.GETATTR, nodeid, bytes(16)), 16)

    def read(self, nodeid: int, offset: int, size: int) -> bytes:
        return self.get(Opcode.READ, nodeid, struct.pack("<QQIIQII", 0, offset, size, 0, 0, 0, 0))

    def readdirplus(self, nodeid: int, size: int = 4096) -> list[Found]:
        """A whole directory, in as many messages as it takes."""
        found: list[Found] = []
        while part := self.readdirplus_once(nodeid, found[-1].offset if found else 0, size):
            found += part
        return found

    def readdirplus_once(self, nodeid: int, offset: int, size: int = 4096) -> list[Found]:
        """The names that one message brings."""
        body = self.get(Opcode.READDIRPLUS, nodeid, struct.pack("<QQIIQII", 0, offset, size, 0, 0, 0, 0))
        assert len(body) <= size
        found = []
        at = 0
        while at < len(body):
            node, _, name_lifetime, lifetime, _, _ = ENTRY_OUT.unpack_from(body, at)
            attr = attr_of(body, at + ENTRY_OUT.size)
            ino, offset, length, kind = DIRENT.unpack_from(body, at + 128)
            name = body[at + 152 : at + 152 + length]
            if node:
                assert (ino, kind) == (attr.ino, attr.mode >> 12)
            found.append(Found(node, name_lifetime, lifetime, attr, name, offset, ino, kind))
            at += (152 + length + 7) & ~7
        return found

    def readdir(self, nodeid: int, size: int = 4096) -> list[tuple[bytes, int, int]]:
        """Names, numbers and types."""
        found = []
        offset = 0
        while body := self.get(Opcode.READDIR, nodeid, struct.pack("<QQIIQII", 0, offset, size, 0, 0, 0, 0)):
            at = 0
            while at < len(body):
                ino, offset, length, kind = DIRENT.unpack_from(body, at)
                found.append((body[at + 24 : at + 24 + length], ino, kind))
                at += (24 + length + 7) & ~7
        return found

    def xattr(self, nodeid: int, name: bytes, size: int = 0) -> Reply:
        reply = self.ask(Opcode.GETXATTR, nodeid, struct.pack("<II", size, 0) + name + b"\0")
        assert reply is not None
        return reply

    def forget(self, nodeid: int, count: int) -> None:
        assert self.ask(Opcode.FORGET, nodeid, struct.pack("<Q", count)) is None
