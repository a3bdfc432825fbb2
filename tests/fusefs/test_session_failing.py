"""Sessions to which something odd is said, or in which something fails: each is an error of one request alone."""

from __future__ import annotations

import errno
import logging
import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from fusefs.filesystem import FileSystem
from fusefs.session import Session
from fusefs.wire.protocol import Opcode
from tests.fusefs.fake_kernel import FakeKernel
from tests.fusefs.sample_root import sample, top
from tests.support.values import directory, root
from vcs.errors import Corrupt
from vcs.testing import MemoryStore


@pytest.mark.parametrize(
    "opcode",
    [
        *(Opcode.SETATTR, Opcode.SYMLINK, Opcode.MKNOD, Opcode.MKDIR, Opcode.UNLINK, Opcode.RMDIR, Opcode.RENAME),
        *(Opcode.RENAME2, Opcode.LINK, Opcode.WRITE, Opcode.SETXATTR, Opcode.REMOVEXATTR, Opcode.CREATE),
        *(Opcode.FALLOCATE, Opcode.COPY_FILE_RANGE, Opcode.TMPFILE),
    ],
)
def test_whatever_writes_is_refused(kernel: FakeKernel, opcode: Opcode) -> None:
    assert kernel.fails(opcode, 1, bytes(80)) == errno.EROFS


@pytest.mark.parametrize("opcode", [Opcode.STATX, Opcode.IOCTL, Opcode.FLUSH, Opcode.ACCESS, Opcode.POLL, 77, 4096])
def test_what_is_unknown_is_not_asked_again(kernel: FakeKernel, opcode: int) -> None:
    assert kernel.fails(opcode, 1, bytes(80)) == errno.ENOSYS


def test_an_interrupt_has_no_reply_and_the_request_keeps_its_own(kernel: FakeKernel) -> None:
    assert kernel.ask(Opcode.INTERRUPT, 0, struct.pack("<Q", 2)) is None
    assert kernel.walk(b"trees").nodeid


def test_destroy_and_statfs(kernel: FakeKernel) -> None:
    assert len(kernel.get(Opcode.STATFS, 1)) == 80
    assert kernel.get(Opcode.DESTROY, 0) == b""


def test_damage_is_an_error_of_its_file_alone_and_logged_once(
    kernel: FakeKernel, store: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    etc = kernel.lookup(top(kernel, store).nodeid, b"etc")
    assert etc is not None
    passwd, hostname = kernel.lookup(etc.nodeid, b"passwd"), kernel.lookup(etc.nodeid, b"hostname")
    assert passwd is not None
    assert hostname is not None
    content = kernel.filesystem.node(passwd.nodeid).entry.content
    del store.objects[content.chunk]  # type: ignore[union-attr]
    for _ in range(3):
        assert kernel.fails(Opcode.READ, passwd.nodeid, bytes(16) + b"\x10" + bytes(23)) == errno.EIO
    assert kernel.read(hostname.nodeid, 0, 10) == b"ring\n"
    messages = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(messages) == 1
    assert content.chunk.hex() in messages[0]  # type: ignore[union-attr]


class Failing(MemoryStore):
    """Raises what a test tells it to."""

    error: Exception | None = None

    def get(self, digest: bytes) -> bytes:
        if self.error is not None:
            raise self.error
        return super().get(digest)


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (OSError(errno.ENOMEM, "no"), errno.ENOMEM),
        (Corrupt("bad", digest="ab", layer="cd"), errno.EIO),
        (ZeroDivisionError(), errno.EIO),
        (OSError("without a number"), errno.EIO),
        (MemoryError(), errno.EIO),
        (RecursionError(), errno.EIO),
    ],
)
def test_no_failure_ends_the_loop(error: Exception, number: int, caplog: pytest.LogCaptureFixture) -> None:
    store = Failing()
    made = root(store, {"a": b"content"})
    with FakeKernel(store) as kernel:
        file = kernel.walk(b"trees", made.hex().encode(), b"a").nodeid
        store.error = error
        assert kernel.fails(Opcode.READ, file, bytes(40)) == number
        store.error = None
        assert kernel.read(file, 0, 10) == b"content"
        if isinstance(error, Corrupt):
            assert "digest=ab layer=cd" in caplog.text


def test_a_directory_whose_sum_lies_is_not_shown() -> None:
    """It would shift the numbers of what follows onto those of other files."""
    store = MemoryStore()
    inner = directory(store, {"x": b"x", "y": b"y"})
    liar = replace(inner, content=replace(inner.content, entries=1))
    made = root(store, {"a": liar, "b": b"b"})
    with FakeKernel(store) as kernel:
        node = kernel.walk(b"trees", made.hex().encode(), b"a").nodeid
        assert kernel.fails(Opcode.READDIRPLUS, node, struct.pack("<QQIIQII", 0, 0, 4096, 0, 0, 0, 0)) == errno.EIO
        assert kernel.fails(Opcode.LOOKUP, node, b"x\0") == errno.EIO
        negative = replace(inner, content=replace(inner.content, entries=-5))
        hostile = root(store, {"a": negative, "b": b"b"})
        assert kernel.fails(Opcode.LOOKUP, 2, hostile.hex().encode() + b"\0") == errno.EIO


def test_bytes_that_are_no_request_are_survived(kernel: FakeKernel) -> None:
    assert kernel.raw(b"short") == []
    assert kernel.raw(struct.pack("<IIQQIIIHH", 400, 1, 2, 1, 0, 0, 0, 0, 0)) == [], "its length is a lie"
    assert kernel.fails(Opcode.LOOKUP, 1, b"no end") == errno.EINVAL
    assert kernel.fails(Opcode.READ, 1, b"short") == errno.EINVAL
    assert kernel.fails(Opcode.LOOKUP, 2**64 - 1, b"x\0") == errno.ESTALE
    assert kernel.walk(b"trees").nodeid


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.integers(0, 60), st.integers(0, 2**64 - 1) | st.integers(0, 40), st.binary(max_size=120))
def test_no_message_is_answered_wrongly_or_kills(opcode: int, nodeid: int, body: bytes) -> None:
    store = MemoryStore()
    made = sample(store)
    session = Session(-1, FileSystem(store))
    session._fs.lookup(session._fs.node(2), made.hex().encode())
    message = struct.pack("<IIQQIIIHH", 40 + len(body), opcode, 11, nodeid, 0, 0, 0, 0, 0) + body
    logging.disable(logging.CRITICAL)
    try:
        reply = session.answer(memoryview(message))
        assert session.answer(memoryview(body)) is None or len(body) >= 40
    finally:
        logging.disable(logging.NOTSET)
    if reply is not None:
        length, error, unique = struct.unpack_from("<IiQ", reply[0])
        assert length == sum(map(len, reply))
        assert unique == 11
        assert -4096 < error <= 0
