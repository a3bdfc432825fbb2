"""Leases where a note fails: what was noted before counts, and what is noted afterwards."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from vcs.leases import Lease, Leased, read_leases
from vcs.model import LayerId, RootId

ONE, TWO = LayerId(b"\1" * 32), LayerId(b"\2" * 32)
ROOT = RootId(b"\3" * 32)


@pytest.fixture
def lease(tmp_path: Path) -> Iterator[Lease]:
    made = Lease(tmp_path)
    made.layer(ONE)
    yield made
    made.close()


def fill_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next write takes six bytes, the one after it none."""
    write, room = os.write, [6, 0]

    def limited(file: int, data: bytes) -> int:
        size = room.pop(0) if room else len(data)
        if not size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(file, data[:size])

    monkeypatch.setattr(os, "write", limited)


def test_a_note_that_fails_half_way_does_not_spoil_the_next(
    lease: Lease, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_disk(monkeypatch)
    with pytest.raises(OSError, match="No space"):
        lease.root(ROOT)
    assert lease.layer(TWO)
    assert read_leases(tmp_path) == Leased({ONE, TWO})


def test_a_layer_whose_note_failed_is_noted_when_it_is_found_again(
    lease: Lease, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_disk(monkeypatch)
    with pytest.raises(OSError, match="No space"):
        lease.layer(TWO)
    assert lease.layer(TWO)
    assert read_leases(tmp_path) == Leased({ONE, TWO})


def test_after_half_a_note_that_stays_no_other_is_taken(
    lease: Lease, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(file: int, size: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    fill_disk(monkeypatch)
    monkeypatch.setattr(os, "ftruncate", refused)
    with pytest.raises(OSError, match="No space"):
        lease.root(ROOT)
    for _ in range(2):
        with pytest.raises(OSError, match="half a line"):
            lease.layer(TWO)
    assert read_leases(tmp_path) == Leased({ONE})
