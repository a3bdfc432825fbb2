"""A store: made, opened, added to, read; every byte verified, every refusal one clear error."""

import os
import resource
import stat
from pathlib import Path

import pytest
from blake3 import blake3

from tests.support.values import Spec, root
from vcs.check import check
from vcs.errors import AlreadyExists, Corrupt, Missing, NotAStore, UnknownFormat
from vcs.history import Author
from vcs.leases import Lease, read_leases
from vcs.model import CommitId, LayerId, RootId
from vcs.snapshot import Snapshot
from vcs.store import Store, check_format

TESTER = Author("tester", "tester@localhost", 1_700_000_000, 60)


def commit(store: Store, spec: Spec, branch: str = "main") -> CommitId:
    with store.batch() as batch:
        name = root(batch, spec)
    old = store.history.target(f"refs/heads/{branch}")
    made = store.add_commit(name, {"config": {}}, "test\n", TESTER, (old,) if old else ())
    store.history.move(f"refs/heads/{branch}", made, old, "test", TESTER)
    return made


@pytest.fixture
def store(tmp_path: Path):  # type: ignore[no-untyped-def]
    with Store.create(tmp_path / "store") as made:
        yield made
        assert check(made).problems == []


def files(path: Path) -> set[Path]:
    return set((path / "layers").iterdir())


def dispose(store: Store, layers: list[LayerId]) -> None:
    for layer in layers:
        store.layer_path(layer).unlink()


# -- making and opening


