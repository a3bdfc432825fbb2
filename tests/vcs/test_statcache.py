"""What the stat cache remembers, and above all what it does not."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vcs.model import Chunked, Data
from vcs.statcache import StatCache

CONTENT = Data(3, b"x" * 32)
HOUR = 3_600_000_000_000


def later() -> int:
    return time.time_ns() + HOUR


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_text("one")
    return path


def test_an_unchanged_file_is_known(file: Path) -> None:
    cache = StatCache()
    assert cache.get(file.stat()) is None
    cache.put(file.stat(), CONTENT, later())
    assert cache.get(file.stat()) == CONTENT


def test_a_file_that_changed_just_before_it_was_read_is_not_trusted(file: Path) -> None:
    """Git's racy rule: another change within the same tick of the clock would not be seen."""
    cache = StatCache()
    cache.put(file.stat(), CONTENT, time.time_ns())
    cache.put(file.stat(), CONTENT, file.stat().st_ctime_ns)
    assert cache.get(file.stat()) is None


def test_nor_is_one_from_the_future(file: Path) -> None:
    cache = StatCache()
    os.utime(file, ns=(0, later() + HOUR))
    cache.put(file.stat(), CONTENT, later())
    assert cache.get(file.stat()) is None


def test_a_clock_of_whole_seconds_has_a_longer_tick(file: Path) -> None:
    class Status:
        st_dev = st_ino = st_size = 1
        st_mtime_ns = st_ctime_ns = 1_000_000_000_000

    cache = StatCache()
    cache.put(Status(), CONTENT, Status.st_ctime_ns + 1_900_000_000)  # type: ignore[arg-type]
    assert cache.get(Status()) is None  # type: ignore[arg-type]
    cache.put(Status(), CONTENT, Status.st_ctime_ns + 2_000_000_001)  # type: ignore[arg-type]
    assert cache.get(Status()) == CONTENT  # type: ignore[arg-type]


def test_any_change_is_noticed_even_if_size_and_mtime_are_put_back(file: Path) -> None:
    cache = StatCache()
    before = file.stat()
    cache.put(before, CONTENT, later())
    deadline = time.monotonic() + 10
    while file.stat().st_ctime_ns == before.st_ctime_ns and time.monotonic() < deadline:
        file.write_text("two")
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert cache.get(file.stat()) is None


def test_another_file_is_not_taken_for_it(file: Path, tmp_path: Path) -> None:
    cache = StatCache()
    cache.put(file.stat(), CONTENT, later())
    other = tmp_path / "other"
    other.write_text("one")
    assert cache.get(other.stat()) is None


def test_saved_and_loaded(file: Path, tmp_path: Path) -> None:
    cache = StatCache()
    cache.put(file.stat(), Chunked(3, b"l" * 32, 0), later())
    cache.save(tmp_path / "cache", b"stamp")
    assert sorted(os.listdir(tmp_path)) == ["cache", "file"]
    assert StatCache.load(tmp_path / "cache", b"stamp").get(file.stat()) == Chunked(3, b"l" * 32, 0)
    assert StatCache.load(tmp_path / "cache", b"another").get(file.stat()) is None
    assert StatCache.load(tmp_path / "none").get(file.stat()) is None


def test_what_nobody_asked_for_is_not_saved_again(file: Path, tmp_path: Path) -> None:
    cache = StatCache()
    cache.put(file.stat(), CONTENT, later())
    cache.save(tmp_path / "cache")
    unused = StatCache.load(tmp_path / "cache")
    assert len(unused) == 0
    unused.save(tmp_path / "cache")
    assert StatCache.load(tmp_path / "cache").get(file.stat()) is None


@given(position=st.integers(0, 10_000), bit=st.integers(0, 7), cut=st.booleans())
def test_a_damaged_cache_is_an_empty_one(
    tmp_path_factory: pytest.TempPathFactory, position: int, bit: int, cut: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged"
    cache = StatCache()
    status = Path(__file__).stat()
    cache.put(status, CONTENT, later())
    cache.save(path)
    data = bytearray(path.read_bytes())
    position %= len(data)
    if cut:
        del data[position:]
    else:
        data[position] ^= 1 << bit
    path.write_bytes(data)
    assert StatCache.load(path).get(status) is None
