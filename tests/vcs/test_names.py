"""Branches and tags read from git's files: the same as git's library reads, and less of them."""

from __future__ import annotations

import errno
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.long_history import write_long_history
from tests.support.values import root
from vcs.ancestry import Ancestry
from vcs.errors import Corrupt, Missing, NotFound
from vcs.gitobjects import GitObjects
from vcs.history import Author
from vcs.model import CommitId
from vcs.names import RefFiles
from vcs.store import Store

NOON = 1_700_000_000


def author(time: int = NOON) -> Author:
    return Author("Ada Tester", "ada@example.org", time)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.create(tmp_path / "store") as store:
        yield store


@pytest.fixture
def commit(store: Store) -> Callable[..., CommitId]:
    with store.batch() as batch:
        made = root(batch, {"a": b"a"})

    def commit(message: str = "m", time: int = NOON, *parents: CommitId) -> CommitId:
        return store.add_commit(made, {}, message, author(time), parents)

    return commit


def repository(store: Store) -> Path:
    return store.path / "history.git"


def git(store: Store, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", repository(store), *arguments], check=True, capture_output=True, text=True, timeout=60
    )
    return done.stdout


def branch(store: Store, name: str, commit: CommitId, time: int = NOON) -> None:
    """Move a branch, at a time that its reflog tells."""
    ref = f"refs/heads/{name}"
    store.history.move(ref, commit, store.history.target(ref), "test", author())
    log = repository(store) / "logs" / ref
    *before, last = log.read_text().splitlines(keepends=True)
    log.write_text("".join(before) + re.sub(r"> \d+ ", f"> {time} ", last))


def everything(store: Store, kind: str, directory: bytes = b"") -> dict[str, str]:
    """All names of a kind, by going through the directories."""
    names = store.names[kind]
    found = {}
    for name, is_directory in names.below(directory).items():
        path = directory + name
        assert names.is_directory(path + b"/") == is_directory
        if is_directory:
            assert names.find(path) is None
            found.update(everything(store, kind, path + b"/"))
        else:
            found[os.fsdecode(path)] = str(names.find(path))
    return found


def test_they_are_what_git_says_loose_and_packed(store: Store, commit: Callable[..., CommitId]) -> None:
    first, second = commit("1"), commit("2")
    for name in ("main", "feature/a", "feature/b/c", "fea", "feature-x", "gr\u00fcn"):
        branch(store, name, first)
    store.history.tag("v1", first, None, author())
    store.history.tag("signed/v2", second, "words", author())
    for _ in range(2):
        assert everything(store, "branches") == store.branches()
        assert everything(store, "tags") == store.tags() == {"v1": first, "signed/v2": second}
        assert set(store.reachable()) == {first, second}
        git(store, "pack-refs", "--all")
        assert not (repository(store) / "refs/heads/main").exists()
    branch(store, "main", second)
    assert everything(store, "branches") == store.branches(), "the file counts, not the line"
    assert store.names["branches"].find(b"main") == second
    store.history.delete("refs/heads/feature/a")
    store.history.delete("refs/heads/feature/b/c")
    assert everything(store, "branches") == store.branches()
    assert not store.names["branches"].is_directory(b"feature/")
    branch(store, "feature", second)
    assert everything(store, "branches")["feature"] == second


def test_an_empty_history(store: Store) -> None:
    assert everything(store, "branches") == everything(store, "tags") == {}
    assert store.reachable() == []
    assert store.branch_at(b"main", NOON) is None


def test_names_need_not_be_utf8(store: Store, commit: Callable[..., CommitId]) -> None:
    made = commit()
    path = os.fsencode(repository(store)) + b"/refs/heads/\xff\xfe"
    Path(os.fsdecode(path)).write_text(f"{made}\n")
    assert store.names["branches"].below(b"") == {b"\xff\xfe": False}
    assert store.names["branches"].find(b"\xff\xfe") == made
    git(store, "pack-refs", "--all")
    assert store.names["branches"].below(b"") == {b"\xff\xfe": False}
    assert store.names["branches"].find(b"\xff\xfe") == made


