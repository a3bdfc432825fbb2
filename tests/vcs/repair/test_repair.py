"""Repairing a store: what is elsewhere comes back, and nothing else is lost on the way."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.flips import Expected, Flip, Flipper
from tests.vcs.repair.damage import assert_whole, flip, layers
from vcs.batch import Batch
from vcs.check import Report, check
from vcs.errors import BadInput, Conflict
from vcs.exporter import export_directory
from vcs.history import Author
from vcs.importer import import_directory
from vcs.layers.reader import LayerReader
from vcs.locks import flocked
from vcs.model import LayerId
from vcs.repair import ASIDE, repair
from vcs.store import Store
from vcs.tar_export import export_tar

MAIN = "refs/heads/main"
AUTHOR = Author("tester", "tester@localhost", 1_700_000_000)


# -- from the store itself


PARTS: dict[str, Callable[[int], int]] = {
    "the header": lambda size: 3,
    "the version": lambda size: 8,
    "the end": lambda size: size - 1,
    "where the footer is": lambda size: size - 54,
    "the footer's length": lambda size: size - 48,
    "the footer's digest": lambda size: size - 30,
    "the last length": lambda size: size - 60,
}


@pytest.mark.parametrize("part", PARTS)
def test_a_layer_with_damaged_tables_comes_back_whole(store: Path, expected: Expected, part: str) -> None:
    for layer in layers(store):
        flip(layer, PARTS[part](layer.stat().st_size))
    damaged = layers(store)
    repaired = repair(store)
    assert repaired.report.problems == []
    assert sorted(repaired.aside) == sorted(f"{ASIDE}{layer.stem}" for layer in damaged)
    assert_whole(store, expected)


@pytest.mark.parametrize("part", ["counts", "blocks", "digests"])
def test_a_damaged_footer_costs_nothing(store: Path, expected: Expected, part: str) -> None:
    layer = layers(store)[0]
    data = layer.read_bytes()
    footer = int.from_bytes(data[-56:-48], "little")
    flip(
        layer,
        footer
        + {"counts": 4, "blocks": 9, "digests": 8 + 16 * int.from_bytes(data[footer : footer + 4], "little")}[part],
    )
    assert repair(store).report.problems == []
    assert_whole(store, expected)


def test_what_another_layer_has_is_taken_from_there(store: Path, expected: Expected) -> None:
    twin = layers(store)[0]
    with Store.open(store) as opened:
        opened.index.doom([LayerId(bytes.fromhex(twin.stem))])
        with opened.batch() as batch:
            for digest, _ in list(opened.index.objects_of(LayerId(bytes.fromhex(twin.stem)))):
                batch.put_chunk(opened.get(digest))
    (store / "index.db").unlink()
    with Store.open(store) as opened:  # each object is listed once, in either
        assert check(opened).problems == []
    for position in range(100, 1500, 100):
        flip(twin, position)
    assert repair(store).report.problems == []
    assert_whole(store, expected)


def test_an_index_that_is_damaged_is_made_anew(store: Path, expected: Expected) -> None:
    flip(store / "index.db", 100, 4096, 8192)
    assert repair(store).report.problems == []
    assert_whole(store, expected)


# -- from elsewhere


def lose_much(store: Path) -> None:
    """Damage that is in many blocks, and a layer that is gone."""
    largest, summed, second, third = layers(store)
    with closing(LayerReader(summed)) as reader:
        assert reader.blocks.sum_bytes
    flip(summed, 70)
    size = largest.stat().st_size
    flip(largest, *range(50, size - 5000, 700))
    flip(second, 60, 2000)
    third.unlink()


def test_another_store_gives_everything_back(store: Path, pristine: Path, expected: Expected) -> None:
    lose_much(store)
    assert repair(store).report.problems
    repaired = repair(store, [pristine])
    assert repaired.report.problems == []
    assert repaired.objects
    assert_whole(store, expected)
    with Store.open(pristine) as opened:
        assert check(opened).problems == []


@pytest.mark.parametrize("position", [3, 100, -100, None])
def test_a_layer_of_one_object_is_given_back(
    store: Path, pristine: Path, expected: Expected, position: int | None
) -> None:
    """It is the layer that it was then, under the name of the damaged one."""
    _, layer, *_ = layers(store)
    with closing(LayerReader(layer)) as reader:
        assert (reader.block_count, len(reader.objects(0))) == (1, 1)
    if position is None:
        layer.unlink()
    else:
        flip(layer, position % layer.stat().st_size)
    assert repair(store, [pristine]).report.problems == []
    assert_whole(store, expected)
    assert layer.exists()


def make_files(top: Path) -> Path:
    for number in range(40):
        path = top / f"d{number % 4}" / f"f{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d" % number * (100 + number))
    (top / "large").write_bytes(b"".join(b"%07d\n" % number for number in range(200_000)))
    return top


@pytest.fixture
def imported(tmp_path: Path) -> tuple[Path, Path]:
    """A store with an import, of which one layer is lost, and what was imported."""
    source, path = make_files(tmp_path / "source"), tmp_path / "imported"
    with Store.create(path) as store:
        with store.batch() as batch:
            root = import_directory(batch, source).root
        commit = store.add_commit(root, {}, "import\n", AUTHOR, ())
        store.history.move(MAIN, commit, None, "import", AUTHOR)
    layers(path)[0].unlink()
    return path, source


def test_the_directory_that_was_imported_gives_everything_back(imported: tuple[Path, Path]) -> None:
    path, source = imported
    assert repair(path, [source]).report.problems == []


def test_files_are_found_wherever_they_lie(imported: tuple[Path, Path], tmp_path: Path) -> None:
    """The directories are lost, since they are not the same ones; the contents are found."""
    path, source = imported
    moved = tmp_path / "moved"
    shutil.copytree(source, moved / "somewhere" / "else")
    with Store.open(path) as store, store.batch() as batch:  # the directories come back from a tree without files
        import_directory(_Trees(batch), source)
    repaired = repair(path, [moved])
    assert repaired.report.problems == []
    assert repaired.objects >= 40


class _Trees:
    """A sink that takes trees only."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch

    def put_tree(self, data: bytes) -> bytes:
        return self._batch.put_tree(data)

    def put_chunk(self, data: bytes | memoryview, digest: bytes | None = None) -> bytes:
        from vcs.encoding import digest as digest_of

        return digest or digest_of(data)


