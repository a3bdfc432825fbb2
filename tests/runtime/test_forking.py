"""Forks: what they are called, their settings, that all of them are made or none, and how many are started at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime import starting
from runtime.check import check_containers
from runtime.containers import Container, Containers
from runtime.forking import Plan, fork, promote
from runtime.settings import Mount, Port, Restart, Settings
from runtime.starting import start_many
from runtime.states import States
from tests.support.containers import remove
from tests.support.values import root
from vcs.check import check
from vcs.errors import Conflict, EngineError, InvalidName
from vcs.history import BRANCHES, Author
from vcs.model import CommitId
from vcs.store import Store

ANA = Author("Ana", "ana@example.org", 1_700_000_000)
MAIN = BRANCHES + "main"


@pytest.fixture
def containers(tmp_path: Path) -> Iterator[Containers]:
    with Store.create(tmp_path / "store") as store:
        grow(store, None, b"base")
        yield Containers(store)


def grow(store: Store, parent: CommitId | None, content: bytes) -> CommitId:
    """A commit on main."""
    with store.writing():
        with store.batch() as batch:
            made = root(batch, {"etc": {"file": content}})
        commit = store.add_commit(made, {}, "a commit\n", ANA, (parent,) if parent else ())
        store.history.move(MAIN, commit, parent, "made", ANA)
    return commit


def source(containers: Containers, settings: Settings = Settings(), name: str = "web") -> Container:  # noqa: B008
    return containers.create("main", containers.store.history.resolve("main"), settings, ANA, name)


def test_settings_are_the_sources_but_for_what_only_one_can_have() -> None:
    settings = Settings(
        args=("serve",), env=("A=1", "B=2"), user="ana", hostname="box", remove=True,
        restart=Restart("always"), mounts=(Mount("bind", "/data", "/srv"),),
        ports=(Port(80, 8080, "127.0.0.1"), Port(53, 0, protocol="udp")),
    )  # fmt: skip
    same = Plan(3, "x").settings(settings)(2, "x-2")
    assert same.ports == (Port(80, 0, "127.0.0.1"), Port(53, 0, protocol="udp"))
    assert not same.remove
    assert (same.args, same.env, same.user, same.hostname) == (("serve",), ("A=1", "B=2"), "ana", "box")
    assert (same.mounts, same.restart) == (settings.mounts, settings.restart)
    other = Plan(3, "x", ("try", "{i}"), ("B={i}/{n}", "C={name}")).settings(settings)(2, "x-2")
    assert other.args == ("try", "2")
    assert other.env == ("A=1", "B=2/3", "C=x-2")
    assert other.restart == Restart(), "a command of its own runs once"


def test_words_between_braces_that_are_no_fields_stay() -> None:
    plan = Plan(9, "x", ("awk {print $1} {} {{i}} {{name}} {j} {i}{i}",))
    assert plan.settings(Settings())(4, "x-4").args == ("awk {print $1} {} {i} {name} {j} 44",)


def test_names_that_are_taken_are_passed_over(containers: Containers) -> None:
    web = source(containers)
    source(containers, name="web-2")
    assert [one.name for one in fork(containers, web, Plan(3, "web"), ANA)] == ["web-1", "web-3", "web-4"]
    made = fork(containers, web, Plan(2, "web", ("{i} {name}",)), ANA)
    assert [one.record.settings.args for one in made] == [("1 web-5",), ("2 web-6",)]
    with pytest.raises(InvalidName):
        fork(containers, web, Plan(2, "a/b"), ANA)
    with pytest.raises(InvalidName):
        fork(containers, web, Plan(10, "x" * 62), ANA)
    assert len(containers.all()) == 7


def test_many_are_as_one(containers: Containers) -> None:
    """They are found, checked, changed and removed like those that were made one at a time."""
    web = source(containers)
    made = fork(containers, web, Plan(40, "f"), ANA)
    assert [one.id for one in containers.all()] == [web.id, *(one.id for one in made)]
    assert check_containers(containers.store) == []
    history, states = containers.store.history, States(containers)
    assert {history.target(one.ref) for one in made} == {web.base}
    one = containers.find("f-7")
    commit = states.commit(one, "an empty one", ANA, allow_empty=True).commit
    assert states.head(containers.reload(one)) == commit
    states.rollback(one, web.base, ANA)
    assert check_containers(containers.store) == []
    remove(containers, one)
    for other in made[:3]:
        with containers.changing(other) as now:
            containers.take_away(now)
    containers.finish_removing(made[:3])
    assert len(containers.all()) == 37
    assert check_containers(containers.store) == []
    assert len(history.refs("refs/containers/")) == 37


def test_all_or_none(containers: Containers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever fails while they are made, and before they can be found."""
    web = source(containers)

    def full(*_: Any) -> None:
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patch:
        patch.setattr("runtime.making.sync_all", full)
        with pytest.raises(Exception, match="No space left"):
            fork(containers, web, Plan(5, "f"), ANA)
    assert [one.name for one in containers.all()] == ["web"]
    assert len(containers.store.history.refs("refs/containers/")) == 1
    assert len(fork(containers, web, Plan(5, "f"), ANA)) == 5
    names = os.listdir(containers.store.path / "containers")
    assert [name for name in names if name.startswith(".")] == [".names"], "what was left of the first try is gone"
    assert check_containers(containers.store) == []


