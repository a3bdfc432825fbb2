"""Repairs that fail half-way, and repairs of what could not be looked at: nothing is worse afterwards."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.collecting import NOW, write
from vcs.bisection import notebook
from vcs.bisection.notebook import Words
from vcs.bisection.session import Bisection
from vcs.check import Report, check, examine
from vcs.collect import collect
from vcs.errors import Damaged, NoSpace, NotFound, StoreError, TreeringError
from vcs.gitobjects import GitObjects
from vcs.gitwords import Author
from vcs.model import CommitId
from vcs.repair import repair
from vcs.repair.history import HistoryRepair
from vcs.store import Store

MAIN = "refs/heads/main"
AUTHOR = Author("tester", "tester@localhost", 1_700_000_000)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight commits, none of them packed."""
    path = tmp_path_factory.mktemp("failing") / "store"
    with Store.create(path) as store:
        for number in range(8):
            _commit(store, number)
    return path


def _commit(store: Store, number: int) -> None:
    """The same each time, to the byte."""
    old = store.history.target(MAIN)
    made = store.add_commit(write(store, {"file": b"%d" % number}), {}, "test\n", AUTHOR, (old,) if old else ())
    store.history.move(MAIN, made, old, "test", AUTHOR)


@pytest.fixture
def store(pristine: Path, tmp_path: Path) -> Path:
    path = tmp_path / "store"
    shutil.copytree(pristine, path)
    return path


@pytest.fixture
def commits(pristine: Path) -> list[CommitId]:
    """Newest first."""
    with Store.open(pristine) as opened:
        return opened.commit_ids()


def loose(store: Path, oid: str) -> Path:
    return store / "history.git" / "objects" / oid[:2] / oid[2:]


def overwrite(path: Path, data: bytes | bytearray) -> None:
    path.chmod(0o600)
    path.write_bytes(data)


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    overwrite(path, data)


def full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def assert_whole(report: Report, store: Path, commits: list[CommitId]) -> None:
    assert report.problems == []
    with Store.open(store) as opened:
        assert opened.commit_ids() == commits
        assert check(opened).problems == []


# -- what is to be replaced is there until it is


def test_a_ref_that_cannot_be_written_stays_where_it_is(store: Path, commits: list[CommitId]) -> None:
    """If its file were gone, gc would take the branch for one that somebody deleted."""
    ref = store / "history.git" / MAIN
    ref.write_bytes(bytes(41))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("vcs.repair.history.replace_file", full_disk)
        with pytest.raises(NoSpace):
            repair(store)
    assert ref.read_bytes() == bytes(41)
    with Store.open(store) as opened, pytest.raises(Damaged):
        collect(opened, since=NOW)
    assert_whole(repair(store).report, store, commits)
    assert (store / "history.git" / "damaged" / MAIN).read_bytes() == bytes(41)


def pad(path: Path) -> None:
    """Change bits of a loose object that nobody reads."""
    data = bytearray(path.read_bytes())
    data[-5] |= 0x80
    overwrite(path, data)


def test_an_object_that_cannot_be_written_can_still_be_read(
    store: Path, commits: list[CommitId], monkeypatch: pytest.MonkeyPatch
) -> None:
    pad(loose(store, commits[0]))
    real = Path.open

    def opened(path: Path, *mode: Any, **options: Any) -> Any:
        return full_disk() if path.name.startswith("tmp_obj_") else real(path, *mode, **options)

    def refused(*_: object) -> None:
        raise NoSpace("the history cannot be written: No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", opened)
        patched.setattr(GitObjects, "write", refused)  # nobody may hide that the disk is full, whoever writes
        with pytest.raises(NoSpace):
            repair(store)
    with Store.open(store) as fresh:
        assert fresh.commit(commits[0])
    assert not [path for path in loose(store, commits[0]).parent.iterdir() if path.name.startswith("tmp_obj_")]
    assert_whole(repair(store).report, store, commits)