def test_an_archive_gives_everything_back(store: Path, pristine: Path, expected: Expected, tmp_path: Path) -> None:
    with Store.open(pristine) as opened:
        archives = []
        for number, root in enumerate(expected.roots):
            archives.append(tmp_path / f"{number}.tar")
            with archives[-1].open("wb") as file:
                export_tar(opened.snapshot(root), b"/", file)
    lose_much(store)
    repaired = repair(store, archives)
    lost = {problem.path for problem in repaired.report.problems if problem.kind == "object"}
    assert not [path for path in lost if b"/etc/f" in path], "contents are found whatever the directories are"
    assert repaired.objects > 20


def test_a_repair_from_two_sources_takes_from_each(
    store: Path, pristine: Path, expected: Expected, tmp_path: Path
) -> None:
    lose_much(store)
    with Store.open(pristine) as opened:
        export_directory(opened.snapshot(expected.roots[0]), b"/", tmp_path / "out")
    assert repair(store, [tmp_path / "out", pristine]).report.problems == []
    assert_whole(store, expected)


def test_what_nobody_has_is_told_and_what_is_damaged_stays(store: Path, tmp_path: Path) -> None:
    before = layers(store)
    layer = before[0]
    flip(layer, *range(50, 5000, 500))
    (tmp_path / "other").mkdir()
    repaired = repair(store, [tmp_path / "other"])
    assert [
        problem for problem in repaired.report.problems if problem.kind == "object" and problem.commit and problem.path
    ]
    assert not repaired.aside
    assert layer.exists()
    with Store.open(store) as opened:
        assert len(opened.index.layers()) == len(before) + 1, "what could be read of it is in a new layer"


def test_a_dry_run_changes_nothing(store: Path, pristine: Path) -> None:
    lose_much(store)
    before = contents(store)
    repaired = repair(store, [pristine], dry_run=True)
    assert repaired.objects
    assert repaired.report.problems
    assert contents(store) == before


def contents(store: Path) -> dict[Path, bytes]:
    skip = ("index.db", "locks")
    return {
        path: path.read_bytes()
        for path in store.rglob("*")
        if path.is_file() and not str(path.relative_to(store)).startswith(skip)
    }


def test_a_source_that_cannot_be_read_is_the_sources_fault(store: Path, tmp_path: Path) -> None:
    lose_much(store)
    (tmp_path / "broken.tar").write_bytes(b"this is no archive" * 100)
    with pytest.raises(BadInput):
        repair(store, [tmp_path / "broken.tar"])


def test_nothing_is_repaired_while_garbage_is_collected(store: Path) -> None:
    flip(layers(store)[0], 100)
    with flocked(store / "locks" / "gc", 2), pytest.raises(Conflict, match="garbage"):
        repair(store)


def test_a_damaged_source_gives_what_is_whole_in_it(
    store: Path, pristine: Path, tmp_path: Path, expected: Expected
) -> None:
    other = tmp_path / "other"
    shutil.copytree(pristine, other)
    flip(layers(store)[0], 100)
    flip(layers(other)[1], 100)
    assert repair(store, [other]).report.problems == []
    assert_whole(store, expected)


@pytest.mark.parametrize("kind", ["layers", "history.git/objects", "history.git/refs", "history.git/packed-refs"])
def test_any_flip_is_repaired_with_a_copy(pristine: Path, store: Path, expected: Expected, kind: str) -> None:
    import random

    chance = random.Random(4)
    flipper = Flipper(store)
    files = [file for file in flipper.files if flipper.kind(file).startswith(kind)]
    for _ in range(8):
        applied: Flip = flipper.within(chance.choice(files), chance)
        flipper.apply(applied)
        report: Report = repair(store, [pristine]).report
        assert {problem.kind for problem in report.problems} <= {"ref"}, applied
        reading = expected.compare(store)
        assert (reading.wrong, reading.failed) == ([], 0), applied
    flipper.restore()
