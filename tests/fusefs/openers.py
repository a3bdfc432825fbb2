"""Stores that go wrong, for workers to open: named to the service by `--opener`."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from fusefs import negotiation
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
            while True:
                signal.pause()
        return data


def poisoned(path: Path, read_ahead: bool = False) -> Store:
    return Poisoned(path, read_ahead=read_ahead)


def snared(path: Path, read_ahead: bool = False) -> Store:
    return Snared(path, read_ahead=read_ahead)


def on_an_older_kernel(path: Path, read_ahead: bool = False) -> Store:
    """As on a kernel that sends nothing again."""
    negotiation._WANTED.pop(Init.HAS_RESEND, None)
    return Store.open(path, read_ahead=read_ahead)


def on_an_older_kernel_poisoned(path: Path, read_ahead: bool = False) -> Store:
    negotiation._WANTED.pop(Init.HAS_RESEND, None)
    return poisoned(path, read_ahead)
