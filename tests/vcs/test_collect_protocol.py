"""What others do between the steps of a collection: each test stops it at the worst place.

Every test here was seen to fail with the mechanism that it is about taken out.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.collecting import NOW, author, commit, files, git_fsck, is_readable, noise, write
from tests.support.values import root
from vcs.check import check_index
from vcs.collect import Collection, collect
from vcs.errors import NoSpace, NotFound
from vcs.model import CommitId, LayerId, RootId
from vcs.store import Store

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def store(tmp_path: Path, store: Store) -> Iterator[Store]:
    yield store
    with Store.open(tmp_path / "store") as again:
        assert git_fsck(again) == ""


@pytest.fixture
def other(store: Store) -> Iterator[Store]:
    """The store as another process has it open."""
    with Store.open(store.path) as opened:
        yield opened


@pytest.fixture
def collection(store: Store) -> Iterator[Collection]:
    """Begun, with everything that was there looked at."""
    commit(store, {"kept": noise("kept")})
    made = Collection(store, NOW)
    yield made
    made.close()


SHARED = noise("shared")
"""What is garbage when the collection begins, and is needed again by whoever writes meanwhile."""


@pytest.fixture
def garbage(store: Store) -> LayerId:
    """A layer in which nothing is needed."""
    with store.batch() as batch:
        batch.put_chunk(SHARED)
        batch.put_chunk(noise("never wanted again"))
    assert batch.layer is not None
    return batch.layer


def dead(collection: Collection) -> list[LayerId]:
    return [use.name for use in collection.plan().dead]


def begin(collection: Collection) -> list[LayerId]:
    """The steps before the first layer is doomed."""
    collection.tidy()
    collection.mark()
    return dead(collection)


@pytest.fixture
def soon_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few commits are packed already."""
    monkeypatch.setattr("vcs.packing._LOOSE_KEPT", 10)


def adopt(store: Store, name: RootId, ref: str = "refs/heads/late") -> CommitId:
    made = store.add_commit(name, {}, "late\n", author())
    store.history.move(ref, made, None, "late", author())
    return made


# -- a writer that finds what is about to go


def test_found_before_the_layer_is_doomed(store: Store, other: Store, garbage: LayerId, collection: Collection) -> None:
    layers = begin(collection)
    assert layers == [garbage]
    with other.writing():
        with other.batch() as batch:
            name = root(batch, {"f": SHARED})  # found, and so not written
        leased = collection.doom(layers)
        assert leased == {garbage, batch.layer}
        collection.copy([])
        collection.finish()
        adopt(other, name)
    assert is_readable(store, name)
    assert store.layer_path(garbage).exists()


def test_found_after_the_layer_was_doomed(store: Store, other: Store, garbage: LayerId, collection: Collection) -> None:
    layers = begin(collection)
    collection.doom(layers)
    with other.writing():
        with other.batch() as batch:
            name = root(batch, {"f": SHARED})  # not counted on: written again
        collection.copy(layers)
        collection.finish()
        assert not store.layer_path(garbage).exists()
        adopt(other, name)
    assert is_readable(store, name)


