"""Plain copies and gc, fsck and repairs: who may go, what is told, and what is mended."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from blake3 import blake3

from tests.support.collecting import NOW
from tests.vcs.plain.copies import (
    FIRST_SUM,
    SIZES,
    Part,
    aside,
    blocks,
    bytes_of,
    content,
    damaged,
    earlier,
    flip,
    is_right,
    on_main,
    parts,
    rewrite,
    saved,
    sums_of,
    there,
    written,
)
from vcs import plain, plainwriter
from vcs.check import check
from vcs.collect import collect
from vcs.errors import Corrupt, Missing
from vcs.model import Chunked
from vcs.plain import (
    PAGE,
    Plain,
    bytes_path,
    digest_of_copy,
    left_bytes,
    sums_path,
)
from vcs.plainwriter import mend, save_plain
from vcs.repair import repair
from vcs.store import Store
from vcs.testing import MemoryStore

PROJECT = Path(__file__).parents[3]
WRITER = """
import sys
from pathlib import Path
from vcs.blobreader import list_items
from vcs.model import Chunked
from vcs.plainwriter import save_plain
from vcs.store import Store

class Waiting:
    def get(self, digest):
        if digest == last:
            print("at the last chunk", flush=True)
            sys.stdin.readline()
        return store.get(digest)

with Store.open(Path(sys.argv[1])) as store:
    content = Chunked(int(sys.argv[3]), bytes.fromhex(sys.argv[2]), 0)
    last = list(list_items(store, content.list))[-1].digest
    assert save_plain(Waiting(), store.caches, content)
