"""Starts at a real service: two workers see a part each, and what they say is put together."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any, cast

import pytest

from fusefs.client import Service
from fusefs.startings import Startings
from fusefs.workers import Workers
from tests.fusefs.served import service
from tests.fusefs.serving import commit, needs_fuse
from vcs.encoding import digest
from vcs.errors import BadInput
from vcs.profiles import profile_path, save_profile
from vcs.store import Store

FILES = {f"f{number:03}": os.urandom(10_000) for number in range(100)}
READER = """
import sys
for name in sys.argv[2:]:
    open(f"{sys.argv[1]}/{name}", "rb").read()
"""


@needs_fuse
def test_what_workers_have_seen_is_put_together(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with Store.create(path) as store:
        root = store.commit(commit(store, FILES, "main")).root
    chunks = {digest(content) for content in FILES.values()}

    def start(profile: Path | None) -> tuple[list[bytes], int, int]:
        with service(path, workers=2) as served:
            served.lease.starting(root, profile)
            names = sorted(FILES)
            top = served.top / "trees" / root.hex()
            reading = [served.begin("python3", "-c", READER, top, *names[part::4]) for part in range(4)]
            for process in reading:
                served.finish(process)
            found = served.lease.started()
            assert served.lease.started() == ([], 0, 0)
            status = Service.status(path)
            assert status is not None
            assert (status["profiled"] > 0) == (profile is not None)
            return found

    objects, size, new = start(None)
    given = chunks - set(objects)
    assert len(given) < 90, "those that are given ahead count as well"
    assert size == new > 0
    with Store.open(path) as store:
        save_profile(store.caches, root, [*objects, *given], store)
    objects, size, new = start(profile_path(path / "caches", root))
    assert new == 0
    assert size > 0


@needs_fuse
def test_nonsense_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with Store.create(path) as store:
        commit(store, {"a": b"a"}, "main")
    with service(path) as served:
        for root, profile in ((b"short", None), (b"", None)):
            served.lease.starting(cast(Any, root), profile)
            with pytest.raises(BadInput):
                served.lease.started()
        served.lease.starting(cast(Any, bytes(32)), Path("/nowhere"))
        assert served.lease.started() == ([], 0, 0)


class Silent:
    """Workers that are told everything, and answer when the test does so for them."""

    def __init__(self) -> None:
        self.said: list[dict[str, Any]] = []

    def tell(self, message: dict[str, Any]) -> int:
        self.said.append(message)
        return 2


def test_a_worker_that_says_nothing_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    silent: Any = Silent()
    startings = Startings(cast(Workers, silent))
    answers: list[dict[str, Any]] = []
    with socket.socket() as client:
        startings.begin(client, "00" * 32, None)
        startings.finish(client, answers.append)
        silent.on_reads({"reads": 1, "objects": ["aa", "bb"], "size": 5, "new": 3})
        startings.tick()
        assert answers == []
        monkeypatch.setattr("fusefs.startings.time.monotonic", lambda: 1e12)
        startings.tick()
        assert answers == [{"ok": True, "objects": ["aa", "bb"], "size": 5, "new": 3}]
        silent.on_reads({"reads": 1, "objects": ["cc"], "size": 1, "new": 1})
        assert len(answers) == 1
        startings.begin(client, "00" * 32, None)
        startings.finish(client, answers.append)
        for part in ("bb", "aa"):
            silent.on_reads({"reads": 2, "objects": ["aa", part], "size": 5, "new": 0})
        assert answers[1] == {"ok": True, "objects": ["aa", "bb"], "size": 10, "new": 0}
    assert [next(iter(message)) for message in silent.said] == ["starting", "started"] * 2
