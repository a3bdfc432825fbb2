"""Garbage collection killed at each of its system calls, on full and read-only disks, and beside everything else."""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusefs.client import Service
from runtime.cli.program import run
from tests.fusefs.serving import needs_fuse
from tests.support.collecting import NOW, commit, files, git_fsck, is_readable, noise
from tests.support.containers import eventually
from vcs.check import check
from vcs.collect import collect
from vcs.errors import Denied, NoSpace
from vcs.store import Store

PROJECT = Path(__file__).parents[2]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: mounts")
needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")


# -- killed

CALLS = ["unlink", "rename", "fsync", "link", "pwrite64", "write", "mkdir"]
"""What a collection changes the disk with; SQLite writes with pwrite64, everything else with write."""
POINTS = 3
"""For each of them, spread over the collection."""


@pytest.fixture(scope="module")
def littered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that gives a collection all it can do: layers to remove, to rewrite and to merge, commits to pack and to
    prune, reflog entries that have expired, a cache, and what killed processes left."""
    path = tmp_path_factory.mktemp("littered") / "store"
    imported = path.parent / "imported"
    imported.mkdir()
    (imported / "file").write_bytes(noise("imported"))
    with Store.create(path) as store:
        assert run(["--store", str(path), "import", str(imported), "--branch", "lost"]) == 0
        assert list(store.caches.iterdir())
        spec = {f"f{n}": noise(n, 500) for n in range(30)}
        for number in range(40):
            spec[f"f{number % 30}"] = noise(100 + number, 500)
            commit(store, spec, "refs/heads/main" if number % 2 else "refs/heads/lost")
        store.history.delete("refs/heads/lost")
        (store.path / "layers" / "trash-x").touch()
        (store.path / "layers" / "incoming-x").touch()
    return path


COLLECT = f"""
import sys
sys.path.insert(0, {str(PROJECT)!r})
from pathlib import Path
import vcs.packing
vcs.packing._LOOSE_KEPT = 0
from vcs.collect import collect
from vcs.store import Store
with Store.open(Path(sys.argv[1])) as store:
    print("begun", flush=True)
    collect(store, since=float("inf"))
"""


def strace(store: Path, *options: str) -> subprocess.CompletedProcess[str]:
    # Without caches of bytecode, whose writing would be counted.
    return subprocess.run(
        ["strace", "-f", "-qq", *options, sys.executable, "-B", "-P", "-c", COLLECT, str(store)],
        capture_output=True, text=True, timeout=120, check=False, env={"PATH": os.environ["PATH"]},
    )  # fmt: skip


def aliases(call: str) -> str:
    return ",".join(f"?{name}" for name in (call, f"{call}at", f"{call}at2"))


@pytest.fixture(scope="module")
def counted(littered: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, int]]:
    """How often each call is made before the collection begins, and in all."""
    copy = tmp_path_factory.mktemp("counted") / "store"
    shutil.copytree(littered, copy)
    trace = copy.parent / "trace"
    done = strace(copy, "-o", str(trace), "-e", "trace=" + ",".join(map(aliases, CALLS)))
    assert done.returncode == 0, done.stderr
    lines = trace.read_text().splitlines()
    begun = next(number for number, line in enumerate(lines) if '"begun' in line)
    counts = {}
    for call in CALLS:
        numbers = [number for number, line in enumerate(lines) if re.match(rf"\d+ +{call}(at2?)?\(", line)]
        counts[call] = sum(number < begun for number in numbers), len(numbers)
    return counts


@needs_strace
@pytest.mark.parametrize("call", CALLS)
def test_a_killed_collection_loses_nothing(
    littered: Path, counted: dict[str, tuple[int, int]], tmp_path: Path, call: str
) -> None:
    before, total = counted[call]
    steps = max(1, (total - before) // POINTS)
    for when in range(before + 1 + (steps > 1), total + 1, steps):
        path = tmp_path / f"{call}-{when}"
        shutil.copytree(littered, path)
        names = aliases(call)
        killed = strace(
            path, "-o", "/dev/null", "-e", f"trace={names}", "-e", f"inject={names}:signal=KILL:when={when}"
        )
        assert killed.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL), (call, when, killed)
        assert_whole(path, 20)
        with Store.open(path) as store:
            collect(store, since=NOW)
            report = check(store)
            assert (report.problems, report.unreachable) == ([], 0)
            assert all(name.endswith(".layer") for name in files(store))
            assert not list((path / "history.git").rglob("*git2_*"))
        assert_whole(path, 20)
        shutil.rmtree(path)


def assert_whole(path: Path, commits: int) -> None:
    """Everything that main has can be read."""
    with Store.open(path) as store:
        assert check(store).problems == []
        assert git_fsck(store) == ""
        log = list(store.history.log([store.history.resolve("main")]))
        assert len(log) == commits
        assert all(is_readable(store, info.root) for info in log)


# -- disks


@contextlib.contextmanager
def small_disk(at: Path, size: str) -> Iterator[Path]:
    at.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "treering-test", str(at)], check=True)
    try:
        yield at
    finally:
        subprocess.run(["umount", str(at)], check=True)


@needs_root
@pytest.mark.parametrize("left", [0, 4096, 40_000, 120_000, 400_000])
def test_a_full_disk_loses_nothing(littered: Path, tmp_path: Path, left: int) -> None:
    with small_disk(tmp_path / "disk", "12m") as disk:
        path = disk / "store"
        shutil.copytree(littered, path)
        with Store.open(path) as store:
            big = {f"f{n}": noise(("big", n), 100_000) for n in range(10)}
            commit(store, {**big, "g": noise("g", 300_000)}, "refs/heads/lost")
            commit(store, big)
            store.history.delete("refs/heads/lost")
        filler = disk / "filler"
        fill(filler, left)
        told = ""
        try:
            with Store.open(path) as store:
                collect(store, since=NOW)
        except NoSpace as error:
            told = str(error)
        assert told or left >= 120_000
        filler.unlink()
        assert_whole(path, 21)
        with Store.open(path) as store:
            collect(store, since=NOW)
            assert check(store).unreachable == 0
        assert_whole(path, 21)


def fill(path: Path, leave: int) -> None:
    """Write a file until the disk is full, then give `leave` bytes back."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    with contextlib.suppress(OSError):
        while True:
            os.write(fd, bytes(4096))
    os.close(fd)
    os.truncate(path, max(0, path.stat().st_size - leave))


