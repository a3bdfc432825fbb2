"""--at-op: what commands that look see as it was after an operation, and that nothing else is possible then."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from runtime.cli.program import program
from tests.cli.conftest import Cli, environment
from tests.cli.test_processes import completed
from vcs.check import check
from vcs.past import as_of
from vcs.store import Store


def ids(cli: Cli) -> list[str]:
    """Of all operations, the oldest first."""
    return [one["id"] for one in json.loads(cli("op", "log", "--format", "json").stdout)][::-1]


def whole(cli: Cli) -> dict[str, tuple[int, bytes]]:
    """All files of a store, and when they were changed."""
    found = {}
    for directory, _, names in os.walk(cli.store):
        for name in names:
            path = Path(directory, name)
            if path.is_file():
                found[str(path)] = (path.stat().st_mtime_ns, path.read_bytes())
    return found


LOOKS: dict[str, list[str]] = {
    "branch": ["branch", "--format", "json"],
    "tag": ["tag", "--format", "json"],
    "log": ["log", "--format", "json"],
    "log of a branch": ["log", "main", "--graph", "--oneline"],
    "show": ["show", "--format", "json", "main"],
    "diff": ["diff", "main", "HEAD@{1}"],
    "reflog": ["reflog", "--format", "json", "main"],
    "ls": ["ls", "-l", "main:/etc"],
    "cat": ["cat", "main:/etc/motd"],
    "before": ["cat", "main@{1}:/etc/motd"],
    "parent": ["log", "main~1", "--format", "json"],
    "blame": ["blame", "main:/etc/motd"],
    "grep": ["grep", "--format", "json", "two", "main", "--", "/etc"],
    "sbom": ["sbom", "main"],
    "du": ["du", "--format", "json"],
    "compare": ["compare", "main", "v1", "--format", "json"],
    "export": ["export", "main", "-"],
    "ps": ["ps", "-a", "-q"],
    "op log": ["op", "log", "--format", "json"],
}


def look(cli: Cli, name: str, *options: str) -> object:
    """What a command prints, and its exit code; less what is another each time."""
    done = CliRunner(env=environment(cli.store)).invoke(program, [*options, *LOOKS[name]])
    if name == "log":  # commits of one second have no order
        return sorted(json.loads(done.stdout), key=lambda row: str(row["commit"]))
    if name == "sbom" and done.exit_code == 0:
        found = json.loads(done.stdout)
        return {key: value for key, value in found.items() if key not in ("serialNumber", "metadata")}
    return done.exit_code, done.stdout_bytes


def test_commands_that_look_see_what_they_saw_then(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "aside").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "aside"))
    root = tmp_path / "files"
    (root / "etc").mkdir(parents=True)
    (root / "etc/motd").write_text("two\nlines\n")
    commands = [
        ["import", str(root), "-b", "main", "-m", "files"],
        ["branch", "-f", "main", "main~2"],
        ["tag", "-f", "v1", "main", "-m", "moved"],
        ["branch", "-d", "main"],
        ["undo"],
        ["branch", "-m", "main", "play"],
        ["branch", "main", "other"],
        ["op", "restore", "@~5"],
        ["create", "--name", "web", "main", "true"],
        ["rm", "web"],
    ]
    seen: list[dict[str, object]] = []
    for command in commands:
        seen.append({name: look(cli, name) for name in LOOKS})
        cli(*command)
    done = ids(cli)
    points = done[-len(commands) - 1 : -1]
    before = whole(cli)
    for point, then in zip(points, seen, strict=True):
        for name in LOOKS:
            assert look(cli, name, "--at-op", point) == then[name], (name, point)
    assert whole(cli) == before
    assert not list((tmp_path / "aside").iterdir())


def test_the_option_stands_before_or_after_the_verb(cli: Cli) -> None:
    then = cli("branch", "--format", "json").stdout
    cli("branch", "-d", "other")
    first, second = ids(cli)[-2:]
    for command in (
        ["--at-op", first, "branch", "--format", "json"],
        ["branch", "--at-op", first, "--format", "json"],
        ["branch", f"--at-op={first[:6]}", "--format", "json"],
        ["--at-op", "@~1", "branch", "--format", "json"],
        ["--at-op", f"{second}~1", "branch", "--format", "json"],
    ):
        assert cli(*command).stdout == then
    assert cli("--at-op", "@", "branch", "--format", "json").stdout == cli("branch", "--format", "json").stdout


def test_an_operation_that_there_is_not_is_one_clear_error(cli: Cli) -> None:
    for name in ("fffffffffff", "@~99", "", "~1", "@~x"):
        error = cli.error("--at-op", name, "log")
        assert error["message"] == f"no operation {name!r}"
        assert error["advice"] == "`treering op log` lists the operations there are"


CHANGES = [
    ["branch", "new", "main"], ["branch", "-d", "main"], ["branch", "-m", "main", "new"], ["tag", "v9", "main"],
    ["tag", "-m", "text", "v9", "main"], ["tag", "-d", "v1"], ["import", ".", "-m", "x"], ["commit", "web", "-m", "x"],
    ["rollback", "web", "main"], ["run", "main", "true"], ["create", "main", "true"], ["rm", "web"], ["undo"], ["redo"],
    ["op", "restore", "@"], ["merge", "other"], ["revert", "main"], ["cherry-pick", "other"], ["gc"], ["init"],
    ["forget", "main", "--keep-last", "1"], ["fsck"], ["rename", "web", "x"], ["fork", "web"], ["status", "web"],
    ["network", "ls"], ["service", "status"], ["promote", "web", "-b", "main"],
]  # fmt: skip


@pytest.mark.parametrize("command", CHANGES, ids=" ".join)
def test_what_changes_something_or_looks_at_now_is_refused(cli: Cli, command: list[str]) -> None:
    before = whole(cli)
    error = cli.error("--at-op", "@", *command)
    assert error["kind"] == "ReadOnly"
    assert "nothing can be changed" in error["message"] or "does not go with --at-op" in error["message"]
    assert error["advice"].startswith("leave --at-op out")
    assert whole(cli) == before


def test_containers_are_what_the_log_tells(box: Cli) -> None:
    box("create", "--name", "web", "main", "true")
    box("rename", "web", "web2")
    box("create", "--name", "other2", "other", "true")
    box("rm", "web2")
    made, renamed, both, _ = ids(box)[-4:]

    def names(point: str) -> list[str]:
        return [one["name"] for one in json.loads(box("--at-op", point, "ps", "--format", "json").stdout)]

    assert [names(point) for point in (made, renamed, both)] == [["web"], ["web2"], ["web2", "other2"]]
    main = box.json("log", "main", "-n", "1")[0]["commit"]
    assert json.loads(box("--at-op", made, "ps", "--format", "json").stdout)[0]["commit"] == main
    assert json.loads(box("--at-op", made, "log", "web", "-n", "1", "--format", "json").stdout)[0]["commit"] == main
    assert box("--at-op", both, "ps").stdout.splitlines()[1].split() == ["web2", "main", main[:12], "true"]
    assert box("--at-op", both, "ps", "-q", "-l").stdout == "other2\n"
    assert box("--at-op", both, "reflog", "other2").stdout.count("\n") == 1
    assert box.error("--at-op", made, "log", "web2")["kind"] == "NotFound"
    assert box.error("--at-op", made, "ps", "--usage", code=2)["kind"] == "UsageError"


def test_gc_keeps_what_can_be_looked_at(cli: Cli) -> None:
    commit = cli.json("log", "other", "-n", "1")[0]["commit"]
    cli("branch", "-d", "other")
    point = ids(cli)[-2]
    cli("gc", "--expire", "2d")
    assert (
        json.loads(cli("--at-op", point, "log", "other", "-n", "1", "--format", "json").stdout)[0]["commit"] == commit
    )
    assert cli("--at-op", point, "cat", "other:/etc/motd").stdout
    log = (cli.store / "operations.log").read_bytes()
    cli("gc", "--expire", "now")
    assert cli.error("--at-op", point, "log")["message"] == f"no operation {point!r}"
    (cli.store / "operations.log").write_bytes(log)
    assert cli.error("--at-op", point, "log", "main")["message"] == (
        f"branch 'other' was at {commit[:12]}, which gc has removed since"
    )


def test_a_shell_completes_operations(cli: Cli) -> None:
    newest = ids(cli)[-1]
    assert newest in completed(cli, "treering --at-op ")
    assert completed(cli, f"treering op show {newest[:9]}") == [newest]
    assert "--at-op" in completed(cli, "treering log --")
    cli("branch", "-d", "other")
    assert completed(cli, f"treering log --at-op {newest} ot") == ["other"]
    assert completed(cli, "treering log ot") == []


def test_git_finds_nothing_wrong_with_what_is_looked_at(cli: Cli) -> None:
    cli("branch", "-d", "other")
    point = ids(cli)[-2]
    with as_of(cli.store, point) as store:

        def git(*words: str) -> str:
            command = ["git", "-C", str(store.history.path), *words]
            return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout

        assert git("rev-parse", "other").strip() == store.branches()["other"]
        assert git("for-each-ref").count("\n") == 3
        git("fsck", "--full")
    with Store.open(cli.store) as now:
        assert check(now).problems == []
