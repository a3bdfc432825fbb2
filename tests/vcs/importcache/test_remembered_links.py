"""Imports that remember the last one, of trees with hard links."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.importing import (
    agree,
    fresh,
    ignoring,
    opened_files,
    run,
    same_size_same_mtime,
    settle,
)
from vcs.batch import Batch
from vcs.importcache import import_cache
from vcs.importer import import_directory
from vcs.store import Store


def test_hard_links_of_an_unchanged_tree(store: Store, tree: Path) -> None:
    os.link(tree / "usr/tool", tree / "etc/deep/tool")
    settle(tree)
    agree(store, tree)
    with opened_files() as files:
        run(store, tree)
    assert files == []
    (tree / "etc/passwd").write_text("more")
    with opened_files() as files:
        result = run(store, tree)
    assert files == [b"passwd"]
    assert result.root == fresh(store, tree)


@pytest.mark.parametrize("name", ["a-first", "etc/middle", "usr/zlast"])
def test_names_of_a_file_come_and_go(store: Store, tree: Path, name: str) -> None:
    os.link(tree / "usr/tool", tree / "etc/deep/tool")
    os.link(tree / "etc/passwd", tree / "usr/passwd")
    run(store, tree)
    os.link(tree / "usr/tool", tree / name)
    agree(store, tree)
    settle(tree)
    agree(store, tree)
    (tree / name).unlink()
    agree(store, tree)
    (tree / "etc/deep/tool").unlink()
    settle(tree)
    agree(store, tree)
    agree(store, tree)


def test_a_linked_file_that_changes(store: Store, tree: Path) -> None:
    os.link(tree / "usr/tool", tree / "etc/deep/tool")
    settle(tree)
    run(store, tree)
    same_size_same_mtime(tree / "usr/tool")
    agree(store, tree)


@pytest.mark.parametrize("touch", [True, False])
def test_a_linked_file_that_changes_between_its_names(store: Store, tree: Path, touch: bool) -> None:
    """All names are given what the first one was read as, and the next import looks again."""
    os.link(tree / "usr/tool", tree / "etc/a-tool")
    os.link(tree / "usr/tool", tree / "usr/z-tool")
    settle(tree)

    class Busy:
        """Puts objects into a batch, and has somebody else change the file as soon as it was read."""

        def __init__(self, batch: Batch) -> None:
            self.batch = batch
            self.put_tree = batch.put_tree

        def put_chunk(self, data: bytes | memoryview, digest: bytes | None = None) -> bytes:
            if bytes(data) == b"tool":
                os.utime(tree / "usr/tool", ns=(5, 5)) if touch else same_size_same_mtime(tree / "usr/tool")
                settle(tree)
            return self.batch.put_chunk(data, digest)

    with store.writing() as lease, import_cache(store, lease, tree) as cache:
        with store.batch() as batch:
            result = import_directory(Busy(batch), tree, cache=cache)
        cache.save(result.root)
    snapshot = store.snapshot(result.root)
    one, two = snapshot.lookup(b"etc/a-tool"), snapshot.lookup(b"usr/tool")
    assert one.link == two.link is not None
    assert (one.mtime, one.content) == (two.mtime, two.content)
    agree(store, tree)


def test_links_that_patterns_hid_and_hide_no_more(store: Store, tree: Path) -> None:
    """Nothing about the files has changed, so their records are as they were."""
    os.link(tree / "usr/tool", tree / "etc/tool")
    os.link(tree / "usr/tool", tree / "etc/deep/tool")
    settle(tree)
    hide = {count: ignoring(*lines) for count, lines in {1: ["/etc"], 2: ["/etc/deep"], 3: []}.items()}
    for count in (1, 2, 3, 1, 3, 2, 1):
        result = agree(store, tree, ignore=hide[count])
        tool = store.snapshot(result.root).lookup(b"usr/tool")
        assert (tool.link.count if tool.link else 1) == count
