"""Containers of which something is missing: a record that cannot be read, a removal that was killed."""

from __future__ import annotations

import time
from pathlib import Path

from runtime.containers import Containers
from runtime.settings import Settings
from runtime.trash import Trash
from tests.support.values import root
from vcs.check import check
from vcs.history import Author
from vcs.model import EMPTY_FILE, Entry
from vcs.store import Store
from vcs.trees import write_root, write_tree


def test_a_damaged_record_hides_one_container_only(tmp_path: Path) -> None:
    author = Author("tester", "tester@localhost", int(time.time()))
    with Store.create(tmp_path / "store") as store:
        with store.batch() as batch:
            tree = write_tree(batch, [Entry(b"file", 0o100644, 0, 0, 0, EMPTY_FILE)])
            top = write_root(batch, Entry(b"", 0o40755, 0, 0, 0, tree))
        commit = store.add_commit(top, {}, "base\n", author)
        containers = Containers(store)
        good = containers.create("main", commit, Settings(), author, "good")
        bad = containers.create("main", commit, Settings(), author, "bad")
        newer = containers.create("main", commit, Settings(), author, "newer")
        bad.paths.record.write_text("{")
        newer.paths.record.write_text(newer.paths.record.read_text().replace('"version": 2', '"version": 9'))
        assert [container.name for container in containers.all()] == ["good"]
        assert sorted(error.kind for error in containers.damaged) == ["Corrupt", "UnknownFormat"]
        assert containers.find("good").id == good.id


def test_a_removal_that_was_killed_before_its_end_keeps_no_commit_for_ever(tmp_path: Path) -> None:
    author = Author("tester", "tester@localhost", 1_700_000_000)
    with Store.create(tmp_path / "store") as store:
        with store.batch() as batch:
            made = root(batch, {"a": b"a"})
        commit = store.add_commit(made, {}, "one\n", author, ())
        store.history.move("refs/heads/main", commit, None, "one", author)
        containers = Containers(store)
        gone, stays = (containers.create("main", commit, Settings(), author, name) for name in ("gone", "stays"))
        with containers.changing(gone):
            containers.take_away(gone)  # and finish_removing() is not reached
        containers.forget_gone()
        assert set(store.history.refs("refs/containers/")) == {f"{stays.id}/0"}
        assert {path.name for path in (store.path / "containers/.names").iterdir()} == {".complete", "stays"}
        assert check(store).problems == []


def test_trash_that_cannot_be_looked_at_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    Trash(tmp_path / "file").leave()
