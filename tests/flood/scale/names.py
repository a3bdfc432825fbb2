"""A directory with a million names."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.flood.place import Place
from tests.flood.scale.measured import Measured
from tests.flood.verdict import remove_all

COUNT = 1_000_000


def names(place: Place, part: float) -> Iterator[str]:
    """Imported, listed, mounted, changed by one name in a container, compared, checked and removed."""
    count = max(100, int(COUNT * part))
    measured = Measured(place)
    measured.begin(f"a directory with {count:,} names")
    large = place.base / "large"
    with measured.timed("made on the disk"):
        _fill(large, count)
    done = measured.treering("import", place.base, "-b", "main", "-m", "base")
    measured.must_be("entries imported", done.value["entries"] > count, True)
    measured.treering("import", place.base, "-b", "main", "-m", "again", "--allow-empty", label="import again")
    measured.treering("branch", "other", "main")
    measured.treering("import", place.base, "-b", "third", "-m", "read", "--rescan", label="import --rescan")
    (large / "n0000001").write_text("changed")
    measured.treering("import", place.base, "-b", "main", "-m", "one", label="import, one file changed")
    listed = measured.treering("ls", "main:/large").value
    measured.must_be("names listed", len(listed), count)
    measured.through_the_mount("names through the mount", lambda top: _listed(measured, top, count))
    write = "echo new > /large/added; rm /large/n0000002"
    measured.treering("run", "--network", "none", "--name", "c", "main", "--", "sh", "-c", write)
    measured.must_be("changes in the container", len(measured.treering("status", "c").value), 2)
    measured.treering("commit", "c", "-m", "one change", "-b", "changed")
    told = measured.treering("diff", "main", "changed").value
    measured.must_be("differences", len(told if isinstance(told, list) else told["changes"]), 2)
    measured.treering("log", "changed", "--", "/large/added")
    measured.treering("blame", "changed:large/added")
    measured.treering("rm", "c", "--discard")
    measured.treering("merge", "changed", "--on", "other", label="merge changed --on other")
    measured.treering("du")
    measured.treering("export", "changed", place.directory / "out.tar", may_refuse=True)
    measured.treering("gc")
    measured.check()
    measured.treering("gc", "--expire", "now", "--repack")
    measured.check()
    yield from measured.findings
    yield from remove_all(place, 600)


def _fill(directory: Path, count: int) -> None:
    directory.mkdir()
    top = os.open(directory, os.O_RDONLY)
    try:
        for number in range(count):
            os.close(os.open(f"n{number:07}", os.O_CREAT | os.O_WRONLY, 0o644, dir_fd=top))
    finally:
        os.close(top)


def _listed(measured: Measured, top: Path, count: int) -> None:
    out = subprocess.run(["ls", "-f", top / "branches/main/large"], check=True, capture_output=True).stdout
    measured.must_be("names through the mount", len(out.split()) - 2, count)
