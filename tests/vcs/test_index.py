"""The index is derived: whatever happens to it, the layers give it back."""

import fcntl
import multiprocessing
import os
import resource
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from vcs import indexfile
from vcs.check import check_index
from vcs.encoding import digest
from vcs.errors import Corrupt, UnknownFormat
from vcs.index import Index
from vcs.layers.format import KIND_CHUNKS, SUFFIX
from vcs.layers.reader import LayerReader
from vcs.layers.writer import LayerWriter
from vcs.model import LayerId


def write_layer(layers: Path, *contents: bytes) -> LayerId:
    writer = LayerWriter(layers)
    for data in contents:
        writer.add(KIND_CHUNKS, digest(data), data)
    name, _ = writer.finish()
    return name


def read(index: Index, layers: Path, data: bytes) -> bytes | None:
    place = index.find(digest(data))
    if place is None:
        return None
    reader = LayerReader(layers / (index.layer_name(place.layer).hex() + SUFFIX))
    found = reader.block(place.block)[place.start : place.start + place.length]
    reader.close()
    return found


@pytest.fixture
def layers(tmp_path: Path) -> Path:
    path = tmp_path / "layers"
    path.mkdir()
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "index.db"


def test_it_finds_what_the_layers_hold(path: Path, layers: Path) -> None:
    index = Index(path, layers)
    assert index.is_empty()
    first = write_layer(layers, b"one", b"two")
    assert index.find(digest(b"one")) is None
    assert index.refresh()
    assert not index.refresh()
    second = write_layer(layers, b"three")
    assert index.refresh()
    for data in (b"one", b"two", b"three"):
        assert read(index, layers, data) == data
        assert digest(data) in index
    assert digest(b"four") not in index
    assert set(index.layers()) == {first, second}
    assert set(index.objects()) == {digest(data) for data in (b"one", b"two", b"three")}
    index.close()


def test_adding_a_layer_twice_changes_nothing(path: Path, layers: Path) -> None:
    index = Index(path, layers)
    name = write_layer(layers, b"one")
    reader = LayerReader(layers / (name.hex() + SUFFIX))
    for _ in range(2):
        index.add(name, reader.size, reader.footer().places())
    assert index.layers() == {name: reader.size}
    assert not index.refresh()
    reader.close()
    index.close()


def test_an_object_in_two_layers_is_found_in_one(path: Path, layers: Path) -> None:
    index = Index(path, layers)
    write_layer(layers, b"shared", b"a")
    write_layer(layers, b"shared", b"b")
    index.refresh()
    assert [read(index, layers, data) for data in (b"shared", b"a", b"b")] == [b"shared", b"a", b"b"]
    index.close()


def test_an_object_survives_the_removal_of_one_of_its_layers(path: Path, layers: Path) -> None:
    index = Index(path, layers)
    first = write_layer(layers, b"shared", b"a")
    index.refresh()
    write_layer(layers, b"shared", b"b")
    index.refresh()
    (layers / (first.hex() + SUFFIX)).unlink()
    assert index.refresh()
    assert read(index, layers, b"a") is None
    assert read(index, layers, b"b") == b"b"
    assert read(index, layers, b"shared") == b"shared"
    index.close()


@pytest.mark.parametrize("harm", ["deleted", "truncated", "garbage", "other version", "without its log"])
def test_a_lost_or_damaged_index_is_made_anew(path: Path, layers: Path, harm: str) -> None:
    write_layer(layers, b"one", b"two")
    Index(path, layers).close()
    match harm:
        case "deleted":
            path.unlink()
        case "truncated":
            path.write_bytes(path.read_bytes()[:5000])
        case "garbage":
            path.write_bytes(b"no database " * 1000)
        case "other version":
            with sqlite3.connect(path) as db:
                db.execute("PRAGMA user_version = 99")
        case "without its log":
            path.with_name("index.db-wal").unlink(missing_ok=True)
    index = Index(path, layers)
    assert read(index, layers, b"one") == b"one"
    assert read(index, layers, b"two") == b"two"
    index.close()


def test_an_index_from_before_a_crash_catches_up(path: Path, layers: Path) -> None:
    old = write_layer(layers, b"one")
    Index(path, layers).close()
    kept = path.read_bytes()
    write_layer(layers, b"two")
    Index(path, layers).close()
    path.write_bytes(kept)
    (layers / (old.hex() + SUFFIX)).unlink()
    index = Index(path, layers)
    assert read(index, layers, b"one") is None
    assert read(index, layers, b"two") == b"two"
    index.close()