@needs_root
def test_a_read_only_store_is_refused(littered: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "12m") as disk:
        shutil.copytree(littered, disk / "store")
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with pytest.raises(Denied), Store.open(disk / "store") as store:
            collect(store, since=NOW)
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        assert_whole(disk / "store", 20)


# -- beside a service


@needs_fuse
def test_what_is_read_through_the_mount_stays(tmp_path: Path) -> None:
    with Store.create(tmp_path / "store") as store:
        try:
            made = commit(store, {"d": {"f": noise("f", 300_000)}}, "refs/heads/lost")
            root = store.commit(made).root
            assert Service.roots(store.path) == set()
            with Service.ensure(store.path) as lease:
                assert Service.roots(store.path) == set()
                with (lease.mountpoint / "branches/lost/d/f").open("rb") as file:
                    store.history.delete("refs/heads/lost")
                    forget()
                    assert Service.roots(store.path) == {root}
                    collect(store, since=NOW, roots=lambda: Service.roots(store.path))
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                    assert file.read() == noise("f", 300_000)
                eventually(lambda: forget() or not Service.roots(store.path))
                collect(store, since=NOW, roots=lambda: Service.roots(store.path))
                assert files(store) == set()
        finally:
            Service.stop(store.path, force=True)
        assert check(store).problems == []


def forget() -> None:
    """Let the kernel drop the names and files that nobody uses."""
    Path("/proc/sys/vm/drop_caches").write_text("2")


# -- everything at once

ROLES = ["import", "import", "experiment", "fork", "read", "collect"]
SECONDS_MOST = 120.0
SECONDS = 6.0


@needs_root
@needs_fuse
@pytest.mark.parametrize("seed", [1])
def test_everything_at_once_and_killed(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    path = tmp_path / "store"
    with Store.create(path) as store:
        commit(store, {f"f{n}": noise(n, 3000) for n in range(30)}, "refs/heads/base")
    started = 0

    def start(role: int) -> subprocess.Popen[bytes]:
        nonlocal started
        started += 1
        # A branch has one writer: it is found by the number of the role.
        command = [sys.executable, "-P", "-m", "tests.system.fire", ROLES[role], str(path), str(tmp_path)]
        return subprocess.Popen([*command, f"{role}.{started}"], cwd=PROJECT, env=dict(os.environ) | HERE)

    workers = {role: start(role) for role in range(len(ROLES))}
    try:
        begun = time.monotonic()
        while (passed := time.monotonic() - begun) < SECONDS or acknowledged_in(tmp_path / "log") < 3:
            assert passed < SECONDS_MOST
            time.sleep(chance.uniform(0.2, 1.0))  # the kills are spread by chance; nothing waits for anything
            role = chance.randrange(len(ROLES))
            workers[role].kill()
            workers[role].wait()
            workers[role] = start(role)
    finally:
        for worker in workers.values():
            worker.kill()
        for worker in workers.values():
            worker.wait()
        Service.stop(path, force=True)
    lines = (tmp_path / "log").read_text().splitlines()
    assert [line for line in lines if line.startswith("wrong")] == []
    done = [line.split()[1:] for line in lines if line.startswith("done")]
    with Store.open(path) as store:
        collect(store, since=NOW)
        # libgit2 deletes a ref's reflog before the ref; who is killed in between leaves a ref without one.
        assert [problem for problem in check(store).problems if "has no reflog" not in problem.message] == []
        assert git_fsck(store) == ""
        newest = dict(done)
        for branch, acknowledged in done:
            assert store.history.is_ancestor(acknowledged, store.history.resolve(newest[branch]))  # type: ignore[arg-type]
            assert store.history.is_ancestor(newest[branch], store.history.resolve(branch))  # type: ignore[arg-type]
            assert is_readable(store, store.commit(acknowledged).root)


def acknowledged_in(log: Path) -> int:
    """How many commits were reported as done."""
    return log.read_text().count("done ") if log.exists() else 0


HERE = {"PYTHONPATH": str(PROJECT), "PYTHONDONTWRITEBYTECODE": "1"}
