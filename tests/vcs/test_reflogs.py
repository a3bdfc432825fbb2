"""The seals of reflog lines, and what is checked and cleaned of packed-refs."""

from __future__ import annotations

import os
import random
import subprocess
import time
from pathlib import Path

import pygit2
import pytest

from tests.support.collecting import NOW, commit, git_fsck, noise
from vcs import gitrefs, reflogs
from vcs.check import check
from vcs.check.history import check_history
from vcs.check.report import Report
from vcs.collect import collect
from vcs.errors import AlreadyExists
from vcs.gitobjects import stamp_of
from vcs.history import Author
from vcs.repair.history import HistoryRepair
from vcs.store import Store

MAIN = "refs/heads/main"


@pytest.fixture
def store(tmp_path: Path):  # type: ignore[no-untyped-def]
    with Store.create(tmp_path / "store") as made:
        yield made


def repository(store: Store) -> Path:
    return store.path / "history.git"


def log_of(store: Store, ref: str = MAIN) -> Path:
    return repository(store) / "logs" / ref


def grow(store: Store, count: int = 3, author: Author | None = None, reason: str = "step") -> None:
    for number in range(count):
        tip = store.history.target(MAIN)
        root = store.commit(commit(store, {"a": noise(f"{tip}{number}")}, "refs/heads/side")).root
        made = store.add_commit(root, {}, "x\n", Author("Ada", "ada@example.org", number), (tip,) if tip else ())
        store.history.move(MAIN, made, tip, reason, author or Author("Ada", "ada@example.org", number))


def git(store: Store, *words: str) -> str:
    environment = {
        "PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null",
        "GIT_COMMITTER_NAME": "Git", "GIT_COMMITTER_EMAIL": "git@example.org",
    }  # fmt: skip
    return subprocess.run(
        ["git", "-c", "safe.directory=*", "-C", repository(store), *words],
        check=True, capture_output=True, text=True, env=environment, timeout=60,
    ).stdout  # fmt: skip


def told(store: Store) -> list[str]:
    """What a check of git's files alone says."""
    report = Report()
    check_history(repository(store), report)
    return [problem.message for problem in report.problems]


def test_every_flip_in_a_line_of_ours_is_told_and_mended(store: Store) -> None:
    grow(store)
    log, chance = log_of(store), random.Random(1)
    assert told(store) == []
    whole = log.read_bytes()
    for position in range(len(whole)):
        data = bytearray(whole)
        data[position] ^= chance.randrange(1, 256)
        log.write_bytes(data)
        assert told(store), (position, data[position])
    # All values, in the seal of the last line and in its words.
    line = whole.splitlines()[-1]
    for position in (*range(len(line) - 10, len(line)), line.index(b"Ada"), line.index(b"\tstep")):
        for value in {*range(256)} - {line[position]}:
            changed = line[:position] + bytes([value]) + line[position + 1 :]
            assert reflogs.is_damaged(changed), changed
    changed = line.replace(b"Ada", b"Ida")
    assert reflogs.restored(changed) == line
    assert reflogs.restored(line.replace(b"Ada", b"Eve")) is None


@pytest.mark.parametrize("name", ["Ada", "Ünï Cödé", ' "Ada".,', "A<b>\nc", "", "tab\tin it"])
@pytest.mark.parametrize("reason", ["x", "two\nlines\n", "  ", "nul\0", "odd \udcff", "looks like #0123abcd", "tab\t."])
def test_whatever_is_written_has_the_right_seal(store: Store, name: str, reason: str) -> None:
    grow(store, 2, Author(name, name, 7, -90), reason)
    for ref in (MAIN, "HEAD"):
        lines = log_of(store, ref).read_bytes().splitlines()
        assert [line[-10:] for line in lines] == [reflogs.seal(line[:-10]) for line in lines]
    assert told(store) == []
    assert not any(" #" in change.message[-10:] for change in store.history.reflog(MAIN) if "looks" not in reason)


def test_a_seal_is_right_also_where_a_second_ends(store: Store) -> None:
    """Moves without a pause, for longer than a second."""
    grow(store, 2)
    two, one = (change.new for change in store.history.reflog(MAIN))
    until = time.monotonic() + 1.5
    while time.monotonic() < until:
        store.history.move(MAIN, one, two, "there", Author("Ada", "a@b", 1))
        store.history.move(MAIN, two, one, "and back", Author("Ada", "a@b", 1))
    lines = log_of(store).read_bytes().splitlines()
    assert len({line.split(b"> ")[1].split()[0] for line in lines}) >= 2
    assert not any(map(reflogs.is_damaged, lines))


