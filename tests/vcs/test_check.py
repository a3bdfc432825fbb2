"""Checking a store: clean ones have no problem, and each kind of damage is named with what needs it."""

import os
import random
import sqlite3
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.support.collecting import NOW
from tests.support.values import EMPTY_TREE, Spec, directory, file, link, root
from vcs.batch import Batch
from vcs.blobs import BlobWriter, put_data, write_list
from vcs.check import Problem, check
from vcs.check.index import check_index
from vcs.collect import collect
from vcs.encoding import encode_entries, encode_root, encode_tree_index
from vcs.history import Author
from vcs.importcache import import_cache
from vcs.importer import import_directory
from vcs.layers.format import SUFFIX
from vcs.model import Chunked, CommitId, Data, Entry, LayerId, ListItem, RootId, Tree, TreeItem
from vcs.profiles import open_profile, profile_path
from vcs.repair import repair
from vcs.store import Store
from vcs.trees import write_root

TESTER = Author("tester", "tester@localhost", 1_700_000_000)
DIRECTORY = Entry(b"", stat.S_IFDIR | 0o755, 0, 0, 0, EMPTY_TREE)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.create(tmp_path / "store") as made:
        yield made


def commit(store: Store, name: RootId) -> CommitId:
    old = store.history.target("refs/heads/main")
    made = store.add_commit(name, {"config": {}}, "test\n", TESTER, (old,) if old else ())
    store.history.move("refs/heads/main", made, old, "test", TESTER)
    return made


def commit_spec(store: Store, spec: Spec) -> CommitId:
    with store.batch() as batch:
        name = root(batch, spec)
    return commit(store, name)


def problems(store: Store) -> list[Problem]:
    with Store.open(store.path) as fresh:
        return check(fresh).problems


def test_an_empty_store_is_clean(store: Store) -> None:
    report = check(store)
    assert (report.problems, report.commits, report.trees, report.chunks, report.unreachable) == ([], 0, 0, 0, 0)


def test_a_clean_store_is_counted(store: Store) -> None:
    with store.batch() as batch:
        writer = BlobWriter(batch)
        writer.feed(b"x" * 3_000_000)
        writer.hole(1 << 30)
        big = file(writer.finish())
        name = root(batch, {"a": b"1", "d": {"b": b"22", "again": b"1"}, "big": big, "l": link("a")})
    commit(store, name)
    commit_spec(store, {"a": b"1", "d": {"b": b"22", "again": b"1"}})
    seen: list[str] = []
    report = check(store, lambda what, done, total: seen.append(what))
    assert report.problems == []
    assert (report.commits, report.trees) == (2, 3)
    assert report.unreachable == 0
    assert set(seen) == {"layers", "commits"}
    assert report.bytes_read < 4_000_000


def test_what_nothing_refers_to_is_no_problem(store: Store) -> None:
    with store.batch() as batch:
        root(batch, {"never": b"committed"})
    report = check(store)
    assert (report.problems, report.unreachable) == ([], 3)


def test_a_large_store_is_clean(store: Store) -> None:
    commit_spec(store, {f"{n:05}": b"%d" % n for n in range(3000)})
    assert problems(store) == []


# -- roots that no honest program writes


def put(batch: Batch, *entries: Entry) -> Tree:
    return Tree(batch.put_tree(encode_entries(entries)), len(entries), 0, 0)


def test_a_missing_chunk_is_named_by_commit_and_path(store: Store) -> None:
    with store.batch() as batch:
        name = root(batch, {"d": {"lost": file(Data(5, bytes(32)))}})
    made = commit(store, name)
    assert [(p.commit, p.path) for p in problems(store)] == [(made, b"/d/lost")]


def test_a_missing_tree_is_named(store: Store) -> None:
    with store.batch() as batch:
        name = root(batch, {"d": replace(DIRECTORY, content=Tree(bytes(32), 0, 0, 0))})
    commit(store, name)
    (problem,) = problems(store)
    assert problem.path == b"/d"
    assert "in no layer" in problem.message