"""
"""A process that makes the copy of a large file, and waits in the middle of it."""


# -- gc


def test_gc_takes_the_copies_of_files_that_go(store: Store, file: Plain) -> None:
    saved(store, file)
    with store.batch() as batch:
        gone = written(batch, [content(700_000)]), written(batch, [content(70_000)])
    for one in gone:
        aside(saved(store, one)).write_bytes(bytes(1000))
        aside(sums_of(store, one)).write_bytes(b"0" * 64 + b"\n" + bytes(1000))
    collect(store, since=NOW)
    assert there(store.caches) == parts(file)
    assert is_right(store, file)
    assert not check(store).problems


def test_a_dry_run_of_gc_foretells_what_copies_free(store: Store, file: Plain) -> None:
    """Of files that are not in the store, and of what is left of copies."""
    collect(store, since=NOW)
    saved(store, file)
    elsewhere = MemoryStore()
    gone = [written(elsewhere, [content(size)]) for size in (700_000, 700_001, 700_002, 70_000)]
    for one in gone:
        assert save_plain(elsewhere, store.caches, one)
    bytes_of(store, gone[1]).unlink()
    sums_of(store, gone[2]).unlink()
    for one in (gone[0], file):
        aside(bytes_of(store, one)).write_bytes(bytes(50_000))
        aside(sums_of(store, one)).write_bytes(b"")
    aside(sums_of(store, gone[1])).write_bytes(bytes(500))
    before, names = blocks(store.caches), there(store.caches)
    predicted = collect(store, since=NOW, dry_run=True)
    assert there(store.caches) == names
    done = collect(store, since=NOW)
    assert there(store.caches) == parts(file)
    assert done.freed == predicted.freed == before - blocks(store.caches) > 1_400_000
    assert not check(store).problems


def test_bytes_that_nobody_makes_sums_of_are_left(store: Store, file: Plain) -> None:
    """Not those of a copy, and not while somebody makes it."""
    path, new = saved(store, file), aside(sums_of(store, file))
    assert list(left_bytes(store.caches)) == []
    aside(path).write_bytes(bytes(1000))
    assert list(left_bytes(store.caches)) == [aside(path)], "its writer has ended"
    sums_of(store, file).unlink()
    assert sorted(left_bytes(store.caches)) == [path, aside(path)]
    with new.open("wb") as other:
        assert sorted(left_bytes(store.caches)) == [path, aside(path)], "its writer is dead"
        fcntl.flock(other, fcntl.LOCK_EX)
        assert list(left_bytes(store.caches)) == []
        collect(store, since=NOW)
        assert there(store.caches) == sorted([new.name, f"plain/{path.name}", f"plain/{path.name}.new"])
    collect(store, since=NOW)
    assert there(store.caches) == []
    assert list(left_bytes(store.caches)) == []


def test_gc_leaves_alone_what_is_being_made(store: Store, large: Chunked) -> None:
    with writing(store, large) as writer:
        new = there(store.caches)
        assert new == sorted(f"{name}.new" for name in parts(large))
        collect(store, since=NOW)
        assert there(store.caches) == new
        assert not check(store).problems
        writer.communicate("\n")
    assert writer.returncode == 0
    assert there(store.caches) == parts(large)
    assert is_right(store, large)
    assert not check(store).problems


def test_gc_takes_what_a_killed_writer_has_left(store: Store, large: Chunked) -> None:
    collect(store, since=NOW)
    with writing(store, large) as writer:
        writer.kill()
    assert there(store.caches) == sorted(f"{name}.new" for name in parts(large))
    assert not check(store).problems
    left = blocks(store.caches)
    assert left >= 1 << 20
    assert collect(store, since=NOW, dry_run=True).freed == left
    assert collect(store, since=NOW).freed == left
    assert there(store.caches) == []


def test_what_a_killed_writer_has_left_is_taken_over(store: Store, large: Chunked) -> None:
    with writing(store, large) as writer:
        writer.kill()
    saved(store, large)
    assert is_right(store, large)
    assert there(store.caches) == parts(large)
    assert not check(store).problems


def test_who_is_not_root_takes_it_over_too(tmp_path: Path) -> None:
    """Of bytes that nobody may write to."""
    store, nobody = MemoryStore(), 65534
    made = written(store, [content(700_000)])
    tmp_path.chmod(0o777)
    pid = os.fork()
    if not pid:
        try:
            os.chdir(tmp_path)
            if os.geteuid() == 0:
                os.setresgid(nobody, nobody, nobody)
                os.setresuid(nobody, nobody, nobody)
            caches = Path("caches")
            (caches / "plain").mkdir(parents=True)
            new = aside(bytes_path(caches, digest_of_copy(made)))
            new.write_bytes(b"half of it")
            new.chmod(0o400)
            os._exit(0 if save_plain(store, caches, made) else 1)
        except BaseException:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert there(tmp_path / "caches") == parts(made)
    assert damaged(tmp_path / "caches", store) == []


def writing(store: Store, file: Chunked) -> subprocess.Popen[str]:
    """A process that is making the copy of a file, and goes on when it gets a line."""
    arguments = [sys.executable, "-c", WRITER, str(store.path), file.list.hex(), str(file.size)]
    made = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=PROJECT)
    assert made.stdout is not None
    assert made.stdout.readline() == "at the last chunk\n"
    return made


def test_gc_is_not_stopped_by_what_is_no_copy(store: Store, file: Plain) -> None:
    """Whatever is under the names of bytes: of nobody's, and of those of a file that goes."""
    saved(store, file)
    elsewhere = MemoryStore()
    gone = written(elsewhere, [content(70_000)])
    assert save_plain(elsewhere, store.caches, gone)
    bytes_of(store, gone).unlink()
    bytes_of(store, gone).mkdir()
    top = store.caches / "plain"
    for name in ("1" * 64, "2" * 64 + ".new"):
        (top / name).mkdir()
    os.mkfifo(top / ("3" * 64))
    (top / ("4" * 64)).symlink_to(bytes_of(store, file))
    collect(store, since=NOW)
    assert is_right(store, file)
    assert not sums_of(store, gone).exists()
    assert not check(store).problems


# -- fsck


def told(store: Store) -> set[Path]:
    """The caches that a check tells of."""
    report = check(store)
    assert [problem.kind for problem in report.problems] == ["cache"] * len(report.caches)
    return report.caches


@pytest.mark.parametrize(("part", "place"), [
    *((bytes_path, place) for place in (0, 100, 2 * PAGE, 200_000, -1)),
    *((sums_path, place) for place in (3, 70, 100, 115, FIRST_SUM, -3)),
])  # fmt: skip
def test_fsck_tells_of_a_damaged_copy(store: Store, file: Plain, part: Part, place: int) -> None:
    saved(store, file)
    assert not check(store).problems
    flip(part(store.caches, digest_of_copy(file)), place)
    assert told(store) == {sums_of(store, file)}


@pytest.mark.parametrize("size", [0, 1, PAGE, 10 * PAGE + 1, -1, -PAGE])
def test_fsck_tells_of_bytes_that_are_cut_off(store: Store, file: Plain, size: int) -> None:
    path = saved(store, file)
    rewrite(path, path.read_bytes()[:size])
    assert told(store) == {sums_of(store, file)}


@pytest.mark.parametrize("more", [b"\0", bytes(PAGE), content(2 * PAGE)])
def test_fsck_tells_of_bytes_that_are_too_many(store: Store, file: Plain, more: bytes) -> None:
    path = saved(store, file)
    rewrite(path, path.read_bytes() + more)
    assert told(store) == {sums_of(store, file)}