def test_other_files_among_the_layers_are_no_layers(path: Path, layers: Path) -> None:
    (layers / "incoming-1234").write_bytes(b"half")
    (layers / "lost+found").mkdir()
    index = Index(path, layers)
    assert index.is_empty()
    index.close()


def test_a_layer_of_a_future_version_says_so(path: Path, layers: Path) -> None:
    name = write_layer(layers, b"one")
    file = layers / (name.hex() + SUFFIX)
    file.chmod(0o600)
    data = bytearray(file.read_bytes())
    data[8] = 2
    file.write_bytes(data)
    with pytest.raises(UnknownFormat, match="version 2"):
        Index(path, layers)


def test_a_damaged_layer_does_not_end_up_half_indexed(path: Path, layers: Path) -> None:
    good = write_layer(layers, b"good")
    name = write_layer(layers, b"one")
    file = layers / (name.hex() + SUFFIX)
    file.chmod(0o600)
    data = file.read_bytes()
    file.write_bytes(data[:-1])
    index = Index(path, layers)
    assert set(index.layers()) == {good}, "what is whole can be read"
    assert read(index, layers, b"good") == b"good"
    index.close()
    file.write_bytes(data)
    index = Index(path, layers)
    assert set(index.layers()) == {good, name}
    assert read(index, layers, b"one") == b"one"
    index.close()


def _harm(path: Path, table: str) -> None:
    """Make a table's first page one that SQLite cannot read."""
    with closing(sqlite3.connect(path)) as db:
        (page,) = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xff" * 100)


def test_an_index_that_cannot_be_read_is_made_anew(path: Path, layers: Path) -> None:
    write_layer(layers, b"one")
    Index(path, layers).close()
    _harm(path, "layers")
    index = Index(path, layers)
    assert read(index, layers, b"one") == b"one"
    index.close()


def test_an_index_whose_rows_cannot_be_read_says_so_until_it_is_rebuilt(path: Path, layers: Path) -> None:
    write_layer(layers, b"one")
    Index(path, layers).close()
    _harm(path, "objects")
    index = Index(path, layers)
    with pytest.raises(Corrupt, match="the index is damaged"):
        index.find(digest(b"one"))
    index.rebuild()
    assert read(index, layers, b"one") == b"one"
    index.close()


def test_a_rebuilt_index_has_every_row_as_the_footers_say(path: Path, layers: Path) -> None:
    names = [write_layer(layers, b"%d" % number, b"both") for number in range(5)]
    Index(path, layers).close()
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE objects SET start = 7 WHERE digest = ?", (digest(b"1"),))
        db.execute("DELETE FROM objects WHERE digest = ?", (digest(b"2"),))
        db.execute("UPDATE layers SET size = 1")
        db.execute("UPDATE sqlite_sequence SET seq = 2")
    assert len(check_index(path, layers)) == len(names) + 4  # sizes; the seal, the sequence, a row, one less
    other, index = Index(path, layers), Index(path, layers)
    index.rebuild()
    index.close()
    assert check_index(path, layers) == []
    assert [read(other, layers, b"%d" % number) for number in range(5)] == [b"%d" % number for number in range(5)]
    assert set(other.layers()) == set(names)
    other.close()


def test_a_byte_that_nobody_reads_is_noticed(path: Path, layers: Path) -> None:
    write_layer(layers, *(b"%d" % number for number in range(100)))
    Index(path, layers).close()
    data = path.read_bytes()
    for position in range(300, len(data), 997):
        path.write_bytes(data[:position] + bytes([data[position] ^ 4]) + data[position + 1 :])
        assert check_index(path, layers), position
    path.write_bytes(data)
    assert check_index(path, layers) == []


def test_the_seal_is_broken_while_others_write_and_after_a_kill(path: Path, layers: Path) -> None:
    write_layer(layers, b"one")
    index, other = Index(path, layers), Index(path, layers)
    index.close()
    assert check_index(path, layers, is_open=True) == []
    name = write_layer(layers, b"two")
    other.refresh()
    assert check_index(path, layers, is_open=True) == [], "not sealed, as after a kill"
    other.doom([name])
    other.close()
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA application_id").fetchone()[0]
    assert check_index(path, layers) == []