def test_a_missing_root_and_a_missing_list_are_named(store: Store) -> None:
    with store.batch() as batch:
        name = root(batch, {"big": file(Chunked(9, bytes(32), 9))})
    commit(store, name)
    commit(store, RootId(b"\x01" * 32))
    assert sorted(problem.path for problem in problems(store)) == [b"/", b"/big"]


@pytest.mark.parametrize("wrong", [{"entries": 5}, {"size": 5}, {"linked": 5}])
def test_sums_that_do_not_fit_are_told(store: Store, wrong: dict[str, int]) -> None:
    with store.batch() as batch:
        entry = directory(batch, {"d": {"x": b"1"}})
        name = write_root(batch, replace(entry, content=replace(entry.content, **wrong)))
    commit(store, name)
    (problem,) = problems(store)
    assert (problem.path, "sums" in problem.message) == (b"/", True)


def test_a_length_that_does_not_fit_is_told(store: Store) -> None:
    with store.batch() as batch:
        data = put_data(batch, b"12345")
        items = [ListItem(5, data.chunk), ListItem(7, b"")]
        name = root(batch, {
            "short": file(replace(data, size=4)),
            "list": file(Chunked(99, write_list(batch, items), 5)),
        })  # fmt: skip
    commit(store, name)
    assert sorted(problem.path for problem in problems(store)) == [b"/list", b"/short"]


def test_an_entry_that_cannot_be_is_told(store: Store) -> None:
    with store.batch() as batch:
        bad = replace(DIRECTORY, name=b"..")
        name = batch.put_tree(encode_root(replace(DIRECTORY, content=put(batch, bad))))
    commit(store, RootId(name))
    assert problems(store)


def _large(batch: Batch, count: int) -> tuple[list[Entry], Tree]:
    entries = [Entry(b"%05d" % n, stat.S_IFREG | 0o644, 0, 0, 0, Data(0, b"")) for n in range(count)]
    content = directory(batch, {entry.name: entry for entry in entries}).content
    assert isinstance(content, Tree)
    return entries, content


@pytest.mark.parametrize("harm", ["other cuts", "wrong first", "wrong count", "out of order"])
def test_a_large_directory_must_be_the_one_way_to_write_it(store: Store, harm: str) -> None:
    with store.batch() as batch:
        entries, content = _large(batch, 600)
        cut = 250 if harm == "other cuts" else 300
        parts = [entries[:cut], entries[cut:]]
        if harm == "out of order":
            parts = [entries[:cut] + entries[500:501], entries[cut:500] + entries[501:]]
        items = [TreeItem(part[0].name, batch.put_tree(encode_entries(part)), len(part)) for part in parts]
        if harm == "wrong first":
            items[1] = replace(items[1], first=b"00299x")
        if harm == "wrong count":
            items[0] = replace(items[0], count=7)
        tree = replace(content, tree=batch.put_tree(encode_tree_index(items)))
        name = write_root(batch, replace(DIRECTORY, content=tree))
    commit(store, name)
    (problem,) = problems(store)
    assert problem.path == b"/"


# -- damage to files


def test_a_damaged_layer_is_named_and_so_is_what_needs_it(store: Store) -> None:
    made = commit_spec(store, {"d": {"f": b"content"}})
    (layer,) = (store.path / "layers").iterdir()
    layer.chmod(0o600)
    data = bytearray(layer.read_bytes())
    data[data.index(b"content")] ^= 1
    layer.write_bytes(data)
    first, second = problems(store)
    assert layer.name.removesuffix(SUFFIX) in first.message
    assert (second.commit, second.path) == (made, b"/d/f")


