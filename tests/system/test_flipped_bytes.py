"""Any one byte of a store, flipped: a check of every byte tells of it, and nobody is ever given wrong bytes."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fusefs.serving import needs_fuse, serving
from tests.support.flips import Expected, Flip, Flipper, is_silent, make_store
from vcs.layers.reader import LayerReader
from vcs.store import Store

FLIPS_OF_A_KIND = 10


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("flips") / "store"
    make_store(store)
    return store


@pytest.fixture
def flipper(pristine: Path) -> Iterator[Flipper]:
    made = Flipper(pristine)
    yield made
    made.restore()
    assert made.check() == []


def some_of_each(flipper: Flipper) -> list[Flip]:
    """Flips in every kind of file, and in each part of the layers."""
    chance = random.Random(2)
    found = []
    for kind in sorted({flipper.kind(file) for file in flipper.files}):
        files = [file for file in flipper.files if flipper.kind(file) == kind]
        for _ in range(FLIPS_OF_A_KIND):
            found.append(flipper.within(chance.choice(files), chance))
    for layer in (file for file in flipper.files if file.suffix == ".layer"):
        size = len(flipper.content(layer))
        for position in (*range(0, 16, 3), *range(size - 56, size, 5), *range(size - 900, size - 56, 75)):
            found.append(Flip(layer, position, flipper.content(layer)[position] ^ 1 << position % 8))
    return found


def test_every_flip_is_told_and_never_read(pristine: Path, flipper: Flipper) -> None:
    expected = Expected(pristine)
    flips = some_of_each(flipper)
    kinds = {flipper.kind(flip.file) for flip in flips}
    assert {
        "layers",
        "index.db",
        "format",
        "bisect",
        "containers",
        "history.git/HEAD",
        "history.git/packed-refs",
    } <= kinds
    layers = [LayerReader(file) for file in flipper.files if file.suffix == ".layer"]
    assert any(layer.blocks.sum_bytes for layer in layers), "none has sums, so no part is read alone"
    for layer in layers:
        layer.close()
    failed = 0
    for flip in flips:
        flipper.apply(flip)
        assert flipper.check() or is_silent(flipper, flip), f"{flip} is not noticed"
        flipper.apply(flip)
        reading = expected.compare(pristine)
        assert (reading.wrong, reading.odd) == ([], []), flip
        failed += reading.failed > 0
    assert failed > len(flips) / 10, "the flips did no harm, so nothing was tested"


def test_damage_is_named_by_commit_and_path(pristine: Path, flipper: Flipper) -> None:
    layer = max((file for file in flipper.files if file.suffix == ".layer"), key=lambda file: file.stat().st_size)
    flipper.apply(Flip(layer, 2000, flipper.content(layer)[2000] ^ 1))
    problems = flipper.check()
    assert problems[0].kind == "layer"
    assert problems[0].layer == layer.stem
    lost = [problem for problem in problems if problem.kind == "object"]
    assert lost
    assert all(problem.commit and problem.path.startswith(b"/") and problem.layer == layer.stem for problem in lost)


@needs_fuse
def test_flips_below_a_real_mount_are_errors(pristine: Path, flipper: Flipper, tmp_path: Path) -> None:
    roots = [root.hex() for root in Expected(pristine).roots]
    right = read_mounted(pristine, tmp_path / "right", roots)
    assert not any(isinstance(value, int) for value in right.values())
    chance = random.Random(3)
    layers = [file for file in flipper.files if file.suffix == ".layer"]
    flips = [flipper.within(chance.choice(layers), chance) for _ in range(5)]
    flips.append(flipper.within(pristine / "index.db", chance))
    errors = 0
    for number, flip in enumerate(flips):
        flipper.apply(flip)
        found = read_mounted(pristine, tmp_path / str(number), roots)
        for path, value in found.items():
            assert value == right.get(path) or value in (errno.EIO, errno.ENOENT), (flip, path)
            errors += isinstance(value, int)
    assert errors


def read_mounted(path: Path, point: Path, roots: list[str]) -> dict[str, bytes | int]:
    """Every file's content, link's target and directory's names, or the errno of whoever wants to read them."""
    found: dict[str, bytes | int] = {}
    with Store.open(path) as store, serving(store, point):
        todo = [f"trees/{root}" for root in roots]
        while todo:
            name = todo.pop()
            place = point / name
            try:
                if place.is_symlink():
                    found[name] = os.fsencode(os.readlink(place))
                elif place.is_dir() or name.count("/") == 1:
                    names = sorted(os.listdir(place))
                    found[name] = os.fsencode("/".join(names))
                    todo += [f"{name}/{below}" for below in names]
                elif os.lstat(place).st_size and place.is_file():
                    found[name] = place.read_bytes()
            except OSError as error:
                found[name] = error.errno or 0
    return found
