"""What overlays stand on: chosen by what the kernel and the service have."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runtime import lowers
from runtime.lowers import lower_of, with_data
from vcs.model import RootId

ROOT = RootId(b"r" * 32)
NAME = ROOT.hex()


@pytest.fixture
def mountpoint(tmp_path: Path) -> Path:
    """As the view looks."""
    (tmp_path / "mnt/trees" / NAME).mkdir(parents=True)
    (tmp_path / "mnt/.treering/lowers" / NAME).mkdir(parents=True)
    (tmp_path / "mnt/.treering/lowers/data").symlink_to("/somewhere/run/data/1-2")
    return tmp_path / "mnt"


def of_release(monkeypatch: pytest.MonkeyPatch, release: str, *, confined: bool = False) -> None:
    kernel = os.uname_result(("Linux", "here", release, "#1", "x86_64"))
    monkeypatch.setattr(os, "uname", lambda: kernel)
    monkeypatch.setattr(lowers, "in_user_namespace", lambda: confined)


@pytest.mark.parametrize(
    ("release", "confined", "has_data"),
    [
        ("6.8.0-31-generic", False, True),
        ("6.7.12", False, False),
        ("5.10.0-9-amd64", False, False),
        ("7.0.0", False, True),
        ("6.15.4", True, False),
        ("6.16.0", True, True),
    ],
)
def test_it_has_a_data_layer_if_the_kernel_has(
    mountpoint: Path, monkeypatch: pytest.MonkeyPatch, release: str, confined: bool, has_data: bool
) -> None:
    of_release(monkeypatch, release, confined=confined)
    lower = lower_of(mountpoint, ROOT)
    assert lower == mountpoint / (".treering/lowers" if has_data else "trees") / NAME
    assert with_data(lower) == (lower, Path("/somewhere/run/data/1-2") if has_data else None)


def test_a_service_may_have_none(mountpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of_release(monkeypatch, "6.18.0")
    before = lower_of(mountpoint, ROOT)
    (mountpoint / ".treering/lowers").rename(mountpoint / ".treering/other")
    lower = lower_of(mountpoint, ROOT)
    assert lower == mountpoint / "trees" / NAME
    assert with_data(lower) == (lower, None)
    assert with_data(before) == (lower, None), "a supervisor that goes on was told of it when there was one"
