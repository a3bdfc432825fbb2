"""Loose objects of git's that are cut off: whatever is asked of a history, git's library is never given one, of which
it would wait for the rest for ever. Each question is asked in a process of its own, which an alarm ends."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable
from pathlib import Path

import pygit2
import pytest

from tests.torture.processes import untraced
from vcs.errors import Corrupt
from vcs.gitobjects import GitObjects
from vcs.history import Author, History
from vcs.model import CommitId, RootId
from vcs.packing import Packing

ANA = Author("Ana", "ana@example.org", 1_700_000_000)
ROOT = RootId(b"r" * 32)
MAIN = "refs/heads/main"
CUTS: dict[str, Callable[[bytes], bytes]] = {
    "half": lambda data: data[: len(data) // 2],
    "a byte": lambda data: data[:-1],
    "all": lambda _: b"",
}
Ids = dict[str, CommitId]


@pytest.fixture
def ids(tmp_path: Path) -> Ids:
    """A history of three commits on main, one beside them, and a tag: what they are by name."""
    history = History.create(tmp_path / "history.git", tmp_path / "refs.lock")
    large = {"words": random.Random(5).randbytes(100_000).hex()}
    first = history.write_commit(ROOT, {}, "one\n", ANA, ())
    second = history.write_commit(ROOT, {"Cmd": ["two"]}, "two\n", ANA, (first,))
    third = history.write_commit(ROOT, large, "three\n", ANA, (second,))
    side = history.write_commit(ROOT, {}, "side\n", ANA, (second,))
    history.move(MAIN, third, None, "one", ANA)
    history.move("refs/heads/side", side, None, "side", ANA)
    history.tag("v1", third, "words", ANA)
    tag = history.target("refs/tags/v1")
    assert tag is not None
    history.close()
    found = pygit2.Repository(str(tmp_path / "history.git"))
    trees = {name: found[oid].peel(pygit2.Tree) for name, oid in {"second": second, "third": third}.items()}
    return {
        "first": first, "second": second, "third": third, "side": side, "tag": tag,
        "tree": CommitId(str(trees["second"].id)), "large": CommitId(str(trees["third"]["config.json"].id)),
    }  # fmt: skip


def cut(path: Path, oid: str, how: str = "half") -> None:
    file = path / "history.git/objects" / oid[:2] / oid[2:]
    data = file.read_bytes()
    file.chmod(0o644)
    file.write_bytes(CUTS[how](data))


def told(path: Path, question: Callable[[History], object]) -> str:
    """What Corrupt a question ends with."""

    def work() -> int:
        history = History(path / "history.git", path / "refs.lock")
        try:
            question(history)
        except Corrupt as error:
            os.write(1, str(error).encode())
            return 0
        return 1

    done = untraced(work, path)
    assert not done.code, (done.code, done.out, done.err)
    return done.out


QUESTIONS: dict[str, tuple[str, Callable[[History, Ids], object]]] = {
    "a name": ("third", lambda history, at: history.resolve("main")),
    "an id": ("third", lambda history, at: history.resolve(at["third"])),
    "the beginning of an id": ("third", lambda history, at: history.resolve(at["third"][:9])),
    "before": ("second", lambda history, at: history.resolve("main~1")),
    "before that": ("second", lambda history, at: history.resolve("main~2")),
    "a parent": ("second", lambda history, at: history.resolve("main^")),
    "a reflog": ("third", lambda history, at: history.resolve("main@{0}")),
    "words": ("second", lambda history, at: history.resolve(":/one")),
    "words before": ("second", lambda history, at: history.resolve("main^{/one}")),
    "what a name leads to": ("tree", lambda history, at: history.resolve("main~1^{tree}")),
    "a file": ("tree", lambda history, at: history.resolve("main~1:root")),
    "a tag": ("tag", lambda history, at: history.resolve("v1")),
    "what a tag leads to": ("third", lambda history, at: history.resolve("v1^{}")),
    "log": ("second", lambda history, at: list(history.log([at["third"]]))),
    "log without": ("second", lambda history, at: list(history.log([at["third"]], None, [at["side"]]))),
    "every commit": ("second", lambda history, at: history.commit_ids()),
    "an ancestor": ("second", lambda history, at: history.is_ancestor(at["first"], at["third"])),
    "a base": ("second", lambda history, at: history.merge_base([at["third"], at["side"]])),
    "another parent": ("third", lambda history, at: history.write_commit(ROOT, {}, "x\n", ANA, (at["third"],))),
    "info": ("third", lambda history, at: history.info(at["third"])),
    "a large file": ("large", lambda history, at: history.config(at["third"])),
}  # fmt: skip


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_that_comes_upon_one_is_told_which(tmp_path: Path, ids: Ids, question: str) -> None:
    name, ask = QUESTIONS[question]
    cut(tmp_path, ids[name])
    assert f"git object {ids[name]} is damaged" in told(tmp_path, lambda history: ask(history, ids))


@pytest.mark.parametrize("how", CUTS)
@pytest.mark.parametrize("name", ["third", "tag", "tree", "large"])
def test_it_is_told_however_much_is_missing(tmp_path: Path, ids: Ids, name: str, how: str) -> None:
    cut(tmp_path, ids[name], how)

    def ask(_: History) -> None:
        objects = GitObjects(tmp_path / "history.git")
        with objects.asking() as repository:
            repository[ids[name]].read_raw()

    assert ids[name] in told(tmp_path, ask)


def test_one_in_a_directory_that_was_not_there_is_told(tmp_path: Path, ids: Ids) -> None:
    """The names of directories are read once."""

    def ask(history: History) -> None:
        history.raw(ids["first"])
        made = ids["first"]
        while (tmp_path / "history.git/objects" / made[:2]).exists():
            made = history.write_commit(ROOT, {}, f"after {made}\n", ANA, (ids["first"],))
            if len(list((tmp_path / "history.git/objects" / made[:2]).iterdir())) == 1:
                break
        cut(tmp_path, made)
        history.raw(made)

    assert "is cut off" in told(tmp_path, ask)


def test_a_collection_packs_none_and_removes_garbage(tmp_path: Path, ids: Ids, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vcs.packing._LOOSE_KEPT", 0)
    history = History(tmp_path / "history.git", tmp_path / "refs.lock")
    garbage = history.write_commit(ROOT, {}, "garbage\n", ANA, ())
    history.close()
    cut(tmp_path, garbage)
    cut(tmp_path, ids["large"])

    def collect(_: History) -> None:
        packing = Packing(tmp_path / "history.git")
        packing.add([ids["third"], ids["side"], ids["tag"]])
        assert packing.garbage().objects == 1
        packing.pack()

    assert ids["large"] in told(tmp_path, collect)


def test_threads_ask_without_waiting_for_one_another_for_ever(tmp_path: Path, ids: Ids) -> None:
    """git's library holds a lock while it asks for an object, and we let go of Python's."""

    def ask(_: History) -> None:
        objects = GitObjects(tmp_path / "history.git")

        def work() -> None:
            for _ in range(300):
                for name in ("first", "second", "third"):
                    objects.read(ids[name])
                    objects.close()

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        raise Corrupt("all were told")

    assert "all were told" in told(tmp_path, ask)
