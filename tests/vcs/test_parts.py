"""Parts of chunks, from the file that is stored to the one that is read: they are right, or the whole chunk is read."""

from __future__ import annotations

import os
import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.collecting import NOW, author, noise
from tests.support.values import file, root
from vcs.blobreader import BlobReader, list_items
from vcs.blobs import BlobWriter
from vcs.check import check
from vcs.collect import collect
from vcs.collect.repack import Repack
from vcs.errors import Corrupt
from vcs.importer import import_directory
from vcs.layers.format import CODEC_SUMMED, PIECE
from vcs.layers.reader import LayerReader
from vcs.model import Chunked, CommitId, ListItem
from vcs.repair import repair
from vcs.store import Store
from vcs.sums import SUM, sums_of

SIZE = 3_000_000
PAGE = 4096


def keep(store: Store, data: bytes, branch: str = "main", **others: bytes) -> tuple[CommitId, Chunked]:
    """Commit a file of several chunks."""
    with store.writing():
        with store.batch() as batch:
            writer = BlobWriter(batch)
            writer.feed(data)
            content = writer.finish()
            made = root(batch, {"paged": file(content), **others})
        assert isinstance(content, Chunked)
        ref = f"refs/heads/{branch}"
        old = store.history.target(ref)
        commit = store.add_commit(made, {"config": {}}, "test\n", author(), (old,) if old else ())
        store.history.move(ref, commit, old, "test", author())
    return commit, content


def summed(store: Store) -> list[int]:
    """By layer, how many blocks have sums."""
    found = []
    for path in sorted((store.path / "layers").glob("*.layer"), key=os.path.getmtime):
        reader = LayerReader(path)
        found.append(sum(block.codec == CODEC_SUMMED for block in reader.blocks))
        reader.close()
    return found


def scattered(store: Store, content: Chunked, data: bytes, count: int = 40) -> int:
    """Read some places alone; how many could be. What is read is right."""
    reader = BlobReader(store, content)
    chance = random.Random(5)
    alone = 0
    for _ in range(count):
        offset = chance.randrange(len(data))
        found = reader.alone(offset, PAGE, store.part)
        alone += found is not None
        assert b"".join(found or reader.parts(offset, PAGE)) == data[offset : offset + PAGE]
    return alone


