"""How far a piece of work has come."""

from __future__ import annotations

import time
from pathlib import Path

from tests.support.scarcity import no_threads
from vcs.importer import import_directory
from vcs.progress import Forecast, Meter
from vcs.testing import MemoryStore


def make(top: Path) -> Path:
    for name in ("a", "one/b", "one/two/c", "one/two/d"):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(name)
    (top / "link").symlink_to("one")
    return top


def test_a_meter_tells_all_at_the_end() -> None:
    told: list[tuple[int, int]] = []
    meter = Meter(lambda files, size: told.append((files, size)))
    for _ in range(1000):
        meter.add(1, 10)
    meter.close()
    assert told[-1] == (1000, 10_000)
    assert 3 < len(told) < 100


def test_a_forecast_counts_what_an_import_counts(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    with Forecast(make(tmp_path)) as forecast:
        deadline = time.monotonic() + 20
        while forecast.files is None:
            assert time.monotonic() < deadline
            time.sleep(0.001)
    import_directory(MemoryStore(), tmp_path, progress=lambda files, size: told.append((files, size)))
    assert told[-1][0] == forecast.files == 5


def test_no_forecast(tmp_path: Path) -> None:
    with Forecast(None) as forecast:
        assert forecast.files is None
    with Forecast(tmp_path / "none") as forecast:
        assert forecast.files is None


def test_no_thread_for_a_forecast(tmp_path: Path) -> None:
    with no_threads(), Forecast(make(tmp_path)) as forecast:
        assert forecast.files is None


def test_a_large_file_is_told_while_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(range(256)) * (40 << 12))
    told: list[tuple[int, int]] = []
    import_directory(MemoryStore(), tmp_path, progress=lambda files, size: told.append((files, size)))
    assert [files for files, _ in told][:3] == [0, 0, 0]
    assert told[-1] == (1, 40 << 20)
