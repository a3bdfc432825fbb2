"""gc: what it tells, and which branches can be found again after it."""

from __future__ import annotations

import fcntl
import time
from datetime import UTC, datetime

import click
import pytest

from runtime.cli.collect import expiry
from runtime.containers import REMOVED
from tests.cli.conftest import Cli
from vcs.check import check
from vcs.history import Author
from vcs.store import Store


def test_a_deleted_branch_is_found_again_until_its_entries_expire(cli: Cli) -> None:
    cli("branch", "precious", "other")
    commit = cli.json("log", "precious")[0]["commit"]
    cli("branch", "-f", "precious", "main")
    cli("branch", "-d", "other")
    cli("gc")
    cli("branch", "-f", "precious", "precious@{1}")
    assert cli.json("log", "precious")[0]["commit"] == commit
    cli("branch", "-f", "precious", "main")
    done = cli.json("gc", "--expire", "now")
    assert done["commits"] == 1
    assert done["reflog_entries"] > 3
    assert done["freed"] > 0
    error = cli.error("branch", "lost", commit)
    assert error["kind"] == "NotFound"
    with Store.open(cli.store) as store:
        assert check(store).problems == []


def test_last_states_of_removed_containers_expire(cli: Cli) -> None:
    with Store.open(cli.store) as store:
        commit = store.branches()["other"]
        author = Author("tester", "tester@localhost", int(time.time()))
        store.history.move(f"{REMOVED}{'a' * 64}/0", commit, None, "last state of it", author)
    cli("branch", "-d", "other")
    cli("gc")
    assert cli.json("log", commit)
    assert "1 last state" in cli("gc", "--dry-run", "--expire", "now").stderr
    assert cli.json("log", commit)
    assert "1 last state" in cli("gc", "--expire", "now").stderr
    assert cli.error("log", commit)["kind"] == "NotFound"


def test_a_dry_run_tells_what_would_go(cli: Cli) -> None:
    cli("branch", "-d", "other")
    layers = set((cli.store / "layers").iterdir())
    would = cli.json("gc", "--dry-run", "--expire", "now")
    assert set((cli.store / "layers").iterdir()) == layers
    assert would["dry_run"] is True
    done = cli.json("gc", "--expire", "now")
    assert done["dry_run"] is False
    assert (done["commits"], done["layers"]) == (would["commits"], would["layers"]) == (1, 1)


def test_what_it_says_to_people(cli: Cli) -> None:
    cli("branch", "-d", "other")
    assert "Would free about" in cli("gc", "--dry-run", "--expire", "now").stderr
    assert "1 commit" in cli("gc", "--expire", "now").stderr
    assert "Freed 0 B: 0 commits, 0 objects, 0 reflog entries" in cli("gc", "--expire", "now").stderr


def test_repack_leaves_the_same_roots(cli: Cli) -> None:
    before = cli.json("log", "main"), cli.json("log", "other")
    cli("gc", "--repack")
    assert (cli.json("log", "main"), cli.json("log", "other")) == before
    cli("fsck")


def test_only_one_at_a_time(cli: Cli) -> None:
    with (cli.store / "locks/gc").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert cli.error("gc")["kind"] == "Conflict"
        cli("gc", "--dry-run")


def test_when_entries_expire() -> None:
    now = time.time()
    assert expiry("never") == 0
    assert expiry("now") > now + 1e12
    assert expiry("12h") == pytest.approx(now - 12 * 3600, abs=60)
    assert expiry("2w") == pytest.approx(now - 14 * 86400, abs=60)
    assert expiry("2026-01-31T10:00:00+00:00") == datetime(2026, 1, 31, 10, tzinfo=UTC).timestamp()
    for wrong in ("", "30", "d", "-1d", "soon", "2026-13-01"):
        with pytest.raises(click.BadParameter, match="is no age"):
            expiry(wrong)
