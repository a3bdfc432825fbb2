"""Garbage collection: what is needed stays, whoever needs it; the rest goes, and the layers are as many as is good."""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pygit2
import pytest
from pygit2.enums import ConfigLevel

from tests.support.collecting import NOW, author, commit, files, git_fsck, is_readable, noise, write
from tests.support.values import file, root
from vcs.blobs import BlobWriter
from vcs.check import check
from vcs.collect import Collected, Collection, collect
from vcs.collect.collection import TRASH
from vcs.collect.plan import MERGED_AT_ONCE, SMALL, LayerUse, plan
from vcs.errors import Conflict, Corrupt, Denied, NotFound
from vcs.importcache import import_cache
from vcs.importer import import_directory
from vcs.layers.reader import LayerReader
from vcs.leases import Lease
from vcs.model import Entry, LayerId, RootId
from vcs.store import Store

NOBODY = 65534


@pytest.fixture
def store(tmp_path: Path, store: Store) -> Iterator[Store]:
    yield store
    with Store.open(tmp_path / "store") as again:
        assert git_fsck(again) == ""
        assert not [name for name in files(again) if not name.endswith(".layer")]


# -- what is needed


def test_what_nothing_names_goes(store: Store) -> None:
    kept = commit(store, {"a": noise("a"), "shared": noise("shared")})
    lost = commit(store, {"b": noise("b"), "shared": noise("shared")}, "refs/heads/lost")
    root_of_lost = store.commit(lost).root
    store.history.delete("refs/heads/lost")
    done = collect(store, since=NOW)
    assert (done.layers, done.commits, done.objects) == (1, 1, 3)
    assert done.freed > 2000
    assert not is_readable(store, root_of_lost)
    assert is_readable(store, store.commit(kept).root)
    with pytest.raises(NotFound):
        Store.open(store.path).commit(lost)


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """pytest's own directories are root's alone."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


def own(store: Path, user: int) -> None:
    for path in (store, *store.rglob("*")):
        os.chown(path, user, user)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody whom a directory refuses")
def test_refs_that_cannot_be_listed_are_not_taken_for_gone(open_to_all: Path) -> None:
    """libgit2 passes over a directory that it cannot open: all commits of all branches would be garbage."""
    path = open_to_all / "store"
    with Store.create(path) as store:
        kept = commit(store, {"a": noise("a")}, "refs/heads/team/web")
    own(path, NOBODY)
    directory = path / "history.git" / "refs" / "heads" / "team"
    directory.chmod(0)
    child = os.fork()
    if not child:
        said = "nothing"
        try:
            for level in (ConfigLevel.GLOBAL, ConfigLevel.XDG):
                pygit2.settings.search_path[level] = str(path)  # not root's, which he may not look at
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            with Store.open(path) as store:
                collect(store, since=NOW)
        except Denied as error:
            said = str(error)
        finally:
            os._exit(0 if "refs/heads/team" in said else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    directory.chmod(0o755)
    own(path, 0)
    with Store.open(path) as store:
        assert check(store).problems == []
        assert is_readable(store, store.commit(kept).root)


REFS = [
    "refs/heads/b",
    "refs/heads/with/slash",
    "refs/tags/t",
    "refs/containers/c/0",
    "refs/removed/c/0",
    "refs/other/x",
]


@pytest.mark.parametrize("ref", REFS)
def test_every_ref_keeps_its_commit_and_those_before_it(store: Store, ref: str) -> None:
    before = store.commit(commit(store, {"a": noise("a"), "b": noise("b")}, ref)).root
    after = store.commit(commit(store, {"a": noise("a2")}, ref)).root
    collect(store, since=NOW)
    assert is_readable(store, before)
    assert is_readable(store, after)
    store.history.delete(ref)
    collect(store, since=NOW)
    assert not is_readable(store, before)
    assert not is_readable(store, after)
    assert files(store) == set()


def test_an_annotated_tag_keeps_its_commit_and_itself(store: Store) -> None:
    made = commit(store, {"a": noise("a")})
    store.history.tag("v1", made, "a release", author())
    store.history.delete("refs/heads/main")
    collect(store, since=NOW)
    assert store.tags() == {"v1": made}
    assert is_readable(store, store.commit(made).root)
    assert git_fsck(store) == ""
    store.history.delete("refs/tags/v1")
    collect(store, since=NOW)
    assert files(store) == set()


def test_young_reflog_entries_keep_where_a_branch_was_and_old_ones_go(store: Store) -> None:
    first = commit(store, {"a": noise("first")})
    store.history.move("refs/heads/main", commit(store, {"a": noise("x")}, "refs/heads/x"), first, "away", author())
    gone = store.commit(first).root
    store.history.delete("refs/heads/x")
    assert collect(store, since=time.time() - 100).reflog_entries == 0
    assert is_readable(store, gone)
    assert store.history.resolve("main@{1}") == first
    done = collect(store, since=time.time() + 100)
    assert done.reflog_entries == 2  # HEAD's and main's first; the newest of each stays
    assert not is_readable(store, gone)
    (entry,) = store.history.reflog("refs/heads/main")
    assert (entry.old, entry.message) == (None, "away")
    assert store.history.resolve("main@{0}") == entry.new


def test_a_young_entry_keeps_both_its_ids_where_an_older_one_goes(store: Store) -> None:
    log = store.path / "history.git/logs/refs/heads/main"
    commits = [commit(store, {"a": noise("first")})]
    for number in range(3):
        made = store.add_commit(write(store, {"a": noise(number)}), {}, "alone\n", author())
        store.history.move("refs/heads/main", made, commits[-1], f"step {number}", author())
        commits.append(made)
    roots = [store.commit(made).root for made in commits]
    lines = log.read_bytes().splitlines(keepends=True)
    old = str(int(time.time()) - 1000).encode()
    lines[:2] = [line.replace(line.split(b"> ")[1].split(b" ")[0], old) for line in lines[:2]]
    log.write_bytes(b"".join(lines))
    (store.path / "history.git/logs/HEAD").unlink(missing_ok=True)
    store.operations.path.unlink()
    collect(store, since=time.time() - 500)
    assert [is_readable(store, made) for made in roots] == [False, True, True, True]
    assert [(entry.old, entry.new) for entry in store.history.reflog("refs/heads/main")] == [
        (commits[2], commits[3]),
        (commits[1], commits[2]),
    ]


def test_a_line_for_a_move_that_was_not_made_does_not_hide_the_last_that_was(store: Store) -> None:
    first = commit(store, {"a": noise("a")})
    before = (store.path / "history.git/refs/heads/main").read_bytes()
    commit(store, {"a": noise("b")})
    (store.path / "history.git/refs/heads/main").write_bytes(before)  # killed after the line, before the move
    collect(store, since=NOW)
    (entry,) = store.history.reflog("refs/heads/main")
    assert (entry.old, entry.new) == (None, first)


def test_what_a_killed_process_leaves_of_a_ref_keeps_nothing(store: Store) -> None:
    """libgit2 writes the reflog before it makes the ref."""
    made = commit(store, {"a": noise("a")}, "refs/heads/x")
    commit(store, {"b": noise("b")}, "refs/heads/dir/y")
    for name in ("x", "dir/y"):
        (store.path / "history.git/refs/heads" / name).unlink()
    store.operations.path.unlink()
    collect(store, since=0)
    assert files(store) == set()
    assert [path for path in (store.path / "history.git/logs").rglob("*") if path.is_file()] == []
    commit(store, {"a": noise("again")}, "refs/heads/dir")
    with pytest.raises(NotFound):
        store.history.move("refs/heads/x", made, None, "again", author())


def test_a_detached_head_keeps_its_commit(store: Store) -> None:
    made = commit(store, {"a": noise("a")})
    store.history.delete("refs/heads/main")
    head = store.path / "history.git/HEAD"
    saved = head.read_text()
    head.write_text(f"{made}\n")
    collect(store, since=NOW)
    assert is_readable(store, store.commit(made).root)
    head.write_text(saved)


@pytest.mark.parametrize("kind", ["layer", "root", "commit"])
def test_a_lease_keeps_what_it_names_until_it_ends(store: Store, kind: str) -> None:
    made = commit(store, {"a": noise("a")})
    name = store.commit(made).root
    store.history.delete("refs/heads/main")
    (layer,) = store.index.layers()
    lease = Lease(store.leases)
    keep: dict[str, Callable[[], object]] = {
        "layer": lambda: lease.layer(layer), "root": lambda: lease.root(name), "commit": lambda: lease.commit(made),
    }  # fmt: skip
    keep[kind]()
    collect(store, since=NOW)
    assert is_readable(store, name)
    lease.close()
    collect(store, since=NOW)
    assert not is_readable(store, name)


def test_the_roots_that_are_being_read_stay(store: Store) -> None:
    name = write(store, {"a": noise("a")})
    asked = 0

    def roots() -> list[RootId]:
        nonlocal asked
        asked += 1
        return [name, RootId(bytes(32))]  # the kernel may remember one that is long gone

    collect(store, since=NOW, roots=roots)
    assert asked >= 3
    assert is_readable(store, name)
    collect(store, since=NOW)
    assert not is_readable(store, name)


def test_a_file_with_the_bytes_of_a_tree_does_not_hide_the_tree(store: Store) -> None:
    with store.batch() as batch:
        plain = root(batch, {"d": {"inner": noise("inner")}})
    tree = store.snapshot(plain).lookup(b"d").content.tree  # type: ignore[union-attr]
    both = commit(store, {"a file": store.get(tree), "d": {"inner": noise("inner")}, "z": noise("z")})
    collect(store, since=NOW)
    assert is_readable(store, store.commit(both).root)


def test_large_files_and_directories_stay_whole(store: Store) -> None:
    many = {f"name{number}": b"%d" % number for number in range(3000)}
    large = [noise(number, 3_000_000) for number in range(2)]
    made = commit(store, {"many": many, "large": cut(store, large[0])})
    changed = large[0][:1_000_000] + large[1]
    commit(store, {"large": cut(store, changed), "many": many | {"name7": b"changed"}}, "refs/heads/lost")
    store.history.delete("refs/heads/lost")
    collect(store, since=NOW)
    report = check(store)
    assert (report.problems, report.unreachable) == ([], 0)
    assert is_readable(store, store.commit(made).root)


def cut(store: Store, data: bytes) -> Entry:
    """A large file, in a layer of its own."""
    with store.batch() as batch:
        writer = BlobWriter(batch)
        writer.feed(data)
        return file(writer.finish())


def test_the_cache_of_an_import_goes_with_its_root_and_not_before(store: Store) -> None:
    kept = store.commit(commit(store, {"a": noise("a")})).root
    lost = write(store, {"b": noise("b")})
    caches = {name: store.caches / f"import-{name}" for name in ("kept", "lost", "broken")}
    caches["kept"].write_bytes(kept.hex().encode() + b"\n\xff\xff")
    caches["lost"].write_bytes(lost.hex().encode() + b"\n")
    caches["broken"].write_bytes(b"\xff\xff\n")
    collect(store, since=NOW)
    assert [name for name, path in caches.items() if path.exists()] == ["kept"]
    caches["kept"].unlink()  # it is none but for its first line


def test_what_a_killed_import_left_of_its_cache_goes_and_what_a_living_one_writes_stays(
    store: Store, tmp_path: Path
) -> None:
    dead = store.caches / "import-0123.89abcdef"
    dead.write_bytes(b"0" * 64 + b"\n")
    source = tmp_path / "source"
    source.mkdir()
    with store.writing() as lease, import_cache(store, lease, source) as cache:
        with store.batch() as batch:
            root = import_directory(batch, source, cache=cache).root
        collect(store, since=NOW)
        (living,) = store.caches.iterdir()
        assert living.suffix
        store.history.move("refs/heads/main", store.add_commit(root, {}, "x\n", author()), None, "x", author())
        cache.save(root)
    collect(store, since=NOW)
    assert [path.suffix for path in store.caches.iterdir()] == [""]


def test_what_a_power_cut_left_of_a_reflog_goes(store: Store) -> None:
    commit(store, {"a": noise("a")})
    left = store.path / "history.git" / "reflog.new"
    left.write_text("half a line")
    collect(store, since=NOW)
    assert not left.exists()


# -- which layers


def use(number: int, size: int, live: int, objects: int = 1) -> LayerUse:
    return LayerUse(LayerId(number.to_bytes(32)), size, objects, live)


MIB = 1 << 20


def test_layers_are_rewritten_until_little_garbage_is_left() -> None:
    uses = [use(n, 100 * MIB, (100 - n) * MIB) for n in range(100)]
    planned = plan(uses)
    left = sum(other.waste for other in uses if other not in planned.rewritten)
    assert left <= 0.05 * sum(other.waste for other in uses)
    assert planned.rewritten == uses[-len(planned.rewritten) :], "the emptiest, in the order in which they came"
    assert len(planned.rewritten) < 90
    assert planned.dead == []


def test_nothing_is_rewritten_for_a_trifle() -> None:
    assert plan([use(1, 1000 * MIB, 999.5 * MIB), use(2, 500 * MIB, 500 * MIB)]).rewritten == []  # type: ignore[arg-type]
    assert plan([use(1, 1000 * MIB, 900 * MIB)]).rewritten
    assert plan([use(1, 50, 0, objects=0)]).dead


def test_small_layers_are_merged_so_that_few_bytes_are_written_often() -> None:
    sizes: list[int] = []
    written = most = 0
    for _ in range(3000):  # a commit of 20 kB, a gc, and so on
        sizes.append(20_000)
        uses = [use(index, size, size) for index, size in enumerate(sizes)]
        chosen = {int.from_bytes(other.name) for other in plan(uses).rewritten}
        if chosen:
            merged = sum(sizes[index] for index in chosen)
            written += merged
            sizes = [size for index, size in enumerate(sizes) if index not in chosen] + [merged]
        most = max(most, len(sizes))
    assert most <= 60
    assert written <= 10 * 3000 * 20_000
    assert plan([use(n, 2 * SMALL, 2 * SMALL) for n in range(100)]).rewritten == []
    assert plan([use(n, 1000, 1000) for n in range(MERGED_AT_ONCE - 1)]).rewritten == []


def test_a_collection_after_another_finds_nothing_to_do(store: Store) -> None:
    for number in range(40):
        commit(store, {"a": noise(number), f"f{number}": noise(-number)}, f"refs/heads/b{number % 3}")
    store.history.delete("refs/heads/b1")
    collect(store, since=NOW)
    before = files(store)
    assert collect(store, since=NOW) == Collected()
    assert files(store) == before
    assert len(before) < 5


def test_hundreds_of_commits_leave_little_garbage(store: Store) -> None:
    chance = random.Random(7)
    spec: dict[str, dict[str, bytes]] = {f"d{n}": {f"f{m}": noise((n, m), 3000) for m in range(20)} for n in range(20)}
    commit(store, spec)
    for number in range(150):
        spec[f"d{chance.randrange(20)}"][f"f{chance.randrange(20)}"] = noise(number, 3000)
        commit(store, spec, "refs/heads/main" if number % 3 else "refs/heads/experiment")
    store.history.delete("refs/heads/experiment")
    predicted = collect(store, since=NOW, dry_run=True)
    before = size(store)
    done = collect(store, since=NOW)
    report = check(store)
    assert (report.problems, report.unreachable) == ([], 0)
    assert (done.commits, done.reflog_entries) == (predicted.commits, predicted.reflog_entries)
    assert 0.8 < done.freed / (before - size(store)) < 1.2
    assert len(files(store)) < 10
    assert len(list((store.path / "history.git/objects").glob("??/*"))) == 0


def size(store: Store) -> int:
    """Bytes on the disk, of layers and history."""
    top = store.path
    return sum(
        path.stat().st_blocks * 512
        for directory in (top / "layers", top / "history.git/objects")
        for path in directory.rglob("*")
        if path.is_file()
    )


# -- what must not happen


def test_a_dry_run_changes_no_byte(store: Store) -> None:
    commit(store, {"a": noise("a")})
    commit(store, {"b": noise("b")}, "refs/heads/lost")
    store.history.delete("refs/heads/lost")
    (store.leases / "of a dead process").write_text("")
    (store.caches / "import-x").write_text("no root\n")
    (store.path / "layers" / f"{TRASH}x").write_text("of a killed gc")
    (store.path / "locks/gc").touch()  # it does not even need the lock

    def state() -> dict[Path, tuple[int, bytes]]:
        paths = [path for path in store.path.rglob("*") if path.is_file() and "index.db" not in path.name]
        return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in paths}

    before = state()
    done = collect(store, since=NOW, dry_run=True)
    assert state() == before
    assert (done.layers, done.commits) == (1, 1)
    assert done.freed > 2000
    assert store.index.layers()
    really = collect(store, since=NOW)
    assert (really.layers, really.objects, really.commits) == (done.layers, done.objects, done.commits)


def test_two_at_once_are_refused(store: Store) -> None:
    import fcntl

    with (store.path / "locks/gc").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)  # even that: a collection wants to be alone
        with pytest.raises(Conflict, match="another process is collecting"):
            collect(store, since=NOW)
        collect(store, since=NOW, dry_run=True)


def damage(path: Path, position: int) -> None:
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def test_a_layer_with_damage_in_what_is_needed_is_left_and_told_of(tmp_path: Path) -> None:
    with Store.create(tmp_path / "store") as store:
        kept = {f"f{n}": noise(n, 100_000) for n in range(10)}
        commit(store, {**kept, **{f"g{n}": noise(-1 - n, 100_000) for n in range(20)}}, "refs/heads/lost")
        commit(store, kept)
        store.history.delete("refs/heads/lost")
        place = store.index.find(chunk(store, b"f4"))
        assert place is not None
        name = store.index.layer_name(place.layer)
        reader = LayerReader(store.layer_path(name))
        offset = reader.blocks[place.block].offset + reader.blocks[place.block].stored // 2
        reader.close()
        damage(store.layer_path(name), offset)
        with Store.open(store.path) as fresh:
            done = collect(fresh, since=NOW)
        assert [problem for problem in done.problems if name.hex() in problem]
        assert store.layer_path(name).exists()
        damage(store.layer_path(name), offset)  # the disk was only joking
        with Store.open(store.path) as fresh:
            assert is_readable(fresh, fresh.commit(fresh.history.resolve("main")).root)
            assert collect(fresh, since=NOW).problems == ()
            assert not store.layer_path(name).exists()
            assert check(fresh).problems == []


def chunk(store: Store, path: bytes) -> bytes:
    snapshot = store.snapshot_of(store.history.resolve("main"))
    found: bytes = snapshot.lookup(path).content.chunk  # type: ignore[union-attr]
    return found


def test_nothing_is_removed_where_damage_hides_what_is_needed(tmp_path: Path) -> None:
    with Store.create(tmp_path / "store") as store:
        made = commit(store, {"d": {"a": noise("a")}})
        write(store, {"garbage": noise("garbage")})
        place = store.index.find(store.commit(made).root)
        assert place is not None
        name = store.index.layer_name(place.layer)
        reader = LayerReader(store.layer_path(name))
        damage(store.layer_path(name), reader.blocks[place.block].offset + 10)
        reader.close()
        before = files(store)
    with Store.open(tmp_path / "store") as store:
        with pytest.raises(Corrupt):
            collect(store, since=NOW)
        assert files(store) == before


def test_an_index_made_anew_meanwhile_stops_it(store: Store) -> None:
    commit(store, {"a": noise("a")})
    write(store, {"b": noise("b")})
    collection = Collection(store, NOW)
    collection.mark()
    collection.doom(other.name for other in collection.plan().dead)
    (store.path / "index.db").unlink()
    with pytest.raises(Conflict, match="made anew"):
        collection.finish()
    assert len(files(store)) == 2
    collection.close()
