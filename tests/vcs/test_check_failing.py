"""Checks of what cannot be looked at: it is told, and taken neither for empty nor for gone."""

from __future__ import annotations

import errno
import os
import resource
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests.support.collecting import author, commit
from tests.support.ending import fork
from vcs.bisection.notebook import Words
from vcs.bisection.session import Bisection
from vcs.check import Report, check_index, examine
from vcs.errors import StoreError
from vcs.layers.format import SUFFIX
from vcs.layers.reader import LayerReader
from vcs.model import CommitId
from vcs.store import Store

MAIN = "refs/heads/main"
CODES = [errno.EIO, errno.EACCES]
SHORT = [errno.EMFILE, errno.ENFILE, errno.ENOMEM]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def commits(path: Path) -> list[CommitId]:
    """Of a store at `path`, oldest first; another branch has the last of them."""
    with Store.create(path) as store:
        made = [commit(store, {"file": b"%d" % number}) for number in range(3)]
        return [*made, commit(store, {"other": b"1"}, "refs/heads/other")]


def refused(code: int, path: object) -> OSError:
    return OSError(code, os.strerror(code), str(path))


def unread(monkeypatch: pytest.MonkeyPatch, file: Path, code: int) -> None:
    """Have one file not be read as a whole."""
    real = Path.read_bytes

    def read(path: Path) -> bytes:
        if path == file:
            raise refused(code, path)
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", read)


def unlisted(monkeypatch: pytest.MonkeyPatch, directory: Path, code: int) -> None:
    """Have one directory not be listed by who looks at each entry."""
    real = os.scandir

    def scandir(path: Any = ".") -> Any:
        if Path(os.fsdecode(path)) == directory:
            raise refused(code, path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)


def told(report: Report) -> list[str]:
    return [problem.message for problem in report.problems]


# -- the history's files


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("name", [f"logs/{MAIN}", "HEAD", "config", "packed-refs", MAIN])
def test_a_file_of_the_history_that_cannot_be_read_is_told_alone(
    path: Path, commits: list[CommitId], monkeypatch: pytest.MonkeyPatch, name: str, code: int
) -> None:
    file = path / "history.git" / name
    if name == "packed-refs":
        file.write_text(f"# pack-refs with: peeled fully-peeled sorted \n{commits[0]} refs/tags/first\n")
        log = path / "history.git/logs/refs/tags/first"
        log.parent.mkdir()
        log.write_text(f"{'0' * 40} {commits[0]} a <b> 1 +0000\ttag\n")
    unread(monkeypatch, file, code)
    report = examine(path)
    assert told(report) == [f"history.git/{name} cannot be read: {os.strerror(code)}"]
    assert report.refs == ({MAIN} if (name, code) == (MAIN, errno.EIO) else set())


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("name", ["objects", "refs", "refs/heads", "logs", "logs/refs/heads"])
def test_a_directory_that_cannot_be_listed_is_told_alone(
    path: Path, commits: list[CommitId], monkeypatch: pytest.MonkeyPatch, name: str, code: int
) -> None:
    directory = path / "history.git" / name
    unlisted(monkeypatch, directory, code)
    report = examine(path)
    assert told(report) == [f"history.git/{name} cannot be read: {os.strerror(code)}"]
    assert (report.refs, report.git_lost, report.unknown) == (set(), set(), set())


def test_an_empty_packed_refs_is_damaged(path: Path, commits: list[CommitId]) -> None:
    (path / "history.git" / "packed-refs").touch()
    assert told(examine(path)) == ["packed-refs is damaged: it does not begin or end as it should"]


# -- commits


def unopened(monkeypatch: pytest.MonkeyPatch, oid: str, code: int) -> None:
    """Have a loose object not be opened, but by the check that looks at every file."""
    real = os.open

    def opened(path: Any, *how: Any, **more: Any) -> int:
        if os.fsdecode(path).endswith(f"/{oid[:2]}/{oid[2:]}"):
            raise refused(code, path)
        return real(path, *how, **more)

    monkeypatch.setattr(os, "open", opened)