@pytest.mark.parametrize("point", ["vcs.gitfiles.sync_all", "vcs.gitfiles._add_packed", "pathlib.Path.rename"])
def test_killed_while_they_are_made(containers: Containers, monkeypatch: pytest.MonkeyPatch, point: str) -> None:
    """When their reflogs are there, when their refs are, when some of them can be found."""
    web = source(containers)
    store = containers.store
    child = os.fork()
    if not child:
        left = iter(range(3))
        rename = Path.rename

        def kill(*arguments: Any) -> Any:
            if point == "pathlib.Path.rename" and next(left, None) is not None:
                return rename(*arguments)
            os.kill(os.getpid(), signal.SIGKILL)
            return None

        monkeypatch.setattr(point, kill)
        try:
            with Store.open(store.path) as other:
                fork(Containers(other), web, Plan(6, "f"), ANA)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    found = len(containers.all())
    assert found == (4 if point == "pathlib.Path.rename" else 1)
    assert check_containers(store) == []
    assert len(fork(containers, web, Plan(6, "f"), ANA)) == 6
    assert check_containers(store) == []
    assert check(store).problems == []
    assert len(store.history.refs("refs/containers/")) == len(containers.all()) == found + 6


# -- starting


def pretend(monkeypatch: pytest.MonkeyPatch, deed: Any) -> None:
    """Let `deed` stand for the start of a container, which has tests of its own: here it is about who calls it."""

    def start(_: Containers, container: Container, author: Author, *, detach: bool) -> int:
        assert detach
        assert author == ANA
        deed(container)
        return 0

    monkeypatch.setattr(starting, "start", start)


def marks(containers: Containers) -> set[str]:
    return {one.name for one in containers.all() if (one.paths.directory / "begun").exists()}


@pytest.mark.parametrize("at_once", [1, 3, 50])
def test_each_is_started_once(containers: Containers, monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    made = fork(containers, source(containers), Plan(10, "f"), ANA)

    def begin(container: Container) -> None:
        (container.paths.directory / "begun").open("x").close()
        if container.name in ("f-3", "f-8"):
            raise EngineError("no such command", exit_code=127)

    pretend(monkeypatch, begin)
    told = {one.name: error for one, error in start_many(containers, made, ANA, at_once)}
    assert marks(containers) == told.keys() == {one.name for one in made}
    failed = {name: error for name, error in told.items() if error}
    assert {name: (str(error), error.facts) for name, error in failed.items()} == {
        name: ("no such command", {"exit_code": 127}) for name in ("f-3", "f-8")
    }


def test_a_worker_that_is_killed_is_told_of(containers: Containers, monkeypatch: pytest.MonkeyPatch) -> None:
    made = fork(containers, source(containers), Plan(6, "f"), ANA)

    def begin(container: Container) -> None:
        if container.name == "f-4":
            os.kill(os.getpid(), signal.SIGKILL)

    pretend(monkeypatch, begin)
    told = {one.name: error for one, error in start_many(containers, made, ANA, at_once=3)}
    assert {name for name, error in told.items() if error} == {"f-4"}, "the last one of its worker's share"
    assert "has ended" in str(told["f-4"])


def test_who_stops_asking_starts_no_more(containers: Containers, monkeypatch: pytest.MonkeyPatch) -> None:
    made = fork(containers, source(containers), Plan(40, "f"), ANA)
    reader, writer = os.pipe()
    wait = os.waitpid

    def begin(container: Container) -> None:
        (container.paths.directory / "begun").touch()
        if container.name not in ("f-1", "f-2"):
            os.read(reader, 1)

    def release_and_wait(pid: int, options: int) -> tuple[int, int]:
        """The workers are waited for when they know that nobody asks any more. Only then do they go on."""
        os.write(writer, b"x" * len(made))
        return wait(pid, options)

    pretend(monkeypatch, begin)
    try:
        results = start_many(containers, made, ANA, at_once=2)
        assert next(results)[0].name in ("f-1", "f-2")
        monkeypatch.setattr(os, "waitpid", release_and_wait)
        results.close()  # type: ignore[attr-defined]
    finally:
        os.close(reader)
        os.close(writer)
    assert marks(containers) <= {"f-1", "f-2", "f-3", "f-4"}


# -- promote


def test_promote(containers: Containers) -> None:
    store = containers.store
    web = source(containers)
    base = web.base
    done = promote(containers, web, "main", "nothing new", ANA)
    assert (done.commit, done.before) == (base, base)
    done = promote(containers, web, "new", "a new branch", ANA)
    assert (done.commit, done.before, store.branches()["new"]) == (base, None, base)
    ahead = States(containers).commit(web, "ahead", ANA, allow_empty=True).commit
    assert promote(containers, containers.reload(web), "main", "forward", ANA).commit == ahead
    assert store.branches()["main"] == ahead


def test_a_branch_that_moved_on_is_left_alone(containers: Containers) -> None:
    store = containers.store
    web = source(containers)
    theirs = grow(store, web.base, b"theirs")
    with pytest.raises(Conflict) as caught:
        promote(containers, web, "main", "mine", ANA)
    assert caught.value.facts["promoted"] == "web"
    assert store.branches()["main"] == theirs
    done = promote(containers, web, "main", "mine", ANA, force=True)
    assert (done.commit, done.before) == (web.base, theirs)
    assert store.branches()["main"] == web.base
    assert store.history.reflog(MAIN)[0].old == theirs
    assert store.history.resolve("main@{1}") == theirs
