"""A profile is read in its order, and the disk is asked for no more than a little ahead."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from fusefs.sweep import AHEAD, Part, sweep
from tests.support.processes import holders
from vcs.model import RootId
from vcs.profiles import Item, Profile, open_profile, profile_path, save_profile
from vcs.store import Store

_OBJECT = 100 << 10
_OBJECTS = 60
_MOST = 1 << 30


@pytest.fixture
def profile(tmp_path: Path) -> Iterator[Profile]:
    """Of so many objects, each as large as the others."""
    root = RootId(bytes(32))
    with Store.create(tmp_path / "store") as store:
        with store.batch() as batch:
            digests = [batch.put_chunk(bytes([number]) * _OBJECT) for number in range(_OBJECTS)]
        save_profile(store.caches, root, digests, store)
        opened = open_profile(profile_path(store.caches, root))
    assert opened is not None
    with closing(opened):
        yield opened


class Asked:
    """What the kernel was asked to read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bytes = 0
        self.ranges: list[tuple[str, int, int]] = []
        self._advise = os.posix_fadvise
        monkeypatch.setattr(os, "posix_fadvise", self._asked)

    def _asked(self, fd: int, offset: int, length: int, advice: int) -> None:
        assert advice == os.POSIX_FADV_WILLNEED
        self.bytes += length
        self.ranges.append((os.readlink(f"/proc/self/fd/{fd}"), offset, length))
        self._advise(fd, offset, length, advice)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    return Asked(monkeypatch)


def test_all_is_yielded_in_order_and_asked_for_a_little_before(profile: Profile, asked: Asked) -> None:
    given: list[Item] = []
    for item in sweep(profile, {}, _MOST):
        given.append(item)
        ahead = asked.bytes - len(given) * _OBJECT
        assert 0 <= ahead <= AHEAD, "asked for, and not too far ahead"
    assert tuple(given) == profile.items
    assert asked.bytes == _OBJECTS * _OBJECT, "once each"
    assert len(asked.ranges) < _OBJECTS // 5, "neighbours at once"


def test_parts_are_read_from_their_files_instead(
    profile: Profile, asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy"
    copy.write_bytes(bytes(3 << 20))
    large, small = profile.items[3], profile.items[-1]
    parts = {large.digest: Part(copy, 4096, 2 << 20), small.digest: Part(copy, 0, 4096)}
    read: list[tuple[int, int]] = []
    preadv = os.preadv

    def noted(fd: int, buffers: list[memoryview], offset: int) -> int:
        read.append((offset, sum(map(len, buffers))))
        return preadv(fd, buffers, offset)

    monkeypatch.setattr(os, "preadv", noted)
    given = list(sweep(profile, parts, _MOST))
    assert given == [item for item in profile.items if item.digest not in parts]
    assert [each for each in asked.ranges if each[0] == str(copy)] == [
        (str(copy), 4096, 2 << 20),
        (str(copy), 0, 4096),
    ]
    assert sum(length for _, length in read) == (2 << 20) + 4096
    assert read[0][0] == 4096
    assert read[-1] == (0, 4096)
    assert not holders(copy), "files are closed again"


def test_a_copy_that_has_gone_is_left_out(profile: Profile, tmp_path: Path) -> None:
    gone = profile.items[0]
    assert list(sweep(profile, {gone.digest: Part(tmp_path / "gone", 0, 4096)}, _MOST)) == list(profile.items[1:])


def test_what_is_read_has_an_end(profile: Profile, asked: Asked, tmp_path: Path) -> None:
    parts = {profile.items[2].digest: Part(tmp_path / "copy", 0, 5 * _OBJECT)}
    assert list(sweep(profile, parts, 8 * _OBJECT)) == [profile.items[0], profile.items[1], profile.items[3]]
    assert asked.bytes <= AHEAD + 8 * _OBJECT


def test_nothing_is_read_of_an_empty_profile(tmp_path: Path, asked: Asked) -> None:
    root = RootId(bytes(32))
    with Store.create(tmp_path / "store") as store:
        save_profile(store.caches, root, [], store)
        profile = open_profile(profile_path(store.caches, root))
    assert profile is not None
    with closing(profile):
        assert not list(sweep(profile, {}, _MOST))
    assert not asked.ranges