def test_a_second_that_ends_after_libgit2_noted_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """libgit2 notes the time of a transaction once, however often it is told of the move."""
    said: list[bytes] = []

    def slow(signature: pygit2.Signature) -> bytes:
        now = stamp_of(pygit2.Signature(signature.name, signature.email))
        while len(said) == 1 and now == said[0]:  # by libgit2's clock, which is a little behind ours
            time.sleep(0.01)
            now = stamp_of(pygit2.Signature(signature.name, signature.email))
        said.append(now)
        return now

    tip = commit(store, {"a": b"1"}, "refs/heads/side")
    monkeypatch.setattr(gitrefs, "stamp_of", slow)
    store.history.move("refs/tags/plain", tip, None, "step", Author("Ada", "ada@example.org", 5))
    assert len(said) == 4
    assert told(store) == []


def test_lines_of_stock_git_and_of_older_versions_are_accepted(store: Store) -> None:
    grow(store)
    tip = store.history.target(MAIN)
    assert tip is not None
    git(store, "update-ref", MAIN, f"{tip}~1")
    git(store, "update-ref", "-m", "a reason", MAIN, tip)
    git(store, "branch", "-f", "side", "main")
    git(store, "branch", "new", "main")
    assert b"\t" not in log_of(store).read_bytes().splitlines()[-2]
    assert check(store).problems == []
    log = log_of(store)
    log.write_bytes(b"".join(reflogs.without_seal(line) + b"\n" for line in log.read_bytes().splitlines()))
    assert check(store).problems == []
    grow(store, 1)
    assert check(store).problems == []
    assert [change.message for change in store.history.reflog(MAIN)][:3] == ["step", "a reason", ""]


def test_gc_seals_again_what_it_shortens_but_not_what_was_damaged(store: Store) -> None:
    grow(store)
    log = log_of(store)
    damaged = log.read_bytes().replace(b"Ada", b"Ida")
    collect(store, since=NOW)
    (line,) = log.read_bytes().splitlines()
    assert line.startswith(b"0" * 40)
    assert line.endswith(reflogs.seal(line[:-10]))
    assert told(store) == []
    log.write_bytes(damaged)
    collect(store, since=NOW)
    assert any(MAIN in message for message in told(store))


def test_words_that_cannot_be_had_back_lose_their_seal(store: Store) -> None:
    grow(store)
    log = log_of(store)
    first, *others = log.read_bytes().splitlines()
    log.write_bytes(b"\n".join([first.replace(b"Ada", b"Eve"), others[0].replace(b"Ada", b"Ida"), *others[1:], b""]))
    assert len(told(store)) == 2
    HistoryRepair(store.path, []).reflogs()
    assert log.read_bytes().splitlines() == [reflogs.without_seal(first).replace(b"Ada", b"Eve"), *others]
    assert told(store) == []


# -- packed-refs


def packed(store: Store) -> list[str]:
    return (repository(store) / "packed-refs").read_text().splitlines()


def test_gc_removes_what_newer_files_override(store: Store) -> None:
    grow(store)
    old = store.history.target(MAIN)
    assert old is not None
    store.history.tag("v1", old, "annotated", Author("Ada", "a@b", 1))
    store.history.tag("v2", old, None, Author("Ada", "a@b", 1))
    git(store, "pack-refs", "--all")
    store.history.move("refs/tags/v1", old, None, "plain now", Author("Ada", "a@b", 1), force=True)
    grow(store, 1)
    before = git(store, "for-each-ref")
    assert len(packed(store)) == 6
    collect(store, since=NOW)
    header, *lines = packed(store)
    assert header.startswith("# pack-refs with: peeled")
    assert [line.split()[1] for line in lines] == ["refs/tags/v2"]
    assert git(store, "for-each-ref") == before
    assert check(store).problems == []
    assert git_fsck(store) == ""


def test_a_flip_in_a_line_that_is_overridden_is_told(store: Store) -> None:
    grow(store)
    git(store, "pack-refs", "--all")
    grow(store, 1)
    assert check(store).problems == []
    path = repository(store) / "packed-refs"
    text = path.read_text()
    oid = next(line.split()[0] for line in text.splitlines() if line.endswith(MAIN))
    path.write_text(text.replace(oid, oid[:-1] + ("0" if oid[-1] != "0" else "1")))
    (problem,) = check(store).problems
    assert "packed-refs" in problem.message
    path.write_text("\n".join([text.split("\n")[0], *reversed(text.split("\n")[1:-1]), ""]))
    assert any("not sorted" in message for message in told(store))


def test_a_branch_above_or_below_a_packed_one_is_refused(store: Store) -> None:
    grow(store, 1)
    tip = store.history.target(MAIN)
    assert tip is not None
    store.history.move("refs/heads/a/b", tip, None, "x", Author("Ada", "a@b", 1))
    git(store, "pack-refs", "--all")
    for name in ("main/sub", "a", "a/b/c"):
        with pytest.raises(AlreadyExists):
            store.history.move(f"refs/heads/{name}", tip, None, "x", Author("Ada", "a@b", 1))
    assert told(store) == []
    assert git_fsck(store) == ""
