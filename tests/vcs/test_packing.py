"""What a collection of git's objects holds in memory, where there are very many."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pygit2
import pytest
from pygit2.enums import FileMode

from vcs.gitobjects import make_repository
from vcs.packing import Packing

COUNT = 4000


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Blobs in files of their own, a hundred in a tree."""
    path = tmp_path / "history.git"
    make_repository(path)
    repo = pygit2.Repository(str(path))
    pygit2.settings.enable_fsync_gitdir(False)
    try:
        top = repo.TreeBuilder()
        for start in range(0, COUNT, 100):
            builder = repo.TreeBuilder()
            for number in range(start, start + 100):
                builder.insert(f"f{number}", repo.create_blob(b"%d" % number), FileMode.BLOB)
            top.insert(f"d{start}", builder.write(), FileMode.TREE)
        repo.references.create("refs/tags/all", top.write())
    finally:
        pygit2.settings.enable_fsync_gitdir(True)
        repo.free()
    return path


def peak(work: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_what_is_packed_and_removed_is_not_held_too(repository: Path) -> None:
    packing = Packing(repository)
    tree = packing.refs()["refs/tags/all"]
    packing.add([tree])
    assert peak(packing.pack) < 100 * COUNT
    assert peak(packing.prune) < 50 * COUNT
    assert not list(packing._loose())
    packing.close()
    again = pygit2.Repository(str(repository))
    assert again[tree]["d0/f99"].data == b"99"  # type: ignore[index]
    again.free()


def test_the_library_keeps_nothing_of_what_it_has_read(repository: Path) -> None:
    """It would up to 256 MB, though a collection reads each object once."""
    packing = Packing(repository)
    packing.add([packing.refs()["refs/tags/all"]])
    assert pygit2.settings.cached_memory[0] == 0
    packing.close()
