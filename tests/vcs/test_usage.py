"""Sizes: what they count, that they add up, and that gc gives back what they promise."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.collecting import NOW, author, commit, noise, write
from tests.support.values import Spec, file
from tests.support.values import root as written
from vcs.blobs import BlobWriter
from vcs.collect import collect
from vcs.errors import Missing, NotFound
from vcs.history import BRANCHES
from vcs.layers.reader import LayerReader
from vcs.model import CommitId, Entry, RootId, Tree
from vcs.reach import Reach
from vcs.sharing import Bytes, Kind, Sharing, Start
from vcs.store import Store
from vcs.usage import Sizes, Usage, allocated, statistics

MAIN, OTHER = BRANCHES + "main", BRANCHES + "other"


def block_bytes(store: Store) -> int:
    total = 0
    for name in store.index.layers():
        reader = LayerReader(store.layer_path(name))
        total += sum(block.stored for block in reader.footer().blocks)
        reader.close()
    return total


def stored(store: Store, *roots: RootId) -> int:
    """What some roots take, found the slow way: each object's share is in `rows` as Sharing has it for all."""
    reach = Reach(store)
    for root in roots:
        reach.add_root(root)
    alone = Sharing(store, [[Start(Kind.ROOT, root) for root in roots]])
    assert sum(digest in reach for digest in store.index.objects()) == alone.needed[1].objects
    return alone.needed[1].stored


def sizes(store: Store, *names: str) -> dict[str, Sizes]:
    usage = Usage(store)
    wanted = names or tuple(usage.names)
    measured, total = usage.measure([usage.of_name(name) for name in wanted])
    return {**dict(zip(wanted, measured, strict=True)), "total": total}


# -- objects and owners


def test_the_objects_of_a_store_take_what_its_blocks_do(store: Store) -> None:
    """To the byte, whatever their lengths and however the blocks were compressed."""
    for number in range(4):
        commit(store, {f"{number}-{n}": noise((number, n), n * 37 % 5000) for n in range(60)})
    commit(store, {"text": b"the same again and again\n" * 20_000, "big": noise("big", 400_000)})
    sharing = Usage(store).sharing()
    assert sharing.total.stored == sharing.blocks == block_bytes(store)
    assert sum(sharing.needed.values(), Bytes()) == sharing.total
    assert sharing.total.objects == len(list(store.index.objects()))


def test_owners_of_an_object(store: Store) -> None:
    one = write(store, {"shared": {"a": noise("a"), "b": noise("b")}, "own": noise("one")})
    two = write(store, {"shared": {"a": noise("a"), "b": noise("b")}, "own": noise("two")})
    three = write(store, {"deep": {"er": {"shared": {"a": noise("a"), "b": noise("b")}}}})
    sharing = Sharing(store, [[Start(Kind.ROOT, root)] for root in (one, two, three)])
    assert {owners: size.objects for owners, size in sharing.needed.items()} == {
        0b111: 3,  # the directory and its two files
        0b001: 3,  # root, tree, file
        0b010: 3,
        0b100: 4,  # root, three trees less the shared one, and no file
    }
    assert sharing.kinds[Kind.CHUNK].objects == 4
    assert sharing.kinds[Kind.ROOT].objects == 3


def test_a_chunk_with_the_bytes_of_a_tree_is_no_tree(store: Store) -> None:
    """Who needs the file needs nothing of what is below the directory."""
    real = write(store, {"d": {"x": noise("x"), "y": noise("y")}})
    directory = store.snapshot(real).lookup(b"/d").content
    assert isinstance(directory, Tree)
    mimic = write(store, {"copy": store.get(directory.tree)})
    sharing = Sharing(store, [[Start(Kind.ROOT, real)], [Start(Kind.ROOT, mimic)]])
    assert {owners: size.objects for owners, size in sharing.needed.items()} == {0b01: 4, 0b10: 2, 0b11: 1}


specs = st.recursive(
    st.integers(0, 6).map(lambda seed: noise(seed, 50 + seed * 300)),
    lambda children: st.dictionaries(st.sampled_from("abcd"), children, max_size=4),
    max_leaves=12,
).map(lambda found: found if isinstance(found, dict) else {"file": found})


@given(st.lists(st.tuples(specs, st.sets(st.integers(0, 3), min_size=1)), min_size=1, max_size=6))
@settings(max_examples=40)
def test_owners_by_chance(tmp_path_factory: pytest.TempPathFactory, found: list[tuple[Spec, set[int]]]) -> None:
    """As walking for each owner, one after the other, finds them."""
    with Store.create(tmp_path_factory.mktemp("usage") / "store") as store:
        roots = [(write(store, spec), owners) for spec, owners in found]
        owned = [[root for root, owners in roots if owner in owners] for owner in range(4)]
        sharing = Sharing(store, [[Start(Kind.ROOT, root) for root in mine] for mine in owned])
        expected: dict[int, int] = {}
        reaches = [Reach(store) for _ in owned]
        for reach, mine in zip(reaches, owned, strict=True):
            for root in mine:
                reach.add_root(root)
        for digest in store.index.objects():
            owners = sum(1 << number for number, reach in enumerate(reaches) if digest in reach)
            expected[owners] = expected.get(owners, 0) + 1
        expected.pop(0, None)
        assert {owners: size.objects for owners, size in sharing.needed.items()} == expected
        assert sharing.total.stored == block_bytes(store)