def test_a_file_is_kept_where_there_are_no_links(
    store: Path, commits: list[CommitId], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    path = loose(store, commits[0])
    pad(path)
    damaged = path.read_bytes()
    monkeypatch.setattr(os, "link", refused)
    assert_whole(repair(store).report, store, commits)
    assert (store / "history.git/damaged/objects" / path.parent.name / path.name).read_bytes() == damaged
    assert path.stat().st_mode & 0o777 == 0o444


# -- packs


@pytest.fixture
def pack(store: Path) -> Path:
    """The one pack, of all commits."""
    subprocess.run(["git", "-C", str(store / "history.git"), "repack", "-adq"], check=True)
    (found,) = (store / "history.git" / "objects" / "pack").glob("*.pack")
    return found


def fails_to_fork(*_: object, **__: object) -> None:
    raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))


def ends(code: int, said: bytes) -> Callable[..., subprocess.CompletedProcess[bytes]]:
    return lambda command, **_: subprocess.CompletedProcess(command, code, b"", said)


FAILURES: dict[str, Callable[..., Any]] = {
    "out of memory": ends(128, b"fatal: Out of memory, malloc failed (tried to allocate 100 bytes)"),
    "a full disk": ends(128, b"error: unable to write file: No space left on device"),
    "killed": ends(-9, b""),
    "without a word": ends(128, b""),
    "no process": fails_to_fork,
}


@pytest.fixture(params=FAILURES)
def failing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """git cannot do its work."""
    with monkeypatch.context() as patched:
        patched.setattr(subprocess, "run", FAILURES[request.param])
        yield patched


def repaired_in_vain(store: Path) -> list[str]:
    try:
        return repair(store).done
    except (StoreError, OSError):
        return []


def test_a_damaged_pack_stays_if_git_fails(
    store: Path, pack: Path, commits: list[CommitId], failing: pytest.MonkeyPatch
) -> None:
    """Its last byte is wrong, and with it its checksum: git's library does not read it, and git loses nothing of it.
    Nor does its index tell what was there."""
    flip(pack, -1)
    flip(pack.with_suffix(".idx"), -30)
    before = {path.name: path.read_bytes() for path in pack.parent.iterdir()}
    assert repaired_in_vain(store) == []
    assert {path.name: path.read_bytes() for path in pack.parent.iterdir()} == before
    failing.undo()
    repaired = repair(store)
    assert repaired.done == [f"what is whole in {pack.name} was taken out of it"]
    assert_whole(repaired.report, store, commits)
    assert not list(pack.parent.iterdir())
    assert not (store / "history.git/damaged/apart").exists()


def test_a_damaged_index_stays_if_git_fails(
    store: Path, pack: Path, commits: list[CommitId], failing: pytest.MonkeyPatch
) -> None:
    index = pack.with_suffix(".idx")
    flip(index, 1100)
    before = index.read_bytes()
    assert repaired_in_vain(store) == []
    assert index.read_bytes() == before
    failing.undo()
    repaired = repair(store)
    assert repaired.done == [f"{index.name} was made anew from its pack"]
    assert_whole(repaired.report, store, commits)


@pytest.mark.parametrize("position", [30, 300, 700, 1200])
def test_what_lies_behind_damage_in_a_pack_is_taken_out_too(
    store: Path, pack: Path, commits: list[CommitId], position: int
) -> None:
    """git loses its way there: what comes next is found by the index."""
    flip(pack, position)
    before = [oid for oid in commits if can_be_read(store, oid)]
    assert before
    repair(store)
    assert [oid for oid in commits if can_be_read(store, oid)] == before
    assert not list(pack.parent.iterdir())


def test_memory_that_damage_asks_for_is_no_reason_to_stop(
    store: Path, pack: Path, commits: list[CommitId], monkeypatch: pytest.MonkeyPatch
) -> None:
    """git takes what lies behind damage for the length of an object. Here the index is damaged too."""
    flip(pack, -1)
    flip(pack.with_suffix(".idx"), 1100)
    real = subprocess.run

    def run(command: list[str], **how: Any) -> Any:
        real(command, **how)
        return ends(128, b"fatal: Out of memory, malloc failed (tried to allocate 15559551802154878704 bytes)")(command)

    monkeypatch.setattr(subprocess, "run", run)
    assert_whole(repair(store).report, store, commits)


