"""bisect: verdicts by hand and by commands in real containers, interrupted and gone on with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.cli.bisect import bisect
from tests.cli.conftest import Cli, remove_containers
from tests.support.busybox_root import make_busybox_root
from tests.support.containers import eventually
from tests.support.long_history import write_long_history
from vcs.bisection.session import REFS
from vcs.store import Store

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

COUNT = 12
BROKEN = 8
"""The number of the first bad commit, from 1."""
FINE = "grep -q fine /etc/conf"


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a line of commits on `main`; in one of them /etc/conf breaks. Not to be changed."""
    directory = tmp_path_factory.mktemp("line")
    cli = Cli(directory / "store")
    root = make_busybox_root(directory / "root")
    cli("init")
    for number in range(1, COUNT + 1):
        (root / "etc/n").write_text(f"{number}\n")
        (root / "etc/conf").write_text("broken\n" if number >= BROKEN else "fine\n")
        cli("import", str(root), "-m", f"number {number}\n\nCommand: step {number}")
    return cli.store


@pytest.fixture
def box(line: Path, tmp_path: Path) -> Iterator[Cli]:
    store = tmp_path / "store"
    subprocess.run(["cp", "-a", line, store], check=True)
    cli = Cli(store)
    yield cli
    remove_containers(cli)


def number(fields: dict[str, Any]) -> int:
    return int(fields["title"].split()[1])


def at(wanted: int) -> str:
    return f"main~{COUNT - wanted}"


def run(box: Cli, *words: str, code: int = 0) -> dict[str, Any]:
    """bisect run, as programs call it."""
    done = box.process("bisect", "run", "--format", "json", *words)
    assert done.returncode == code, done.stderr.decode()
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def is_tidy(box: Cli) -> bool:
    return box.lines("ps", "-aq") == [] and not json.loads(box("fsck", "--format", "json").stdout)["problems"]


# -- by hand


def test_by_hand(box: Cli) -> None:
    assert "treering bisect start BAD GOOD" in box("bisect", "status", code=125).stderr
    started = box("bisect", "start", "main", at(1))
    assert started.stdout.splitlines()[0] == "11 commits may be the first bad one, at most 4 tests to go; the next one:"
    tests = 0
    while (status := json.loads(box("bisect", "status", "--format", "json").stdout))["state"] == "test":
        told = box("bisect", "bad" if number(status["test"]) >= BROKEN else "good")
        tests += 1
    assert tests <= 4
    assert number(status["first_bad"]) == BROKEN
    assert status["first_bad"]["trailers"]["Command"] == f"step {BROKEN}"
    identity = status["first_bad"]["commit"]
    assert told.stdout.splitlines()[0] == f"{identity} is the first bad commit"
    assert f"    Command: step {BROKEN}" in told.stdout
    assert "2 changed: 2 modified" in told.stdout
    assert f"treering show {identity[:12]}" in told.stderr
    box("bisect", "reset")
    assert "no bisection" in box("bisect", "reset").stderr
    assert is_tidy(box)


def test_the_log_gives_the_verdicts_again(box: Cli) -> None:
    box("bisect", "start", "main")
    waiting = box("bisect", "status")
    assert "which commit is good: treering bisect good REV" in waiting.stderr
    assert box.error("bisect", "good")["advice"] == "treering bisect bad REV, treering bisect good REV"
    box("bisect", "good", at(1), at(2))
    box("bisect", "skip")
    before = box("bisect", "status").stdout
    log = box.lines("bisect", "log")
    assert [line.split()[2] for line in log] == ["start", "bad", "good", "good", "skip"]
    rows = [json.loads(line) for line in box.lines("bisect", "log", "--format", "jsonl")]
    assert [row["verdict"] for row in rows] == ["bad", "good", "good", "skip"]
    box("bisect", "reset")
    for line in log:
        box(*line.partition("  #")[0].split()[1:])
    assert box("bisect", "status").stdout == before


def test_old_and_new_are_the_same_by_other_names(box: Cli) -> None:
    box("bisect", "start")
    box("bisect", "old", at(3))
    told = box("bisect", "new", "main")
    assert "may be the first new one" in told.stdout
    assert "treering bisect old, or new, or skip" in told.stderr
    assert box.lines("bisect", "log")[1].startswith("treering bisect old ")


def test_ranges_are_skipped_and_what_is_left_is_named(box: Cli) -> None:
    box("bisect", "start", at(10), at(6))
    told = box("bisect", "skip", f"{at(6)}..{at(9)}")
    assert told.stdout.splitlines()[0] == "Only commits that were skipped are left. The first bad one is one of:"
    assert [line.split()[-1] for line in told.stdout.splitlines()[1:]] == ["7", "8", "9", "10"]
    assert box.error("bisect", "skip", "main..main")["kind"] == "BadInput"


