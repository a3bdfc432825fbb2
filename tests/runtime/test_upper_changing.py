"""Uppers that change while they are scanned, and such as cannot be read."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from runtime.upper import content, pinned, scan_upper
from tests.runtime.overlay_cases import (
    Layers,
    exchange,
    names,
    needs_root,
    text,
)
from vcs import blobs
from vcs.errors import BadInput, Conflict, Denied
from vcs.snapshot import Snapshot

pytestmark = needs_root


# While a container runs


def before(monkeypatch: pytest.MonkeyPatch, function: str, name: bytes, action: object) -> None:
    """Do something once, just before pinned.<function> is called for a name."""
    original = getattr(pinned, function)
    pending = [action]

    def wrapper(*arguments: object) -> object:
        if name in arguments and pending:
            pending.pop()()  # type: ignore[operator]
        return original(*arguments)

    monkeypatch.setattr(pinned, function, wrapper)


def test_a_name_that_vanishes_was_never_there(layers: Layers, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("x", "f"):
        (layers.upper / name).write_text("upper")
    before(monkeypatch, "pin", b"x", (layers.upper / "x").unlink)
    found = layers.scanned()
    assert "/x" not in names(found)
    before(monkeypatch, "pin", b"f", (layers.upper / "f").unlink)
    assert text(layers.scanned(), "/f") == "base f"


def test_a_directory_that_becomes_something_else(layers: Layers, monkeypatch: pytest.MonkeyPatch) -> None:
    outside = layers.top / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    (layers.upper / "d").mkdir()

    def swap() -> None:
        (layers.upper / "d").rename(layers.top / "away")
        (layers.upper / "d").symlink_to(outside)

    before(monkeypatch, "open_directory", b"d", swap)
    found = layers.scanned()
    assert stat.S_ISLNK(found.lookup(b"/d").mode)
    assert not any("secret" in name for name in names(found))

    (layers.upper / "e").mkdir()
    before(monkeypatch, "open_directory", b"e", (layers.upper / "e").rmdir)
    assert "/e/i" in names(layers.scanned())


def test_a_directory_moved_away_while_deep_below_it(layers: Layers, monkeypatch: pytest.MonkeyPatch) -> None:
    path = layers.upper
    for _ in range(80):
        path = path / "n"
    path.mkdir(parents=True)
    (path / "leaf").touch()
    aside = layers.upper / "aside"
    aside.mkdir()
    moved = layers.upper / "n/n"
    before(monkeypatch, "pin", b"leaf", lambda: moved.rename(aside / "n"))
    with pytest.raises(Conflict):
        layers.scan()


def test_a_file_that_is_written_while_it_is_read(layers: Layers, monkeypatch: pytest.MonkeyPatch) -> None:
    log = layers.upper / "log"
    log.write_text("one")
    rounds: list[int] = []
    original = blobs.write_file

    def write_file(sink: object, fd: int, status: os.stat_result, before: object = None) -> object:
        found = original(sink, fd, status)  # type: ignore[arg-type]
        if len(rounds) < limit:
            rounds.append(1)
            with log.open("a") as file:
                file.write("+")
        return found

    monkeypatch.setattr(content, "write_file", write_file)
    limit = 1
    result = layers.scan()
    assert result.unsteady == ()
    assert text(Snapshot(layers.store, result.root), "/log") == "one+"
    rounds.clear()
    limit = 1000
    assert layers.scan().unsteady == (b"/log",)


def test_swapping_directories_for_links_never_leads_outside(layers: Layers) -> None:
    outside = layers.top / "outside"
    (outside / "sub").mkdir(parents=True)
    (outside / "sub/secret").write_text("secret")
    (layers.upper / "x/sub").mkdir(parents=True)
    (layers.upper / "y").symlink_to(outside)
    done = threading.Event()

    def swap() -> None:
        while not done.is_set():
            exchange(layers.upper / "x", layers.upper / "y")

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for _ in range(150):
            try:
                found = names(layers.scanned())
            except Conflict:
                continue
            assert not any("secret" in name for name in found)
    finally:
        done.set()
        thread.join()


# What cannot be read


def test_no_such_upper(layers: Layers) -> None:
    for path in (layers.top / "none", layers.lower / "f"):
        with pytest.raises(BadInput, match="is not a directory"):
            scan_upper(path, layers.base, layers.store)


def test_an_upper_of_somebody_else(layers: Layers) -> None:
    assert layers.base
    layers.top.chmod(0o755)
    (layers.upper / "hidden").mkdir(mode=0o700)
    (layers.upper / "hidden/file").touch()
    nobody = 65534
    pid = os.fork()
    if not pid:
        try:
            os.chdir(layers.top)
            os.setresgid(nobody, nobody, nobody)
            os.setresuid(nobody, nobody, nobody)
            scan_upper(Path("upper"), layers.base, layers.store)
        except Denied as error:
            os._exit(0 if error.facts["path"] == b"/hidden" else 2)
        except BaseException:
            os._exit(3)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_another_file_system_inside_the_upper(layers: Layers) -> None:
    (layers.top / "other").mkdir()
    other = Layers(layers.top / "other")
    (layers.upper / "here").mkdir()
    other.merged = layers.upper / "here"
    with other.mounted(), pytest.raises(BadInput, match="another file system"):
        layers.scan()
