"""One call of the operating system's that fails while garbage is collected: what is needed is not taken for gone.

Every test here was seen to fail with the mechanism that it is about taken out.
"""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.collecting import NOW, author, commit, is_readable, noise, write
from vcs.collect import Collection, collect
from vcs.errors import NotFound, TreeringError
from vcs.model import CommitId
from vcs.packing import has_object
from vcs.store import Store

OLD = "refs/heads/old"


def repack(store: Store) -> None:
    subprocess.run(["git", "-C", str(store.repository), "repack", "-adq"], check=True)


@contextmanager
def packs_out_of_sight(store: Store) -> Iterator[None]:
    """To git's library it is the same whether stat(2) finds no directory of packs or fails for want of memory."""
    packs, aside = store.repository / "objects" / "pack", store.repository / "aside"
    packs.rename(aside)
    try:
        yield
    finally:
        aside.rename(packs)


def open_sources(collection: Collection, store: Store) -> None:
    """Have git's library open its sources of objects for this collection."""
    with collection._packing._git.asking() as repository:
        assert "1" * 40 not in repository


@pytest.fixture
def deleted(store: Store) -> CommitId:
    """A commit in a pack that only the log of operations names, so that undo can have it back."""
    made = commit(store, {"f": noise("deleted")}, OLD)
    repack(store)
    store.operations.begin(["branch", "-d", "old"])
    store.history.delete(OLD)
    store.operations.begin([])
    commit(store, {"f": b"new"})
    return made


def test_a_pack_that_could_not_be_looked_for_is_there(store: Store, deleted: CommitId) -> None:
    root = store.commit(deleted).root
    collection = Collection(store, since=0)
    try:
        with packs_out_of_sight(store):
            open_sources(collection, store)
        done = collection.run()
    finally:
        collection.close()
    assert (done.layers, done.commits) == (0, 0)
    with Store.open(store.path) as again:
        assert again.history.has(deleted)
    assert is_readable(store, root)


def test_what_git_s_library_goes_on_to_deny_is_an_error(
    store: Store, deleted: CommitId, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = store.commit(deleted).root
    collection = Collection(store, since=0)
    monkeypatch.setattr(collection._packing._git, "close", lambda: None)
    try:
        with packs_out_of_sight(store):
            open_sources(collection, store)
        with pytest.raises(TreeringError, match=deleted):
            collection.run()
    finally:
        monkeypatch.undo()
        collection.close()
    assert is_readable(store, root)


def test_a_history_finds_what_is_in_a_pack_that_could_not_be_looked_for(store: Store, deleted: CommitId) -> None:
    with Store.open(store.path) as again:
        with packs_out_of_sight(store):
            assert not again.history.has("1" * 40)
        assert again.history.has(deleted)
        again.history.move(OLD, deleted, None, "again", author())
        assert again.history.target(OLD) == deleted


def test_what_is_in_no_pack_is_not_there(store: Store, deleted: CommitId) -> None:
    objects = store.repository / "objects"
    with Store.open(store.path) as again:
        ids = subprocess.run(
            ["git", "-C", str(store.repository), "rev-list", "--all", "--objects", "--no-object-names", deleted],
            capture_output=True, text=True, check=True,
        ).stdout.split()  # fmt: skip
        assert len(ids) == 7
        git = again.history._git
        assert all(has_object(git, objects, oid) for oid in ids)
        near = [f"{int(oid, 16) + step:040x}" for oid in ids for step in (-1, 1)]
        assert not any(has_object(git, objects, oid) for oid in [*near, "0" * 40, "f" * 40])


def test_whether_a_pack_has_it_is_an_error_if_that_cannot_be_told(
    store: Store, deleted: CommitId, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store.open(store.path) as again:
        assert not again.history.has("1" * 40)
        monkeypatch.setattr("os.listdir", failing(os.listdir, "/objects/pack"))
        with pytest.raises(TreeringError):
            again.history.has("1" * 40)
        assert again.history.has(deleted)


# -- who is told that objects were removed


def test_others_are_told_before_objects_are_removed(
    store: Store, deleted: CommitId, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However it ends just after that: they point no ref at what is gone."""
    with Store.open(store.path) as other:
        with other.history.locked():
            assert other.history.has(deleted)
        other.history.commit_ids()
        monkeypatch.setattr("vcs.history.os.utime", failing(os.utime, "/locks/refs"))
        with pytest.raises(OSError, match="Input/output"):
            collect(store, since=NOW)
        monkeypatch.undo()
        if store.history.has(deleted):
            other.history.move("refs/heads/again", deleted, None, "again", author())
        else:
            with pytest.raises(NotFound):
                other.history.move("refs/heads/again", deleted, None, "again", author())


# -- directories that cannot be listed


def failing(call: Callable[..., Any], end: str, number: int = errno.EIO) -> Callable[..., Any]:
    """A call that fails for paths that end so."""

    def wrapped(path: str | bytes | Path | int = ".", *args: Any, **kwargs: Any) -> Any:
        if not isinstance(path, int) and os.fsdecode(path).rstrip("/").endswith(end):
            raise OSError(number, os.strerror(number), path)
        return call(path, *args, **kwargs)

    return wrapped


@pytest.fixture
def unlisted(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Have directories whose paths end so refuse to be listed: Path.glob takes this errno for an empty one."""

    def refuse(end: str) -> None:
        for name in ("scandir", "listdir"):
            monkeypatch.setattr(os, name, failing(getattr(os, name), end, errno.EACCES))

    return refuse


def test_leases_that_cannot_be_listed_are_not_none(store: Store, unlisted: Callable[[str], None]) -> None:
    with Store.open(store.path) as other, store.writing():
        root = write(store, {"f": noise(1)})
        unlisted("/leases")
        with pytest.raises(TreeringError):
            collect(other, since=0)
        made = store.add_commit(root, {}, "late\n", author())
        store.history.move("refs/heads/main", made, None, "late", author())
    assert is_readable(store, root)


def test_reflogs_that_cannot_be_listed_are_not_none(
    store: Store, unlisted: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = commit(store, {"f": noise(1)}, OLD)
    second = commit(store, {"f": noise(2)}, OLD)
    store.history.move(OLD, first, second, "reset", author())
    (store.path / "operations.log").unlink()
    unlisted("/logs/refs/heads")
    with pytest.raises(TreeringError):
        collect(store, since=0)
    monkeypatch.undo()
    assert store.history.has(second)


def test_caches_that_cannot_be_listed_are_not_none(
    store: Store, unlisted: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who finds one of a root that gc removes would rely on it."""
    commit(store, {"f": noise(1)})
    store.caches.joinpath("import-1").write_bytes(b"1" * 64 + b"\n")
    unlisted("/caches")
    with pytest.raises(TreeringError):
        collect(store, since=0)
    monkeypatch.undo()
    store.caches.joinpath("import-1").unlink()


def test_a_cache_that_cannot_be_opened_goes(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be of a root that is to go."""
    commit(store, {"f": noise(1)})
    path = store.caches / "import-1"
    path.write_bytes(b"1" * 64 + b"\n")
    monkeypatch.setattr(os, "open", failing(os.open, "/import-1", errno.EMFILE))
    collect(store, since=0)
    assert not path.exists()