def test_errors_say_what_to_do(box: Cli) -> None:
    error = box.error("bisect", "start", at(1), "main")
    assert "has been fixed since" in error["message"]
    assert "treering bisect old BROKEN" in error["advice"]
    assert box.error("bisect", "start", "main", "nothing")["kind"] == "NotFound"
    box("bisect", "start", "main", at(1))
    assert "treering bisect reset" in box.error("bisect", "start", "main", at(1))["advice"]
    path = box.store / "bisect"
    path.write_bytes(path.read_bytes()[:-5])
    assert "treering bisect reset" in box.error("bisect", "status")["advice"]
    assert "the bisection was ended" in box("fsck", "--repair", code=0).stderr
    assert is_tidy(box)


def test_undo_takes_back_something_else(box: Cli) -> None:
    """A verdict is no operation: it is taken back by the right one."""
    box("branch", "work")
    box("bisect", "start", "main", at(1))
    box("bisect", "good")
    box("undo")
    assert "work" not in box("branch").stdout
    assert len(box.lines("bisect", "log")) == 4


def test_what_is_forgotten_says_that_a_bisection_keeps_it(box: Cli) -> None:
    box("bisect", "start", "main", at(1))
    with Store.open(box.store) as store:
        kept = {*store.history.refs(REFS).values()}
    box("forget", "--keep-last", "1", "main")
    box("gc", "--expire", "now")
    with Store.open(box.store) as store:
        assert all(store.commit(commit) for commit in kept)
    assert is_tidy(box)


def test_ten_thousand_commits(empty: Cli) -> None:
    with Store.create(empty.store) as store:
        from tests.support.values import root

        with store.batch() as batch:
            top = root(batch, {})
    made = write_long_history(empty.store / "history.git", top, 10_000)
    (empty.store / "history.git/logs").mkdir(exist_ok=True)
    told = empty("bisect", "start", made[-1], made[0])
    assert told.stdout.startswith("9,999 commits may be the first bad one, at most 14 tests to go")


@pytest.mark.parametrize("name", sorted(bisect.commands))
def test_every_part_of_it_explains_itself(box: Cli, name: str) -> None:
    told = box("bisect", name, "--help").stdout
    assert f"treering bisect {name}" in told.split("Example:")[1]


def test_revisions_are_completed(box: Cli) -> None:
    box("tag", "v1", "main~4")
    for words in ("start m", "start main v", "good v", "bad m", "skip m"):
        asked = {"_TREERING_COMPLETE": "bash_complete", "COMP_WORDS": f"treering bisect {words}", "COMP_CWORD": "-1"}
        told = box.process(env=asked).stdout.decode().split()
        assert told == ["plain,v1" if words.endswith("v") else "plain,main"], words


# -- by a command


@needs_root
def test_run_finds_the_commit_in_no_more_than_the_logarithm(box: Cli) -> None:
    box("bisect", "start", "main", at(1))
    done = box.process("bisect", "run", "--", "sh", "-c", f"cat /etc/n; {FINE}")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.decode().splitlines()
    identity = next(line for line in lines if line.endswith("is the first bad commit")).split()[0]
    assert number(json.loads(box("show", "--format", "json", identity).stdout)) == BROKEN
    assert 1 <= sum(line.isdecimal() for line in lines) <= 4
    codes = [row["exit_code"] for row in json.loads(box("bisect", "log", "--format", "json").stdout)]
    assert codes[:2] == [None, None]
    assert set(codes[2:]) == {0, 1}
    assert is_tidy(box)


@needs_root
def test_run_for_programs_and_with_options(box: Cli, tmp_path: Path) -> None:
    """What the command prints is not among the data; the container has what was asked for, and no network."""
    (tmp_path / "check").write_text("echo checked; [ $WORD = yes ] && [ $(wc -l < /proc/net/route) -le 1 ] && " + FINE)
    box("bisect", "start", "main", at(1))
    volume = f"{tmp_path}/check:/check:ro"
    found = run(box, "-e", "WORD=yes", "-w", "/etc", "--memory", "64m", "-v", volume, "sh", "/check")
    assert number(found["first_bad"]) == BROKEN
    assert {test["verdict"] for test in found["tests"]} == {"good", "bad"}
    assert len(found["tests"]) <= 4


