"""Reading objects: the cache of blocks changes what it costs and never what is read."""

import contextlib
import os
import random
import time
import tracemalloc
from pathlib import Path

import pytest

from benchmarks.residency import resident
from tests.support.scarcity import no_threads
from vcs.ahead import Ahead
from vcs.encoding import digest
from vcs.errors import Corrupt
from vcs.store import Store


@pytest.fixture
def written(tmp_path: Path) -> tuple[Path, dict[bytes, bytes]]:
    """A store of a few layers whose objects partly lie in blocks together."""
    chance = random.Random(7)
    found = {}
    with Store.create(tmp_path / "store") as store:
        for _ in range(4):
            with store.batch() as batch:
                for _ in range(60):
                    data = chance.randbytes(chance.choice((50, 3_000, 200_000)))
                    found[batch.put_chunk(data)] = data
                    found[batch.put_tree(data[:40])] = data[:40]
    return tmp_path / "store", found


@pytest.mark.parametrize("read_ahead", [False, True])
@pytest.mark.parametrize("cache_bytes", [0, 1 << 20, 1 << 30])
def test_any_order_reads_the_same(written: tuple[Path, dict[bytes, bytes]], cache_bytes: int, read_ahead: bool) -> None:
    path, expected = written
    shuffled = list(expected)
    random.Random(1).shuffle(shuffled)
    with Store.open(path, cache_bytes, read_ahead) as store:
        for order in (list(expected), list(reversed(expected)), shuffled):
            for name in order:
                assert store.get(name) == expected[name]


def test_a_chunk_that_is_damaged_in_a_block_that_was_read_ahead_is_noticed(tmp_path: Path) -> None:
    """Whoever digests it: who asks is told of the one that is damaged, and gets the others."""
    chance = random.Random(3)
    chunks = [chance.randbytes(size) for size in (250_000, 60_000, 70_000, 1_000, 80_000, 90_000)]
    with Store.create(tmp_path / "store") as store:
        with store.batch() as batch:
            names = [batch.put_chunk(data) for data in chunks]
        places = [store.index.find(name) for name in names]
        assert len({place.block for place in places[1:] if place}) == 1, "they share a block"
    (layer,) = (tmp_path / "store/layers").iterdir()
    raw = bytearray(layer.read_bytes())
    raw[raw.index(chunks[2]) + 69_999] ^= 1
    layer.chmod(0o600)
    layer.write_bytes(raw)
    with Store.open(tmp_path / "store", read_ahead=True) as store:
        store.expect(names)
        for name, data in zip(names, chunks, strict=True):
            if name == names[2]:
                with pytest.raises(Corrupt, match="is damaged"):
                    store.get(name)
            else:
                assert store.get(name) == data


def test_without_threads_nothing_is_read_ahead_and_all_is_read(written: tuple[Path, dict[bytes, bytes]]) -> None:
    path, expected = written
    with no_threads(), Store.open(path, read_ahead=True) as store:
        store.expect(expected)
        for name, data in expected.items():
            assert store.get(name) == data


def test_objects_are_together_once_their_block_was_read(tmp_path: Path) -> None:
    with Store.create(tmp_path / "store") as store, store.batch() as batch:
        one, two, other = (batch.put_tree(b"%100d" % number) for number in range(3))
        chunk = batch.put_chunk(b"%100d" % 3)
    with Store.open(tmp_path / "store") as store:
        assert not store.are_together(one, two), "nothing was read yet"
        store.get(other)
        assert store.are_together(one, two)
        store.get(chunk)
        assert not store.are_together(one, chunk), "chunks and trees lie in blocks of their own"
        assert not store.are_together(one, b"")
        assert not store.are_together(b"", one)


def test_the_cache_is_bounded(written: tuple[Path, dict[bytes, bytes]]) -> None:
    path, expected = written
    with Store.open(path, cache_bytes=1 << 20) as store:
        for name in expected:
            store.get(name)
        cached = store._objects._blocks.values()
        assert sum(block.size for block in cached) == store._objects._cached <= 1 << 20
        assert len(store._objects._near) == sum(len(block.digests) for block in cached)


def test_where_many_small_objects_are_counts_too(tmp_path: Path) -> None:
    """In memory that takes several times as much as they do."""
    with Store.create(tmp_path / "store") as store, store.batch() as batch:
        names = [batch.put_tree(b"%100d" % number) for number in range(20_000)]
    with Store.open(tmp_path / "store", cache_bytes=1 << 20) as store:
        tracemalloc.start()
        for name in names:
            store.get(name)
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert held < 2 << 20


def test_more_layers_than_descriptors_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vcs.objects._READERS_KEPT", 3)
    names = []
    with Store.create(tmp_path / "store") as store:
        for number in range(10):
            with store.batch() as batch:
                names.append(batch.put_chunk(b"%d" % number))
    before = len(os.listdir("/proc/self/fd"))
    with Store.open(tmp_path / "store", cache_bytes=0, read_ahead=True) as store:
        for _ in range(3):
            for number, name in enumerate(names):
                assert store.get(name) == b"%d" % number
        assert len(store._objects._readers) <= 3
    assert len(os.listdir("/proc/self/fd")) == before


