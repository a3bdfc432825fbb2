"""Containers as names of commits, as the service sees them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from fusefs.worker import load_opener
from runtime import source
from runtime.containers import Container, Containers
from runtime.records import load
from runtime.settings import Settings
from runtime.source import OPENER, ContainerNames, StoreWithContainers
from tests.support.containers import remove
from tests.support.values import root
from vcs.history import Author
from vcs.model import CommitId
from vcs.store import Store

ADA = Author("Ada Tester", "ada@example.org", 1_700_000_000)


@pytest.fixture
def containers(tmp_path: Path) -> Iterator[Containers]:
    with Store.create(tmp_path / "store") as store:
        yield Containers(store)


def commit(containers: Containers, content: bytes) -> CommitId:
    with containers.store.batch() as batch:
        made = root(batch, {"f": content})
    return containers.store.add_commit(made, {}, "m", ADA)


def create(containers: Containers, name: str, base: CommitId) -> Container:
    return containers.create("main", base, Settings(), ADA, name)


def test_the_opener_opens_a_store_that_knows_its_containers(containers: Containers) -> None:
    one = commit(containers, b"1")
    create(containers, "web", one)
    opened = load_opener(OPENER)(containers.store.path, read_ahead=True)
    assert isinstance(opened, StoreWithContainers)
    with opened:
        assert set(opened.names) == {"branches", "tags", "containers"}
        assert opened.names["containers"].find(b"web") == one
        assert opened.about()["containers"] == "1"


def test_names_follow_containers(containers: Containers) -> None:
    names = ContainerNames(containers.store.path / "containers")
    assert names.below(b"") == {}
    one, two = commit(containers, b"1"), commit(containers, b"2")
    web, other = create(containers, "web", one), create(containers, "other", two)
    assert names.below(b"") == {b"web": False, b"other": False}
    assert [names.find(name) for name in (b"web", b"other", b"absent", b"", b"\xff", b"../web")] == [
        one,
        two,
        *[None] * 4,
    ]
    with containers.changing(web) as now:
        containers.replace(now, replace(now.record, generations=(replace(now.record.generations[0], base=two),)))
    assert names.find(b"web") == two
    containers.rename(web, "site")
    assert (names.find(b"web"), names.find(b"site")) == (None, two)
    containers.rename(other, "web")
    assert names.find(b"web") == two, "the name may be another container's by now"
    remove(containers, web)
    assert names.find(b"site") is None
    assert names.below(b"") == {b"web": False}
    assert (names.is_directory(b""), names.is_directory(b"web/"), names.below(b"web/")) == (True, False, {})


def test_a_record_that_cannot_be_read_is_left_out(containers: Containers) -> None:
    names = ContainerNames(containers.store.path / "containers")
    one = commit(containers, b"1")
    bad, good = create(containers, "bad", one), create(containers, "good", one)
    lost = create(containers, "lost", one)
    containers.replace(lost, replace(lost.record, current=7))
    assert names.find(b"bad") == one
    bad.paths.record.write_text("{")
    assert names.find(b"bad") is None
    assert names.find(b"lost") is None
    assert names.below(b"") == {b"good": False}
    assert names.find(b"good") == good.base


def test_a_record_is_read_once(containers: Containers, monkeypatch: pytest.MonkeyPatch) -> None:
    one = commit(containers, b"1")
    for number in range(20):
        create(containers, f"c{number}", one)
    names = ContainerNames(containers.store.path / "containers")
    read: list[Path] = []
    monkeypatch.setattr(source, "load", lambda paths: read.append(paths.record) or load(paths))
    assert len(names.below(b"")) == 20
    assert len(read) == 20
    assert len(names.below(b"")) == 20
    assert names.find(b"c7") == one
    assert len(read) == 20
