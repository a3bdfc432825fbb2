"""What a batch finds in the store and relies on: a power cut must not take it from a commit that was acknowledged."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tests.support.collecting import commit, noise, write
from vcs.store import Store


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """What is synced from now on, in order."""
    sync, found = os.fsync, []

    def fsync(file: int) -> None:
        found.append(Path(os.readlink(f"/proc/self/fd/{file}")))
        sync(file)

    monkeypatch.setattr(os, "fsync", fsync)
    return found


def refused(_: Path) -> None:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def test_a_layer_whose_name_could_not_be_synced_is_before_it_is_relied_on(
    store: Store, monkeypatch: pytest.MonkeyPatch, synced: list[Path]
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("vcs.batch.sync_directory", refused)
        with pytest.raises(OSError, match="Too many"):
            write(store, {"f": noise(1)})
    with Store.open(store.path) as again:
        commit(again, {"f": noise(1)})
        assert len(os.listdir(store.path / "layers")) == 1
    assert store.path / "layers" in synced


def test_likewise_if_its_writer_was_killed_before_the_index_knew_it(
    store: Store, monkeypatch: pytest.MonkeyPatch, synced: list[Path]
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("vcs.index.Index._add", lambda *_: refused(Path()))
        with pytest.raises(OSError, match="Too many"):
            write(store, {"f": noise(1)})
    with Store.open(store.path) as again:
        commit(again, {"f": noise(1)})
        assert len(os.listdir(store.path / "layers")) == 1
    assert store.path / "layers" in synced


def test_what_neither_adds_nor_relies_on_anything_syncs_nothing(store: Store, synced: list[Path]) -> None:
    with store.batch():
        pass
    assert synced == []