@pytest.mark.parametrize(
    "name",
    [
        b"", b".", b"..", b"../tags/v1", b"../../HEAD", b"/", b"a//b", b".hidden", b"main.lock", b"a\0b", b"a b",
        b"a\n", b"main/", b"main/x", b"x" * 255, b"x" * 5000, b"d/" * 3000 + b"x", b"@{", b"feature", b"empty", b"pipe",
        b"link",
    ],
)  # fmt: skip
def test_what_is_no_name_is_not_found(store: Store, commit: Callable[..., CommitId], name: bytes) -> None:
    made = commit()
    branch(store, "main", made)
    branch(store, "feature/a", made)
    store.history.tag("v1", made, None, author())
    heads = repository(store) / "refs/heads"
    (heads / "empty").mkdir()
    (heads / "main.lock").write_text(f"{made}\n")
    (heads / ".hidden").write_text(f"{made}\n")
    (heads / "link").symlink_to("main")
    os.mkfifo(heads / "pipe")
    assert store.names["branches"].find(name) is None
    assert not store.names["branches"].is_directory(b"../")
    assert store.names["branches"].below(b"../") == {}
    assert {b"main", b"feature"} <= set(store.names["branches"].below(b"")) <= {b"main", b"feature", b"link", b"pipe"}


def test_symbolic_refs_are_followed_and_not_for_ever(store: Store, commit: Callable[..., CommitId]) -> None:
    made = commit()
    branch(store, "main", made)
    heads = repository(store) / "refs/heads"
    (heads / "other").write_text("ref: refs/heads/main\n")
    (heads / "round").write_text("ref: refs/heads/round\n")
    (heads / "nonsense").write_text("ref: ../../config\n")
    (heads / "torn").write_bytes(b"")
    find = store.names["branches"].find
    assert [find(name) for name in (b"other", b"round", b"nonsense", b"torn")] == [made, None, None, None]
    assert store.reachable() == [made]


def test_a_name_for_what_is_not_there_is_damage(store: Store, commit: Callable[..., CommitId]) -> None:
    branch(store, "main", commit())
    (repository(store) / "refs/heads/lost").write_text("1" * 40 + "\n")
    with pytest.raises(Missing):
        store.names["branches"].find(b"lost")
    with pytest.raises(Missing):
        store.reachable()