def test_an_index_that_there_is_no_memory_to_seal_is_closed(
    path: Path, layers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def seal_of(*_: object) -> int:
        raise MemoryError

    write_layer(layers, b"one")
    with monkeypatch.context() as patch:
        patch.setattr(indexfile, "seal_of", seal_of)
        Index(path, layers).close()
    with closing(sqlite3.connect(path, timeout=0)) as db:
        assert not db.execute("PRAGMA application_id").fetchone()[0], "not sealed"
        db.execute("BEGIN IMMEDIATE")  # nor locked
    assert check_index(path, layers) == []


def test_rebuilding_keeps_what_only_the_index_knows(path: Path, layers: Path) -> None:
    name = write_layer(layers, b"one")
    Index(path, layers).close()
    file = layers / (name.hex() + SUFFIX)
    file.chmod(0o600)
    file.write_bytes(file.read_bytes()[:-1])
    index = Index(path, layers)
    index.rebuild()
    place = index.find(digest(b"one"))
    assert place is not None
    assert index.layer_name(place.layer) == name
    index.close()


def test_damage_that_is_met_in_the_midst_of_rows_says_so_too(path: Path, layers: Path) -> None:
    """It came while the index was open, and what SQLite remembered of the page is out of date."""
    for number in range(300):
        write_layer(layers, b"%d" % number)
    index = Index(path, layers)
    with closing(sqlite3.connect(path)) as db:
        names = [name for (name,) in db.execute("SELECT name FROM layers ORDER BY id")]
        with db:
            db.execute("UPDATE layers SET size = size + 1 WHERE id = 1")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    data = path.read_bytes()
    leaves = [at for at in range(4096, len(data), 4096) if data[at] == 0x0D]  # of tables, in SQLite's format
    places = [next(at for at in leaves if name in data[at : at + 4096]) for name in names]
    border = next(number for number, at in enumerate(places, 1) if at != places[0])
    with path.open("r+b") as file:
        file.seek(places[border])
        file.write(b"\xff" * 100)
    with pytest.raises(Corrupt, match="the index is damaged"):
        index.layer_name(border - 5)
    index.rebuild()
    assert index.layer_name(border)
    index.close()


def _add_many(path: Path, layers: Path, start: int) -> None:
    index = Index(path, layers)
    for number in range(start, start + 20):
        name = write_layer(layers, b"%d" % number)
        reader = LayerReader(layers / (name.hex() + SUFFIX))
        index.add(name, reader.size, reader.footer().places())
        reader.close()
    index.close()


def test_processes_that_add_at_once_lose_nothing(path: Path, layers: Path) -> None:
    context = multiprocessing.get_context("fork")
    adders = [context.Process(target=_add_many, args=(path, layers, 100 * n)) for n in range(3)]
    for process in adders:
        process.start()
    for process in adders:
        process.join(60)
        assert process.exitcode == 0
    index = Index(path, layers)
    for start in (0, 100, 200):
        for number in range(start, start + 20):
            assert digest(b"%d" % number) in index
    index.close()


def _can_lock(path: Path) -> bool:
    """Whether another process may take the lock that SQLite's readers hold: the bytes that os_unix.c calls SHARED."""
    pid = os.fork()
    if not pid:
        with path.open("r+b") as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 510, 0x40000002)
                os._exit(0)
            except BaseException:
                os._exit(1)
    return not os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_reading_it_ahead_leaves_the_locks(path: Path, layers: Path) -> None:
    write_layer(layers, b"one")
    index = Index(path, layers)
    index.find(digest(b"one"))
    assert not _can_lock(path)
    index.warm()
    index.warm()
    assert not _can_lock(path)
    index.close()
    assert _can_lock(path)


def test_an_index_that_cannot_be_given_its_journal_is_none(
    path: Path, layers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else another opening would give it one, and break the seal that it got meanwhile."""
    real = indexfile._version
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def version(db: sqlite3.Connection) -> int:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        return real(db)

    monkeypatch.setattr(indexfile, "_version", version)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(sqlite3.OperationalError):
            Index(path, layers)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    for _ in range(2):
        Index(path, layers).close()
        assert check_index(path, layers) == []
