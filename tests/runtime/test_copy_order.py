"""Files that wait until they are synced: what comes of a copy is the same as if none had waited."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.copying import target as targets
from runtime.copying.item import Copied, Item
from runtime.copying.target import Owners, Target, strictly

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

PATHS = [b"a", b"b", b"c", b"a/a", b"a/b", b"b/a", b"c/a"]
KINDS = [stat.S_IFREG, stat.S_IFREG, stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK]


@st.composite
def items(draw: st.DrawFn) -> list[Item]:
    """Names, some of them more than once; other names of earlier files among them."""
    made: list[Item] = []
    for number in range(draw(st.integers(1, 12))):
        path, kind = draw(st.sampled_from(PATHS)), draw(st.sampled_from(KINDS))
        files = [one.path for one in made if stat.S_ISREG(one.mode) and one.path != path]
        first = draw(st.sampled_from(files)) if files and stat.S_ISREG(kind) and draw(st.booleans()) else None
        made.append(item(path, kind | 0o755, number, first))
    return made


def item(path: bytes, mode: int, number: int, link: bytes | None = None) -> Item:
    def pieces() -> Iterator[tuple[int, bytes]]:
        yield 0, b"%d" % number * (number + 1)

    is_data = stat.S_ISREG(mode) and link is None
    return Item(
        path, mode, 0, 0, number, target=b"%d" % number, link=link, pieces=pieces if is_data else None
    )  # fmt: skip


def copied(directory: Path, wanted: list[Item], *, durable: bool) -> str | None:
    """Make the items; the path of what was refused."""
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    try:
        aside = b".aside-" if durable else None
        with closing(Target(strictly(fd), b"/", None, Owners(keep=True), Copied(), aside)) as target:
            for one in wanted:
                target.add(one)
            target.finish()
    except OSError as error:
        return os.fsdecode(error.filename)
    finally:
        os.close(fd)
    return None


def seen(directory: Path) -> list[tuple[object, ...]]:
    """Names, what is there, and which are names of one file."""
    found: list[tuple[object, ...]] = []
    first: dict[int, Path] = {}
    for path in sorted(directory.rglob("*")):
        status, name = path.lstat(), path.relative_to(directory)
        data = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        times = None if stat.S_ISDIR(status.st_mode) else status.st_mtime_ns
        found.append((name, status.st_mode, data, times, first.setdefault(status.st_ino, name)))
    return found


@settings(max_examples=300)
@given(items())
def test_waiting_changes_nothing(wanted: list[Item]) -> None:
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as directory:
        patch.setattr(targets, "_SYNCED_FILES", 4)
        at_once, later = Path(directory, "at-once"), Path(directory, "later")
        at_once.mkdir()
        later.mkdir()
        refused = copied(at_once, wanted, durable=False)
        answered = copied(later, wanted, durable=True)
        assert (answered is None) == (refused is None)  # not the same: of two errors the second may come first
        if refused is None:
            assert seen(later) == seen(at_once)
        else:  # what waited when the error came has no name, and nothing has a name that is not its own
            names = {name for name, *_ in seen(later)}
            assert names <= {Path(os.fsdecode(path)) for path in PATHS}


def test_what_was_not_finished_has_no_name(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    with closing(Target(strictly(fd), b"/", None, Owners(keep=True), Copied(), b".aside-")) as target:
        target.add(item(b"a", stat.S_IFREG | 0o644, 1))
    os.close(fd)
    assert list(tmp_path.iterdir()) == []