@pytest.mark.parametrize("number", [0, 2], ids=["an older one", "that of a branch"])
def test_a_commit_that_could_not_be_looked_for_is_not_lost(
    path: Path, commits: list[CommitId], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    unopened(monkeypatch, commits[number], errno.EACCES)
    report = examine(path)
    assert report.problems
    assert all(os.strerror(errno.EACCES) in message for message in told(report))
    assert (report.refs, report.git_lost, report.unknown) == (set(), set(), set())


@pytest.mark.parametrize("number", [0, 2], ids=["an older one", "that of a branch"])
def test_a_commit_that_the_disk_does_not_give_back_is_not_gone(
    path: Path, commits: list[CommitId], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    unopened(monkeypatch, commits[number], errno.EIO)
    report = examine(path)
    assert report.problems
    assert all(os.strerror(errno.EIO) in message for message in told(report))
    assert commits[number] in report.git_lost | report.unknown


def test_a_commit_that_is_gone_is_told_to_be(path: Path, commits: list[CommitId]) -> None:
    (path / "history.git" / "objects" / commits[2][:2] / commits[2][2:]).unlink()
    assert f"{MAIN} names {commits[2]}, which is not there" in told(examine(path))


# -- the store's other files


@pytest.mark.parametrize("name", ["bisect", "operations.log"])
def test_a_file_of_the_store_that_cannot_be_read_is_not_taken_for_damaged(
    path: Path, commits: list[CommitId], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """What is damaged is repaired: a bisection is ended, a line of the log goes."""
    with Store.open(path) as store:
        Bisection(store).start(commits[2], [commits[0]], author(), Words())
    unread(monkeypatch, path / name, errno.EACCES)
    (problem,) = examine(path).problems
    assert (problem.kind, problem.message) == ("history", f"{name} cannot be read: {os.strerror(errno.EACCES)}")


def failing_once(code: int) -> Callable[[Path], LayerReader]:
    """Opens layers, but not the first that it is asked for."""
    left = [code]

    def opened(path: Path) -> LayerReader:
        if left:
            raise refused(left.pop(), path)
        return LayerReader(path)

    return opened


def test_a_layer_that_the_index_was_not_compared_with_is_told(
    path: Path, commits: list[CommitId], monkeypatch: pytest.MonkeyPatch
) -> None:
    with sqlite3.connect(path / "index.db") as db:
        db.execute("PRAGMA application_id = 0")
    assert check_index(path / "index.db", path / "layers") == []
    monkeypatch.setattr("vcs.check.index.LayerReader", failing_once(errno.EACCES))
    (problem,) = check_index(path / "index.db", path / "layers")
    assert problem.kind == "layer"
    assert (path / "layers" / f"{problem.layer}{SUFFIX}").exists()
    assert problem.message.endswith(f"{problem.layer}: {os.strerror(errno.EACCES)}")


def test_a_layer_that_is_gone_or_damaged_is_told_elsewhere(
    path: Path, commits: list[CommitId], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vcs.check.index.LayerReader", failing_once(errno.ENOENT))
    assert check_index(path / "index.db", path / "layers") == []


def test_caches_that_cannot_be_read_are_told(
    path: Path, commits: list[CommitId], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = path / "caches" / "import-1"
    cache.touch()
    with monkeypatch.context() as patched:
        patched.setattr("vcs.check.caches.open_cache", lambda path: (_ for _ in ()).throw(refused(errno.EIO, path)))
        report = examine(path)
    assert (told(report), report.caches) == ([f"caches/import-1 cannot be read: {os.strerror(errno.EIO)}"], set())
    real = os.listdir

    def listdir(directory: Any = ".") -> list[Any]:
        if directory == cache.parent:
            raise refused(errno.EACCES, directory)
        return real(directory)

    monkeypatch.setattr(os, "listdir", listdir)
    assert told(examine(path)) == [f"caches cannot be read: {os.strerror(errno.EACCES)}"]


# -- too little of something: then nothing can be said


@pytest.mark.parametrize("code", SHORT)
@pytest.mark.parametrize("name", ["HEAD", f"logs/{MAIN}", "objects", "../operations.log", "../bisect", "../caches"])
def test_a_check_that_has_too_little_to_look_at_something_fails(
    path: Path, commits: list[CommitId], monkeypatch: pytest.MonkeyPatch, name: str, code: int
) -> None:
    place = (path / "history.git" / name).resolve()
    unread(monkeypatch, place, code)
    unlisted(monkeypatch, place, code)
    real = os.listdir

    def listdir(directory: Any = ".") -> list[Any]:
        if directory == place:
            raise refused(code, place)
        return real(directory)

    monkeypatch.setattr(os, "listdir", listdir)
    with pytest.raises(OSError, match=os.strerror(code)):
        examine(path)


@pytest.mark.parametrize("code", SHORT)
@pytest.mark.parametrize("number", [0, 2], ids=["an older one", "that of a branch"])
def test_and_for_a_commit(
    path: Path, commits: list[CommitId], monkeypatch: pytest.MonkeyPatch, number: int, code: int
) -> None:
    unopened(monkeypatch, commits[number], code)
    with pytest.raises(OSError, match=os.strerror(code)):
        examine(path)


@pytest.mark.parametrize("code", SHORT)
@pytest.mark.parametrize("module", ["index", "layers"])
def test_and_for_a_layer(
    path: Path, commits: list[CommitId], monkeypatch: pytest.MonkeyPatch, module: str, code: int
) -> None:
    with sqlite3.connect(path / "index.db") as db:
        db.execute("PRAGMA application_id = 0")
    monkeypatch.setattr(f"vcs.check.{module}.LayerReader", failing_once(code))
    with pytest.raises(OSError, match=os.strerror(code)):
        examine(path)


def test_an_index_that_cannot_be_opened_is_not_damaged(
    path: Path, commits: list[CommitId], monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite does not say why: perhaps there was no descriptor for its log just then."""

    def unopened(_: Path) -> NoReturn:
        sqlite3.connect(path / "nowhere" / "index.db")
        raise AssertionError

    monkeypatch.setattr("vcs.check.index._opened", unopened)
    with pytest.raises(StoreError, match="cannot be checked: unable to open"):
        examine(path)


def test_with_however_few_descriptors_nothing_whole_is_damaged(path: Path, commits: list[CommitId]) -> None:
    assert examine(path).problems == []  # with everything imported
    ends = [_end_with_so_few_descriptors(path, number) for number in range(3, 25)]
    assert set(ends) == {"short", "whole"}, ends
    assert ends[-1] == "whole"


def _end_with_so_few_descriptors(path: Path, number: int) -> str:
    """In a process of its own, since SQLite keeps some that it has no use for."""
    end = path.parent / "end"
    if not (child := fork()):
        try:
            os.closerange(3, 1 << 16)
            hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            resource.setrlimit(resource.RLIMIT_NOFILE, (number, hard))
            try:
                found = "; ".join(told(examine(path))) or "whole"
            except (OSError, StoreError) as error:
                found = "short" if os.strerror(errno.EMFILE) in str(error) else repr(error)
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            end.write_text(found)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    return end.read_text()
