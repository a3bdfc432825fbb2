"""du and stats from the command line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.containers import Containers
from runtime.settings import Settings
from tests.cli.conftest import Cli
from tests.support.collecting import author
from vcs import leases, usage
from vcs.check import check
from vcs.leases import Leased
from vcs.store import Store


@pytest.fixture
def cli(cli: Cli) -> Iterator[Cli]:
    """The prepared store, which must be undamaged in the end."""
    yield cli
    with Store.open(cli.store) as store:
        assert check(store).problems == []


def with_container(cli: Cli, written: bytes = b"") -> None:
    """A container on `other` that was never started; something lies in its upper as if it had been."""
    with Store.open(cli.store) as store:
        made = Containers(store).create("other", store.branches()["other"], Settings(), author(), "web")
        made.upper.mkdir()
        (made.upper / "written").write_bytes(written)


def test_every_name_has_a_line_and_the_total_adds_up(cli: Cli) -> None:
    with_container(cli, bytes(100_000))
    found = cli.json("du")
    rows = {(row["kind"], row["name"]): row for row in found["rows"]}
    assert list(rows) == [("branch", "main"), ("branch", "other"), ("tag", "v1"), ("container", "web")]
    for row in rows.values():
        assert row["stored"] == row["unique"] + row["shared"]
        assert row["entries"] > 20
        assert row["logical"] > row["stored"] > 0
    total = found["total"]
    assert total["logical"] == sum(row["logical"] for row in rows.values())
    assert total["stored"] == total["unique"] + total["shared"] == cli.json("stats", "--store")["needed"]["stored"]
    assert total["unique"] == sum(row["unique"] for row in rows.values()) == 0
    assert rows["container", "web"]["upper"] == total["upper"] >= 100_000
    assert rows["branch", "main"]["upper"] is None


def test_deleting_a_name_makes_something_unique(cli: Cli) -> None:
    cli("tag", "-d", "v1")
    rows = {row["name"]: row for row in cli.json("du")["rows"]}
    assert rows["main"]["unique"] > 0
    assert rows["other"]["unique"] > 0
    assert rows["main"]["shared"] == rows["other"]["shared"] > rows["main"]["unique"]


def test_arguments_are_names_commits_and_paths(cli: Cli) -> None:
    with_container(cli)
    names = ["main", "v1", "web", "main~1", "main:/etc", "other:/bin/busybox", "refs/heads/main"]
    rows = cli.json("du", *names)["rows"]
    assert [(row["kind"], row["name"]) for row in rows] == [
        (kind, name)
        for kind, name in zip(("branch", "tag", "container", "commit", "path", "path", "commit"), names, strict=True)
    ]
    listed = cli.json("ls", "main:/")
    etc = next(entry for entry in listed if entry["path"].endswith("etc"))
    assert (rows[4]["logical"], rows[4]["entries"]) == (etc["size_below"], etc["entries"])
    assert rows[5]["logical"] == os.path.getsize("/bin/busybox") or rows[5]["logical"] > 100_000
    assert rows[5]["unique"] == 0
    assert rows[0]["stored"] > rows[3]["stored"] > rows[5]["stored"]


def test_sorting(cli: Cli) -> None:
    for column in ("logical", "entries", "stored", "unique", "shared"):
        values = [row[column] for row in cli.json("du", "--sort", column)["rows"]]
        assert values == sorted(values, reverse=True)
    names = [row["name"] for row in cli.json("du", "--sort", "name", "v1", "main", "other")["rows"]]
    assert names == ["main", "other", "v1"]


def test_the_table(cli: Cli) -> None:
    lines = cli.lines("du")
    assert lines[0].split() == ["KIND", "LOGICAL", "ENTRIES", "STORED", "UNIQUE", "SHARED", "NAME"]
    assert [line.split()[0] for line in lines[1:]] == ["branch", "branch", "tag", "total"]
    assert lines[1].split()[-1] == "main"
    with_container(cli)
    assert cli.lines("du")[0].split()[-2:] == ["UPPER", "NAME"]
    assert len(cli("du", "--format", "jsonl").stdout.splitlines()) == 4


def test_what_is_not_there(cli: Cli) -> None:
    assert cli.error("du", "nothing")["kind"] == "NotFound"
    assert cli.error("du", "main:/nothing")["kind"] == "NotFound"
    assert cli.error("du", ":/etc")["kind"] == "BadInput"
    cli("du", "--sort", "colour", code=2)


def test_a_branch_that_is_made_meanwhile_is_left_out(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    real = leases.read_leases

    def read_leases(directory: Path) -> Leased:
        with Store.open(cli.store) as store:
            store.history.move("refs/heads/new", store.branches()["main"], None, "made meanwhile", author())
        return real(directory)

    monkeypatch.setattr(usage, "read_leases", read_leases)
    names = [row["name"] for row in cli.json("du")["rows"]]
    assert names == ["main", "other", "v1"]


def test_a_state_that_was_removed_is_listed(cli: Cli) -> None:
    with Store.open(cli.store) as store:
        tip = store.branches()["other"]
        store.history.move("refs/removed/0123456789abcdef/0", tip, None, "last state", author())
        store.history.delete("refs/heads/other")
    row = next(row for row in cli.json("du")["rows"] if row["kind"] == "removed")
    assert row["name"] == "0123456789ab"
    assert row["unique"] > 0


def test_an_empty_store(empty: Cli) -> None:
    empty("init")
    assert empty.json("du") == {
        "rows": [],
        "total": {"logical": 0, "entries": 0, "stored": 0, "unique": 0, "shared": 0, "upper": None},
    }
    assert "Garbage:     0 B" in empty("stats", "--store").stdout


def test_stats(cli: Cli, tmp_path: Path) -> None:
    found = cli.json("stats", "--store")
    assert found == cli.json("stats", "--store", str(cli.store))
    assert (found["commits"], found["branches"], found["tags"], found["containers"]) == (3, 2, 1, 0)
    assert found["layers"]["count"] == len(list((cli.store / "layers").iterdir()))
    assert found["layers"]["bytes"] == sum(path.stat().st_size for path in (cli.store / "layers").iterdir())
    assert found["objects"]["roots"]["objects"] == 3
    assert found["garbage"] == 0
    assert found["dedupe_ratio"] > 2.5
    assert found["compression_ratio"] > 1.3
    text = cli("stats", "--store").stdout
    assert "3 commits, 2 branches, 1 tag, 0 containers" in text
    cli("branch", "-d", "other")
    cli("stats", "--store", "--format", "json")
    assert cli.json("stats", "--store")["garbage"] > 0
    assert cli.error("stats", "--store", str(tmp_path))["kind"] == "NotAStore"


def test_the_store_is_measured_or_containers_are(cli: Cli) -> None:
    assert "does not go with" in cli("stats", "--store", str(cli.store), "web", code=2).stderr