@pytest.mark.parametrize(
    "make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("elsewhere")], ids=["directory", "fifo", "link"]
)
def test_fsck_tells_of_bytes_that_are_no_file(store: Store, file: Plain, make: Callable[[Path], None]) -> None:
    """As of any other cache that is none (test_check); nobody waits for it."""
    path = saved(store, file)
    path.unlink()
    make(path)
    assert told(store) == {sums_of(store, file)}


def test_fsck_tells_of_damage_in_what_the_earlier_version_left(store: Store, file: Plain) -> None:
    path = sums_of(store, file)
    path.write_bytes(earlier(file))
    flip(path, 2 * PAGE)
    assert told(store) == {path}


def test_fsck_says_nothing_of_bytes_that_are_left(store: Store, file: Plain) -> None:
    """Those are gc's."""
    path = saved(store, file)
    sums_of(store, file).unlink()
    aside(path).write_bytes(b"half of it")
    flip(path, 0)
    assert not check(store).problems


def test_a_repair_mends_a_damaged_copy(tmp_path: Path) -> None:
    """In place: who has it open, or has it by another name, has what is right from then on."""
    with Store.create(tmp_path / "store") as store:
        file = on_main(store, SIZES["list"])
        saved(store, file)
        caches, digest = store.caches, digest_of_copy(file)
    path = bytes_path(caches, digest)
    (caches / "other").hardlink_to(path)
    right = path.read_bytes()
    with (caches / "other").open("rb") as opened:
        flip(path, 5000)
        repaired = repair(tmp_path / "store")
        assert opened.read() == right
    assert repaired.report.problems == []
    assert repaired.done == [f"the plain copy {digest.hex()} is the file again"]
    assert path.stat().st_mode & 0o7777 == 0o400
    (caches / "other").unlink()


def test_a_repair_removes_a_copy_whose_sums_are_damaged(tmp_path: Path) -> None:
    with Store.create(tmp_path / "store") as store:
        file = on_main(store, SIZES["list"])
        saved(store, file)
        flip(sums_path(store.caches, digest_of_copy(file)), -1)
        caches, digest = store.caches, digest_of_copy(file)
    repaired = repair(tmp_path / "store")
    assert repaired.report.problems == []
    assert repaired.done == [f"the plain copy {digest.hex()} was deleted: it is made anew when it is wanted"]
    assert there(caches) == []


@pytest.mark.parametrize("damage", ["a byte", "cut short", "longer", "all", "a hole"])
@pytest.mark.parametrize("kind", SIZES)
def test_what_is_mended_is_the_file(store: Store, kind: str, damage: str) -> None:
    file = on_main(store, SIZES[kind])
    saved(store, file)
    digest = digest_of_copy(file)
    path = bytes_path(store.caches, digest)
    right, inode = path.read_bytes(), path.stat().st_ino
    wrong = {
        "a byte": right[:-1] + bytes([right[-1] ^ 1]),
        "cut short": right[:100],
        "longer": right + b"more",
        "all": bytes(byte ^ 255 for byte in right[:9000]),
        "a hole": bytes(len(right)),
    }[damage]
    path.chmod(0o600)
    path.write_bytes(wrong)
    assert not plain.is_whole(store.caches, digest)
    assert mend(store, store.caches, digest)
    assert (path.read_bytes(), path.stat().st_ino) == (right, inode)
    assert plain.is_whole(store.caches, digest)


def test_what_cannot_be_mended_is_removed(store: Store) -> None:
    file = on_main(store, SIZES["list"])
    saved(store, file)
    digest = digest_of_copy(file)
    with store.batch() as batch:
        other = written(batch, [content(SIZES["list"] - 5)])
    saved(store, other)
    body = plain.read_body(store.caches, digest_of_copy(other))
    assert body is not None
    name = digest.hex().encode() + b"\n"
    sums_path(store.caches, digest).write_bytes(name + blake3(body).digest() + body)
    with pytest.raises(Corrupt):
        mend(store, store.caches, digest)
    assert not sums_path(store.caches, digest).exists()
    assert not bytes_path(store.caches, digest).exists()
    with pytest.raises(Missing):
        mend(MemoryStore(), store.caches, digest_of_copy(other))
    assert there(store.caches) == []


def test_the_process_mends_what_is_damaged(store: Store) -> None:
    file = on_main(store, SIZES["list"])
    path = bytes_path(store.caches, digest_of_copy(file))
    saved(store, file)
    right, inode = path.read_bytes(), path.stat().st_ino
    flip(path, 77)
    assert plainwriter.begin(store.path, [file]).wait() == 0
    assert (path.read_bytes(), path.stat().st_ino) == (right, inode)