def test_large_directories_and_files(store: Store) -> None:
    """Objects of every kind: tree nodes, chunk lists, and holes that are no objects."""
    many: Spec = {f"{number:05}": b"%d" % number for number in range(3000)}
    with store.batch() as batch:
        writer = BlobWriter(batch)
        writer.feed(noise("large", 3_000_000))
        writer.hole(1 << 20)
        large = writer.finish()
    root = write(store, {"many": many, "large": file(large)})
    sharing = Sharing(store, [[Start(Kind.ROOT, root)]])
    assert sharing.needed[1].objects == sharing.total.objects == len(list(store.index.objects()))
    assert sharing.kinds[Kind.TREE].objects > 10
    assert sharing.kinds[Kind.LIST].objects >= 1


def test_what_is_missing_is_named(store: Store) -> None:
    gone = RootId(bytes(32))
    with pytest.raises(Missing):
        Sharing(store, [[Start(Kind.ROOT, gone)]])


# -- names


def test_branches_that_share(store: Store) -> None:
    base = commit(store, {"base": noise("base", 40_000)})
    store.history.move(OTHER, base, None, "branch", author())
    top = commit(store, {"base": noise("base", 40_000), "more": noise("more", 20_000)})
    found = sizes(store)
    assert found[OTHER].stored == found[OTHER].shared == stored(store, store.commit(base).root)
    assert found[MAIN].stored == stored(store, *(store.commit(one).root for one in (base, top)))
    assert found[MAIN].unique == found[MAIN].stored - found[OTHER].stored
    assert found["total"] == Sizes(found[MAIN].stored, found[MAIN].unique)
    store.history.tag("v1", top, None, author())
    assert sizes(store)[MAIN].unique == 0


def test_a_reflog_keeps_what_a_branch_has_left(store: Store) -> None:
    """It goes with its branch, so it is unique to the branch; an old entry counts for nothing."""
    commit(store, {"a": noise("a", 30_000)}, OTHER)
    left = commit(store, {"b": noise("b", 30_000)}, OTHER)
    first = store.commit(left).parents[0]
    store.history.move(OTHER, first, left, "back", author())
    assert sizes(store)[OTHER].unique > 60_000
    usage = Usage(store, since=NOW)
    assert usage.measure([usage.of_name(OTHER)])[0][0].stored < 31_000
    assert set(usage.commits) == {first}


def test_refs_are_grouped(store: Store) -> None:
    """The generations of a container are one name."""
    one = commit(store, {"a": noise("a", 30_000)}, "refs/containers/c/0")
    commit(store, {"b": noise("b", 30_000)}, "refs/containers/c/1")
    usage = Usage(store, group=lambda ref: ref.rpartition("/")[0])
    assert usage.names == ["refs/containers/c"]
    assert usage.measure([usage.of_name("refs/containers/c")])[0][0].unique > 60_000
    assert one in usage.commits


def test_what_a_running_command_keeps_is_not_unique(store: Store) -> None:
    lone = commit(store, {"a": noise("a")})
    with store.writing() as lease:
        lease.root(store.commit(lone).root)
        assert sizes(store)[MAIN].unique == 0
    assert sizes(store)[MAIN].unique > 0


# -- commits and paths


def test_a_commit_is_one_root(store: Store) -> None:
    first = commit(store, {"a": noise("a", 30_000), "b": noise("b", 30_000)})
    second = commit(store, {"b": noise("b", 30_000), "c": noise("c", 10_000)})
    usage = Usage(store)
    (old, new), total = usage.measure([usage.of_commit(first), usage.of_commit(second)])
    assert 60_000 < old.stored < 62_000
    assert 30_000 < old.unique < 31_000
    assert 10_000 < new.unique < 11_000
    assert 70_000 < total.stored < 72_000
    assert total.unique == old.unique + new.unique


def test_a_commit_with_the_root_of_another_has_nothing_of_its_own(store: Store) -> None:
    first = commit(store, {"a": noise("a")})
    commit(store, {"a": noise("a")})
    usage = Usage(store)
    assert usage.measure([usage.of_commit(first)])[0][0].unique == 0


def test_a_path_shares_with_the_rest_of_its_root_and_with_other_commits(store: Store) -> None:
    spec: dict[str, Entry | bytes | Spec] = {
        "d": {"own": noise("own", 20_000), "old": noise("old", 5000), "twin": noise("twin", 3000)},
        "twin": noise("twin", 3000),
        "empty": b"",
    }
    commit(store, {"elsewhere": noise("old", 5000)})
    top = commit(store, spec)

    def of(path: bytes) -> Sizes:
        usage = Usage(store)
        return usage.measure([usage.of_path(top, path)])[0][0]

    assert 28_000 < of(b"/d").stored < 29_000
    assert 20_000 < of(b"/d").unique < 21_000
    assert of(b"d/own") == Sizes(of(b"/d/own").stored, of(b"/d/own").stored)
    assert of(b"/twin").unique == 0
    assert of(b"/empty") == Sizes(0, 0)
    assert 31_000 < of(b"/").stored + 3000 < 32_000
    with pytest.raises(NotFound):
        of(b"/nothing")


