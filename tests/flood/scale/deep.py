"""Names of 255 bytes, a path as long as the kernel takes, and trees that are deeper than any path."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from tests.flood.place import Place
from tests.flood.scale.measured import Measured
from tests.flood.verdict import remove_all

LONGEST = "n" * 255
DEPTH = 1000
_MOST_ARGUMENT = 120_000
"""Bytes of a path that a command can be given (execve(2), MAX_ARG_STRLEN)."""
TREES: dict[str, list[str]] = {
    "a path of 4,095 bytes": [LONGEST] * 15 + ["m" * 100],
    "depth 1,000, a byte each": ["d"] * DEPTH,
    "depth 1,000, 255 bytes each": [LONGEST] * DEPTH,
}
"""What is made, by the names on the way down."""


def deep(place: Place, part: float) -> Iterator[str]:
    """Each of them alone: imported, changed, compared, exported, mounted, removed. A part is the last of them."""
    trees = list(TREES.items())
    for number, (title, names) in enumerate(trees[-max(1, round(len(trees) * part)) :]):
        below = Place(place.directory / str(number), place.expire, place.broken)
        below.directory.mkdir()
        measured = Measured(below)
        measured.begin(title)
        _all(measured, names)
        yield from measured.findings
        yield from remove_all(below, 300)


def _all(measured: Measured, names: list[str]) -> None:
    place = measured.place
    _make(place.base, names, b"base")
    measured.treering("import", place.base, "-b", "main", "-m", "base")
    measured.treering("import", place.base, "-b", "main", "-m", "again", "--allow-empty", label="import again")
    measured.through_the_mount("read", lambda top: _read(measured, top / "branches/main", names, b"base"))
    path = "/".join(names[: _MOST_ARGUMENT // len(f"{names[0]}/")])
    short = len(path) < 3500
    measured.treering("ls", "-R", "main", label="ls -R main")
    measured.treering("cat", f"main:{path}/leaf", label="cat main:PATH", may_refuse=not short)
    measured.treering("create", "--network", "none", "--name", "c", "main", "--", "sh", label="create")
    measured.treering("rm", "c", label="rm of an unstarted container")
    measured.treering("run", "-d", "--network", "none", "--name", "c", "main", "--", "sleep", "1000", label="run")
    _write(measured, names)
    measured.treering("status", "c", label="status")
    measured.treering("commit", "c", "-m", "changed", "-b", "changed", label="commit")
    measured.treering("stop", "-t", "0", "c", label="stop")
    measured.must_be("differences", len(_changes(measured, "main", "changed")), 2)
    measured.through_the_mount("read", lambda top: _read(measured, top / "branches/changed", names, b"changed"))
    measured.treering("diff", "--stat", "main", "changed", label="diff --stat")
    measured.treering("log", "main", "--", f"/{path}", label="log -- PATH", may_refuse=not short)
    measured.treering("blame", f"changed:{path}/leaf", label="blame PATH", may_refuse=not short)
    measured.treering("grep", "changed", "changed", label="grep")
    measured.treering("du", "main:/", label="du main:/", may_refuse=True)
    measured.treering("sbom", "main", label="sbom", may_refuse=True)
    measured.treering("merge", "changed", "--on", "main", "--no-ff", label="merge --no-ff")
    measured.treering("revert", "main", "--mainline", "1", label="revert")
    measured.treering("rollback", "c", "main~1", label="rollback (checkout)", may_refuse=True)
    out, archive = place.directory / "out", place.directory / "out.tar"
    if measured.treering("export", "changed", out, label="export to a directory", may_refuse=True).ok:
        _read(measured, out, names, b"changed")
        measured.treering("import", out, "-b", "back", "-m", "back", label="import of the export")
        _same(measured, "back", "changed")
    if measured.treering("export", "changed", archive, label="export to an archive", may_refuse=True).ok:
        label = "import of the archive"
        if measured.treering("import", archive, "-b", "tar", "-m", "tar", label=label, may_refuse=True).ok:
            _same(measured, "tar", "changed")
    measured.treering("save", "changed", "-o", place.directory / "image.tar", label="save", may_refuse=True)
    measured.treering("fork", "c", label="fork", may_refuse=True)
    measured.treering("rm", "-f", "c", label="rm")
    measured.treering("gc", label="gc")
    measured.check()
    measured.treering("gc", "--expire", "now", "--repack", label="gc --repack")
    measured.check()


def _same(measured: Measured, one: str, other: str) -> None:
    measured.must_be(f"what differs between {one} and {other}", _changes(measured, one, other), [])


def _changes(measured: Measured, one: str, other: str) -> list[object]:
    told = measured.treering("diff", one, other, label=f"diff {one} {other}").value
    return list(told if isinstance(told, list) else told["changes"])


def _write(measured: Measured, names: list[str]) -> None:
    """From outside, since a shell in the container knows where it is by its path."""
    (pid,) = (one["pid"] for one in measured.treering("ps").value)
    at = os.open(f"/proc/{pid}/root", os.O_RDONLY | os.O_DIRECTORY)
    for name in names:
        at = _into(at, name)
    for name in ("leaf", "other"):
        file = os.open(name, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o644, dir_fd=at)
        os.write(file, b"changed")
        os.close(file)
    os.close(at)


def _make(top: Path, names: list[str], data: bytes) -> None:
    """Directories one in another, by descriptors, since there is no path to the last; and a file in it."""
    at = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    for name in names:
        os.mkdir(name, dir_fd=at)
        at = _into(at, name)
    file = os.open("leaf", os.O_CREAT | os.O_WRONLY, 0o644, dir_fd=at)
    os.write(file, data)
    os.close(file)
    os.close(at)


def _read(measured: Measured, top: Path, names: list[str], data: bytes) -> None:
    at = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    for name in names:
        at = _into(at, name)
    file = os.open("leaf", os.O_RDONLY, dir_fd=at)
    measured.must_be("the file at the end", os.read(file, 100), data)
    os.close(file)
    os.close(at)


def _into(at: int, name: str) -> int:
    below = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=at)
    os.close(at)
    return below
