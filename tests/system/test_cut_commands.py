"""Whole commands on a history of which one loose object is cut off: each does its work, or ends with one error that
names the object and says what to do. None waits for the rest of it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.torture.__main__ import import_all
from tests.torture.operations import make_files
from tests.torture.stores import Place

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: containers")

STORY = (
    "init",
    "import root -m first",
    "branch side",
    "import other -m second",
    "import third -b side -m third",
    "tag v1 -m words",
    "create --name web main",
    "cp root/etc/motd web:/etc/more",
    "note add main -m words",
)
OBJECTS = {
    "a commit": "main",
    "its parent": "main~1",
    "a tree": "main^{tree}",
    "a file": "main:root",
    "a tag": "refs/tags/v1",
    "a note": "refs/notes/commits^{tree}",
}
LOOKS = (
    "log", "log --format json v1", "log :/second", "show main", "show main~1", "show v1", "show main@{0}",
    "show main^{/first}", "diff main~1 main", "blame main:/etc/motd", "note list", "ls main:/", "fsck",
)  # fmt: skip
CHANGES = (
    "branch new v1", "tag new main -m words", "create --name new main", "merge side", "rebase side main",
    "squash main~1", "cherry-pick side", "revert main", "commit web -m x", "bisect start main main~1",
    "note append main -m more", "undo", "gc", "import other -m again",
)  # fmt: skip
FAILED = 125
MINE = (0, 1, FAILED)
"""How commands end that are no business of the command line's: done, conflicts or damage told, an error."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    import_all()
    made = Place(tmp_path_factory.mktemp("cut"))
    make_files(made.directory)
    for line in STORY:
        made.must(*line.split())
    made.keep()
    yield made
    made.leave()


def cut(place: Place, revision: str) -> str:
    """Leave only half of an object's file; returns its id."""
    git = place.store / "history.git"
    command = ["git", "-c", "safe.directory=*", "-C", str(git), "rev-parse", revision]
    oid: str = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    file = git / "objects" / oid[:2] / oid[2:]
    file.chmod(0o644)
    os.truncate(file, file.stat().st_size // 2)
    return oid


@pytest.mark.parametrize("kind", OBJECTS)
def test_each_command_comes_to_its_end(place: Place, kind: str) -> None:
    place.set_back()
    oid = cut(place, OBJECTS[kind])
    failed = 0
    for line in (*LOOKS, *CHANGES):
        done = place.run(*line.split())
        assert done.code in MINE, f"{line}: {done.code}\n{done.err}"
        assert not done.is_late, line
        if done.code == FAILED:
            assert f"git object {oid} is damaged: its file is cut off" in done.err, f"{line}: {done.err}"
            assert "treering fsck" in done.err, f"{line}: {done.err}"
            failed += 1
        elif line == "fsck":
            assert done.code == 1, done.out
            assert oid in done.out, done.out
        elif line in CHANGES:
            place.set_back()
            cut(place, OBJECTS[kind])
    assert failed, "it was read by none"


def test_a_mount_has_an_error_there_and_shows_the_rest(place: Place) -> None:
    place.set_back()
    shown = place.directory / "shown"
    shown.mkdir()
    cut(place, "main")
    place.must("mount", str(shown))
    try:
        assert read(shown / "branches/side/etc/motd") == "ONE\ntwo\nthree\nfour\nfive\n"
        assert f"error {errno.EIO}" in read(shown / "branches/main/etc/motd")
    finally:
        place.run("umount", str(shown))
        place.leave()


READ = """
import sys
try:
    print(open(sys.argv[1]).read(), end="")
except OSError as error:
    print("error", error.errno)
"""


def read(path: Path) -> str:
    """By a process of its own, which can be ended whatever it waits for."""
    command = [sys.executable, "-c", READ, str(path)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
