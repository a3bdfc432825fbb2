"""The view through a real mount: each look in a process of its own, which is killed at its deadline."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from fusefs import facts, mounting
from fusefs.client import Service
from runtime import views
from runtime.containers import Containers
from runtime.settings import Settings
from runtime.source import OPENER, StoreWithContainers
from tests.fusefs.serving import commit, needs_fuse, until
from tests.support.containers import remove
from tests.support.long_history import write_long_history
from tests.support.values import root
from vcs.gitwords import Author
from vcs.store import Store

ADA = Author("Ada Tester", "ada@example.org", 1_700_000_000)


def look(*command: str | Path) -> str:
    """What a command says; its errors too, in English."""
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60,
        env={"LC_ALL": "C", "PATH": os.environ["PATH"]}, check=False,
    )  # fmt: skip
    return done.stdout


def processes(store: Path) -> list[int]:
    """Every process that was started for a store's service."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has just ended
            if os.fsencode(store) in entry.read_bytes().split(b"\0"):
                found.append(int(entry.parent.name))
    return found


@pytest.fixture
def real(tmp_path: Path) -> Iterator[StoreWithContainers]:
    path = tmp_path / "store"
    Store.create(path).close()
    with StoreWithContainers.open(path) as store:
        yield store
    try:
        Service.stop(path, force=True)
        until(lambda: not processes(path))
    finally:
        for pid in processes(path):
            os.kill(pid, signal.SIGKILL)
        while mounting.mount_at(path / "run/mnt") is not None:
            mounting.detach(path / "run/mnt")


@contextlib.contextmanager
def mounted(store: Store) -> Iterator[Path]:
    with Service.ensure(store.path, opener=OPENER) as lease:
        yield lease.mountpoint


@needs_fuse
def test_people_look_around(real: StoreWithContainers) -> None:
    with mounted(real) as top:
        assert look("ls", top).split() == ["at", "branches", "commits", "containers", "tags", "trees"]
        assert look("ls", top / "branches", top / "commits", top / "at", top / "trees").count("\n\n") == 3
        assert "branches: 0\n" in look("cat", top / ".treering/store")
        one = commit(real, {"etc": {"hostname": b"one\n"}})
        assert look("ls", top / "branches").split() == ["main"]
        assert look("ls", top / "commits").split() == [one]
        assert look("cat", top / "branches/main/etc/hostname") == "one\n"
        two = commit(real, {"etc": {"hostname": b"two\n"}})
        commit(real, {"etc": {"hostname": b"deep\n"}}, "feature/deep/x")
        assert look("cat", top / "branches/main/etc/hostname") == "two\n"
        assert look("cat", top / f"commits/{one}/etc/hostname") == "one\n"
        assert look("cat", top / "branches/feature/deep/x/etc/hostname") == "deep\n"
        assert look("cat", top / "branches/feature/deep/x/../../etc").endswith("No such file or directory\n")
        assert sorted(look("ls", top / "branches").split()) == ["feature", "main"]
        assert look("cat", top / ".treering/branches/main").startswith(f"branch: main\ncommit: {two}\nroot: ")
        assert f"store: {real.path}\ncommits: 3\nbranches: 2\ntags: 0\n" in look("cat", top / ".treering/store")
        assert look("cat", top / ".treering/README") == facts.README.decode()
        real.history.delete("refs/heads/feature/deep/x")
        assert look("ls", top / "branches/feature").endswith("No such file or directory\n")
        real.history.move("refs/heads/feature", one, None, "test", ADA)
        assert look("cat", top / "branches/feature/etc/hostname") == "one\n"
        assert look("stat", "-c", "%F %A", top / ".treering/branches/main") == "regular file -r--r--r--\n"


@needs_fuse
def test_branches_as_they_were(real: StoreWithContainers) -> None:
    commit(real, {"f": b"one\n"})
    log = real.path / "history.git/logs/refs/heads/main"
    log.write_text(re.sub(r"> \d+ ", "> 1700000000 ", log.read_text()))
    commit(real, {"f": b"two\n"})
    now = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() + 60))
    with mounted(real) as top:
        assert look("cat", top / f"at/{now}/main/f") == "two\n"
        assert look("cat", top / "at/2023-11-14T22:13:20/main/f") == "one\n"
        assert look("cat", top / "at/2023-11-14T23:13:20+01:00/main/f") == "one\n"
        assert look("ls", top / "at/2023-11-14") == ""
        assert look("ls", top / "at/2023-11-15") == "main\n"
        assert look("ls", top / "at/then").endswith("No such file or directory\n")
        assert look("ls", top / ("at/" + "2" * 300)).endswith("File name too long\n")
        assert look("ls", top / ("branches/" + "b" * 256)).endswith("File name too long\n")
        assert "at: 2023-11-15T00:00:00+00:00\n" in look("cat", top / ".treering/at/2023-11-15/main")


@needs_fuse
def test_containers_come_and_go(real: StoreWithContainers) -> None:
    one, two = commit(real, {"f": b"one\n"}), commit(real, {"f": b"two\n"}, "other")
    containers = Containers(real)
    with mounted(real) as top:
        assert look("ls", top / "containers") == ""
        web = containers.create("main", one, Settings(), ADA, "web")
        assert look("ls", top / "containers") == "web\n"
        assert look("cat", top / "containers/web/f") == "one\n"
        assert look("cat", top / ".treering/containers/web").startswith(f"container: web\ncommit: {one}\n")
        with containers.changing(web) as now:
            generation = replace(now.record.generations[0], base=two)
            containers.replace(now, replace(now.record, generations=(generation,)))
        assert look("cat", top / "containers/web/f") == "two\n"
        containers.rename(web, "site")
        assert look("ls", top / "containers") == "site\n"
        assert look("ls", top / "containers/web").endswith("No such file or directory\n")
        assert "containers: 1\n" in look("cat", top / ".treering/store")
        remove(containers, web)
        assert look("ls", top / "containers") == ""
        assert look("ls", top / "containers/site").endswith("No such file or directory\n")


@needs_fuse
def test_links_work_wherever_the_view_is_bound(real: StoreWithContainers, tmp_path: Path) -> None:
    commit(real, {"f": b"one\n"}, "feature/deep/x")
    shown = views.show(real.path, tmp_path / "elsewhere")
    try:
        for path in ("branches/feature/deep/x", "at/2100-01-01/feature/deep/x"):
            assert look("cat", shown / path / "f") == "one\n"
            assert look("realpath", shown / path).startswith(f"{shown}/trees/")
            assert look("ls", "-A", shown / path / "..").split() != []
    finally:
        views.hide(shown)


@needs_fuse
def test_ten_thousand_are_listed_through_the_mount(real: StoreWithContainers) -> None:
    with real.batch() as batch:
        same = root(batch, {"f": b"f\n"})
    ids = write_long_history(real.path / "history.git", same, 10_000)
    with mounted(real) as top:
        assert look("ls", top / "commits").split() == sorted(ids)
        assert len(look("ls", "-U", top / "branches").split()) == 10_000
        assert look("cat", top / "branches/b09999/f") == "f\n"
        before = Service.status(real.path)
        assert len(set(look("find", top / ".treering/tags", "-maxdepth", "1").split())) == 10_001
        after = Service.status(real.path)
    assert before is not None
    assert after is not None
    assert after["messages"] - before["messages"] < 100