def test_found_before_and_committed_before_the_leases_are_read(
    store: Store, other: Store, garbage: LayerId, collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lease is gone when the collection looks, and the ref was not there when it looked: only the last look sees
    it, under the lock."""
    layers = begin(collection)
    with other.writing():
        with other.batch() as batch:
            name = root(batch, {"f": SHARED})
        marks = collection.mark

        def marked_just_before() -> object:
            with monkeypatch.context() as patch:
                patch.setattr(collection._packing, "refs", dict)
                adopt(other, name)
                other._lease.close()  # type: ignore[union-attr]
                return marks()

        monkeypatch.setattr(collection, "mark", marked_just_before)
        assert collection.doom(layers) == set()
        monkeypatch.setattr(collection, "mark", marks)
    collection.copy(layers)
    collection.finish()
    assert is_readable(store, name)


def test_a_branch_that_appears_between_copying_and_removing(store: Store, other: Store, collection: Collection) -> None:
    name = write(store, {"f": noise("garbage until now")})
    collection = Collection(store, NOW)
    layers = begin(collection)
    collection.doom(layers)
    collection.copy(layers)
    adopt(other, name)
    assert collection.finish() == set()
    collection.close()
    assert is_readable(store, name)


def test_a_branch_that_appears_just_before_the_lock(
    store: Store, other: Store, garbage: LayerId, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = write(store, {"f": SHARED})
    collection = Collection(store, NOW)
    layers = begin(collection)
    collection.doom(layers)
    collection.copy(layers)
    marks, calls = collection.mark, 0

    def mark() -> object:
        nonlocal calls
        calls += 1
        if calls == 1:  # that without the lock
            leases = marks()
            adopt(other, name)
            return leases
        return marks()

    monkeypatch.setattr(collection, "mark", mark)
    assert garbage not in collection.finish()
    assert calls == 2
    collection.close()
    assert is_readable(store, name)


def test_a_commit_that_is_written_and_not_named_yet(store: Store, other: Store) -> None:
    with other.writing():
        name = write(other, {"f": noise("f")})
        made = other.add_commit(name, {}, "slow\n", author())
        collect(store, since=NOW)
        other.history.move("refs/heads/slow", made, None, "slow", author())
    assert is_readable(store, name)
    assert store.history.resolve("slow") == made


@pytest.mark.usefixtures("soon_packed")
def test_a_commit_that_is_found_though_a_collection_has_just_removed_it(store: Store, other: Store) -> None:
    """libgit2 does not write what it believes to be there, and here it has read it before."""
    name = write(store, {"f": noise("f")})
    who = author()
    made = other.add_commit(name, {"config": {"Env": ["A=1"]}}, "same\n", who)
    for number in range(10):
        commit(store, {"n": b"%d" % number})
    other.history.move("refs/heads/same", made, None, "same", who)
    collect(store, since=NOW)
    assert other.history.config(made) == {"config": {"Env": ["A=1"]}}  # out of the pack, which stays open
    other.history.delete("refs/heads/same")
    collect(store, since=NOW)
    with pytest.raises(NotFound, match="not there any more"):
        other.history.move("refs/heads/same", made, None, "same", who)
    with other.writing():
        with other.batch() as batch:
            assert root(batch, {"f": noise("f")}) == name
        assert other.add_commit(name, {"config": {"Env": ["A=1"]}}, "same\n", who) == made
        other.history.move("refs/heads/same", made, None, "same", who)
    with Store.open(store.path) as fresh:
        assert fresh.history.config(made) == {"config": {"Env": ["A=1"]}}


# -- a layer that is written again


def test_a_layer_that_is_written_again_while_it_is_doomed(store: Store, other: Store, collection: Collection) -> None:
    with store.batch() as batch:
        name = root(batch, {"f": SHARED})
    collection = Collection(store, NOW)
    layers = begin(collection)
    assert batch.layer in layers
    collection.doom(layers)
    with other.writing():
        with other.batch() as again:
            assert root(again, {"f": SHARED}) == name
        assert again.layer == batch.layer
        collection.copy(layers)
        assert batch.layer not in collection.finish()
        adopt(other, name)
    collection.close()
    assert is_readable(store, name)


def test_sparing_one_layer_dooms_no_other_again(store: Store, other: Store) -> None:
    """A layer that was written again after it was doomed stays, whatever else is spared."""
    with store.batch() as one:
        first = root(one, {"f": noise("one")})
    with store.batch() as two:
        second = root(two, {"f": noise("two")})
    assert one.layer
    assert two.layer
    store.index.doom([one.layer, two.layer])
    with other.batch() as again:
        assert root(again, {"f": noise("one")}) == first
    store.index.spare([two.layer])
    assert store.index.remove_doomed(lambda names: None) == ([], 0)
    adopt(store, first)
    adopt(store, second, "refs/heads/second")


def test_a_layer_that_is_written_again_while_another_is_spared(store: Store, other: Store, garbage: LayerId) -> None:
    with store.batch() as batch:
        name = root(batch, {"f": noise("f")})
    again: list[LayerId | None] = []

    def write_again() -> list[RootId]:  # asked after the leases were read
        if not again:
            with Store.open(store.path) as writer, writer.batch() as anew:
                root(anew, {"f": noise("f")})
            again.append(anew.layer)
        return []

    collection = Collection(store, NOW)
    layers = begin(collection)
    collection._roots = write_again
    with other.writing() as lease:
        lease.layer(garbage)
        assert collection.doom(layers) == {garbage}
    assert again == [batch.layer]
    collection.copy(layers)
    assert collection.finish() == set()
    collection.close()
    adopt(store, name)
    assert is_readable(store, name)


# -- the history


@pytest.mark.usefixtures("soon_packed")
def test_a_commit_that_was_found_again_after_the_others_were_packed(store: Store, other: Store) -> None:
    """It lies in an old pack only, and that pack would go."""
    name = write(store, {"f": noise("f")})
    with store.writing():
        made = store.add_commit(name, {}, "old\n", author())
        for number in range(10):
            commit(store, {"n": b"%d" % number})
        collect(store, since=NOW)
    collection = Collection(store, NOW)
    layers = begin(collection)
    collection._packing.pack()
    collection.doom(layers)
    collection.copy(layers)
    other.history.move("refs/heads/again", made, None, "again", author())
    collection.finish()
    collection.close()
    assert is_readable(store, name)
    assert git_fsck(store) == ""


# -- the cache of an import


def use_cache(store: Store, name: RootId) -> bool:
    """As an import does: open, note the root, look whether the file is still there."""
    path = store.caches / "import-x"
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return False
    with file, store.writing() as lease:
        lease.root(name)
        return os.fstat(file.fileno()).st_nlink > 0


def test_a_cache_is_gone_before_what_it_names(store: Store, other: Store, collection: Collection) -> None:
    name = write(store, {"f": noise("f")})
    (store.caches / "import-x").write_bytes(name.hex().encode() + b"\n")
    collection = Collection(store, NOW)
    layers = begin(collection)
    assert not use_cache(other, name)
    collection.doom(layers)
    collection.copy(layers)
    assert collection.finish() == set(layers)
    collection.close()


def test_a_cache_that_is_in_use_when_it_is_deleted_keeps_its_root(store: Store, other: Store) -> None:
    name = write(store, {"f": noise("f")})
    (store.caches / "import-x").write_bytes(name.hex().encode() + b"\n")
    with other.writing():
        assert use_cache(other, name)
        collect(store, since=NOW)
        adopt(other, name)
    assert is_readable(store, name)


def test_a_cache_that_is_found_after_the_leases_were_read_does_not_count(store: Store, other: Store) -> None:
    name = write(store, {"f": noise("f")})
    (store.caches / "import-x").write_bytes(name.hex().encode() + b"\n")
    used: list[bool] = []
    with other.writing():
        collect(store, since=NOW, roots=lambda: used.append(use_cache(other, name)) or [])
    assert used
    assert not any(used)


def test_a_cache_that_appears_meanwhile_goes_before_what_it_names(store: Store, other: Store) -> None:
    """An import has begun before the layers were doomed, ended, and its branch was deleted, all within a collection."""
    name = write(store, {"f": noise("f")})
    collection = Collection(store, NOW)
    layers = begin(collection)
    collection.doom(layers)
    collection.copy(layers)
    (other.caches / "import-x").write_bytes(name.hex().encode() + b"\n")
    collection.finish()
    collection.close()
    assert not use_cache(other, name)


# -- readers


def test_a_reader_with_a_removed_layer_open_finds_what_was_moved(store: Store, other: Store) -> None:
    for number in range(40):
        commit(store, {"f": noise(number), "g": noise("same")}, f"refs/heads/b{number % 2}")
    roots = [other.commit(made).root for made in other.history.commit_ids()]
    kept = {other.commit(info.id).root for info in other.history.log([other.history.resolve("b0")])}
    for name in roots:
        other.snapshot(name)
    store.history.delete("refs/heads/b1")
    assert collect(store, since=NOW).layers == 40
    for name in kept:
        snapshot = other.snapshot(name)
        assert snapshot.read(snapshot.lookup(b"g").content) == noise("same")  # type: ignore[arg-type]
    assert other.branches()
    assert [info.id for info in other.history.log([other.history.resolve("b0")])]


def test_a_reader_gives_removed_layers_back_when_it_opens_another(store: Store, other: Store) -> None:
    other.snapshot(other.commit(commit(store, {"f": b"little"})).root)
    assert not _open_layers(store), "a small layer is read whole"
    for number in range(40):
        other.snapshot(other.commit(commit(store, {"f": noise(number, 20_000)})).root)
    assert len(_open_layers(store)) == 40
    with Store.open(store.path) as third:
        collect(third, since=NOW)
    assert [path.endswith(" (deleted)") for path in _open_layers(store)] == [True] * 40
    last = commit(store, {"f": noise("last", 20_000)})
    other.snapshot(other.commit(last).root)
    (path,) = _open_layers(store)
    assert path.endswith(".layer")


def _open_layers(store: Store) -> list[str]:
    """What this process has open in the directory of layers."""
    targets = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            targets.append(os.readlink(f"/proc/self/fd/{name}"))
    return [target for target in targets if target.startswith(f"{store.path}/layers/")]


@pytest.mark.usefixtures("soon_packed")
def test_a_history_open_in_another_process_finds_what_was_packed(store: Store) -> None:
    commits = [commit(store, {"f": b"%d" % number}) for number in range(20)]
    commit(store, {"f": b"other"}, "refs/heads/lost")
    code = """
import sys
from pathlib import Path
from vcs.store import Store
store = Store.open(Path(sys.argv[1]))
print(len(store.commit_ids()), flush=True)
while line := sys.stdin.readline():
    ids = store.commit_ids()
    whole = sum(bool(store.history.config(one)) and store.commit(one).message == "test\\n" for one in ids)
    print(len(ids), whole, flush=True)
"""
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", code, str(store.path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=PROJECT, env={"PYTHONPATH": str(PROJECT)},
    )  # fmt: skip
    with process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == "21\n"
        store.history.delete("refs/heads/lost")
        for number in (20, 30, 31):
            collect(store, since=NOW)
            assert not list((store.path / "history.git/objects").glob("??/*")) or number == 31
            print(file=process.stdin, flush=True)
            assert process.stdout.readline() == f"{number} {number}\n"
            for more in range(10 if number == 20 else 1):
                commits.append(commit(store, {"f": b"%d %d" % (number, more)}))
    assert store.history.log([commits[-1]])


def test_a_collection_that_fails_leaves_nothing_doomed(store: Store, garbage: LayerId) -> None:
    commit(store, {"kept": noise("kept")})
    store.index.doom([garbage])
    before = files(store)
    with pytest.raises(KeyboardInterrupt):
        collect(store, since=NOW, roots=_fails_at(3))
    assert files(store) == before
    assert not list(store.index.doomed_objects())


def _fails_at(call: int):  # type: ignore[no-untyped-def]
    calls = 0

    def roots() -> list[RootId]:
        nonlocal calls
        calls += 1
        if calls == call:
            raise KeyboardInterrupt
        return []

    return roots


def test_layers_that_the_index_cannot_forget_are_there_again(
    store: Store, garbage: LayerId, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full when their files have left, and the index is to be written."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    to_trash, close = Collection._to_trash, Collection.close

    def filled(self: Collection, names: list[LayerId]) -> None:
        to_trash(self, names)
        resource.setrlimit(resource.RLIMIT_FSIZE, ((store.path / "index.db-wal").stat().st_size, limits[1]))

    def freed(self: Collection) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        close(self)

    with monkeypatch.context() as patch:
        patch.setattr(Collection, "_to_trash", filled)
        patch.setattr(Collection, "close", freed)
        with pytest.raises(NoSpace, match="garbage cannot be collected"):
            collect(store, since=NOW)
    assert garbage in store.index.layers()
    assert check_index(store.path / "index.db", store.path / "layers", is_open=True) == []
    assert collect(store, since=NOW).layers == 1


def test_layers_that_cannot_be_moved_away_are_there_again(
    store: Store, garbage: LayerId, monkeypatch: pytest.MonkeyPatch
) -> None:
    to_trash = Collection._to_trash

    def failing(self: Collection, names: list[LayerId]) -> None:
        to_trash(self, names)
        raise OSError(errno.EIO, "the disk fails")

    with monkeypatch.context() as patch:
        patch.setattr(Collection, "_to_trash", failing)
        with pytest.raises(OSError, match="the disk fails"):
            collect(store, since=NOW)
    assert garbage in store.index.layers()
    assert check_index(store.path / "index.db", store.path / "layers", is_open=True) == []
    assert collect(store, since=NOW).layers == 1


# -- beside another collection


@pytest.mark.usefixtures("garbage")
def test_a_forecast_takes_no_layer_for_damaged_that_another_collection_removes(store: Store, other: Store) -> None:
    commit(store, {"kept": noise("kept")})
    forecast = Collection(store, NOW, dry_run=True)
    collect(other, since=NOW)
    assert forecast.forecast().problems == ()
    forecast.close()
