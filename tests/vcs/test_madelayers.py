"""Which image layers were made already, and when gc may have them."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from vcs.madelayers import MadeLayer, Sides, find_layer, layout_path, note_layer, removable, used
from vcs.model import RootId

OLD, NEW = RootId(b"o" * 32), RootId(b"n" * 32)
SIDES = Sides(OLD, NEW, "gzip")
LAYER = MadeLayer("sha256:" + "d" * 64, "sha256:" + "b" * 64, 4)


@pytest.fixture
def caches(tmp_path: Path) -> Path:
    blobs = layout_path(tmp_path) / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    (blobs / ("b" * 64)).write_bytes(b"blob")
    note_layer(tmp_path, SIDES, LAYER)
    return tmp_path


def test_a_layer_is_found_by_what_it_is_made_of(caches: Path) -> None:
    assert find_layer(caches, SIDES) == LAYER
    for other in (Sides(None, NEW, "gzip"), Sides(NEW, OLD, "gzip"), Sides(OLD, NEW, "zstd")):
        assert find_layer(caches, other) is None


def test_a_layer_without_its_blob_is_none(caches: Path) -> None:
    blob = next(layout_path(caches).glob("blobs/*/*"))
    blob.write_bytes(b"short"[:3])
    assert find_layer(caches, SIDES) is None
    blob.unlink()
    assert find_layer(caches, SIDES) is None


@pytest.mark.parametrize("text", ["", "x", "\n" * 9, "\xff"])
def test_a_damaged_record_is_none(caches: Path, text: str) -> None:
    (record,) = caches.glob("layer-*")
    record.write_text(text, "latin-1")
    assert find_layer(caches, SIDES) is None
    assert record in list(removable(caches, {NEW}))


def test_what_gc_may_remove(caches: Path) -> None:
    (record,) = caches.glob("layer-*")
    (blob,) = layout_path(caches).glob("blobs/*/*")
    config, abandoned = blob.with_name("c" * 64), blob.with_name(".new-0123")
    for path in (config, abandoned):
        path.touch()
    assert set(removable(caches, {NEW})) == {config, abandoned}
    assert set(removable(caches, {OLD})) == {config, abandoned, record, blob}
    long_ago = time.time() - 8 * 86400
    os.utime(record, (long_ago, long_ago))
    assert set(removable(caches, {NEW})) == {config, abandoned, record, blob}
    assert find_layer(caches, SIDES) == LAYER
    assert set(removable(caches, {NEW})) == {config, abandoned}  # it was used just now


def test_gc_leaves_what_is_in_use(caches: Path) -> None:
    with used(caches), used(caches):
        assert list(removable(caches, ())) == []
    assert len(list(removable(caches, ()))) == 2


def test_where_nothing_was_saved(tmp_path: Path) -> None:
    assert list(removable(tmp_path, ())) == []
    assert not list(tmp_path.iterdir())
