"""Repairing git's files: objects, packs, refs, reflogs and settings."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.flips import AUTHOR, MAIN, Expected
from tests.vcs.repair.damage import assert_whole, flip
from vcs.errors import Damaged
from vcs.repair import repair
from vcs.store import Store


def loose(store: Path) -> list[Path]:
    return [path for path in sorted((store / "history.git" / "objects").glob("??/*")) if path.is_file()]


def test_git_objects_come_back_from_another_store(store: Path, pristine: Path, expected: Expected) -> None:
    for path in loose(store):
        flip(path, 5, 9)
    assert repair(store).report.problems
    assert repair(store, [pristine]).report.problems == []
    assert_whole(store, expected)


def test_a_packs_index_is_made_anew(store: Path, expected: Expected) -> None:
    (index,) = (store / "history.git" / "objects" / "pack").glob("*.idx")
    flip(index, 1100, 1157)
    with Store.open(store) as opened, pytest.raises(Damaged, match="pack index"):
        opened.commit_ids()
    assert repair(store).report.problems == []
    assert_whole(store, expected)


def test_a_damaged_pack_is_replaced_by_what_others_have(store: Path, pristine: Path, expected: Expected) -> None:
    (pack,) = (store / "history.git" / "objects" / "pack").glob("*.pack")
    flip(pack, pack.stat().st_size // 2)
    assert repair(store, [pristine]).report.problems == []
    assert_whole(store, expected)
    git = subprocess.run(
        ["git", "-C", str(store / "history.git"), "fsck", "--strict"], capture_output=True, check=False
    )
    assert git.returncode == 0, git.stderr


@pytest.mark.parametrize("name", ["HEAD", "config", "refs/heads/main", "refs/heads/other", "format", "packed-refs"])
def test_refs_and_settings_are_put_right(store: Path, expected: Expected, name: str) -> None:
    path = store / "format" if name == "format" else store / "history.git" / name
    flip(path, 3 if name != "packed-refs" else 101)
    assert repair(store).report.problems == []
    assert_whole(store, expected)
    with Store.open(store) as opened, Store.open(expected.path) as before:
        assert opened.branches() == before.branches()


@pytest.mark.parametrize(
    ("pattern", "step"), [("HEAD", 1), ("packed-refs", 5), ("objects/pack/*.pack", 7), ("objects/pack/*.idx", 31)]
)
@pytest.mark.parametrize("bit", [1, 0x20, 0x80])
def test_a_flip_anywhere_in_gits_files_is_repaired_with_a_copy(
    store: Path, pristine: Path, expected: Expected, pattern: str, step: int, bit: int
) -> None:
    (place,) = (pristine / "history.git").glob(pattern)
    path = store / place.relative_to(pristine)
    whole = place.read_bytes()
    for position in sorted({*range(0, len(whole), step), *range(min(14, len(whole))), len(whole) - 1}):
        shutil.rmtree(store / "history.git")
        shutil.copytree(pristine / "history.git", store / "history.git", symlinks=True)
        path.chmod(0o600)
        path.write_bytes(whole[:position] + bytes([whole[position] ^ bit]) + whole[position + 1 :])
        assert repair(store, [pristine]).report.problems == [], position
    assert_whole(store, expected)
    git = ["git", "-C", str(store / "history.git")]
    assert subprocess.run([*git, "fsck", "--strict"], capture_output=True, check=False).returncode == 0
    tags = subprocess.run([*git, "show-ref", "--tags", "-d"], capture_output=True, text=True, check=True).stdout
    assert [line.split()[1] for line in tags.splitlines()] == ["refs/tags/v1", "refs/tags/v1^{}", "refs/tags/v2"]


@pytest.mark.parametrize("position", [0, 5, 9, -1])
def test_a_packs_header_and_checksum_are_had_back_by_its_index(store: Path, expected: Expected, position: int) -> None:
    (pack,) = (store / "history.git" / "objects" / "pack").glob("*.pack")
    whole = pack.read_bytes()
    flip(pack, position)
    assert repair(store).report.problems == []
    assert pack.read_bytes() == whole
    assert_whole(store, expected)


@pytest.mark.parametrize("position", [0, 30, 60, -1])
def test_a_commit_of_which_a_bit_is_wrong_comes_back_by_itself(store: Path, expected: Expected, position: int) -> None:
    with Store.open(store) as opened:
        commits = opened.commit_ids()
    files = [store / "history.git" / "objects" / oid[:2] / oid[2:] for oid in commits]
    for file in filter(Path.exists, files):
        flip(file, position)
    repaired = repair(store)
    assert repaired.report.problems == []
    assert repaired.done
    assert_whole(store, expected)


@pytest.mark.parametrize("with_index", [True, False])
@pytest.mark.parametrize("lost", [slice(41, 42), slice(12, -20)])
def test_a_pack_of_which_nothing_can_be_read_makes_way(
    store: Path, pristine: Path, expected: Expected, lost: slice, with_index: bool
) -> None:
    """For what a copy has: a history with a pack that has no index is not read at all."""
    (pack,) = (store / "history.git" / "objects" / "pack").glob("*.pack")
    flip(pack, *range(pack.stat().st_size)[lost])
    if not with_index:
        flip(pack.with_suffix(".idx"), 915)
    assert repair(store, [pristine]).report.problems == []
    assert_whole(store, expected)
    assert not pack.exists()
    assert (store / "history.git" / "damaged" / "objects" / "pack" / pack.name).exists()


@pytest.mark.parametrize("between", [" ", "\t"])
def test_a_line_that_alone_names_a_commit_stays_in_packed_refs(store: Path, between: str) -> None:
    """Whether or not it makes sense: nothing else leads there. And so does what only has no reflog."""
    packed = store / "history.git" / "packed-refs"
    with Store.open(store) as opened:
        root = opened.commit(opened.commit_ids()[0]).root
        lonely = opened.add_commit(root, {"config": {}}, "nobody names this\n", AUTHOR, ())
    line = f"{lonely}{between}refs/zoo/lost\n"
    _, first, *_ = packed.read_text().splitlines()
    unlogged = f"{first[:40]} refs/zoo/again\n"
    packed.write_text(packed.read_text() + unlogged + line)
    assert {problem.kind for problem in repair(store).report.problems} == {"ref"}
    assert packed.read_text().endswith(unlogged + line)


@pytest.mark.parametrize("bit", [1, 0x20, 0x80])
def test_settings_come_back_wherever_the_damage_is(store: Path, bit: int) -> None:
    """Also in a line that is none of ours."""
    config = store / "history.git" / "config"
    whole = config.read_bytes()
    for position in range(len(whole)):
        config.write_bytes(whole[:position] + bytes([whole[position] ^ bit]) + whole[position + 1 :])
        assert repair(store).report.problems == [], (position, config.read_bytes())


def test_lines_of_a_reflog_that_make_no_sense_go(store: Path, expected: Expected) -> None:
    log = store / "history.git" / "logs" / MAIN
    before = log.read_bytes()
    flip(log, 100 if b"\n" not in before[:100] else 50)
    flip(log, before.index(b"\n") + 5)
    assert repair(store).report.problems == []
    assert (store / "history.git" / "damaged" / "logs" / MAIN).exists()
    assert_whole(store, expected)
