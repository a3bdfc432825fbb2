"""What tests of repairs do to a store, and how it is looked at afterwards."""

from __future__ import annotations

from pathlib import Path

from tests.support.flips import Expected
from vcs.check import check
from vcs.store import Store


def assert_whole(store: Path, expected: Expected) -> None:
    with Store.open(store) as opened:
        assert check(opened).problems == []
    reading = expected.compare(store)
    assert (reading.wrong, reading.failed) == ([], 0)


def layers(store: Path) -> list[Path]:
    return sorted((store / "layers").glob("*.layer"), key=lambda path: -path.stat().st_size)


def flip(path: Path, *positions: int) -> None:
    data = bytearray(path.read_bytes())
    for position in positions:
        data[position] ^= 0x20
    path.chmod(0o600)
    path.write_bytes(data)
