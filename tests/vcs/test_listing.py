"""What is in a directory: nothing only if there is no such directory, never because it could not be looked at."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vcs.existing import files_below, names_in

Lister = Callable[[Path], object]
listers = pytest.mark.parametrize("lister", [names_in, files_below])


@pytest.fixture
def top(tmp_path: Path) -> Path:
    for name in ("b", "a/deep/er", "a/c", "empty/.keep"):
        path = tmp_path / "top" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "top/empty/.keep").unlink()
    (tmp_path / "top/loop").symlink_to(tmp_path / "top")
    (tmp_path / "top/link").symlink_to(tmp_path / "top/b")
    return tmp_path / "top"


def test_names_and_files(top: Path) -> None:
    assert set(names_in(top)) == {"a", "b", "empty", "link", "loop"}
    assert files_below(top) == [top / "a/c", top / "a/deep/er", top / "b", top / "link"]


@listers
def test_what_is_no_directory_has_none(top: Path, lister: Lister) -> None:
    assert list(lister(top / "absent")) == list(lister(top / "b")) == []  # type: ignore[call-overload]


@listers
@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EIO, errno.ENOMEM, errno.EMFILE])
def test_one_that_cannot_be_listed_is_an_error(
    top: Path, lister: Lister, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(path: object) -> Iterator[object]:
        raise OSError(number, os.strerror(number), path)

    monkeypatch.setattr(os, "scandir", failing)
    monkeypatch.setattr(os, "listdir", failing)
    with pytest.raises(OSError, match=os.strerror(number)):
        lister(top)


def test_a_directory_that_goes_meanwhile_has_no_files(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def racing(path: Path) -> object:
        if path.name == "deep":
            (top / "a/deep/er").unlink()
            (top / "a/deep").rmdir()
        return scandir(path)

    monkeypatch.setattr(os, "scandir", racing)
    assert files_below(top) == [top / "a/c", top / "b", top / "link"]
