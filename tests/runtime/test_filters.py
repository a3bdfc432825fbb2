"""Compiled filters: what crun is given is what it would have made."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.settings import Security
from tests.support.containers import Bench, bench

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

FORBIDDEN = "unshare -U true 2>&1; grep '^Seccomp:' /proc/self/status"


@pytest.fixture
def place() -> Iterator[Bench]:
    with bench("crun") as made:
        yield made


def annotated(bundle: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads((bundle / "config.json").read_bytes()).get("annotations", {})
    return found


def test_the_second_container_is_given_what_the_first_left(place: Bench) -> None:
    first, second = place.container(), place.container()
    told = [place.run("sh", "-c", FORBIDDEN, paths=paths) for paths in (first, second)]
    assert told[0] == told[1]
    assert "Seccomp:\t2" in told[0][1]
    assert not annotated(first.bundle)
    assert annotated(second.bundle)
    (kept,) = (place.path / "run/filters").iterdir()
    assert kept.stat().st_size > 4096


def test_other_capabilities_have_another_filter(place: Bench) -> None:
    place.run("true")
    place.run("true", security=Security(cap_add=("CAP_SYS_ADMIN",)))
    assert len(list((place.path / "run/filters").iterdir())) == 2


def test_what_a_killed_supervisor_left_half_written_goes(place: Bench) -> None:
    place.run("true")
    (kept,) = (place.path / "run/filters").iterdir()
    with subprocess.Popen(["true"]) as ended:
        ended.wait()
    kept.rename(kept.with_name(f".{kept.name}-{ended.pid}"))
    place.run("true")
    assert list((place.path / "run/filters").iterdir()) == [kept]


@pytest.mark.parametrize("damage", [b"", b"short", b"\0" * 9032])
def test_a_damaged_one_is_made_anew(place: Bench, damage: bytes) -> None:
    place.run("true")
    (kept,) = (place.path / "run/filters").iterdir()
    whole = kept.read_bytes()
    kept.write_bytes(damage)
    code, output = place.run("sh", "-c", FORBIDDEN)
    assert code == 0
    assert "Seccomp:\t2" in output
    assert kept.read_bytes() == whole
