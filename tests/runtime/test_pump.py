"""The thread that carries a container's output."""

from __future__ import annotations

import os
from pathlib import Path

from runtime.pump import Pump


def test_outputs_that_share_a_file_do_not_overwrite_one_another(tmp_path: Path) -> None:
    """As `(treering run a & treering run b) > log`: one open file, with one position, for all of them."""
    shared = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    line, lines, writers = b"x" * 63 + b"\n", 400, 6
    pumps, sources = [], []
    for _ in range(writers):
        reader, writer = os.pipe()
        pumps.append(Pump(reader, os.dup(shared)))
        sources.append(writer)
    for pump in pumps:
        pump.start()
    for _ in range(lines):
        for source in sources:
            os.write(source, line)
    for source in sources:
        os.close(source)
    for pump in pumps:
        pump.join()
    os.close(shared)
    assert (tmp_path / "log").read_bytes() == line * lines * writers


def test_a_pipe_gets_everything(tmp_path: Path) -> None:
    data = os.urandom(1 << 20)
    source, feed = os.pipe()
    result, sink = os.pipe()
    pump = Pump(source, sink)
    pump.start()
    gathered = []
    with os.fdopen(feed, "wb") as file, os.fdopen(result, "rb") as out:
        for start in range(0, len(data), 65536):
            file.write(data[start : start + 65536])
            file.flush()
            gathered.append(out.read(65536))
    pump.join()
    assert b"".join(gathered) == data
