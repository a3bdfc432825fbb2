"""What is left of refs that a killed process was about to make: nothing that a check takes for damage, and gc removes
it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.killing import killed_anywhere
from tests.support.values import root
from vcs.check import check
from vcs.collect import collect
from vcs.history import Author
from vcs.model import CommitId
from vcs.store import Store

AUTHOR = Author("Ada Tester", "ada@example.org", 1_700_000_000)
MAIN = "refs/heads/main"
NEW = "refs/heads/new"


def add(store: Store, text: bytes, *parents: CommitId) -> CommitId:
    with store.batch() as batch:
        made = root(batch, {"a": text})
    return store.add_commit(made, {}, "a change\n", AUTHOR, parents)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store whose main has one commit."""
    with Store.create(tmp_path / "store") as store:
        commit = add(store, b"one")
        store.history.move(MAIN, commit, None, "one", AUTHOR)
    return tmp_path / "store"


def begun(path: Path) -> tuple[Path, Path]:
    """As libgit2 leaves it when it is killed in the making of NEW: its lock, and the reflog without the ref."""
    with Store.open(path) as store:
        store.history.move(NEW, main(store), None, "new", AUTHOR)
    git = path / "history.git"
    (git / NEW).rename(git / f"{NEW}.lock")
    return git / f"{NEW}.lock", git / "logs" / NEW


def main(store: Store) -> CommitId:
    found = store.history.target(MAIN)
    assert found is not None
    return found


def problems(path: Path) -> list[str]:
    with Store.open(path) as store:
        return [problem.message for problem in check(store).problems]


def test_a_reflog_without_its_ref_is_damage_but_for_a_killed_process(path: Path) -> None:
    lock, _ = begun(path)
    assert problems(path) == []
    lock.unlink()
    assert problems(path) == [f"{NEW} is gone, but has a reflog"]


def test_a_ref_that_was_moved_before_is_missed_though_packed_refs_is_locked(path: Path) -> None:
    with Store.open(path) as store:
        second = add(store, b"two", main(store))
        store.history.move(MAIN, second, main(store), "two", AUTHOR)
    (path / "history.git" / MAIN).unlink()
    (path / "history.git/packed-refs.lock").touch()
    assert problems(path) == [f"{MAIN} is gone, but has a reflog"]


def test_gc_removes_what_a_killed_process_left(path: Path) -> None:
    lock, log = begun(path)
    with Store.open(path) as store:
        collect(store, since=0.0)
    assert not lock.exists()
    assert not log.exists()
    assert problems(path) == []


def test_who_takes_the_lock_away_takes_the_reflog_too(path: Path) -> None:
    lock, log = begun(path)
    (path / "history.git/packed-refs.lock").touch()
    with Store.open(path) as store:
        store.history.name_all({"refs/containers/a/0": main(store)}, "made", AUTHOR)
    assert not lock.exists()
    assert not log.exists()
    assert problems(path) == []


def test_many_refs_that_a_killed_process_was_making_or_removing(path: Path, tmp_path: Path) -> None:
    refs = [f"refs/containers/{name}/0" for name in "abc"]

    def work(arm: object) -> None:
        with Store.open(path) as store:
            commit = main(store)
            arm()  # type: ignore[operator]
            store.history.name_all(dict.fromkeys(refs, commit), "made", AUTHOR)
            store.history.delete_all(refs)

    for _ in killed_anywhere(work, tmp_path / "errors"):
        assert problems(path) == []
        with Store.open(path) as store:
            found = [ref for ref in refs if store.history.target(ref)]
            store.history.delete_all(found)
        assert problems(path) == []


def test_a_store_whose_making_was_killed_can_be_made(tmp_path: Path) -> None:
    path = tmp_path / "store"

    def work(arm: object) -> None:
        arm()  # type: ignore[operator]
        Store.create(path).close()

    for _ in killed_anywhere(work, tmp_path / "errors"):
        if not (path / "format").exists():
            shutil.copytree(path, tmp_path / "again", symlinks=True) if path.exists() else None
            Store.create(tmp_path / "again").close()
            assert problems(tmp_path / "again") == []
            shutil.rmtree(tmp_path / "again")
            continue
        assert problems(path) == []
        break


def test_making_a_store_removes_no_history(path: Path) -> None:
    (path / "format").unlink()
    for file in ("operations.log", "operations.reflogs"):
        if (path / file).is_file():
            (path / file).unlink()
    with Store.create(path) as store:
        assert store.commit(main(store)).parents == ()


def test_a_lock_that_is_its_ref_too_is_no_obstacle_to_its_end(path: Path) -> None:
    with Store.open(path) as store:
        store.history.move(NEW, main(store), None, "new", AUTHOR)
    git = path / "history.git"
    (git / f"{NEW}.lock").hardlink_to(git / NEW)  # libgit2 links it to its name, and was killed before it was removed
    with Store.open(path) as store:
        store.history.delete(NEW)
        assert store.history.target(NEW) is None
    assert problems(path) == []
