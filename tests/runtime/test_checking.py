"""Checking containers that somebody changes meanwhile: nothing is told that is not so."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime import check
from runtime.check import check_containers, keep_again
from runtime.containers import Container, Containers
from runtime.naming import Names
from runtime.settings import Settings
from tests.support.containers import remove
from vcs.history import Author, History
from vcs.model import EMPTY_FILE, Entry
from vcs.store import Store
from vcs.trees import write_root, write_tree

AUTHOR = Author("tester", "tester@localhost", int(time.time()))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.create(tmp_path / "store") as store:
        yield store


@pytest.fixture
def web(store: Store) -> Container:
    """A container on a commit."""
    with store.batch() as batch:
        tree = write_tree(batch, [Entry(b"file", 0o100644, 0, 0, 0, EMPTY_FILE)])
        root = write_root(batch, Entry(b"", 0o40755, 0, 0, 0, tree))
    commit = store.add_commit(root, {}, "base\n", AUTHOR)
    return Containers(store).create("main", commit, Settings(), AUTHOR, "web")


Before = Callable[[Any, str, Callable[[], object]], list[object]]


@pytest.fixture
def before(monkeypatch: pytest.MonkeyPatch) -> Before:
    """Have something happen before the first call of a function, once; returns what it did."""

    def arrange(owner: Any, name: str, happens: Callable[[], object]) -> list[object]:
        function = getattr(owner, name)
        done: list[object] = []

        def called(*arguments: Any, **options: Any) -> Any:
            if not done:
                done.append(None)
                done[0] = happens()
            return function(*arguments, **options)

        monkeypatch.setattr(owner, name, called)
        return done

    return arrange


PLACES = [(check, "load"), (History, "info"), (History, "target"), (Names, "owner"), (check, "is_damaged")]


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place[1])
def test_one_that_is_removed_meanwhile_has_no_faults(
    store: Store, web: Container, before: Before, place: tuple[Any, str]
) -> None:
    done = before(*place, lambda: remove(Containers(store), web))
    assert check_containers(store) == []
    assert done
    assert Containers(store).all() == []


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place[1])
def test_one_that_is_renamed_meanwhile_has_no_faults(
    store: Store, web: Container, before: Before, place: tuple[Any, str]
) -> None:
    done = before(*place, lambda: Containers(store).rename(web, "other"))
    assert check_containers(store) == []
    assert done
    assert [container.name for container in Containers(store).all()] == ["other"]


def test_faults_of_one_that_changes_are_told_all_the_same(store: Store, web: Container, before: Before) -> None:
    store.history.delete_all([web.record.ref(0)])
    done = before(History, "info", lambda: Containers(store).rename(web, "other"))
    assert [problem.message for problem in check_containers(store)] == [
        "the history has no ref that keeps generation 0 of 'other'"
    ]
    assert done


def test_what_is_removed_meanwhile_is_not_kept_again(store: Store, web: Container, before: Before) -> None:
    ref = web.record.ref(0)
    store.history.delete_all([ref])
    done = before(Containers, "changing", lambda: remove_once(store, web))
    assert keep_again(store, AUTHOR) == []
    assert done
    assert store.history.target(ref) is None


def remove_once(store: Store, web: Container) -> None:
    """Without the function that is waited for."""
    containers = Containers(store)
    containers.take_away(web)
    containers.finish_removing([web])
