"""Workers die, stop, hang and crash under readers, who notice nothing."""

from __future__ import annotations

import json
import os
import random
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fusefs.client import Service
from tests.fusefs.openers import POISON, SNARE
from tests.fusefs.served import DEADLINE, Served, kill, processes, service, spares
from tests.fusefs.serving import commit, needs_fuse, until
from tests.support.values import Spec, link
from vcs.store import Store

pytestmark = needs_fuse

READERS = 5
KILLS = 25

READER = """
import json, os, random, select, sys
os.chdir(sys.argv[1])
print("inside", flush=True)
seed = int(sys.argv[2])
chance = random.Random(seed)
known = {}

def check(name, value):
    if known.setdefault(name, value) != value:
        sys.exit(f"{name} was {known[name]!r} and is {value!r}")

def walk(path, name):
    entries = sorted(os.scandir(path), key=lambda entry: entry.name)
    check(name, [os.lstat(path).st_ino, [entry.name for entry in entries]])
    for entry in entries:
        inner = f"{name}/{entry.name}"
        if entry.is_dir(follow_symlinks=False):
            walk(entry.path, inner)
            continue
        status = entry.stat(follow_symlinks=False)
        if entry.is_symlink():
            check(inner, [status.st_ino, os.readlink(entry.path)])
            continue
        if chance.random() < 0.5:
            continue
        fd = os.open(entry.path, os.O_RDONLY)
        data = b"".join(iter(lambda: os.read(fd, 65536), b""))
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.listxattr(fd)
        os.close(fd)
        if not data.startswith(inner.partition("/")[2].encode() + b":") or data.strip(b"x")[-1:] != b":":
            sys.exit(f"{inner}: {data[:100]!r}")
        check(inner, [status.st_ino, len(data)])

passes = 0
while not passes or not select.select([sys.stdin], [], [], 0)[0]:
    branches = sorted(os.listdir("branches"))
    branch = chance.choice(branches)
    target = os.readlink(f"branches/{branch}")
    walk(f"branches/{branch}/", target.rpartition("/")[2])
    passes += 1
print(json.dumps([passes, known]))
"""


