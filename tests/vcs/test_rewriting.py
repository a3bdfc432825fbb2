"""Histories without some of their commits, by example and by chance."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vcs.gitobjects import GitObjects
from vcs.history import Author, History
from vcs.model import CommitId, RootId
from vcs.rewriting import first_parents, leading_to, rewrite, with_parents, with_target


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    made = History.create(tmp_path / "history.git", tmp_path / "lock")
    yield made
    made.close()


@pytest.fixture
def objects(history: History, tmp_path: Path) -> Iterator[GitObjects]:
    """The same history's."""
    made = GitObjects(tmp_path / "history.git")
    yield made
    made.close()


def add(history: History, number: int, *parents: CommitId) -> CommitId:
    author = Author("Ada Ünïcode", "ada@example.org", 1_700_000_000 + number, 90)
    root = RootId(number.to_bytes(32, "big"))
    return history.write_commit(root, {"number": number}, f"commit {number}\n\nbody\n", author, parents)


def chain(history: History, length: int) -> list[CommitId]:
    """A straight history, newest first."""
    made: list[CommitId] = []
    for number in range(length):
        made.insert(0, add(history, number, *made[:1]))
    return made


def numbers(history: History, tip: CommitId) -> list[int]:
    return [int.from_bytes(history.info(commit).root, "big") for commit in first_parents(history, tip)]


def test_what_is_forgotten_is_left_out_and_the_rest_is_as_it_was(history: History, objects: GitObjects) -> None:
    commits = chain(history, 8)
    forgotten = {commits[2], commits[3], commits[5]}
    stands = rewrite(history, objects, commits[:1], set(commits) - forgotten, forgotten, [])
    tip = stands[commits[0]]
    assert tip is not None
    assert numbers(history, tip) == [7, 6, 3, 1, 0]
    assert [stands[commit] for commit in commits[6:]] == commits[6:]
    assert (stands[commits[2]], stands[commits[5]]) == (stands[commits[4]], commits[6])
    old, new = history.info(commits[0]), history.info(tip)
    assert new.id != old.id
    assert (new.root, new.message, new.author, new.email, new.time, new.offset) == (
        old.root, old.message, old.author, old.email, old.time, old.offset,
    )  # fmt: skip
    assert history.config(tip) == history.config(commits[0])


def test_the_beginning_can_be_forgotten(history: History, objects: GitObjects) -> None:
    commits = chain(history, 4)
    stands = rewrite(history, objects, commits[:1], set(commits[:2]), set(commits[2:]), [])
    assert stands[commits[3]] is stands[commits[2]] is None
    base = stands[commits[1]]
    assert base is not None
    assert history.info(base).parents == ()


def test_a_commit_beyond_the_branches_follows(history: History, objects: GitObjects) -> None:
    """As a container's own does, which nobody has put on a branch."""
    commits = chain(history, 4)
    own = add(history, 10, add(history, 9, commits[0]))
    stands = rewrite(history, objects, commits[:1], {commits[0]}, set(commits[1:]), [own])
    now = stands[own]
    assert now is not None
    assert numbers(history, now) == [10, 9, 3]
    assert first_parents(history, now)[2] == stands[commits[0]]


def test_a_merge_keeps_parents_that_lead_to_nothing_forgotten(history: History, objects: GitObjects) -> None:
    a = add(history, 1)
    side = add(history, 2, a)
    b = add(history, 3, a)
    merge = add(history, 4, b, side)
    top = add(history, 5, merge)
    stands = rewrite(history, objects, [top], {a, merge, top}, {b}, [])
    now = stands[merge]
    assert now is not None
    assert history.info(now).parents == (a, side)

    stands = rewrite(history, objects, [top], {b, merge, top}, {a}, [])
    assert stands[side] is None
    now = stands[merge]
    assert now is not None
    assert history.info(now).parents == (stands[b],)

    stands = rewrite(history, objects, [top], {b, merge, top, side}, {a}, [side])
    now = stands[merge]
    assert now is not None
    assert history.info(now).parents == (stands[b], stands[side])


