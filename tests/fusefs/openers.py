"""Stores that go wrong, for workers to open: named to the service by `--opener`."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress
from pathlib import Path

from fusefs import negotiation
from fusefs.session import Session
from fusefs.trace import Reply
from fusefs.wire import replies
from fusefs.wire.protocol import Init
from vcs.store import Store

POISON = b"poison"
SNARE = b"snare"


class Poisoned(Store):
    """Whoever reads what begins with POISON crashes."""

    def get(self, digest: bytes) -> bytes:
        data = super().get(digest)
        if data.startswith(POISON):
            os._exit(77)
        return data


class Snared(Store):
    """Who first reads what begins with SNARE does not come back."""

    def get(self, digest: bytes) -> bytes:
        data = super().get(digest)
        if data.startswith(SNARE):
            try:
                (self.path / "caches/snared").mkdir()
            except FileExistsError:
                return data
            (self.path / "caches/snared-worker").write_text(f"{os.getpid()}\n")
            while True:
                signal.pause()
        return data


def poisoned(path: Path, read_ahead: bool = False) -> Store:
    return Poisoned(path, read_ahead=read_ahead)


def snared(path: Path, read_ahead: bool = False) -> Store:
    return Snared(path, read_ahead=read_ahead)


def threadless(path: Path, read_ahead: bool = False) -> Store:
    """The first worker waits for ever for its first thread, as where that has no memory to begin with."""

    def start(_: threading.Thread) -> None:
        while True:
            signal.pause()

    with suppress(FileExistsError):
        (path / "caches/threadless").mkdir()
        threading.Thread.start = start  # type: ignore[assignment]
    return Store.open(path, read_ahead=read_ahead)


def stuck(path: Path, read_ahead: bool = False) -> Store:
    """Who first reads what begins with SNARE gives it to the kernel unasked, from another thread, and does not answer.
    The page is locked until it is answered, so the thread cannot be killed before."""
    store = Store.open(path, read_ahead=read_ahead)
    read = Session._read

    def snaring(session: Session, nodeid: int, body: bytes) -> Reply:
        answer = read(session, nodeid, body)
        assert isinstance(answer, bytes | memoryview | list)
        data = b"".join(answer) if isinstance(answer, list) else bytes(answer)
        if data.startswith(SNARE):
            try:
                (path / "caches/snared").mkdir()
            except FileExistsError:
                return answer
            message = replies.store(nodeid, len(data)), data
            threading.Thread(target=os.writev, args=(session._device, message), daemon=True).start()
            while True:
                signal.pause()
        return answer

    Session._read = snaring  # type: ignore[assignment]
    return store


def in_too_many_parts(path: Path, read_ahead: bool = False) -> Store:
    """What begins with SNARE is answered in more parts than writev(2) takes, so that FUSE does not get to see it."""
    read = Session._read

    def splitting(session: Session, nodeid: int, body: bytes) -> Reply:
        answer = read(session, nodeid, body)
        assert isinstance(answer, bytes | memoryview | list)
        data = b"".join(answer) if isinstance(answer, list) else bytes(answer)
        return [data[:1]] * 2000 if data.startswith(SNARE) else answer

    Session._read = splitting  # type: ignore[assignment]
    return Store.open(path, read_ahead=read_ahead)


def on_an_older_kernel(path: Path, read_ahead: bool = False) -> Store:
    """As on a kernel that sends nothing again."""
    negotiation._WANTED.pop(Init.HAS_RESEND, None)
    return Store.open(path, read_ahead=read_ahead)


def on_an_older_kernel_poisoned(path: Path, read_ahead: bool = False) -> Store:
    negotiation._WANTED.pop(Init.HAS_RESEND, None)
    return poisoned(path, read_ahead)


def on_an_older_kernel_snared(path: Path, read_ahead: bool = False) -> Store:
    negotiation._WANTED.pop(Init.HAS_RESEND, None)
    return snared(path, read_ahead)
