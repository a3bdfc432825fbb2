"""Notes on commits: stock git agrees, nobody's is lost, and what needs roots does without them."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.collecting import NOW, author, commit, git_fsck
from vcs import notes
from vcs.check import check
from vcs.collect import collect
from vcs.errors import AlreadyExists, BadInput, NotFound
from vcs.model import CommitId
from vcs.notes import notes_of, put, remove
from vcs.store import Store
from vcs.takingback import inverse, move_all, next_undo
from vcs.usage import statistics


@pytest.fixture
def store(tmp_path: Path, store: Store) -> Iterator[Store]:
    yield store
    with Store.open(tmp_path / "store") as again:
        assert git_fsck(again) == ""


def git(store: Store, *words: str, input: str = "") -> str:  # noqa: A002
    who = {f"GIT_{part}_{fact}": "x" for part in ("AUTHOR", "COMMITTER") for fact in ("NAME", "EMAIL")}
    environment = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    done = subprocess.run(
        ["git", "-c", "safe.directory=*", "-C", store.path / "history.git", *words],
        check=True, capture_output=True, text=True, env=environment | who, input=input, timeout=60,
    )  # fmt: skip
    return done.stdout


def find(store: Store, about: str) -> str | None:
    return notes_of(store.history).find(about)


def test_stock_git_reads_what_is_written(store: Store) -> None:
    one, two = commit(store, {"a": b"1"}), commit(store, {"a": b"2"})
    put(store, one, "  first  \n\n", author())
    put(store, two, "zweite: ü\nsecond line", author())
    assert git(store, "notes", "show", one) == "  first\n"
    assert git(store, "notes", "show", two) == "zweite: ü\nsecond line\n" == find(store, two)
    put(store, two, "more", author(), append=True)
    assert git(store, "notes", "show", two) == "zweite: ü\nsecond line\n\nmore\n"
    put(store, two, "instead", author(), force=True)
    assert "Notes:\n    instead\n" in git(store, "log", "-1", two)
    assert {line.split()[1] for line in git(store, "notes", "list").splitlines()} == set(notes_of(store.history).all())
    remove(store, two, author())
    assert find(store, two) is None
    assert git(store, "notes", "list").split()[1:] == [one]


def test_what_stock_git_writes_is_read(store: Store) -> None:
    one, two = commit(store, {"a": b"1"}), commit(store, {"a": b"2"})
    git(store, "notes", "add", "-m", "by git", one)
    assert find(store, one) == "by git\n"
    put(store, two, "by us", author())
    git(store, "notes", "append", "-m", "and git", two)
    assert find(store, two) == "by us\n\nand git\n"
    git(store, "notes", "remove", one)
    assert list(notes_of(store.history).all()) == [two]


def test_what_cannot_be_done_changes_nothing(store: Store) -> None:
    one = commit(store, {"a": b"1"})
    with pytest.raises(NotFound):
        remove(store, one, author())
    with pytest.raises(BadInput):
        put(store, one, " \n ", author())
    assert store.history.target(notes.REF) is None
    put(store, one, "words", author())
    tip = store.history.target(notes.REF)
    with pytest.raises(AlreadyExists):
        put(store, one, "others", author())
    assert (store.history.target(notes.REF), find(store, one)) == (tip, "words\n")


def test_many_notes_lie_in_directories(store: Store) -> None:
    """As git cuts them. What else lies among notes stays there."""
    ids = [f"{number * 7919:040x}"[::-1] for number in range(1, 300)]
    paths = [*ids, "README"]
    stream = "commit refs/notes/commits\ncommitter x <x> 1 +0000\ndata 1\nm\n"
    stream += "".join(f"M 100644 inline {path}\ndata 2\nx\n\n" for path in paths)
    git(store, "fast-import", "--quiet", input=stream)
    real = commit(store, {"a": b"1"})
    put(store, real, "real", author())
    names = git(store, "ls-tree", "--name-only", "refs/notes/commits").split()
    assert {len(name) for name in names} == {2, len("README")}
    assert git(store, "notes", "show", real) == "real\n" == find(store, real)
    assert len(notes_of(store.history).all()) == 300 == len(git(store, "notes", "list").splitlines())
    assert find(store, ids[7]) == "x\n"
    git(store, "notes", "remove", real)
    assert find(store, real) is None
    for one in ids[:250]:
        remove(store, CommitId(one), author())
    assert set(notes_of(store.history).all()) == {*ids[250:]}
    assert set(git(store, "ls-tree", "--name-only", "refs/notes/commits").split()) == {*ids[250:], "README"}


def _race(path: Path, about: list[CommitId], shared: CommitId, number: int) -> None:
    with Store.open(path) as store:
        for one in about:
            put(store, one, f"note of {number}", author())
            put(store, shared, f"line of {number}", author(), append=True)


def test_nobody_loses_a_note(store: Store) -> None:
    commits = [commit(store, {"a": b"%d" % number}) for number in range(13)]
    *others, shared = commits
    context = multiprocessing.get_context("fork")
    racers = [context.Process(target=_race, args=(store.path, others[n::3], shared, n), daemon=True) for n in range(3)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(60)
        assert racer.exitcode == 0
    found = notes_of(store.history)
    assert set(found.all()) == set(commits)
    assert sorted((found.find(shared) or "").split()) == sorted(
        ["line", "of", "0", "line", "of", "1", "line", "of", "2"] * 4
    )


def test_stock_git_may_write_notes_at_the_same_moment(store: Store) -> None:
    """It does not know our lock; its note stays, and ours is written on top of it."""
    one, two = commit(store, {"a": b"1"}), commit(store, {"a": b"2"})
    put(store, one, "words", author())
    seen: list[str | None] = []

    def edit(old: str | None) -> str:
        if not seen:
            git(store, "notes", "add", "-m", "by git", two)
        seen.append(old)
        return "others\n"

    assert notes._change(store, one, edit, author(), "add") == "others\n"
    assert seen == ["words\n", "words\n"]
    assert (find(store, one), find(store, two)) == ("others\n", "by git\n")


def test_a_note_is_an_operation(store: Store) -> None:
    one = commit(store, {"a": b"1"})
    store.operations.begin(["note", "add"], author)
    put(store, one, "words", author())
    store.operations.begin(["note", "append"], author)
    put(store, one, "more", author(), append=True)
    for left in ("words\n", None):
        last = next_undo(store.operations)
        store.operations.begin(["undo"], author, "undo", last.id)
        move_all(store.history, store.operations, inverse(last.refs), "undo", author())
        assert find(store, one) == left


def test_who_needs_roots_does_without_notes(store: Store) -> None:
    one = commit(store, {"a": b"1"})
    before = statistics(store)
    put(store, one, "words", author())
    put(store, one, "others", author(), force=True)
    assert store.history.commit_ids() == [one]
    assert store.reachable() == [one]
    assert store.about()["commits"] == "1"
    assert statistics(store).commits == before.commits == 1
    collect(store, since=0)
    assert find(store, one) == "others\n"
    store.history.delete(notes.REF)
    collect(store, since=0)  # the operation log still names them
    collect(store, since=NOW)
    report = check(store)
    assert (report.problems, report.commits) == ([], 1)
    with store.writing() as lease:
        put(store, one, "words", author())
        tip = store.history.target(notes.REF)
        assert tip is not None
        lease.commit(tip)
        collect(store, since=NOW)
        assert statistics(store).commits == 1


def test_a_branch_cannot_hide_among_notes(store: Store) -> None:
    """That a commit has no root is damage, unless it holds notes."""
    one = commit(store, {"a": b"1"})
    put(store, one, "words", author())
    tip = store.history.target(notes.REF)
    assert tip is not None
    store.history.move("refs/heads/odd", tip, None, "odd", author())
    assert [problem.kind for problem in check(store).problems]
    store.history.delete("refs/heads/odd")


def test_a_lost_note_is_damage(store: Store) -> None:
    one = commit(store, {"a": b"1"})
    put(store, one, "words", author())
    blob = notes_of(store.history).all()[one]
    path = store.path / "history.git/objects" / blob[:2] / blob[2:]
    data = path.read_bytes()
    path.unlink()
    with Store.open(store.path) as other:
        (problem, *_) = check(other).problems
        assert "refs/notes/commits" in problem.message
        assert problem.object == blob
    path.write_bytes(data)
