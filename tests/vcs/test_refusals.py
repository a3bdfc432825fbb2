"""What the system refuses, in our words: what could not be looked at is not damaged, nor denied, nor a full disk."""

from __future__ import annotations

import errno
import os
import resource
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pygit2
import pytest

from tests.support.collecting import commit
from vcs import gitobjects
from vcs.errors import Conflict, Corrupt, Denied, NoSpace, StoreError, TreeringError
from vcs.gitobjects import GitObjects
from vcs.store import Store, translated

# -- git's library


def of_history(error: Exception) -> BaseException:
    with pytest.raises((TreeringError, OSError)) as raised, gitobjects.translated():
        raise error
    return raised.value


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (errno.ENOSPC, NoSpace), (errno.EDQUOT, NoSpace), (errno.EACCES, Denied), (errno.EPERM, Denied),
        (errno.EROFS, Denied), (errno.EIO, Corrupt), (errno.ENOENT, Corrupt), (errno.EMFILE, OSError),
        (errno.ENFILE, OSError), (errno.ENOMEM, OSError),
    ],
)  # fmt: skip
def test_git_refusals_are_told_apart(code: int, kind: type[Exception]) -> None:
    """git's library tells the number in words only."""
    words = os.strerror(code)
    for error in (OSError(code, words), OSError(f"failed to open 'x': {words}"), pygit2.GitError(f"failed: {words}")):
        found = of_history(error)
        assert isinstance(found, kind)
        assert words in str(found)
        assert not isinstance(found, OSError) or found.errno == code


def test_what_git_says_without_the_system_is_damage() -> None:
    assert type(of_history(pygit2.GitError("invalid pack"))) is Corrupt
    assert type(of_history(ValueError("odd"))) is Corrupt


@pytest.mark.parametrize("code", [errno.EMFILE, errno.EIO])
def test_an_object_that_cannot_be_opened_is_told_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    with Store.create(tmp_path / "store") as store:
        made = commit(store, {"file": b"1"})

    def refused(*_: object) -> bytes:
        raise OSError(code, os.strerror(code))

    with closing(GitObjects(tmp_path / "store/history.git")) as objects:
        monkeypatch.setattr(objects.loose, "checked", refused)
        with pytest.raises(Corrupt if code == errno.EIO else OSError, match=os.strerror(code)):
            objects.read(made)


# -- SQLite


def of_sqlite(name: str, words: str) -> TreeringError:
    error = sqlite3.OperationalError(words)
    error.sqlite_errorname = name
    with pytest.raises(TreeringError) as raised, translated("it cannot be done"):
        raise error
    return raised.value


@pytest.mark.parametrize(
    ("name", "words", "kind"),
    [
        ("SQLITE_FULL", "database or disk is full", NoSpace),
        ("SQLITE_IOERR_SHMSIZE", "disk I/O error", NoSpace),
        ("SQLITE_IOERR_WRITE", "disk I/O error", NoSpace),
        ("SQLITE_IOERR_READ", "disk I/O error", StoreError),
        ("SQLITE_NOMEM", "out of memory", StoreError),
        ("SQLITE_BUSY", "database is locked", Conflict),
        ("SQLITE_LOCKED_SHAREDCACHE", "database table is locked", Conflict),
        ("SQLITE_READONLY_DIRECTORY", "attempt to write a readonly database", Denied),
        ("SQLITE_CANTOPEN", "unable to open database file", Denied),
    ],
)
def test_what_sqlite_says_is_told_apart(name: str, words: str, kind: type[TreeringError]) -> None:
    found = of_sqlite(name, words)
    assert type(found) is kind
    assert words in str(found) or kind is Conflict


def test_an_error_of_the_module_itself_is_told_as_it_is() -> None:
    with pytest.raises(StoreError, match="odd") as raised, translated("it cannot be done"):
        raise sqlite3.OperationalError("odd")
    assert type(raised.value) is StoreError


@pytest.fixture
def one_descriptor() -> Iterator[None]:
    """A single file can be opened."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + 1, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_store_without_descriptors_for_it_is_not_denied(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    Store.create(tmp_path / "store").close()
    request.getfixturevalue("one_descriptor")
    with pytest.raises(StoreError, match=os.strerror(errno.EMFILE)) as raised:
        Store.open(tmp_path / "store")
    assert type(raised.value) is StoreError
