"""Which container has which name: the index says it, whatever was killed meanwhile."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.check import check_containers
from runtime.containers import Container, Containers
from runtime.settings import Settings
from tests.support.containers import remove
from vcs.errors import AlreadyExists, NotFound
from vcs.history import Author
from vcs.model import EMPTY_FILE, CommitId, Entry
from vcs.store import Store
from vcs.trees import write_root, write_tree

AUTHOR = Author("tester", "tester@localhost", int(time.time()))


class Place:
    """A store with a commit."""

    def __init__(self, store: Store) -> None:
        with store.batch() as batch:
            tree = write_tree(batch, [Entry(b"file", 0o100644, 0, 0, 0, EMPTY_FILE)])
            root = write_root(batch, Entry(b"", 0o40755, 0, 0, 0, tree))
        self.commit: CommitId = store.add_commit(root, {}, "base\n", AUTHOR)
        self.containers = Containers(store)
        self.index = store.path / "containers" / ".names"

    def make(self, name: str | None = None) -> Container:
        return self.containers.create("main", self.commit, Settings(), AUTHOR, name)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with Store.create(tmp_path / "store") as store:
        yield Place(store)


def test_made_renamed_and_removed(place: Place) -> None:
    web = place.make("web")
    with pytest.raises(AlreadyExists):
        place.make("web")
    place.containers.rename(web, "old")
    assert place.containers.find("old").id == web.id
    with pytest.raises(NotFound):
        place.containers.find("web")
    again = place.make("web")
    remove(place.containers, again)
    with pytest.raises(NotFound):
        place.containers.find("web")
    assert [place.make().name, place.make().name] == ["main-1", "main-2"]
    assert sorted(path.name for path in place.index.iterdir()) == [".complete", "main-1", "main-2", "old"]


def test_without_the_index_it_is_made_anew(place: Place) -> None:
    web = place.make("web")
    shutil.rmtree(place.index)
    assert place.containers.find("web").id == web.id
    with pytest.raises(AlreadyExists):
        place.make("web")
    place.make("other")
    assert sorted(path.name for path in place.index.iterdir()) == [".complete", "other", "web"]


def test_after_a_boot_it_is_made_anew_since_a_power_cut_may_have_taken_names(place: Place) -> None:
    web = place.make("web")
    (place.index / "web").unlink()
    (place.index / ".complete").write_text("8c3ed8a5-3f5a-4f0b-9c1f-6b0a2f8f6b1e")
    assert check_containers(place.containers.store) == []
    with pytest.raises(AlreadyExists):
        place.make("web")
    assert (place.index / "web").read_text() == web.id


def test_a_name_that_a_killed_command_left_is_free(place: Place) -> None:
    web = place.make("web")
    (place.index / "ghost").write_text("0" * 64)
    (place.index / "other").write_text(web.id)
    for name in ("ghost", "other"):
        made = place.make(name)
        assert place.containers.find(name).id == made.id
    assert place.containers.find("web").id == web.id


def test_an_id_is_found_by_its_beginning(place: Place) -> None:
    web = place.make("web")
    assert place.containers.find(web.id[:12]).name == "web"
    named = place.make(web.id[:12])
    assert place.containers.find(web.id[:12]).id == named.id, "names come first"


def test_a_damaged_entry_is_told_and_does_no_harm(place: Place) -> None:
    web = place.make("web")
    store = place.containers.store
    assert check_containers(store) == []
    (place.index / "web").write_text("f" * 64)
    assert ["the index of names is damaged" in problem.message for problem in check_containers(store)] == [True]
    assert place.containers.find("web").id == web.id
    with pytest.raises(AlreadyExists):
        place.make("web")
    shutil.rmtree(place.index)
    with pytest.raises(AlreadyExists):
        place.make("web")
    assert check_containers(store) == []
