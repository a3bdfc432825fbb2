"""A thousand containers at once, each with a file of its own; afterwards nothing is left of them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.flood import processes
from tests.flood.place import Place
from tests.flood.scale.measured import Measured
from tests.flood.verdict import remove_all
from vcs.history import BRANCHES
from vcs.store import Store

COUNT = 1000
_AT_ONCE = 2
_LOOKED_AT = 20


def containers(place: Place, part: float) -> Iterator[str]:
    """Started, listed, entered, committed while they run, stopped by a kill, removed."""
    count = max(4, int(COUNT * part))
    measured = Measured(place)
    measured.begin(f"{count:,} containers")
    measured.treering("import", place.base, "-b", "main", "-m", "base")
    with measured.timed(f"started, {_AT_ONCE} commands at once"):
        _start(measured, count)
    listed = measured.treering("ps", "-a").value
    measured.must_be("containers that run", sum(one["state"] == "running" for one in listed), count)
    some = range(0, count, max(1, count // _LOOKED_AT))
    for number in some:
        out = measured.treering("exec", f"c{number}", "cat", "/data/own", label=f"exec c{number}").out
        measured.must_be(f"what c{number} has written", out, f"{number}\n")
        measured.treering("commit", f"c{number}", "-m", "live", "-b", f"b{number}", label=f"commit c{number}")
    with Store.open(place.store) as store:
        for number in some:
            commit = store.history.target(f"{BRANCHES}b{number}")
            found = store.snapshot(store.commit(commit).root) if commit else None
            told = found.read(found.lookup(b"data/own").content) if found else b""  # type: ignore[arg-type]
            measured.must_be(f"what is committed of c{number}", told, b"%d\n" % number)
    measured.treering("stats", "--no-stream", may_refuse=True, label="stats --no-stream")
    measured.treering("gc")
    measured.check()
    _memory(measured)
    measured.treering("rm", "-f", "--all", "--discard", label=f"rm -f --all, of {count:,}")
    measured.must_be("containers left", measured.treering("ps", "-a").value, [])
    measured.check()
    yield from measured.findings
    yield from remove_all(place, 600)


def _start(measured: Measured, count: int) -> None:
    place = measured.place
    command = ["run", "-d", "--network", "none", "--name", "c{}", "main", "--", "sh", "-c"]
    write = "echo {} > /data/own; exec sleep 10000"
    done = subprocess.run(
        ["xargs", f"-P{_AT_ONCE}", "-I{}", str(Path(sys.executable).with_name("treering")), *command, write],
        env=place.environment(), input="\n".join(map(str, range(count))), text=True, capture_output=True, check=False,
    )  # fmt: skip
    if done.returncode:
        measured.findings.append(f"run: {done.stderr[-1000:]}")


def _memory(measured: Measured) -> None:
    peaks: dict[str, int] = {}
    for one in processes.of(measured.place.directory):
        peaks[one.role] = max(peaks.get(one.role, 0), processes.peak(one.pid))
    for role, peak in sorted(peaks.items()):
        print(f"most memory of a {role}: {peak / 1e6:.0f} MB")
