"""One container's record cannot be read: the others are not affected."""

from __future__ import annotations

import time
from pathlib import Path

from runtime.containers import Containers
from runtime.settings import Settings
from vcs.history import Author
from vcs.model import EMPTY_FILE, Entry
from vcs.store import Store
from vcs.trees import write_root, write_tree


def test_a_damaged_record_hides_one_container_only(tmp_path: Path) -> None:
    author = Author("tester", "tester@localhost", int(time.time()))
    with Store.create(tmp_path / "store") as store:
        with store.batch() as batch:
            tree = write_tree(batch, [Entry(b"file", 0o100644, 0, 0, 0, EMPTY_FILE)])
            root = write_root(batch, Entry(b"", 0o40755, 0, 0, 0, tree))
        commit = store.add_commit(root, {}, "base\n", author)
        containers = Containers(store)
        good = containers.create("main", commit, Settings(), author, "good")
        bad = containers.create("main", commit, Settings(), author, "bad")
        newer = containers.create("main", commit, Settings(), author, "newer")
        bad.paths.record.write_text("{")
        newer.paths.record.write_text(newer.paths.record.read_text().replace('"version": 2', '"version": 9'))
        assert [container.name for container in containers.all()] == ["good"]
        assert sorted(error.kind for error in containers.damaged) == ["Corrupt", "UnknownFormat"]
        assert containers.find("good").id == good.id
