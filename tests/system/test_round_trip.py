"""The whole way, with real mounts: host -> import -> service -> overlay -> upper -> commit -> service -> export."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fusefs.client import Lease, Service
from runtime.containers import Container, Containers
from runtime.overlay import mount_overlay, prepare_upper
from runtime.settings import Settings
from runtime.states import States
from runtime.system.mounts import umount
from tests.support.compare import differences
from tests.support.rich_tree import make, needs_root
from vcs.check import check
from vcs.exporter import export_directory
from vcs.history import Author
from vcs.importer import import_directory
from vcs.model import CommitId
from vcs.store import Store

pytestmark = needs_root
SERVED = frozenset({"extents"})
"""A file system says itself how finely it tells holes: FUSE to the byte, ext4 to the block."""


def author() -> Author:
    return Author("tester", "tester@localhost", int(time.time()))


def imported(store: Store, source: Path, branch: str) -> CommitId:
    with store.batch() as batch:
        root = import_directory(batch, source).root
    commit = store.add_commit(root, {}, "import\n", author())
    store.history.move(f"refs/heads/{branch}", commit, None, "import", author())
    return commit


@contextmanager
def merged_view(container: Container, lower: Path, target: Path) -> Iterator[Path]:
    """The container's root as its processes see it, in our own mount namespace."""
    target.mkdir()
    prepare_upper(lower, container.upper, container.work)
    overlay = mount_overlay(lower, container.upper, container.work, target)
    try:
        yield target
    finally:
        os.close(overlay.root)
        umount(os.fsencode(target))


def change(top: Path) -> None:
    """A bit of everything that a container does to its root."""
    (top / "new").mkdir(mode=0o2750)
    (top / "new" / "setuid").write_bytes(b"#!/bin/sh\n" * 2000)
    os.chmod(top / "new" / "setuid", 0o4711)
    os.chown(top / "new" / "setuid", 1000, 2000)
    os.chmod(top / "new" / "setuid", 0o4711)
    os.link(top / "new" / "setuid", top / "new" / "other-name")
    os.symlink(b"\xff\n target", os.fsencode(top / "new") + b"/odd\xfe\nname")
    os.mknod(top / "new" / "null", 0o20666, os.makedev(1, 3))
    os.mkfifo(top / "new" / "fifo", 0o600)
    os.setxattr(top / "new", "user.note", b"\0bytes\xff")
    os.setxattr(top / "new" / "setuid", "trusted.secret", b"value")
    with (top / "new" / "sparse").open("wb") as file:
        file.truncate(1 << 40)
        file.seek(1 << 30)
        file.write(b"island")
    subprocess.run(["setfacl", "-m", "u:4242:rwx,g:4343:r", str(top / "new" / "null")], check=True)
    os.rename(top / "new", top / "renamed")
    names = sorted(os.scandir(top), key=lambda item: item.name)
    directory = next(item for item in names if item.is_dir(follow_symlinks=False) and item.name != "renamed")
    os.rename(directory.path, top / f"moved-{directory.name}")  # redirect_dir
    single = next(item for item in names if item.is_file(follow_symlinks=False) and item.stat().st_nlink == 1)
    os.chmod(single.path, 0o640)  # metacopy
    (top / "empty").unlink()
    (top / "empty").mkdir()


@contextmanager
def served_store(path: Path) -> Iterator[tuple[Store, Lease]]:
    with Store.create(path) as store:
        try:
            with Service.ensure(path) as lease:
                yield store, lease
        finally:
            assert Service.stop(path)


def test_the_whole_way_keeps_everything(tmp_path: Path) -> None:
    source = make(tmp_path / "source")
    with served_store(tmp_path / "store") as (store, lease):
        base = imported(store, source, "main")
        served = lease.mountpoint / "commits" / base
        assert differences(source, served.resolve(), ignore=SERVED) == []

        containers = Containers(store)
        container = containers.create("main", base, Settings(), author(), "box")
        states = States(containers)
        lower = lease.mountpoint / "trees" / store.commit(base).root.hex()
        with merged_view(container, lower, tmp_path / "merged") as merged:
            change(merged)
            os.sync()
            commit = states.commit(container, "changed", author(), branch="next").commit
            after = lease.mountpoint / "trees" / store.commit(commit).root.hex()
            # A device 0:0 in a lower means "not there" to overlayfs: no container sees it, and the commit keeps it.
            assert differences(merged, after, ignore=SERVED) == [f"whiteout: only in {after}"]

        export_directory(store.snapshot_of(commit), b"/", tmp_path / "exported")
        assert differences(tmp_path / "exported", after, ignore=SERVED) == []
        assert check(store).problems == []


def test_names_that_are_new_in_tmp_are_no_affair_of_the_service(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name in ("tmp", "etc"):
        (source / name).mkdir(parents=True)
    with served_store(tmp_path / "store") as (store, lease):
        base = imported(store, source, "main")
        container = Containers(store).create("main", base, Settings(), author(), "box")
        lower = lease.mountpoint / "trees" / store.commit(base).root.hex()
        asked = {}
        with merged_view(container, lower, tmp_path / "merged") as merged:
            assert not States(Containers(store)).commit(container, "nothing yet", author()).made
            for name in ("tmp", "etc"):
                before = Service.status(store.path)
                for number in range(100):
                    (merged / name / f"new-{number}").touch()
                    (merged / name / f"new-{number}").unlink()
                after = Service.status(store.path)
                assert before
                assert after
                asked[name] = after["messages"] - before["messages"]
        assert asked["etc"] > 50  # so they are counted
        assert asked["tmp"] < 10