@pytest.fixture
def no_chunk(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No block that has sums is read whole."""
    honest = LayerReader.block

    def block(reader: LayerReader, number: int) -> bytes:
        assert reader.blocks[number].codec != CODEC_SUMMED, "a whole block was read"
        return honest(reader, number)

    with monkeypatch.context() as patch:
        patch.setattr(LayerReader, "block", block)
        yield


# -- stored


def test_a_file_that_does_not_compress_can_be_read_in_parts_and_others_cannot(store: Store, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    large, text = noise(1, SIZE), b"some text\n" * (SIZE // 10)
    (tree / "large").write_bytes(large)
    (tree / "text").write_bytes(text)
    with store.batch() as batch:
        made = import_directory(batch, tree).root
    snapshot = store.snapshot(made)
    for name, data, enough in ((b"large", large, 40), (b"text", text, 0)):
        content = snapshot.lookup(name).content
        assert isinstance(content, Chunked)
        assert snapshot.read(content) == data
        with Store.open(store.path) as fresh:
            assert scattered(fresh, content, data) == enough


def test_what_a_commit_changes_has_sums_like_the_file(store: Store) -> None:
    data = noise(3, SIZE)
    keep(store, data)
    changed = data[:1_000_000] + noise(4, 200_000) + data[1_200_000:]
    _, content = keep(store, changed)
    assert len(summed(store)) == 2
    assert all(summed(store))
    with Store.open(store.path) as fresh:
        assert scattered(fresh, content, changed) > 30


# -- read


def test_a_page_is_read_without_its_chunk(store: Store, no_chunk: None) -> None:
    data = noise(1, SIZE)
    _, content = keep(store, data)
    with Store.open(store.path) as fresh:
        reader = BlobReader(fresh, content)
        for offset in range(0, SIZE, 300_000):
            found = reader.alone(offset, PAGE, fresh.part)
            assert found is not None
            assert b"".join(found) == data[offset : offset + PAGE]
        assert b"".join(reader.alone(SIZE - 10, PAGE, fresh.part) or ()) == data[-10:]
        assert reader.alone(SIZE, PAGE, fresh.part) == []


def test_a_range_of_several_chunks_is_read_alone_too(store: Store) -> None:
    data = noise(1, SIZE)
    _, content = keep(store, data)
    with Store.open(store.path) as fresh:
        reader = BlobReader(fresh, content)
        end = reader.items()[0].length
        assert b"".join(reader.alone(end - 100, 200, fresh.part) or ()) == data[end - 100 : end + 100]
        assert len(reader.alone(end - 100, 200, fresh.part) or ()) == 2


def test_who_comes_back_to_a_chunk_gets_it_whole(store: Store) -> None:
    data = noise(1, SIZE)
    _, content = keep(store, data)
    with Store.open(store.path) as fresh:
        reader = BlobReader(fresh, content)
        length = reader.items()[0].length
        told = [reader.alone(at, 100, fresh.part) is not None for at in range(0, length - 100, length // 16)]
        assert told == [True] * 8 + [False] * 8
        assert reader.alone(length, 100, fresh.part) is not None, "others are asked for one by one"
        assert fresh.part(reader.items()[0].digest, 5, 50) == data[5:50]
        reader.parts(0, 10)
        assert fresh.part(reader.items()[0].digest, 5, 50) is None, "it is at hand now"


def test_of_a_hole_and_of_what_has_no_sums_nothing_is_read_alone(store: Store) -> None:
    with store.batch() as batch:
        writer = BlobWriter(batch)
        writer.feed(b"some text\n" * 10_000)
        writer.hole(100_000)
        content = writer.finish()
    assert isinstance(content, Chunked)
    with Store.open(store.path) as fresh:
        reader = BlobReader(fresh, content)
        assert reader.alone(0, 100, fresh.part) is None
        assert reader.alone(150_000, 100, fresh.part) is None
        assert fresh.part(bytes(32), 0, 1) is None


def place_of(db: sqlite3.Connection, item: ListItem) -> tuple[int, int, int, int]:
    query = "SELECT layer, block, start, length FROM objects WHERE digest = ?"
    row: tuple[int, int, int, int] = db.execute(query, (item.digest,)).fetchone()
    return row


def move(db: sqlite3.Connection, item: ListItem, place: tuple[int, int, int, int]) -> None:
    change = "UPDATE objects SET layer = ?, block = ?, start = ?, length = ? WHERE digest = ?"
    db.execute(change, (*place, item.digest))


def test_what_the_index_says_wrongly_is_not_believed(store: Store) -> None:
    """It has no sums of its own: a place that is not the object's would give other bytes."""
    data = noise(1, SIZE)
    _, content = keep(store, data)
    one, other = list(list_items(store, content.list))[:2]
    with store.index._db as db:
        rows = [place_of(db, one), place_of(db, other)]
        move(db, one, rows[1])
        move(db, other, rows[0])
        third = list(list_items(store, content.list))[2]
        move(db, third, (place_of(db, third)[0], 1 << 30, 0, third.length))
    with Store.open(store.path) as fresh:
        assert fresh.part(third.digest, 0, PAGE) is None
        assert fresh.part(one.digest, 0, PAGE) == data[:PAGE]
        assert fresh.part(other.digest, 0, PAGE) == data[one.length : one.length + PAGE]
        with pytest.raises(Corrupt):
            fresh.get(one.digest)
    store.close()
    (store.path / "index.db").unlink()


def test_a_damaged_page_is_left_to_who_reads_the_chunk(store: Store) -> None:
    data = noise(1, SIZE)
    _, content = keep(store, data)
    (layer,) = (store.path / "layers").glob("*.layer")
    reader = LayerReader(layer)
    place = store.index.find(next(list_items(store, content.list)).digest)
    assert place is not None
    assert place.start == 0
    block = reader.blocks[place.block]
    reader.close()
    raw = bytearray(layer.read_bytes())
    raw[block.offset + 60] ^= 1
    write_over(layer, raw)
    with Store.open(store.path) as fresh:
        opened = BlobReader(fresh, content)
        assert b"".join(opened.alone(9000, 100, fresh.part) or ()) == data[9000:9100]
        assert opened.alone(0, 100, fresh.part) is None
        assert opened.alone(9000, 100, fresh.part) is None, "whoever reads the chunk is told"
        with pytest.raises(Corrupt):
            opened.parts(0, 100)
    raw[block.offset + 60] ^= 1
    layer.write_bytes(raw)


def test_parts_are_forgotten_with_their_layer(store: Store) -> None:
    first, second = noise(1, SIZE), noise(2, SIZE)
    _, one = keep(store, first)
    commit, _ = keep(store, second, "lost")
    with Store.open(store.path) as reading:
        content = reading.snapshot(reading.commit(commit).root).lookup(b"paged").content
        assert isinstance(content, Chunked)
        scattered(reading, one, first, 5)
        scattered(reading, content, second, 5)
        store.history.delete("refs/heads/lost")
        collect(store, since=NOW)
        keep(store, noise(6, SIZE), "other")
        assert scattered(reading, one, first) > 30
        collect(store, since=NOW)


# -- kept


@pytest.mark.parametrize("share", [1, 2])
def test_gc_keeps_sums(store: Store, share: int) -> None:
    """Of blocks that it copies as they are, and of those of which it keeps a part."""
    data = noise(1, SIZE)
    kept = b"".join(data[at : at + 200_000 // share] for at in range(0, SIZE, 200_000))
    keep(store, data, "lost")
    _, content = keep(store, kept)
    store.history.delete("refs/heads/lost")
    collect(store, since=NOW)
    assert check(store).problems == []
    assert sum(summed(store))
    with Store.open(store.path) as fresh:
        assert scattered(fresh, content, kept) > 20


def test_gc_does_not_copy_damaged_sums(store: Store) -> None:
    """In the new layer they would have a digest, and be taken for right."""
    data = noise(1, SIZE)
    keep(store, data, "lost")
    _, content = keep(store, data[: SIZE // 2])
    (layer,) = [path for path in (store.path / "layers").glob("*.layer") if path.stat().st_size > SIZE]
    raw = bytearray(layer.read_bytes())
    footer = int.from_bytes(raw[-56:-48], "little")
    raw[footer - SIZE // PIECE * 8 : footer] = bytes(SIZE // PIECE * 8)
    write_over(layer, raw)
    store.history.delete("refs/heads/lost")
    with Store.open(store.path) as fresh:
        collect(fresh, since=NOW)
        assert not layer.exists()
        assert check(fresh).problems == []
        assert scattered(fresh, content, data[: SIZE // 2]) > 30


def test_sums_are_no_garbage(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """They take as much of a layer as the garbage that is worth a rewrite."""
    monkeypatch.setattr("vcs.collect.plan.WASTE_IGNORED", 0)
    keep(store, noise(1, SIZE))
    (layer,) = (store.path / "layers").glob("*.layer")
    assert collect(store, since=NOW).freed == 0
    assert layer.exists()


def test_repacked_layers_have_sums(store: Store) -> None:
    data = noise(1, SIZE)
    _, content = keep(store, data)
    collect(store, since=NOW, strategy=Repack())
    assert check(store).problems == []
    with Store.open(store.path) as fresh:
        assert scattered(fresh, content, data) == 40


def test_blocks_come_back_without_the_tables_of_their_layer(store: Store) -> None:
    data = noise(1, SIZE)
    _, content = keep(store, data, small=noise("small", 400_000))
    (layer,) = (store.path / "layers").glob("*.layer")
    raw = bytearray(layer.read_bytes())
    raw[int.from_bytes(raw[-56:-48], "little")] ^= 1
    write_over(layer, raw)
    store.close()
    assert repair(store.path).report.problems == []
    with Store.open(store.path) as fresh:
        assert check(fresh).problems == []
        assert BlobReader(fresh, content).read(0, SIZE) == data


def test_damaged_sums_are_noticed_by_a_check_and_mended(store: Store) -> None:
    """Nothing is read wrongly before: whole chunks have their digests."""
    data = noise(1, SIZE)
    _, content = keep(store, data)
    (layer,) = (store.path / "layers").glob("*.layer")
    raw = bytearray(layer.read_bytes())
    raw[int.from_bytes(raw[-56:-48], "little") - SUM] ^= 1
    write_over(layer, raw)
    with Store.open(store.path) as fresh:
        assert scattered(fresh, content, data) == 0
        assert [problem.kind for problem in check(fresh).problems] == ["layer"]
    store.close()
    assert repair(store.path).report.problems == []
    with Store.open(store.path) as fresh:
        assert check(fresh).problems == []
        assert scattered(fresh, content, data) == 40


def test_sums_that_were_never_those_of_the_bytes_are_noticed_by_a_check(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a layer that has its digest all the same."""
    with monkeypatch.context() as patch:
        patch.setattr("vcs.layers.writer.sums_of", lambda data, size: bytes(len(sums_of(data, size))))
        keep(store, noise(1, SIZE))
    assert [problem.kind for problem in check(store).problems] == ["layer"]
    store.close()
    assert repair(store.path).report.problems == []
    with Store.open(store.path) as fresh:
        assert check(fresh).problems == []


def write_over(layer: Path, raw: bytearray) -> None:
    layer.chmod(0o600)
    layer.write_bytes(raw)