def test_a_new_store_is_private_and_empty(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    with Store.create(path) as store:
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        assert (store.branches(), store.tags(), store.commit_ids()) == ({}, {}, [])
    assert (path / "format").read_text() == "treering store 1\n"
    check_format(path)


def test_an_empty_directory_can_become_a_store_and_another_cannot(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir(mode=0o755)
    Store.create(tmp_path / "empty").close()
    assert stat.S_IMODE((tmp_path / "empty").stat().st_mode) == 0o700
    with pytest.raises(AlreadyExists, match="is a store already"):
        Store.create(tmp_path / "empty")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").touch()
    with pytest.raises(AlreadyExists, match="not empty"):
        Store.create(tmp_path / "full")
    assert os.listdir(tmp_path / "full") == ["thesis.txt"]


def test_a_store_whose_making_was_interrupted_can_be_made_again(tmp_path: Path) -> None:
    path = tmp_path / "store"
    Store.create(path).close()
    for name in os.listdir(path):  # the format file is written last, the index when the store is first opened
        if name.startswith("index.db") or name == "format":
            (path / name).unlink()
    with pytest.raises(NotAStore):
        Store.open(path)
    with Store.create(path) as store:
        commit(store, {"a": b"1"})
        assert check(store).problems == []


@pytest.mark.parametrize(
    "line", ["", "treering store\n", "treering store x\n", "treering store 1 2\n", "\xff\0", "git"]
)
def test_a_format_file_that_is_not_ours(tmp_path: Path, line: str) -> None:
    (tmp_path / "format").write_text(line)
    with pytest.raises(NotAStore, match="not one of ours"):
        Store.open(tmp_path)


def test_a_format_of_the_future_is_refused_by_its_number(tmp_path: Path) -> None:
    (tmp_path / "format").write_text("treering store 2\n")
    with pytest.raises(UnknownFormat, match="has format 2; this program knows format 1") as caught:
        Store.open(tmp_path)
    assert caught.value.facts["found"] == "2"


# -- adding and reading


def test_a_batch_is_one_layer_and_all_of_it_can_be_read(store: Store) -> None:
    with store.batch() as batch:
        name = root(batch, {"a": b"1", "d": {"b": b"2" * 5000}})
    assert len(files(store.path)) == 1
    assert batch.layer is not None
    assert store.layer_path(batch.layer).stat().st_size == batch.added
    assert batch.objects == 5
    snapshot = store.snapshot(name)
    assert snapshot.read(snapshot.lookup(b"d/b").content) == b"2" * 5000  # type: ignore[arg-type]


def test_what_is_there_is_not_written_again(store: Store) -> None:
    spec: Spec = {f"f{n}": b"%d" % n * 100 for n in range(500)}
    with store.batch() as first:
        name = root(first, spec)
    with store.batch() as second:
        assert root(second, spec) == name
    assert (second.objects, second.layer, second.added) == (0, None, 0)
    with store.batch() as third:
        root(third, {**spec, "f7": b"changed"})
    assert third.objects <= 5
    assert third.added < first.added / 5
    assert len(files(store.path)) == 2


def test_a_batch_that_fails_leaves_nothing(store: Store) -> None:
    def failing() -> None:
        with store.batch() as batch:
            for number in range(2000):
                batch.put_chunk(os.urandom(2000) + b"%d" % number)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        failing()
    assert not files(store.path)
    assert store.index.is_empty()


def test_two_batches_at_once_may_write_the_same(store: Store, tmp_path: Path) -> None:
    with Store.open(store.path) as other, store.batch() as one, other.batch() as two:
        assert root(one, {"a": b"1", "b": b"2"}) == root(two, {"a": b"1", "b": b"2"})
        root(two, {"c": b"3"})
    assert len(files(store.path)) == 2
    commit(store, {"a": b"1", "b": b"2"})


def test_two_batches_at_once_may_write_the_very_same_layer(store: Store) -> None:
    with Store.open(store.path) as other:
        with store.batch() as one, other.batch() as two:
            name = root(one, {"a": b"1"})
            assert root(two, {"a": b"1"}) == name
        assert one.layer == two.layer
        for opened in (store, other):
            assert Snapshot(opened, name).find(b"a")


def test_an_open_store_sees_what_another_process_adds(store: Store) -> None:
    with Store.open(store.path) as other:
        made = commit(other, {"a": b"1"})
        assert store.snapshot_of(made).find(b"a")
        assert store.branches() == {"main": made}


def test_an_object_that_is_nowhere_is_missing(store: Store) -> None:
    with pytest.raises(Missing) as caught:
        store.get(bytes(32))
    assert caught.value.facts == {"digest": "00" * 32}
    assert bytes(32) not in store


def test_damage_is_found_at_every_read(tmp_path: Path) -> None:
    with Store.create(tmp_path / "store") as store:
        with store.batch() as batch:
            name = batch.put_chunk(os.urandom(300_000))
        assert batch.layer is not None
        path = store.layer_path(batch.layer)
        path.chmod(0o600)
        data = bytearray(path.read_bytes())
        data[1000] ^= 1
        path.write_bytes(data)
        for _ in range(2):
            with pytest.raises(Corrupt) as caught:
                store.get(name)
            assert caught.value.facts == {"digest": name.hex(), "layer": batch.layer.hex()}
        data[1000] ^= 1
        path.write_bytes(data)
        assert blake3(store.get(name)).digest() == name


def test_an_object_whose_layer_is_gone_is_missing(tmp_path: Path) -> None:
    with Store.create(tmp_path / "store") as store:
        with store.batch() as batch:
            name = batch.put_chunk(b"here")
        assert batch.layer is not None
        with Store.open(store.path) as other:
            store.layer_path(batch.layer).unlink()
            with pytest.raises(Missing) as caught:
                other.get(name)
            assert caught.value.facts["digest"] == name.hex()


def test_an_object_that_moved_to_another_layer_is_found(tmp_path: Path) -> None:
    with Store.create(tmp_path / "store") as store:
        with store.batch() as batch:
            name = batch.put_chunk(b"here")
        assert batch.layer is not None
        with Store.open(store.path) as other:
            store.index.doom([batch.layer])
            with store.batch() as again:
                assert again.put_chunk(b"here") == name
                again.put_chunk(b"and more")
            assert again.layer is not None
            store.index.remove_doomed(lambda names: dispose(store, names))
            assert other.get(name) == b"here"


def test_a_doomed_layer_that_is_written_again_is_not_removed(tmp_path: Path) -> None:
    with Store.create(tmp_path / "store") as store:
        layers = []
        for _ in range(2):
            with store.batch() as batch:
                name = batch.put_chunk(b"the same bytes make the same layer")
            assert batch.layer is not None
            layers.append(batch.layer)
            if not layers[1:]:
                store.index.doom([batch.layer])
        assert layers[0] == layers[1]
        store.index.remove_doomed(lambda names: dispose(store, names))
        assert store.get(name)


def test_what_a_writer_found_is_leased(tmp_path: Path) -> None:
    with Store.create(tmp_path / "store") as store:
        with store.batch() as batch:
            batch.put_chunk(b"here")
        assert batch.layer is not None
        with store.writing():
            with store.batch() as again:
                again.put_chunk(b"here")
            assert again.layer is None
            assert read_leases(store.leases).layers == {batch.layer}
        assert read_leases(store.leases).layers == set()


def test_nothing_keeps_descriptors_or_locks_after_closing(tmp_path: Path) -> None:
    before = set(os.listdir("/proc/self/fd"))
    with Store.create(tmp_path / "store") as store:
        made = commit(store, {"a": b"1"})
        store.snapshot_of(made).lookup(b"a")
    assert set(os.listdir("/proc/self/fd")) == before


def test_a_commit_of_an_unchanged_root_writes_no_layer(store: Store) -> None:
    commit(store, {"a": b"1"})
    before = files(store.path)
    second = commit(store, {"a": b"1"})
    assert files(store.path) == before
    assert len(store.commit_ids()) == 2
    assert store.commit_ids()[0] == second


def test_the_source_names_commits_as_git_does(store: Store) -> None:
    first = commit(store, {"a": b"1"})
    second = commit(store, {"a": b"2"})
    store.history.tag("v1", first, None, TESTER)
    store.history.tag("v2", second, "annotated", TESTER)
    assert store.tags() == {"v1": first, "v2": second}
    assert store.branches() == {"main": second}
    assert store.commit_ids() == [second, first]
    assert store.commit(second).parents == (first,)
    assert isinstance(RootId(store.commit(first).root), bytes)


def test_a_lease_that_is_written_half_is_no_lease(tmp_path: Path) -> None:
    """A disk that fills up takes what it has room for, and says so by a number only."""
    lease = Lease(tmp_path)
    lease.commit(CommitId("1" * 40))
    (path,) = tmp_path.iterdir()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 20, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            lease.commit(CommitId("2" * 40))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        lease.close()