def test_who_leads_to_what(history: History) -> None:
    commits = chain(history, 5)
    apart = add(history, 9)
    assert leading_to(history, [*commits, apart], {commits[2]}) == set(commits[:3])
    assert leading_to(history, [], {commits[2]}) == set()


@given(st.lists(st.booleans(), min_size=1, max_size=12), st.sets(st.integers(0, 11)))
@settings(max_examples=15)
def test_by_chance(tmp_path_factory: pytest.TempPathFactory, keeps: list[bool], privates: set[int]) -> None:
    """Kept commits in their order on one line; commits on forgotten ones go on from what stands for these; and doing it
    again gives the same ids."""
    top = tmp_path_factory.mktemp("history")
    history = History.create(top / "history.git", top / "lock")
    objects = GitObjects(top / "history.git")
    commits = chain(history, len(keeps))
    keeps = [True, *keeps[1:]]
    kept = {commit for commit, keep in zip(commits, keeps, strict=True) if keep}
    forgotten = set(commits) - kept
    own = [add(history, 100 + position, commits[position]) for position in sorted(privates) if position < len(commits)]
    stands = rewrite(history, objects, commits[:1], kept, forgotten, own)
    expected = [len(keeps) - 1 - position for position, keep in enumerate(keeps) if keep]
    tip = stands[commits[0]]
    assert tip is not None
    assert numbers(history, tip) == expected
    for commit in own:
        base = history.info(commit).parents[0]
        now = stands[commit]
        assert now is not None
        assert history.info(now).parents == ((stands[base],) if stands[base] else ())
    assert rewrite(history, objects, commits[:1], kept, forgotten, own) == stands
    unchanged = {commit for commit in commits if stands[commit] == commit}
    assert unchanged == {commit for at, commit in enumerate(commits) if not forgotten.intersection(commits[at:])}
    objects.close()
    history.close()


def test_git_accepts_what_is_written(history: History, objects: GitObjects, tmp_path: Path) -> None:
    """Signatures, which would not be true any more, are gone; every other header stays."""
    raw = (
        b"tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\nparent " + b"1" * 40 + b"\nauthor A <a@b> 1 +0000\n"
        b"committer C <c@d> 2 +0100\nencoding ISO-8859-1\ngpgsig -----BEGIN PGP SIGNATURE-----\n \n iQEz\n"
        b" -----END PGP SIGNATURE-----\nextra header\n\nparent in the message\n\ngpgsig too\n"
    )
    changed = with_parents(raw, ())
    assert changed == (
        b"tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\nauthor A <a@b> 1 +0000\n"
        b"committer C <c@d> 2 +0100\nencoding ISO-8859-1\nextra header\n\nparent in the message\n\ngpgsig too\n"
    )
    commit = add(history, 1)
    kind, written = objects.read(commit)
    again = CommitId(objects.write(kind, with_parents(written, (add(history, 2),))))
    history.tag("v1", commit, "A tag\n\nwith a body", Author("T", "t@u", 5))
    tag = history.target("refs/tags/v1")
    assert tag is not None
    tag_kind, tag_written = objects.read(tag)
    signed = tag_written + b"-----BEGIN PGP SIGNATURE-----\n\niQEz\n-----END PGP SIGNATURE-----\n"
    moved = CommitId(objects.write(tag_kind, with_target(signed, again)))
    assert objects.read(moved) == (tag_kind, tag_written.replace(commit.encode(), again.encode()))
    history.move("refs/tags/v1", moved, tag, "moved", Author("T", "t@u", 5))
    assert history.refs("refs/tags/") == {"v1": again}
    fsck = subprocess.run(
        ["git", "-C", tmp_path / "history.git", "fsck", "--strict"], capture_output=True, text=True, check=False
    )
    assert fsck.returncode == 0, fsck.stderr
