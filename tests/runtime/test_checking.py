"""Checking containers that somebody changes meanwhile: nothing is told that is not so."""

from __future__ import annotations

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
from tests.support.operations import AUTHOR, add
from vcs.history import History
from vcs.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.create(tmp_path / "store") as store:
        yield store


@pytest.fixture
def web(store: Store) -> Container:
    """A container on a commit."""
    return Containers(store).create("main", add(store, 1), Settings(), AUTHOR, "web")


Before = Callable[[Any, str, Callable[[], object]], list[str]]


@pytest.fixture
def before(monkeypatch: pytest.MonkeyPatch) -> Before:
    """Have something happen before the first call of a function; returns a list that has its name from then on."""

    def arrange(owner: Any, name: str, happens: Callable[[], object]) -> list[str]:
        function = getattr(owner, name)
        done: list[str] = []

        def called(*arguments: Any, **options: Any) -> Any:
            if not done:
                done.append(name)
                happens()
            return function(*arguments, **options)

        monkeypatch.setattr(owner, name, called)
        return done

    return arrange


PLACES = [(check, "parse"), (History, "info"), (History, "target"), (Names, "owner"), (check, "is_damaged")]


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
    done = before(Containers, "changing", lambda: remove(Containers(store), web))
    assert keep_again(store, AUTHOR) == []
    assert done
    assert store.history.target(ref) is None
