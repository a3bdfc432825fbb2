"""What an import remembers of the last one, where it is damaged, of no use, or not to be left."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.importing import (
    agree,
    opened_files,
    run,
)
from vcs.check import check
from vcs.importcache import import_cache
from vcs.importer import import_directory
from vcs.model import RootId
from vcs.store import Store


def cache_file(store: Store, top: Path) -> Path:
    with store.writing() as lease, import_cache(store, lease, top) as cache:
        return cache.recorder._path


@pytest.mark.parametrize("damage", ["empty", "cut", "bit", "foreign", "gone"])
def test_a_damaged_cache_is_none(store: Store, tree: Path, damage: str) -> None:
    first = run(store, tree)
    path = cache_file(store, tree)
    data = bytearray(path.read_bytes())
    if damage == "empty":
        data.clear()
    elif damage == "cut":
        del data[-10:]
    elif damage == "bit":
        data[len(data) // 2] ^= 4
    elif damage == "foreign":
        data[:] = b"something else\n" * 100
    path.write_bytes(data)
    if damage == "gone":
        path.unlink()
    with opened_files() as files:
        assert run(store, tree).root == first.root
    assert len(files) == 4
    with opened_files() as files:
        run(store, tree)
    assert files == []


def test_a_cache_whose_root_is_not_in_the_store_is_none(store: Store, tree: Path, tmp_path: Path) -> None:
    run(store, tree)
    path = cache_file(store, tree)
    with Store.create(tmp_path / "other") as other:
        shutil.copy(path, other.caches / path.name)
        with opened_files() as files:
            run(other, tree)
        assert len(files) == 4
        assert check(other).problems == []


def test_a_cache_that_gc_deletes_is_none(store: Store, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """gc deletes it between our opening it and our lease: the file that is open has no name any more."""
    run(store, tree)
    path = cache_file(store, tree)
    with store.writing() as lease:
        note = lease.root

        def delete_and_note(root: RootId) -> None:
            path.unlink()
            note(root)

        monkeypatch.setattr(lease, "root", delete_and_note)
        with import_cache(store, lease, tree) as cache:
            assert cache.previous is None


def test_an_import_without_a_commit_leaves_the_old_cache(store: Store, tree: Path) -> None:
    run(store, tree)
    path = cache_file(store, tree)
    data = path.read_bytes()
    (tree / "etc/passwd").write_text("changed")
    with store.writing() as lease, import_cache(store, lease, tree) as cache, store.batch() as batch:
        import_directory(batch, tree, cache=cache)  # and no commit follows
    assert path.read_bytes() == data
    assert [name for name in os.listdir(path.parent) if name.startswith(path.name)] == [path.name]
    agree(store, tree)


def test_a_cache_that_cannot_be_locked_is_not_left(store: Store, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flock = fcntl.flock

    def failing(file: Any, operation: int) -> None:
        if "/import-" in str(getattr(file, "name", "")):
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
        flock(file, operation)

    with monkeypatch.context() as patch:
        patch.setattr("vcs.importcache.fcntl.flock", failing)
        run(store, tree)
    assert not cache_file(store, tree).exists()
    agree(store, tree)
