"""Start profiles: what is written comes back, verified; what is damaged, foreign or stale is not used."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.collecting import NOW
from tests.support.values import root as make_root
from vcs import profiles
from vcs.check import check
from vcs.collect import collect
from vcs.history import BRANCHES, Author
from vcs.model import Data, RootId
from vcs.profiles import open_profile, profile_path, save_profile
from vcs.store import Store

AUTHOR = Author("A", "a@example.org", 1_700_000_000)
CONTENTS = {f"file{number}": bytes([number]) * (1000 + number) for number in range(20)}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.create(tmp_path / "store") as opened:
        yield opened


@pytest.fixture
def root(store: Store) -> RootId:
    """The root of `main`."""
    with store.batch() as batch:
        made = make_root(batch, CONTENTS)
    commit = store.add_commit(made, {}, "one\n", AUTHOR)
    store.history.move(BRANCHES + "main", commit, None, "one", AUTHOR)
    return made


def chunks(store: Store, root: RootId) -> dict[bytes, bytes]:
    """Every file's chunk and content."""
    found = {}
    for _, entry in store.snapshot(root).walk():
        if isinstance(entry.content, Data):
            found[entry.content.chunk] = CONTENTS[entry.name.decode()]
    return found


def test_what_is_written_comes_back_in_order(store: Store, root: RootId) -> None:
    held = chunks(store, root)
    order = sorted(held)
    assert save_profile(store.caches, root, [*order, order[0]], store) == sum(map(len, held.values()))
    profile = open_profile(profile_path(store.caches, root))
    assert profile is not None
    assert [item.digest for item in profile.items] == order
    assert {digest: profile.get(digest) for digest in order} == held
    assert profile.get(bytes(32)) is None
    profile.warm(profile.items)
    profile.close()
    profile.close()
    assert sorted(path.name for path in store.caches.iterdir()) == [f"start-{root.hex()}"]


def test_what_cannot_be_had_or_is_too_much_is_left_out(
    store: Store, root: RootId, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profiles, "BYTES_MAX", 2500)
    first, second, third, *_ = sorted(chunks(store, root))
    save_profile(store.caches, root, [bytes(32), first, second, third], store)
    profile = open_profile(profile_path(store.caches, root))
    assert profile is not None
    assert [item.digest for item in profile.items] == [first, second]
    profile.close()


def test_a_damaged_object_is_not_given(store: Store, root: RootId) -> None:
    held = chunks(store, root)
    first, *_, last = held
    save_profile(store.caches, root, held, store)
    path = profile_path(store.caches, root)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    profile = open_profile(path)
    assert profile is not None
    assert profile.get(last) is None
    assert profile.get(first) == held[first]
    profile.close()


@pytest.mark.parametrize("size", [0, 50, 97, 118, 200, -1, -1000])
def test_what_is_cut_off_is_no_profile(store: Store, root: RootId, size: int) -> None:
    save_profile(store.caches, root, chunks(store, root), store)
    path = profile_path(store.caches, root)
    path.write_bytes(path.read_bytes()[:size])
    assert open_profile(path) is None


def test_what_is_something_else_is_no_profile(store: Store, root: RootId, tmp_path: Path) -> None:
    path = profile_path(store.caches, root)
    assert open_profile(path) is None
    path.write_bytes(os.urandom(5000))
    assert open_profile(path) is None
    path.unlink()
    path.mkdir()
    assert open_profile(path) is None


def test_the_profiles_used_longest_ago_make_room(store: Store, root: RootId, monkeypatch: pytest.MonkeyPatch) -> None:
    held = chunks(store, root)
    monkeypatch.setattr(profiles, "TOTAL_MAX", 60_000)
    others = [RootId(bytes([number]) * 32) for number in range(3)]
    for age, other in enumerate(others):
        save_profile(store.caches, other, held, store)
        os.utime(profile_path(store.caches, other), (1_000_000_000 - age, 1_000_000_000 - age))
    save_profile(store.caches, root, held, store)
    there = [other for other in (*others, root) if profile_path(store.caches, other).exists()]
    assert there == [others[0], root]


def test_gc_takes_the_profiles_of_roots_that_go(store: Store, root: RootId) -> None:
    held = chunks(store, root)
    save_profile(store.caches, root, held, store)
    with store.batch() as batch:
        gone = make_root(batch, {"gone": b"gone"})
    save_profile(store.caches, gone, [gone], store)
    abandoned = store.caches / f"start-{root.hex()}.123"
    abandoned.write_bytes(b"0" * 64 + b"\n" + bytes(1000))
    collect(store, since=NOW)
    assert [path.name for path in store.caches.iterdir()] == [f"start-{root.hex()}"]


def test_fsck_tells_of_a_damaged_profile(store: Store, root: RootId) -> None:
    save_profile(store.caches, root, chunks(store, root), store)
    path = profile_path(store.caches, root)
    assert not check(store).problems
    data = bytearray(path.read_bytes())
    data[-5] ^= 4
    path.write_bytes(data)
    report = check(store)
    assert report.caches == {path}
    assert [problem.kind for problem in report.problems] == ["cache"]
