"""Who reads here and there in a large file of a mount has a plain copy of it made, and the next mount reads that."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import Cli, stop_service
from tests.fusefs.serving import needs_fuse
from tests.support.containers import eventually
from vcs.model import Chunked
from vcs.plain import PAGE
from vcs.plainwriter import save_plain
from vcs.snapshot import Snapshot
from vcs.store import Store

pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="needs root: caches are dropped"), needs_fuse]

SIZE = 16 << 20


def records(seed: int) -> bytes:
    """A large file that compresses: pages of one that does not come alone, and are as good as a copy's."""
    made = random.Random(seed)
    return b"".join(made.randbytes(3000) + bytes(PAGE - 3000) for _ in range(SIZE // PAGE))


LARGE = records(1)
PLACES = [number * (SIZE // 64) + PAGE for number in range(64)]
"""In different chunks, mostly."""


@pytest.fixture
def large(cli: Cli, tmp_path: Path) -> Cli:
    """A store in which `large` has a large file."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/data").write_bytes(LARGE)
    cli("import", str(tmp_path / "tree"), "-b", "large")
    return cli


def scattered(box: Cli, point: Path, *options: str) -> bytes:
    """The pages at PLACES, read in a mount of which nothing is in the page cache."""
    point.mkdir(exist_ok=True)
    assert box.process("mount", *options, str(point)).returncode == 0
    try:
        fd = os.open(point / "branches/large/data", os.O_RDONLY)
        try:
            return b"".join(os.pread(fd, PAGE, place) for place in PLACES)
        finally:
            os.close(fd)
    finally:
        assert box.process("umount", str(point)).returncode == 0
        stop_service(box.store)


def copies(box: Cli) -> list[tuple[Path, Path]]:
    """Those that are complete: their bytes and their sums."""
    caches = box.store / "caches"
    found = [(caches / "plain" / path.name.removeprefix("plain-"), path) for path in caches.glob("plain-*")]
    return [(data, sums) for data, sums in found if data.exists() and not sums.suffix]


def expected(data: bytes) -> bytes:
    return b"".join(data[place : place + PAGE] for place in PLACES)


@pytest.mark.parametrize("driver", ["native", "libfuse"])
def test_the_next_cold_mount_reads_the_copy(large: Cli, tmp_path: Path, driver: str) -> None:
    assert scattered(large, tmp_path / "mnt") == expected(LARGE)
    ((path, sums),) = eventually(lambda: copies(large))
    assert path.read_bytes() == LARGE
    assert sums.stat().st_size == 65 + 32 + 17 + 8 + 8 * (SIZE // PAGE)
    large("fsck", "--read-data")
    # A copy that is whole, of another file, in the place of this one, shows where bytes come from.
    other = records(2)
    (tmp_path / "tree/data").write_bytes(other)
    large("import", str(tmp_path / "tree"), "-b", "other")
    with Store.open(large.store) as store:
        content = Snapshot(store, store.commit(store.history.resolve("other")).root).lookup(b"data").content
        assert isinstance(content, Chunked)
        path.unlink()
        sums.unlink()
        assert save_plain(store, store.caches, content)
    ((foreign, its_sums),) = copies(large)
    foreign.rename(path)
    its_sums.rename(sums)
    assert scattered(large, tmp_path / "mnt", "--driver", driver) == expected(other)
    data = bytearray(path.read_bytes())
    data[PLACES[0]] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)
    assert scattered(large, tmp_path / "mnt", "--driver", driver) == expected(LARGE)
    eventually(lambda: not _makers(large.store))
    assert not path.exists() or path.read_bytes() == LARGE, "another may have been made"
    assert path.exists() == sums.exists()
    assert scattered(large, tmp_path / "mnt", "--driver", driver) == expected(LARGE)
    large("fsck", "--read-data")


def test_a_store_may_have_none(large: Cli, tmp_path: Path) -> None:
    history = large.store / "history.git"
    subprocess.run(["git", "-C", history, "config", "treering.plainCopies", "0"], check=True)
    assert scattered(large, tmp_path / "mnt") == expected(LARGE)
    eventually(lambda: not _makers(large.store))
    assert list((large.store / "caches").glob("plain*")) == []


def _makers(store: Path) -> list[str]:
    """The processes that make copies of files of a store."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if os.fsencode(store) in words and any(b"vcs.plain" in word for word in words):
            found.append(path.parent.name)
    return found