def test_damage_in_a_block_that_was_cached_is_read_anew_after_repair(tmp_path: Path) -> None:
    with Store.create(tmp_path / "store") as store:
        with store.batch() as batch:
            names = [batch.put_chunk(os.urandom(1000)) for _ in range(50)]
        assert batch.layer is not None
        layer = store.layer_path(batch.layer)
        layer.chmod(0o600)
        good = layer.read_bytes()
        layer.write_bytes(good[:20_000] + bytes([good[20_000] ^ 1]) + good[20_001:])
        damaged = 0
        for name in names:
            try:
                assert digest(store.get(name)) == name
            except Corrupt:
                damaged += 1
        assert damaged == 1  # the others in the block are whole, and are served
        layer.write_bytes(good)
        with contextlib.suppress(Corrupt):  # the block may still be cached as it was, and is dropped by this
            for name in names:
                store.get(name)
        for name in names:
            assert digest(store.get(name)) == name


def _drop(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


def test_tables_that_are_on_the_disk_are_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store.create(tmp_path / "store") as store, store.batch() as batch:
        names = [batch.put_chunk(b"%d" % number) for number in range(20_000)]
    index = tmp_path / "store" / "index.db"
    _drop(index)
    if resident(index):
        pytest.skip("the temporary directory is on a file system that keeps its pages")
    with Store.open(tmp_path / "store", read_ahead=True) as store:
        assert store.get(names[0]) == b"0"
        (layer,) = (tmp_path / "store" / "layers").iterdir()
        _drop(index), _drop(layer)
        monkeypatch.setattr("vcs.objects._DISK_SECONDS", 0)  # as if the next look-up took as long as a disk
        monkeypatch.setattr(store._objects, "_warm_again", 0.0)
        store._objects._find(names[1])
        tables = 20_000 * 36  # digests and lengths
        deadline = time.monotonic() + 30
        while resident(index) < index.stat().st_size or resident(layer) < tables:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_reading_tables_whole_is_not_repeated_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store.create(tmp_path / "store") as store:
        with store.batch() as batch:
            name = batch.put_chunk(b"one")
        warmed = []
        monkeypatch.setattr(store._index, "warm", lambda: warmed.append(1))
        monkeypatch.setattr("vcs.objects._DISK_SECONDS", -1)
        monkeypatch.setattr("vcs.objects._WARMING_PAUSE", 1e12)
        for _ in range(3):
            assert store._objects._find(name) is not None
        assert warmed == [1]


def test_a_thread_that_reads_ahead_verifies_what_it_can(
    written: tuple[Path, dict[bytes, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large objects, which have a block for themselves; the first is left to who asks for it."""
    path, expected = written
    large = [name for name, data in expected.items() if len(data) == 200_000]
    seen = []
    monkeypatch.setattr("vcs.objects.digest_of", lambda data: seen.append(len(data)) or digest(data))
    with Store.open(path, 1 << 30, read_ahead=True) as store:
        store.expect(large[:6])
        for name in large[:6]:
            assert store.get(name) == expected[name]
        assert seen == [200_000]


def _held(ahead: Ahead) -> int:
    return sum(coming.size for coming in ahead._coming.values())


def test_what_was_read_ahead_and_nobody_asks_for_is_dropped_by_its_bytes(
    written: tuple[Path, dict[bytes, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader who stops, one after the other: nothing grows, and all can be read afterwards."""
    path, expected = written
    large = [name for name, data in expected.items() if len(data) == 200_000]
    monkeypatch.setattr("vcs.ahead._WAITING_MOST", 1_000_000)
    with Store.open(path, 1 << 20, read_ahead=True) as store:
        ahead = store._objects._ahead
        assert ahead is not None
        for start in range(0, len(large) - 3, 3):
            store.expect(large[start : start + 3])
            ahead.settle()
        store.expect(large[-2:])
        assert len(large) > 10
        assert _held(ahead) == ahead._waiting <= 1_000_000 + 400_000
        for name in large:
            assert store.get(name) == expected[name]
        assert _held(ahead) == ahead._waiting


def test_what_a_thread_read_and_is_not_what_it_should_be_is_refused(tmp_path: Path) -> None:
    """Two objects that do not compress, exchanged: each block can be read, and holds the other one."""
    chance = random.Random(3)
    datas = [chance.randbytes(300_000) for _ in range(3)]
    with Store.create(tmp_path / "store") as store, store.batch() as batch:
        first, one, two = map(batch.put_chunk, datas)
    (layer,) = (tmp_path / "store" / "layers").glob("*.layer")
    content = layer.read_bytes()
    assert content.count(datas[1]) == content.count(datas[2]) == 1
    layer.write_bytes(
        content.replace(datas[1], b"\0" * 300_000).replace(datas[2], datas[1]).replace(b"\0" * 300_000, datas[2])
    )
    with Store.open(tmp_path / "store", read_ahead=True) as store:
        store.expect([first, one, two])
        assert store.get(first) == datas[0]
        for name in (one, two):
            with pytest.raises(Corrupt, match=f"object {name.hex()} in layer .* is damaged"):
                store.get(name)
