"""forget from the command line, with containers that run meanwhile."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Cli, remove_containers
from vcs.check import check
from vcs.store import Store


@pytest.fixture
def cli(cli: Cli, tmp_path: Path) -> Iterator[Cli]:
    """The prepared store with three more commits on main; undamaged, and without containers in the end."""
    root = tmp_path / "root"
    cli("export", "main", str(root))
    for number in range(3):
        (root / "etc/number").write_text(f"{number}\n")
        cli("import", str(root), "-m", f"number {number}")
    yield cli
    remove_containers(cli)
    with Store.open(cli.store) as store:
        assert check(store).problems == []


def titles(cli: Cli, revision: str = "main") -> list[str]:
    return [row["title"] for row in cli.json("log", revision)]


def test_the_table_says_what_stays_and_why(cli: Cli) -> None:
    old = [row["commit"] for row in cli.json("log", "main")]
    plan = cli("forget", "--keep-last", "1", "--keep-tag", "v*", "--dry-run", "main")
    lines = plan.stdout.splitlines()
    assert lines[0].split() == ["BRANCH", "COMMIT", "NOW", "DATE", "KEPT", "FOR", "TITLE"]
    assert [line.split()[1] for line in lines[1:]] == [commit[:12] for commit in old]
    assert [line.split()[2] for line in lines[1:]] == ["kept", "forgotten", "forgotten", "kept", "forgotten"]
    assert "newest of the branch, last" in lines[1]
    assert "tag v1" in lines[4]
    assert "3 commits would be forgotten, 2 kept" in plan.stderr
    assert "Still kept by branch other" in plan.stderr
    assert [row["commit"] for row in cli.json("log", "main")] == old

    done = cli("forget", "--keep-last", "1", "--keep-tag", "v*", "main")
    assert titles(cli) == ["number 2", "second"]
    new = [row["commit"] for row in cli.json("log", "main")]
    assert [line.split()[2] for line in done.stdout.splitlines()[1:]] == [
        new[0][:12], "forgotten", "forgotten", new[1][:12], "forgotten",
    ]  # fmt: skip
    assert f"back: treering branch -f main {old[0][:12]}" in done.stderr
    assert "treering gc" in done.stderr
    cli("branch", "-f", "main", old[0][:12])
    assert [row["commit"] for row in cli.json("log", "main")] == old


def test_programs_are_told_the_same(cli: Cli) -> None:
    found = cli.json("forget", "--keep-last", "2", "main")
    assert [row["kept"] for row in found["commits"]] == [True, True, False, False, False]
    assert found["commits"][0]["now"] == cli.json("log", "main")[0]["commit"]
    assert found["commits"][2]["now"] is None
    assert found["commits"][1]["reasons"] == ["last"]
    assert [move["ref"] for move in found["moves"]] == ["refs/heads/main"]
    assert found["held_by"] == ["refs/heads/other", "refs/tags/v1"]
    assert found["freed"] is None
    assert len(cli("forget", "--keep-last", "1", "--format", "jsonl", "main").stdout.splitlines()) == 2


def test_every_branch(cli: Cli) -> None:
    cli("forget", "--keep-last", "1", "--all-branches")
    assert (titles(cli), titles(cli, "other")) == (["number 2"], ["third"])


def test_gc_frees_the_space_at_once(cli: Cli) -> None:
    before = cli.json("stats", "--store")
    cli("branch", "-d", "other")
    result = cli("forget", "--keep-last", "1", "--keep-tag", "*", "--gc", "main")
    assert "Freed" in result.stderr
    assert "back:" not in result.stderr
    after = cli.json("stats", "--store")
    assert (after["commits"], after["commits_in_reflogs"]) == (2, 0)
    assert after["objects"]["roots"]["objects"] == 2
    assert after["logical"] < 0.5 * before["logical"]
    assert len(cli.json("reflog")) == 1
    assert cli.json("forget", "--keep-last", "1", "--gc", "main")["freed"] is not None


@pytest.mark.parametrize("arguments", [
    ("main",),
    ("--keep-last", "0", "main"),
    ("--keep-last", "-1", "main"),
    ("--keep-daily", "some", "main"),
    ("--keep-within", "3 days", "main"),
    ("--keep-within", "-1d", "main"),
    ("--keep-last", "1"),
    ("--keep-last", "1", "--all-branches", "main"),
])  # fmt: skip
def test_wrong_command_lines(cli: Cli, arguments: tuple[str, ...]) -> None:
    before = titles(cli)
    cli("forget", *arguments, code=2)
    assert titles(cli) == before


def test_a_branch_that_is_not_there(cli: Cli) -> None:
    assert cli.error("forget", "--keep-last", "1", "main", "nothing")["kind"] == "NotFound"
    assert len(titles(cli)) == 5


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_containers_go_on_as_if_nothing_had_happened(cli: Cli) -> None:
    """One that runs, and one that does not: both can be committed to the branch, and started again."""
    script = "echo before > /etc/written; echo ready; while ! test -e /etc/go; do sleep 0.05; done; cat /etc/number"
    live = cli.start("run", "--name", "live", "main", "--", "sh", "-c", script, stdout=-1)
    assert live.stdout is not None
    assert live.stdout.readline() == b"ready\n"
    assert cli.process("run", "--name", "web", "main", "--", "sh", "-c", "echo 1 > /etc/web").returncode == 0
    base = cli.json("log", "main")[0]["commit"]

    cli("forget", "--keep-last", "2", "main")
    tip = cli.json("log", "main")[0]["commit"]
    assert tip != base
    assert {row["name"]: row["commit"] for row in cli.json("ps", "-a")} == {"live": tip, "web": tip}
    assert [row["path"] for row in cli.json("diff", "web")] == ["/etc/web"]

    cli("commit", "live", "-b", "main", "-m", "while it ran")
    assert titles(cli)[:3] == ["while it ran", "number 2", "number 1"]
    assert cli.process("commit", "web", "-b", "main", "-m", "too late").returncode == 125  # as ever: it is behind
    cli("commit", "web", "-b", "aside", "-m", "aside")
    assert titles(cli, "aside")[:2] == ["aside", "number 2"]

    cli("forget", "--keep-last", "1", "--gc", "main", "aside")
    assert titles(cli) == ["while it ran", "number 2"]  # on which live stands
    assert cli.process("start", "web").returncode == 0
    go = cli.json("ps", "-a")
    pid = next(row["pid"] for row in go if row["name"] == "live")
    Path(f"/proc/{pid}/root/etc/go").touch()
    out, _ = live.communicate(timeout=60)
    assert out == b"2\n"
    assert live.returncode == 0
    cli("commit", "live", "-b", "main", "-m", "afterwards")
    assert titles(cli) == ["afterwards", "while it ran", "number 2"]
    assert cli("cat", "main:/etc/written").stdout == "before\n"