# -- the store


def test_statistics(store: Store) -> None:
    zero = statistics(store)
    assert (zero.layers, zero.compression, zero.deduplication, zero.garbage) == (0, 1.0, 1.0, 0)
    text = b"compressible " * 20_000
    commit(store, {"a": text, "b": noise("b", 10_000)})
    commit(store, {"a": text, "b": noise("b", 10_000), "c": noise("c", 10_000)})
    write(store, {"lost": noise("lost", 50_000)})
    (store.caches / "something").write_bytes(noise("cache", 100_000))
    found = statistics(store)
    assert (found.layers, found.commits, found.branches, found.tags) == (3, 2, 1, 0)
    assert found.layer_bytes == sum(store.layer_path(name).stat().st_size for name in store.index.layers())
    assert found.smallest < found.largest < found.layer_bytes
    assert found.logical == 2 * len(text) + 30_000
    assert found.kinds[Kind.CHUNK].raw == len(text) + 20_000
    assert found.deduplication == pytest.approx(found.logical / found.kinds[Kind.CHUNK].raw)
    assert 50_000 < found.garbage < 51_000
    assert found.blocks == found.needed.stored + found.garbage
    assert found.compression > 3
    assert found.git_bytes > 0
    assert found.index_bytes > 0
    assert found.cache_bytes >= 100_000


def test_duplicates_are_garbage(store: Store, tmp_path: Path) -> None:
    """An object in two layers takes its place twice, and one of them can go."""
    with Store.create(tmp_path / "twin") as twin:
        commit(twin, {"a": noise("a", 30_000), "b": noise("b", 10_000)})
        (layer,) = twin.index.layers()
        source = twin.layer_path(layer)
        commit(store, {"a": noise("a", 30_000)})
        store.layer_path(layer).write_bytes(source.read_bytes())
    store.index.refresh()
    assert 39_000 < statistics(store).garbage < 42_000


@pytest.mark.parametrize("compaction", ["one layer", "many layers"])
def test_gc_frees_what_is_unique(store: Store, compaction: str) -> None:
    """`treering du` promises what deleting a name gives back."""
    for number in range(10):
        shared = {f"shared{n}": noise(("shared", n), 20_000) for n in range(number + 1)}
        commit(store, shared)
        tip = commit(store, {**shared, "own": noise(("own", number), 15_000)}, OTHER)
    if compaction == "one layer":
        merged(store)
    promised = sizes(store)[OTHER].unique
    assert promised > 150_000
    before = statistics(store).layer_bytes
    store.history.delete(OTHER)
    collect(store, since=NOW)
    assert before - statistics(store).layer_bytes == pytest.approx(promised, rel=0.05)
    assert statistics(store).garbage < 0.02 * before
    with pytest.raises(NotFound):
        Store.open(store.path).commit(tip)


def merged(store: Store) -> None:
    from vcs.collect.repack import Repack

    collect(store, since=0, strategy=Repack())
    assert len(store.index.layers()) == 1


def test_what_a_directory_takes_on_the_disk(tmp_path: Path) -> None:
    top = tmp_path / "top"
    (top / "below").mkdir(parents=True)
    (top / "below/a").write_bytes(bytes(10_000))
    (top / "b").hardlink_to(top / "below/a")
    (top / "link").symlink_to("/")
    with (top / "sparse").open("wb") as sparse:
        sparse.truncate(1 << 30)
    alone = sum(path.lstat().st_blocks * 512 for path in (top, top / "below", top / "b", top / "link", top / "sparse"))
    assert allocated(top) == alone
    assert allocated(tmp_path / "nothing") == 0


def test_a_long_history_is_read_in_the_order_of_its_layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However little is cached. In any other order, a block would be read for each commit."""
    layers, roots = 5, 40
    with Store.create(tmp_path / "store") as store:
        tip: tuple[CommitId, ...] = ()
        for layer in range(layers):
            with store.batch() as batch:
                made = [written(batch, {"name": b"%d of %d" % (number, layer)}) for number in range(roots)]
            for root in made:
                tip = (store.add_commit(root, {}, "one of many\n", author(), tip),)
        store.history.move(MAIN, tip[0], None, "made", author())
    looked = []
    block = LayerReader.block

    def counted(self: LayerReader, number: int) -> bytes:
        looked.append(number)
        return block(self, number)

    monkeypatch.setattr(LayerReader, "block", counted)
    with Store.open(tmp_path / "store", cache_bytes=0) as store:
        Usage(store).sharing()
    assert len(looked) < layers * 3
