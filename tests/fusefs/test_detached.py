"""Processes of ours that say when they are ready."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fusefs import detached
from vcs.errors import Denied, NotAStore, StoreError


def test_what_it_fails_with_is_raised(tmp_path: Path) -> None:
    log = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    with pytest.raises(NotAStore) as caught:
        detached.start("runtime.ownmount", ["--store", str(tmp_path), "--at", str(tmp_path)], log)
    assert caught.value.facts["path"] == str(tmp_path)
    os.close(log)
    assert "is not a store" in (tmp_path / "log").read_text()


def test_one_that_says_nothing(tmp_path: Path) -> None:
    log = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    with pytest.raises(StoreError, match="did not start") as caught:
        detached.start("runtime.no_such_module", [], log)
    os.close(log)
    assert caught.value.facts["log"] == str(tmp_path / "log")


def test_an_error_is_the_same_on_the_other_side() -> None:
    ready, told = os.pipe()
    detached.tell(told, detached.failure(Denied("no\nway", path=Path("/x"))))
    with open(ready, "rb") as pipe, pytest.raises(Denied, match="no\nway") as caught:
        detached.checked(pipe.readline())
    assert caught.value.facts == {"path": "/x"}
    with pytest.raises(StoreError, match="gone"):
        detached.checked(b'{"ok": false, "kind": "annotations", "message": "gone"}')
    with pytest.raises(StoreError, match="Is a directory"):
        detached.checked(b'{"ok": false, "kind": "StoreError", "message": "Is a directory", "facts": {}}')
