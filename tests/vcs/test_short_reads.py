"""A disk that fails in the middle of a file: read(2) gives what comes before, and only the next one the error."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.collecting import commit, noise
from vcs.blobs import CHUNK_MAX
from vcs.durable import read_all
from vcs.errors import BadInput
from vcs.importer import import_directory
from vcs.layers.reader import LayerReader
from vcs.store import Store
from vcs.testing import MemoryStore

BAD = 4096
"""Where the disk fails, in each file that is longer."""


class Disk:
    """What read(2) and pread(2) do on one that fails at BAD, in files of a size."""

    def __init__(self, patched: pytest.MonkeyPatch, bad: Callable[[int], bool], *, error: bool = True) -> None:
        self._pread, self._bad, self._error = os.pread, bad, error
        patched.setattr(os, "pread", self.pread)
        patched.setattr(os, "read", lambda fd, size: self.pread(fd, size, os.lseek(fd, 0, os.SEEK_CUR), moving=True))

    def pread(self, fd: int, size: int, start: int, *, moving: bool = False) -> bytes:
        if self._bad(os.fstat(fd).st_size) and start < BAD < start + size:
            size = BAD - start
        elif self._bad(os.fstat(fd).st_size) and start == BAD and self._error:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        data = self._pread(fd, size, start)
        if moving:
            os.lseek(fd, start + len(data), os.SEEK_SET)
        return data


def test_reading_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f"
    data = noise(1, 3 * BAD)
    path.write_bytes(data)
    with path.open("rb") as file, monkeypatch.context() as patched:
        Disk(patched, lambda size: size == len(data), error=False)
        assert read_all(file.fileno(), len(data)) == data
        assert read_all(file.fileno(), 2 * BAD, 10) == data[10 : 10 + 2 * BAD]
        assert read_all(file.fileno(), 10 * BAD, 10) == data[10:]
        assert read_all(file.fileno(), 10, 10 * BAD) == b""


@pytest.mark.parametrize("size", [BAD + 1, CHUNK_MAX, 4 * CHUNK_MAX])
def test_a_file_that_cannot_be_read_to_its_end_is_not_imported_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    (tmp_path / "f").write_bytes(noise(1, size))
    with monkeypatch.context() as patched:
        Disk(patched, lambda found: found == size)
        with pytest.raises((BadInput, OSError), match="Input/output error"):
            import_directory(MemoryStore(), tmp_path)
    assert import_directory(MemoryStore(), tmp_path).entries == 1


def test_patterns_that_cannot_be_read_to_their_end_take_nothing_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patterns = b"#" * (2 * BAD) + b"\nsecret\n"
    (tmp_path / ".treeringignore").write_bytes(patterns)
    (tmp_path / "secret").write_text("hunter2")
    Disk(monkeypatch, lambda found: found == len(patterns))
    with pytest.raises((BadInput, OSError), match="Input/output error"):
        import_directory(MemoryStore(), tmp_path)


def test_a_layer_has_no_half_of_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or gc would make another of it, in which its objects are missing."""
    with Store.create(tmp_path / "store") as store:
        commit(store, {f"f{number}": noise(number, 900) for number in range(4000)})
    (path,) = (tmp_path / "store/layers").glob("*.layer")
    reader = LayerReader(path)
    asked: list[tuple[int, int]] = []
    pread = os.pread

    def first_half(fd: int, size: int, start: int) -> bytes:
        asked.append((start, size))
        return pread(fd, size // 2 if size > 1 else size, start)

    numbers = range(reader.block_count)
    whole = [reader.objects(number) for number in numbers]
    stored = [reader.stored(number) for number in numbers]
    monkeypatch.setattr(os, "pread", first_half)
    assert [reader.objects(number) for number in numbers] == whole
    assert [reader.stored(number) for number in numbers] == stored
    assert asked
    reader.close()


def test_without_proc_nothing_is_taken_for_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "link").symlink_to("f")
    look = os.stat

    def blind(path: object, **named: object) -> os.stat_result:
        if str(path).startswith("/proc/"):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return look(path, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "stat", blind)
    with pytest.raises(BadInput, match="/proc"):
        import_directory(MemoryStore(), tmp_path)