def test_a_store_whose_layer_is_gone_names_what_is_lost(store: Store) -> None:
    commit_spec(store, {"a": b"1"})
    second = commit_spec(store, {"a": b"1", "b": {"c": b"2"}})
    newest = max((store.path / "layers").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    newest.unlink()
    found = problems(store)
    assert {problem.commit for problem in found} == {second}


def test_a_layer_that_gc_takes_away_just_now_is_no_damage(store: Store) -> None:
    """Others see it in the index until gc's transaction ends, which is after its file has gone."""
    commit_spec(store, {"a": b"1"})
    with store.batch() as batch:
        put_data(batch, b"nobody needs it")
    layer = batch.layer
    assert layer is not None
    store.index.doom([layer])
    found: list[list[Problem]] = []

    def dispose(layers: list[LayerId]) -> None:
        for layer in layers:
            store.layer_path(layer).unlink()
        found.append(check_index(store.path / "index.db", store.path / "layers", is_open=True))

    assert store.index.remove_doomed(dispose)[0] == [layer]
    assert found == [[]]
    assert problems(store) == []


def test_garbage_that_two_layers_had_is_no_damage_when_one_of_them_goes(store: Store) -> None:
    """The index knew it in that one. What is needed is told, if the index lacks it."""
    with Store.open(store.path) as other, other.batch() as two, store.batch() as one:
        put_data(one, b"nobody needs it")
        put_data(two, b"nobody needs it")
        made = root(two, {"a": b"1" * 500})
    assert one.layer is not None
    assert two.layer is not None
    commit = store.add_commit(made, {}, "x", Author("A", "a@b", 1))
    store.history.move("refs/heads/main", commit, None, "x", Author("A", "a@b", 1))
    store.index.doom([one.layer])

    def dispose(layers: list[LayerId]) -> None:
        for layer in layers:
            store.layer_path(layer).unlink()

    store.index.remove_doomed(dispose)
    assert check_index(store.path / "index.db", store.path / "layers", is_open=True) != []
    assert problems(store) == []
    with sqlite3.connect(store.path / "index.db") as db:
        db.execute("DELETE FROM objects WHERE length = 500")
    assert any("2 objects of layers" in problem.message for problem in problems(store))


def test_damage_in_the_history_is_told(store: Store) -> None:
    made = commit_spec(store, {"a": b"1"})
    path = store.path / "history.git" / "objects" / made[:2] / made[2:]
    path.chmod(0o600)
    path.write_bytes(b"x")
    assert problems(store)


# -- what there is beside the objects


@pytest.mark.parametrize("harm", [0, 64, 70, 120, -1])
def test_a_damaged_cache_of_an_import_is_told_and_not_used(store: Store, tmp_path: Path, harm: int) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_bytes(b"content")
    with store.writing() as lease, import_cache(store, lease, source) as cache:
        with store.batch() as batch:
            name = import_directory(batch, source, cache=cache).root
        commit(store, name)
        cache.save(name)
    assert problems(store) == []
    (path,) = store.caches.iterdir()
    data = bytearray(path.read_bytes())
    data[harm] ^= 1
    path.write_bytes(data)
    (problem,) = problems(store)
    assert (problem.kind, path.name in problem.message) == ("cache", True)


@pytest.mark.parametrize("left", [b"", bytes(5000)])
def test_what_a_power_cut_leaves_of_a_cache_is_no_damage(store: Store, left: bytes) -> None:
    commit_spec(store, {"a": b"1"})
    for kind in ("import", "start"):
        (store.caches / f"{kind}-0123").write_bytes(left)
    assert problems(store) == []


def test_what_is_no_file_is_no_cache_and_nobody_waits_for_it(store: Store) -> None:
    made = commit_spec(store, {"a": b"1"})
    base = store.commit(made).root
    others: dict[str, Callable[[Path], None]] = {
        f"start-{base.hex()}": os.mkfifo,
        f"plain-{base.hex()}": Path.mkdir,
        "import-0123": lambda path: path.symlink_to("/dev/zero"),
        "plain-0123.new": os.mkfifo,
    }
    for name, make in others.items():
        make(store.caches / name)
    assert open_profile(profile_path(store.caches, base)) is None
    assert {problem.kind for problem in problems(store)} == {"cache"}
    collect(store, since=NOW)
    assert {path.name for path in store.caches.iterdir()} == set(others)
    assert repair(store.path).report.problems == []
    assert [path.name for path in store.caches.iterdir()] == ["plain-0123.new"]


def test_a_ref_that_leads_nowhere_is_told(store: Store) -> None:
    made = commit_spec(store, {"a": b"1"})
    path = store.path / "history.git" / "refs" / "heads" / "main"
    for wrong in (f"{made[::-1]}\n", f"{made}", f"{made.upper()}\n", "", "ref: refs/heads/x\n"):
        path.write_text(wrong)
        assert "ref" in {problem.kind for problem in problems(store)}, wrong
    path.write_text(f"{made}\n")
    assert problems(store) == []


def test_a_ref_that_moved_without_its_reflog_is_told(store: Store) -> None:
    first = commit_spec(store, {"a": b"1"})
    for number in range(3):
        commit_spec(store, {"a": b"%d" % number})
    (store.path / "history.git" / "refs" / "heads" / "main").write_text(f"{first}\n")
    assert "not where its reflog says" in problems(store)[0].message


def test_a_process_killed_between_reflog_and_ref_is_no_damage(store: Store) -> None:
    first = commit_spec(store, {"a": b"1"})
    commit_spec(store, {"a": b"2"})
    (store.path / "history.git" / "refs" / "heads" / "main").write_text(f"{first}\n")
    assert problems(store) == []


def test_only_the_data_is_left_out_by_a_quick_check(store: Store) -> None:
    commit_spec(store, {"d": {"f": b"content" * 9000}})
    (layer,) = (store.path / "layers").iterdir()
    layer.chmod(0o600)
    data = bytearray(layer.read_bytes())
    data[20] ^= 1
    layer.write_bytes(data)
    assert check(store, read_data=False).problems == []
    assert [problem.kind for problem in check(store).problems] == ["layer", "object"]


def test_many_places_of_one_object_are_one_problem(store: Store) -> None:
    lost = file(Data(5, bytes(32)))
    with store.batch() as batch:
        first = root(batch, {"d": {"a": lost, "b": lost}})
    with store.batch() as batch:
        second = root(batch, {"d": {"a": lost, "b": lost}, "e": {"c": lost}, "f": b""})
    commit(store, first)
    newest = commit(store, second)
    with Store.open(store.path) as fresh:
        report = check(fresh)
    (problem,) = report.problems
    assert (problem.commit, problem.path, problem.others) == (newest, b"/d/a", 2)
    assert report.affected == 2


def test_garbage_that_is_damaged_is_said_to_be_garbage(store: Store) -> None:
    commit_spec(store, {"a": b"1"})
    with store.batch() as batch:
        batch.put_chunk(b"never committed")
    layer = store.layer_path(batch.layer)  # type: ignore[arg-type]
    layer.chmod(0o600)
    data = bytearray(layer.read_bytes())
    data[data.index(b"never")] ^= 1
    layer.write_bytes(data)
    assert [problem.kind for problem in problems(store)] == ["layer", "garbage"]


def test_threads_find_what_is_found_without_them(store: Store) -> None:
    chance = random.Random(1)
    made = commit_spec(store, {f"{number:02}": chance.randbytes(300_000) for number in range(20)})
    (layer,) = (store.path / "layers").iterdir()
    layer.chmod(0o600)
    data = bytearray(layer.read_bytes())
    for position in (1000, 3_000_000, len(data) - 400_000):
        data[position] ^= 1
    layer.write_bytes(data)
    found = [problem for problem in problems(store) if problem.kind == "object"]
    assert len(found) == 3
    assert {problem.commit for problem in found} == {made}
    assert len({problem.path for problem in found}) == 3
