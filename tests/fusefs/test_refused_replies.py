"""Whoever asked is told, also where a reply does not reach the kernel: it would wait for ever."""

from __future__ import annotations

import errno
import logging
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from fusefs.wire.protocol import Opcode
from tests.fusefs.fake_kernel import FakeKernel
from tests.fusefs.served import service
from tests.fusefs.serving import commit, needs_fuse
from tests.support.values import root
from vcs.store import Store
from vcs.testing import MemoryStore


@pytest.fixture
def kernel() -> Iterator[FakeKernel]:
    store = MemoryStore()
    store.add_commit(root(store, {"f": b"f"}), "main")
    with FakeKernel(store) as kernel:
        yield kernel


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    """Have the next replies refused, as many as given, with an errno."""
    found = os.writev

    def refuse(times: int, number: int) -> None:
        left = [number] * times

        def writev(device: int, parts: Sequence[bytes | memoryview]) -> int:
            if left:
                raise OSError(left[0], os.strerror(left.pop()))
            return found(device, parts)

        monkeypatch.setattr(os, "writev", writev)

    return refuse


def test_what_is_refused_is_an_error_of_its_request_alone(
    kernel: FakeKernel, refused: Callable[[int, int], None], caplog: pytest.LogCaptureFixture
) -> None:
    refused(1, errno.ENOMEM)
    assert kernel.fails(Opcode.GETATTR, 1, bytes(16)) == errno.EIO
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert not kernel.slot.length
    assert kernel.getattr(1).ino == 1


def test_what_nobody_waits_for_any_more_is_not_answered_twice(
    kernel: FakeKernel, refused: Callable[[int, int], None], caplog: pytest.LogCaptureFixture
) -> None:
    refused(1, errno.ENOENT)
    assert kernel.ask(Opcode.GETATTR, 1, bytes(16)) is None
    assert not caplog.records
    assert not kernel.slot.length
    assert kernel.getattr(1).ino == 1


def test_what_the_kernel_has_failed_by_itself_is_done(
    kernel: FakeKernel, refused: Callable[[int, int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It refuses the reply, tells who asked, and does not know the request then."""

    def write(_: int, __: bytes) -> int:
        raise OSError(errno.ENOENT, "no such request")

    refused(1, errno.EINVAL)
    monkeypatch.setattr(os, "write", write)
    assert kernel.ask(Opcode.GETATTR, 1, bytes(16)) is None
    assert not kernel.slot.length
    assert kernel.getattr(1).ino == 1


def test_where_nothing_can_be_said_the_request_is_left_to_a_successor(
    kernel: FakeKernel, refused: Callable[[int, int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(_: int, __: bytes) -> int:
        raise OSError(errno.ENOMEM, "no memory")

    refused(1, errno.ENOMEM)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        with pytest.raises(OSError, match="no memory"):
            kernel.ask(Opcode.GETATTR, 1, bytes(16))
    assert kernel.slot.length
    assert kernel.session.replay()
    _, error, unique = struct.unpack_from("<IiQ", kernel.mine.recv(4096))
    assert (error, unique) == (0, kernel._unique)


@needs_fuse
def test_a_reader_of_a_mount_is_told(tmp_path: Path) -> None:
    with Store.create(tmp_path / "store") as made:
        commit(made, {"bad": b"snare", "good": b"good"})
    with service(tmp_path / "store", opener="tests.fusefs.openers:in_too_many_parts") as served:
        top = served.top / "branches/main"
        said = served.run("sh", "-c", f"cat {top}/bad 2>&1 || cat {top}/good")
        assert said == f"cat: {top}/bad: Input/output error\ngood"
        assert served.status()["replaced"] == 0
        assert "a reply was refused" in served.log()
