"""A watch notices whatever is done to files of its directories."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.cli import client, preloading, watching
from runtime.cli.watching import Watch


def write(file: Path) -> None:
    with file.open("r+") as opened:
        opened.write("x")


def replace(file: Path) -> None:
    other = file.with_name("other")
    other.write_text("other")
    other.rename(file)


@pytest.mark.parametrize("change", [write, replace, Path.unlink, lambda file: file.with_name("new").touch()])
def test_a_change_is_noticed(tmp_path: Path, change: Callable[[Path], None]) -> None:
    file = tmp_path / "file"
    file.write_text("text")
    watch = Watch([str(tmp_path)])
    file.read_text()
    assert watch.is_quiet()
    change(file)
    assert not watch.is_quiet()


def test_others_may_ask_too(tmp_path: Path) -> None:
    watch = Watch([str(tmp_path)])
    (tmp_path / "new").touch()
    child = os.fork()
    if not child:
        os._exit(watch.is_quiet())
    assert os.waitpid(child, 0)[1] == 0


def test_what_others_may_change_is_not_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError):
        Watch([str(tmp_path / "none")])
    monkeypatch.setattr(watching, "_LOCAL", set())
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError, match="others may change"):
        Watch([str(tmp_path)])
    assert len(os.listdir("/proc/self/fd")) == len(before)


@pytest.mark.parametrize("is_watched", [True, False])
def test_a_program_is_current_until_a_file_of_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_watched: bool
) -> None:
    if not is_watched:
        monkeypatch.setattr(watching, "_LOCAL", set())
    package = tmp_path / "program" / "runtime"
    (package / "cli").mkdir(parents=True)
    for name in ("one.py", "cli/two.py"):
        (package / name).write_text("# a module\n")
    modules = {f"module{at}": type("M", (), {"__file__": str(path)}) for at, path in enumerate(package.rglob("*.py"))}
    monkeypatch.setattr(client, "__file__", str(package / "cli/client.py"))
    monkeypatch.setattr(preloading, "sys", type("S", (), {"modules": modules}))

    program = preloading.Program()
    assert program.is_current()
    (package / "leftover").touch()
    assert program.is_current(), "no file of it"
    write(package / "cli/two.py")
    assert not program.is_current()

    program = preloading.Program()
    package.rename(tmp_path / "program" / "old")
    (package / "cli").mkdir(parents=True)
    for name in ("one.py", "cli/two.py"):
        (package / name).write_text("# a module\n")
    assert not program.is_current(), "another directory is in its place"