def test_a_file_that_cannot_be_read_is_no_missing_one(
    store: Store, commit: Callable[..., CommitId], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line in packed-refs is older."""
    branch(store, "main", commit("1"))
    git(store, "pack-refs", "--all", "--no-prune")
    branch(store, "main", commit("2"))
    monkeypatch.setattr(os, "open", lambda *_: (_ for _ in ()).throw(OSError(errno.EMFILE, "too many")))
    with pytest.raises(OSError, match="too many"):
        store.names["branches"].find(b"main")


def test_a_lookup_reads_one_ref_and_a_listing_none(
    store: Store, commit: Callable[..., CommitId], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = commit()
    for number in range(20):
        branch(store, f"b{number}", made)
    opened: list[bytes] = []
    loose = RefFiles._loose
    monkeypatch.setattr(RefFiles, "_loose", lambda self, ref: opened.append(ref) or loose(self, ref))
    assert len(store.names["branches"].below(b"")) == 20
    assert opened == []
    assert store.names["branches"].find(b"b7") == made
    assert opened == [b"refs/heads/b7"]


def test_ten_thousand_commits_are_read_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with store.batch() as batch:
        made = root(batch, {"a": b"a"})
    ids = write_long_history(repository(store), made, 10_000)
    read: list[str] = []
    ancestry = Ancestry(lambda name: read.append(name) or store.history.raw(name))
    monkeypatch.setitem(store.__dict__, "_ancestry", ancestry)
    assert store.names["tags"].find(b"t09999") == ids[-1]
    assert read == [ids[-1]], "one name costs one commit"
    assert set(store.reachable()) == set(ids)
    assert sorted(read) == sorted(ids)
    on_top = store.add_commit(made, {}, "m", author(), (CommitId(ids[-1]),))
    branch(store, "new", on_top)
    read.clear()
    assert set(store.reachable()) == {*ids, on_top}
    assert read == [on_top]
    read.clear()
    assert store.branch_at(b"b05000", NOON + 17) == ids[17]
    assert all(store.branch_at(b"b%05d" % number, NOON + 17) == ids[17] for number in range(17, 10_000, 500))
    assert store.branch_at(b"b00005", NOON + 17) == ids[5]
    assert store.branch_at(b"b00005", NOON - 1) is None
    assert read == []


# -- branches as they were


def test_a_branch_at_a_time_is_what_its_reflog_says(store: Store, commit: Callable[..., CommitId]) -> None:
    first = commit("1", NOON)
    second = commit("2", NOON - 5000, first)
    branch(store, "main", first, NOON + 100)
    branch(store, "main", second, NOON + 200)
    branch(store, "main", first, NOON + 300)
    at = {seconds: store.branch_at(b"main", NOON + seconds) for seconds in (100, 199, 200, 299, 300, 10**9)}
    assert at == {100: first, 199: first, 200: second, 299: second, 300: first, 10**9: first}
    assert store.branch_at(b"other", NOON) is None
    assert store.branch_at(b"../heads/main", NOON + 100) is None
    git_says = git(store, "rev-parse", f"main@{{{NOON + 250}}}").strip()
    assert git_says == second


def test_before_the_reflog_the_times_of_commits_count(store: Store, commit: Callable[..., CommitId]) -> None:
    first = commit("1", NOON - 3000)
    second = commit("2", NOON - 2000, first)
    aside = commit("aside", NOON - 2500)
    merge = commit("3", NOON - 1000, second, aside)
    branch(store, "main", merge, NOON)
    at = {seconds: store.branch_at(b"main", NOON + seconds) for seconds in (-1, -1001, -2001, -2600, -3000, -3001)}
    assert at == {-1: merge, -1001: second, -2001: first, -2600: first, -3000: first, -3001: None}
    (repository(store) / "logs/refs/heads/main").unlink()
    assert store.branch_at(b"main", NOON - 1001) == second
    branch(store, "main", first, NOON + 50)
    assert store.branch_at(b"main", NOON + 40) == merge, "the line says where the branch came from"


def test_ancestry_says_what_is_wrong() -> None:
    a, b, c, d, t, u = (letter * 40 for letter in "abcdef")
    tree = b"tree %s\n" % (b"1" * 40)

    def raw(name: str) -> bytes:
        return {
            a: tree + f"parent {b}\ncommitter A <a> 5 +0000\n\nm".encode(),
            b: tree + b"committer nobody\n\n",
            c: tree + f"parent {d}\ncommitter A <a> 5 +0000\n\nm".encode(),
            d: b"a blob",
            t: f"object {a}\ntype commit\n\n".encode(),
            u: f"object {d}\ntype blob\n\n".encode(),
        }[name]

    ancestry = Ancestry(raw)
    assert (ancestry.peeled(t), ancestry.peeled(u), ancestry.peeled(d)) == (a, None, None)
    with pytest.raises(Corrupt):
        ancestry.reachable([t])
    with pytest.raises(Corrupt):
        ancestry.at(c, 1)
    assert ancestry.at(c, 5) == c


@pytest.mark.parametrize("encoding", [b"", b"encoding latin-1\n", b"encoding klingon\n", b"encoding utf-8\n"])
def test_words_of_others_in_any_encoding(store: Store, commit: Callable[..., CommitId], encoding: bytes) -> None:
    with closing(GitObjects(store.path / "history.git")) as objects:
        kind, data = objects.read(commit())
        head, _, _ = data.partition(b"\n\n")
        head = head.replace(b"Ada Tester", b"Ada \xff\xfe")
        made = objects.write(kind, head + b"\n" + encoding + b"\nfive \xff\xe4\x1b\n")
    info = store.history.info(made)
    assert info.message.startswith("five ")
    assert info.author.startswith("Ada ")
    with pytest.raises(NotFound):
        store.history.raw("2" * 40)
