"""What is done around a build: its container, the store's hooks, the signature, and what the cache takes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Cli, remove_containers
from tests.cli.test_building import Context, begun
from tests.cli.test_signatures import configure, git, set_up_keys
from tests.cli.test_store_hooks import hook, tip

DOCKERFILE = "FROM main\nCOPY a /a\nENV A=b\nLABEL c=d\n"


@pytest.fixture
def built(cli: Cli, tmp_path: Path) -> Iterator[Context]:
    context = Context(cli, tmp_path / "context")
    context.write("a", "1\n")
    try:
        yield context
        cli("fsck")
    finally:
        remove_containers(cli)


def test_the_container_of_a_build_is_left_to_it(built: Context) -> None:
    built.cli("create", "--name", "mine", "main", "true")
    process = begun(built)
    try:
        assert built.cli.lines("ps", "-aq") == ["mine"]
        builds = built.cli.json("ps", "-a", "--filter", "label=treering.build")
        assert [row["name"] for row in builds] == ["build-1"]
        removed = json.loads(built.cli.process("rm", "-af", "--format", "json").stdout)
        assert [row["name"] for row in removed] == ["mine"]
        assert process.poll() is None
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(60)
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            stream.close()


def test_hooks_are_run_once_for_the_branch(built: Context) -> None:
    before = hook(built.cli, "pre-commit", 'echo "$TREERING_BRANCH $TREERING_COMMIT" >>"$OUT"; tr "\\0" " " >>"$OUT"')
    after = hook(built.cli, "post-commit", 'echo "$TREERING_BRANCH $TREERING_COMMIT" >>"$OUT"; echo told')
    made = built.made(DOCKERFILE, "-t", "app")
    assert [(run["hook"], run["exit_code"]) for run in made["hooks"]] == [("pre-commit", 0), ("post-commit", 0)]  # type: ignore[attr-defined]
    first, changed = before.read_text().splitlines()
    assert first == f"app {made['commit']}"
    assert "A /a" in changed
    assert after.read_text() == f"app {made['commit']}\n"
    assert built.made(DOCKERFILE, "-t", "app")["hooks"] == [], "nothing has moved"
    assert built.made(DOCKERFILE)["hooks"] == []
    assert after.read_text().count("app") == 1


def test_a_hook_refuses_a_build(built: Context) -> None:
    hook(built.cli, "pre-commit", "echo never; exit 3")
    operations = len(built.cli.lines("op", "log"))
    assert "never" in built.build(DOCKERFILE, "-t", "app", code=125)
    assert "app" not in [row["name"] for row in built.cli.json("branch")]
    assert len(built.cli.lines("op", "log")) == operations
    assert built.made(DOCKERFILE, "-t", "app", "--no-verify")["made"] == 0, "the steps were kept"


def test_the_last_commit_is_signed_and_no_step(built: Context, tmp_path: Path) -> None:
    set_up_keys(built.cli, tmp_path / "keys")
    plain = built.made(DOCKERFILE, "-t", "plain")["commit"]
    made = built.made(DOCKERFILE, "-t", "app", "--sign")
    assert (made["made"], made["moved"]) == (0, True)
    assert made["commit"] == tip(built.cli, "app") != plain
    assert built.cli.json("verify-commit", "app")[0]["worth"] == "good"
    git(built.cli, "verify-commit", "app")
    assert built.cli.json("verify-commit", "app~1", code=1)[0]["worth"] == "none"
    assert tip(built.cli, "app~1") == tip(built.cli, "plain~1"), "the steps are those of everybody"
    assert not built.made(DOCKERFILE, "-t", "app", "--sign")["moved"], "a signature is made once"
    configure(built.cli, "commit.gpgSign", "true")
    assert not built.made(DOCKERFILE, "-t", "app")["moved"]
    assert built.made(DOCKERFILE, "-t", "app", "--no-sign")["commit"] == plain
    assert built.made("FROM app\n", "-t", "same")["commit"] == plain, "a base is signed by who made it"


def test_du_has_a_line_for_the_steps(built: Context) -> None:
    assert not [row for row in built.cli.json("du")["rows"] if row["kind"] == "cache"]
    (built.path / "large").write_text("".join(f"{number * number}\n" for number in range(50_000)))
    built.made("FROM main\nCOPY large /large\nRUN true\n")
    (row,) = [row for row in built.cli.json("du")["rows"] if row["kind"] == "cache"]
    assert row["name"] == "builds"
    assert row["unique"] > 100_000
    assert row["logical"] > 300_000
    built.made("FROM main\nCOPY large /large\nRUN true\n", "-t", "app")
    (again,) = [row for row in built.cli.json("du")["rows"] if row["kind"] == "cache"]
    assert again["unique"] == 0
    assert again["stored"] == row["stored"]