def forest(changed: int, prefix: str = "", depth: int = 2) -> Spec:
    """Files that begin with their own path, some of which differ by `changed`."""
    chance = random.Random(prefix)
    spec: dict[str, Any] = {}
    for number in range(12):
        path = f"{prefix}f{number:02}"
        length = chance.choice([0, 4096, 9000, 200_000]) + 50 + (changed if number == 3 else 0)
        spec[f"f{number:02}"] = path.encode() + b":" + b"x" * (length - len(path) - 2) + b":"
    spec["link"] = link("f00")
    if depth:
        spec |= {letter: forest(changed, f"{prefix}{letter}/", depth - 1) for letter in "adz"}
    return spec


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six branches that share most of their files."""
    path = tmp_path_factory.mktemp("never") / "store"
    with Store.create(path) as made:
        for number in range(6):
            commit(made, forest(number), f"b{number}")
    return path


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """Files that are read well, and one for which openers.py has something in store."""
    path = tmp_path / "store"
    with Store.create(path) as made:
        bad = {"poison": POISON + b" is passed", "snare": SNARE + b" is passed"}
        commit(made, {"good": b"good", "bad": bad, "last": b"last"})
    return path


def readers(served: Served) -> list[subprocess.Popen[str]]:
    """They are inside the mount, and begin to read."""
    reading = [served.begin(sys.executable, "-c", READER, served.top, str(seed)) for seed in range(READERS)]
    for process in reading:
        assert process.stdout is not None
        assert select.select([process.stdout], [], [], DEADLINE)[0], served.log()
        assert process.stdout.readline() == "inside\n"
    return reading


def until_they_agree(served: Served, reading: list[subprocess.Popen[str]]) -> None:
    """Let readers end; what they have seen of a file, its number too, is the same for all of them."""
    known: dict[str, Any] = {}
    for process in reading:
        passes, seen = json.loads(served.finish(process).splitlines()[-1])
        assert passes
        for name, value in seen.items():
            assert known.setdefault(name, value) == value
    assert len(known) > 100


def pause(chance: random.Random, reading: list[subprocess.Popen[str]]) -> None:
    """Some time; none of the readers ends meanwhile, which only an error makes it do."""
    outputs = [process.stdout for process in reading if process.stdout]
    ready = select.select(outputs, [], [], chance.uniform(0, 0.15))[0]
    assert not ready, [process.communicate(timeout=DEADLINE)[0] for process in reading if process.stdout in ready]


@pytest.mark.parametrize("opener", ["vcs.store:Store.open", "tests.fusefs.openers:on_an_older_kernel"])
@pytest.mark.parametrize("wanted", [1, 2])
def test_readers_do_not_notice_that_workers_are_killed(store: Path, wanted: int, opener: str) -> None:
    chance = random.Random(7)
    with service(store, workers=wanted, opener=opener) as served:
        reading = readers(served)
        for number in range(KILLS):
            pause(chance, reading)
            before = served.status()
            kill(chance.choice(before["workers"]))
            until(lambda before=before: served.replaced(before["replaced"], wanted))
            assert served.status()["holder"] == served.lease.pid
            assert served.status()["replaced"] > number
        until_they_agree(served, reading)


def test_a_restart_under_load_is_not_noticed(store: Path) -> None:
    chance = random.Random(8)
    with service(store, workers=2) as served:
        reading = readers(served)
        for _ in range(5):
            pause(chance, reading)
            before = served.workers()
            after = Service.restart(store)
            assert len(after) == 2
            assert not set(before) & set(after)
            until(lambda before=before: not set(before) & set(processes(store)))
        until_they_agree(served, reading)


def test_a_stopped_worker_is_replaced(store: Path) -> None:
    with service(store) as served:
        reading = readers(served)
        for _ in range(3):
            status = served.status()
            os.kill(status["workers"][0], signal.SIGSTOP)
            until(lambda status=status: served.replaced(status["replaced"]))
        until_they_agree(served, reading)


def test_when_the_holder_dies_workers_serve_on(store: Path) -> None:
    """Nobody replaces them any more. The next client gets a mount of its own."""
    with service(store, workers=2) as served:
        reading = readers(served)
        workers = served.workers()
        kill(served.lease.pid)
        with Service.ensure(store, 600.0) as lease:
            assert lease.pid != served.lease.pid
            assert set(workers) <= set(processes(store))
            pause(random.Random(9), reading)
            until_they_agree(served, reading)
        until(lambda: not set(workers) & set(processes(store)))


@pytest.mark.parametrize("opener", ["snared", "on_an_older_kernel_snared"])
@pytest.mark.parametrize("later", [False, True])
def test_what_a_worker_had_in_hand_that_died_with_the_holder_is_answered(trap: Path, opener: str, later: bool) -> None:
    with service(trap, workers=2, opener=f"tests.fusefs.openers:{opener}") as served:
        workers = served.workers()
        reading = served.begin("cat", served.top / "branches/main/bad/snare")
        snared = who_is_snared(trap)
        kill(served.lease.pid)
        if later:
            until(lambda: "the holder is gone" in served.log())
        kill(snared)
        assert served.finish(reading) == "snare is passed"
        assert served.run("cat", served.top / "branches/main/last") == "last"
        assert set(processes(trap)) == set(workers) - {snared}
        replace_service(trap, workers)


@pytest.mark.parametrize("is_known", [True, False])
def test_a_spare_takes_the_place_of_a_worker_that_died_with_the_holder(trap: Path, is_known: bool) -> None:
    """Also one that the holder had not heard of: what nobody has read makes the end of their connection a reset."""
    with service(trap, opener="tests.fusefs.openers:snared") as served:
        workers = served.workers()
        until(lambda: len(spares(trap, workers)) == 1)
        (spare,) = spares(trap, workers)
        if not is_known:
            os.kill(served.lease.pid, signal.SIGSTOP)
            until(lambda: is_receiving(spare))
        reading = served.begin("cat", served.top / "branches/main/bad/snare")
        snared = who_is_snared(trap)
        kill(served.lease.pid)
        kill(snared)
        assert served.finish(reading) == "snare is passed"
        assert served.run("cat", served.top / "branches/main/last") == "last"
        until(lambda: processes(trap) == [spare])
        replace_service(trap, [spare])


def is_receiving(pid: int) -> bool:
    """Whether a process waits for a message: in recvfrom(2), on x86-64 or arm64."""
    return Path(f"/proc/{pid}/syscall").read_text().split()[0] in ("45", "207")


def who_is_snared(store: Path) -> int:
    """The worker that does not come back."""
    place = store / "caches/snared-worker"
    until(lambda: place.exists() and place.read_text().endswith("\n"))
    return int(place.read_text())


def replace_service(store: Path, workers: list[int]) -> None:
    """A new service takes the old mount away, with which what is left of the old one ends."""
    with Service.ensure(store, 600.0):
        until(lambda: not set(workers) & set(processes(store)))


@pytest.mark.parametrize("opener", ["poisoned", "on_an_older_kernel_poisoned"])
def test_a_request_that_workers_crash_in_is_an_error_and_the_next_is_not(trap: Path, opener: str) -> None:
    with service(trap, opener=f"tests.fusefs.openers:{opener}") as served:
        top = served.top / "branches/main"
        said = served.run("sh", "-c", f"cat {top}/bad/poison 2>&1 || cat {top}/good")
        assert said == f"cat: {top}/bad/poison: Input/output error\ngood"
        # Three each time: the kernel asks once more for a page that it could not read ahead. And who gives files ahead
        # may meet it too.
        assert 3 <= served.status()["replaced"] <= 9
        assert served.run("cat", top / "last") == "last"
        assert "answered with EIO" in served.log()


def test_many_kills_in_one_request_are_no_crash(trap: Path) -> None:
    """Nobody knows who has sent SIGKILL; 60 of them are less than three crashes."""
    with service(trap, opener="tests.fusefs.openers:snared") as served:
        reading = served.begin("cat", served.top / "branches/main/bad/snare")
        for number in range(60):
            until(lambda: (trap / "caches/snared").exists())
            if number < 59:
                (trap / "caches/snared").rmdir()
            before = served.status()
            kill(before["workers"][0])
            until(lambda before=before: served.replaced(before["replaced"]))
        assert served.finish(reading) == "snare is passed"


def test_a_worker_that_cannot_die_is_replaced(trap: Path) -> None:
    """A thread of it waits for a page, which only its successor brings."""
    with service(trap, opener="tests.fusefs.openers:stuck") as served:
        reading = served.begin("cat", served.top / "branches/main/bad/snare")
        until(lambda: (trap / "caches/snared").exists())
        (worker,) = served.workers()
        until(lambda: "D" in {state(Path(f"/proc/{worker}/task") / thread) for thread in threads(worker)})
        kill(worker)
        assert served.finish(reading) == "snare is passed"
        assert served.status()["replaced"] == 1
        until(lambda: worker not in processes(trap))


def threads(pid: int) -> list[str]:
    return os.listdir(f"/proc/{pid}/task")


def state(place: Path) -> str:
    """Of a process or a thread (proc_pid_stat(5))."""
    return (place / "stat").read_text().rpartition(") ")[2][0]


def test_a_hung_worker_is_replaced(trap: Path) -> None:
    with service(trap, opener="tests.fusefs.openers:snared", hung_seconds=0.5) as served:
        assert served.run("cat", served.top / "branches/main/bad/snare") == "snare is passed"
        assert served.status()["replaced"] == 1
        assert "hangs in a request" in served.log()


def test_a_worker_that_does_not_begin_is_replaced(store: Path) -> None:
    with service(store, opener="tests.fusefs.openers:threadless", hung_seconds=0.5) as served:
        assert "b1" in served.run("ls", served.top / "branches").split()
        assert served.status()["replaced"] == 1
        assert "does not begin to serve" in served.log()


def test_work_does_not_make_it_grow(store: Path) -> None:
    """Neither processes nor descriptors nor slots are left over by those who die."""
    with service(store, workers=2) as served:
        until(lambda: len(processes(store)) == 4)
        most = descriptors(served.lease.pid) + 2
        for _ in range(6):
            for pid in served.workers():
                before = served.status()
                kill(pid)
                until(lambda before=before: served.replaced(before["replaced"], 2))
        until(lambda: len(processes(store)) == 4 and descriptors(served.lease.pid) <= most)


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def test_the_holder_knows_no_store() -> None:
    """It has little that could fail, and little to lose."""
    probe = "import sys; sys.path.insert(0, sys.argv[1]); import fusefs.service; print(*sys.modules)"
    top = Path(__file__).parents[2]
    loaded = subprocess.run([sys.executable, "-P", "-c", probe, top], check=True, capture_output=True, text=True).stdout
    heavy = {"msgspec", "zstandard", "blake3", "sqlite3", "pygit2", "hashlib", "fusefs.filesystem", "vcs.snapshot"}
    assert not heavy & set(loaded.split())


def test_the_status_names_everybody(store: Path) -> None:
    with service(store) as served:
        status = served.status()
        assert list(status) == [
            *("holder", "workers", "replaced", "messages", "nodes", "given", "profiled", "plain"),
            *("leases", "idle", "mountpoint", "device"),
        ]
        assert status["holder"] == served.lease.pid
        until(lambda: {status["holder"], *status["workers"]} < set(processes(store)))