def can_be_read(store: Path, oid: str) -> bool:
    with Store.open(store) as opened:
        try:
            opened.history.raw(oid)
        except (Damaged, NotFound):
            return False
        return True


# -- what could not be looked at


def damage_a_setting(store: Path) -> None:
    """So that there is something to repair."""
    config = store / "history.git" / "config"
    config.write_text(config.read_text().replace("auto = 0", "auto = 1"))


def test_reflogs_are_not_mended_by_a_look_that_failed(
    store: Path, commits: list[CommitId], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory cannot be listed at one moment, whichever, for want of a descriptor."""
    log = store / "history.git" / "logs" / MAIN
    before = log.read_bytes()
    real_list, real_reflogs = os.listdir, HistoryRepair.reflogs
    asked = failed = 0

    def listdir(path: Any = ".") -> list[Any]:
        nonlocal asked
        asked += 1
        if asked == failed:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), path)
        return real_list(path)

    def reflogs(self: HistoryRepair) -> None:
        nonlocal asked
        asked = 0
        with monkeypatch.context() as patched:
            patched.setattr(os, "listdir", listdir)
            real_reflogs(self)

    monkeypatch.setattr(HistoryRepair, "reflogs", reflogs)
    while failed == 0 or asked >= failed:
        failed += 1
        damage_a_setting(store)
        with contextlib.suppress(TreeringError, OSError):
            repair(store)
        assert log.read_bytes() == before
    assert failed > 2


def test_a_ref_that_could_not_be_read_once_stays_where_it_is(
    store: Path, commits: list[CommitId], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its reflog says more: a process was killed before it moved the ref."""
    ref, log = store / "history.git" / MAIN, store / "history.git" / "logs" / MAIN
    ref.write_text(f"{commits[1]}\n")
    before = log.read_bytes()
    real, left = Path.read_bytes, [ref]

    def read(path: Path) -> bytes:
        if path in left:
            left.remove(path)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", read)
    assert repair(store).report.problems == []
    assert not left
    assert ref.read_text() == f"{commits[1]}\n"
    assert log.read_bytes() == before


# -- bisections


@pytest.fixture
def bisected(store: Path, commits: list[CommitId]) -> Path:
    with Store.open(store) as opened:
        Bisection(opened).start(commits[0], [commits[-1]], AUTHOR, Words())
    return store


def test_a_bisection_that_could_not_be_read_once_goes_on(bisected: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, left = Path.read_bytes, ["bisect"]

    def read(path: Path) -> bytes:
        if path.name in left:
            left.remove(path.name)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(path)

    before = notebook.load(bisected)
    monkeypatch.setattr(Path, "read_bytes", read)
    assert repair(bisected).done == []
    assert not left
    assert notebook.load(bisected) == before


def test_a_bisection_of_another_version_is_not_ended(bisected: Path) -> None:
    file = bisected / notebook.FILE
    file.write_bytes(file.read_bytes().replace(b"bisect 1", b"bisect 9", 1))
    assert [problem.kind for problem in repair(bisected).report.problems] == ["bisect"]
    assert file.exists()


def test_a_bisection_goes_on_if_its_commit_comes_back(bisected: Path, pristine: Path, commits: list[CommitId]) -> None:
    before = notebook.load(bisected)
    loose(bisected, commits[-1]).unlink()
    assert "bisect" in {problem.kind for problem in examine(bisected).problems}
    assert repair(bisected, [pristine]).report.problems == []
    assert notebook.load(bisected) == before


def test_a_bisection_is_ended_if_its_commit_is_lost(bisected: Path, commits: list[CommitId]) -> None:
    loose(bisected, commits[-1]).unlink()
    assert "the bisection was ended, since a commit that it has a verdict on is lost" in repair(bisected).done
    assert notebook.load(bisected) is None