@needs_root
def test_a_commit_that_cannot_be_tested_is_skipped(box: Cli) -> None:
    box("bisect", "start", "main", at(1))
    found = run(box, "sh", "-c", f"[ $(cat /etc/n) = 6 ] && exit 125; {FINE}")
    assert number(found["first_bad"]) == BROKEN
    assert [test["verdict"] for test in found["tests"]].count("skip") == 1
    box("bisect", "reset")
    box("bisect", "start", "main", at(1))
    found = run(box, "sh", "-c", f"case $(cat /etc/n) in 7|8|9) exit 125;; esac; {FINE}", code=1)
    assert found["state"] == "skipped"
    assert len(found["suspects"]) == 4


@needs_root
def test_who_skips_may_skip_good_commits_too(box: Cli) -> None:
    """Exit code 125 is the command's own word, wherever: what it looks for need not have been there from the start."""
    box("bisect", "start", "main", at(1))
    found = run(box, "sh", "-c", f"[ $(cat /etc/n) -lt 7 ] && exit 125; {FINE}")
    assert (number(found["first_bad"]), found["tests"][0]["verdict"]) == (BROKEN, "skip")


@needs_root
def test_a_command_that_can_be_run_nowhere_gives_no_verdict(box: Cli) -> None:
    box("bisect", "start", "main", at(1))
    done = box.process("bisect", "run", "nothing-of-this-name")
    assert done.returncode == 125
    assert b"neither" in done.stderr
    assert len(box.lines("bisect", "log")) == 3
    assert is_tidy(box)


@needs_root
def test_a_missing_command_is_bad_where_it_is_there_when_all_is_good(box: Cli, tmp_path: Path) -> None:
    box("export", "main", str(tmp_path / "root"))
    tool = tmp_path / "root/bin/tool"
    for step in range(3):
        tool.unlink() if step == 2 else tool.write_text("#!/bin/sh\n")
        if step < 2:
            tool.chmod(0o755)
        (tmp_path / "root/etc/n").write_text(f"{20 + step}\n")
        box("import", str(tmp_path / "root"), "-m", f"number {20 + step}")
    box("bisect", "start", "main", "main~2")
    found = run(box, "tool")
    assert number(found["first_bad"]) == 22
    assert run(box, "tool")["tests"] == []


@needs_root
def test_exit_codes_from_128_stop_it_and_the_next_run_goes_on(box: Cli) -> None:
    box("bisect", "start", "main", at(1))
    found = run(box, "sh", "-c", f"[ $(cat /etc/n) = 9 ] && exit 200; {FINE}", code=200)
    assert [test["verdict"] for test in found["tests"]] == ["good", None]
    assert number(found["test"]) == 9
    assert number(run(box, "sh", "-c", FINE)["first_bad"]) == BROKEN


@needs_root
@pytest.mark.parametrize("number_", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_the_container_and_leaves_a_state_that_goes_on(box: Cli, tmp_path: Path, number_: int) -> None:
    """Also where the command ignores the signal, and exits as if all were well."""
    shared = tmp_path / "shared"
    shared.mkdir()
    script = "trap '' INT TERM; [ $(cat /etc/n) = 9 ] || exit 0; touch /shared/ready; while true; do sleep 0.1; done"
    box("bisect", "start", "main", at(1))
    process = box.start("bisect", "run", "-v", f"{shared}:/shared", "sh", "-c", script, **_QUIET)
    try:
        eventually(lambda: (shared / "ready").exists())
        refused = box.error("bisect", "bad")
        assert (refused["kind"], "at work" in refused["message"]) == ("Conflict", True)
        process.send_signal(number_)
        assert process.wait(60) == 128 + number_
    finally:
        process.kill()
        process.wait(60)
    assert is_tidy(box)
    assert len(box.lines("bisect", "log")) == 4
    assert number(run(box, "sh", "-c", FINE)["first_bad"]) == BROKEN


@needs_root
def test_killed_it_goes_on_and_holds_no_lock(box: Cli, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    script = "touch /shared/ready; while [ ! -e /shared/end ]; do sleep 0.1; done"
    box("bisect", "start", "main", at(1))
    process = box.start("bisect", "run", "-v", f"{shared}:/shared", "sh", "-c", script, **_QUIET)
    try:
        eventually(lambda: (shared / "ready").exists())
        process.kill()
        process.wait(60)
        told = json.loads(box("bisect", "good", "--format", "json").stdout)  # while the container goes on
    finally:
        process.kill()
        process.wait(60)
        (shared / "end").touch()
    assert number(told["test"]) == 9
    assert number(run(box, "sh", "-c", FINE)["first_bad"]) == BROKEN
    eventually(lambda: is_tidy(box))


_QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "stdin": subprocess.DEVNULL}
