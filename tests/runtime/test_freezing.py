"""Real cgroups: measured, limited and frozen.

Processor time, processes and freezing are v2's own on every machine, and are tried on a real v2 tree also where the
controllers are v1's.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

import pytest

from runtime.cgroups import Cgroup, Hierarchies, Usage, freezing, parsing
from runtime.cgroups.places import CONTROLLERS
from runtime.settings import Limits
from tests.support.containers import environment, eventually
from tests.support.slow_disk import NAME, slow_disk
from vcs.errors import Conflict, EngineError

PROJECT = Path(__file__).parents[2]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
SPIN = "import time\nwhile True: time.process_time()"
HOLD = """import time
def is_there():
    return any("memory" in line and {name!r} in line for line in open("/proc/self/cgroup"))
while not is_there(): time.sleep(0.01)
held = b"x" * (40 << 20)  # accounted to the cgroup that it is in by now
while True: time.sleep(60)
"""
READERS = """import os, threading
file = os.open({file!r}, os.O_RDONLY)
def read():
    while True: os.pread(file, 1, 0)
for _ in range(4): threading.Thread(target=read).start()
"""
FORKER = "import os\nwhile True:\n pid = os.fork()\n if pid == 0: os._exit(0)\n os.waitpid(pid, 0)"


class Member:
    """A process of our own, for a cgroup."""

    def __init__(self, program: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip

    @property
    def pid(self) -> int:
        return self.process.pid

    def used(self) -> int:
        found = parsing.stat(Path(f"/proc/{self.pid}/stat").read_bytes())
        assert found
        return found.user + found.system + found.children_user + found.children_system


@contextmanager
def member(directories: list[Path], program: str) -> Iterator[Member]:
    """A process in cgroups that are made for it, and removed with it."""
    for directory in directories:
        directory.mkdir(parents=True)
    made = Member(program)
    try:
        for directory in directories:
            (directory / "cgroup.procs").write_text(str(made.pid))
        yield made
    finally:
        # A frozen process of v1 is not killed before it is thawed.
        for name, word in (("freezer.state", "THAWED"), ("cgroup.freeze", "0")):
            for directory in directories:
                with suppress(OSError):
                    if (directory / name).exists():
                        (directory / name).write_text(word)
        with suppress(ProcessLookupError):
            os.killpg(made.pid, signal.SIGKILL)
        made.process.wait(30)
        for directory in reversed(directories):
            eventually(lambda directory=directory: removed(directory))


def removed(directory: Path) -> bool:
    with suppress(OSError):
        directory.rmdir()
        return True
    return not directory.exists()


def places_of(name: str) -> list[Path]:
    """Where a cgroup of this path would be in each v1 tree that we use."""
    found = Hierarchies.here().v1
    return sorted({Path(found[controller].point, name) for controller in CONTROLLERS if controller in found})


v1_only = pytest.mark.skipif(not places_of("x"), reason="this machine has no cgroup v1 (its v2 is tested all the same)")


@needs_root
@v1_only
@pytest.mark.parametrize("program", [SPIN, FORKER])
def test_freezing_v1(program: str) -> None:
    name = f"test-{uuid.uuid4().hex}"
    group = Cgroup.of(name)
    with member(places_of(f"treering-{name}"), program) as one:
        stands_still(group, one)
        used = group.usage()
        assert used.cpu_seconds is not None
        assert used.cpu_seconds >= one.used() / 100 - 0.05
        assert used.pids in (1, 2)
    assert not group.exists


def stands_still(group: Cgroup, one: Member) -> None:
    """While it is frozen, nothing of it runs; whoever froze it."""
    eventually(lambda: one.used() > 3)
    assert one.pid in group.processes()
    for _ in range(20):
        group.freeze()
        assert group.frozen
        group.freeze()  # which it is
        used = one.used(), group.usage().cpu_seconds
        deadline = time.monotonic() + 0.03
        while time.monotonic() < deadline:
            assert (one.used(), group.usage().cpu_seconds) == used
        group.thaw()
        assert not group.frozen
        group.thaw()
        before = one.used()
        eventually(lambda before=before: one.used() > before)


@needs_root
@v1_only
def test_those_who_wait_for_a_disk_stand_all_at_once(tmp_path: Path) -> None:
    """Each waits most of the time, and so long that hardly ever two of them end it together."""
    name = f"test-{uuid.uuid4().hex}"
    group = Cgroup.of(name)
    program = READERS.format(file=str(tmp_path / "slow" / NAME))
    with slow_disk(tmp_path / "slow", 0.2), member(places_of(f"treering-{name}"), program) as one:
        eventually(lambda: len(os.listdir(f"/proc/{one.pid}/task")) == 5)
        for _ in range(3):
            group.freeze()
            assert group.frozen
            group.thaw()


@needs_root
@v1_only
def test_who_froze_may_be_gone() -> None:
    name = f"test-{uuid.uuid4().hex}"
    freezer = Path(Hierarchies.here().v1["freezer"].point, f"treering-{name}")
    with member([freezer], SPIN) as one:
        script = (
            "import os, signal; from runtime.cgroups import Cgroup; "
            f"Cgroup.of({name!r}).freeze(); os.kill(os.getpid(), signal.SIGKILL)"
        )
        done = subprocess.run([sys.executable, "-P", "-c", script], cwd=PROJECT, env=environment(), timeout=60,
                              stdin=subprocess.DEVNULL, capture_output=True)  # fmt: skip
        assert done.returncode == -signal.SIGKILL, done.stderr
        group = Cgroup.of(name)
        assert group.frozen
        group.thaw()
        assert not group.frozen
        before = one.used()
        eventually(lambda: one.used() > before)


@needs_root
@v1_only
def test_what_could_not_be_frozen_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error, or a key of the user's, when it may stand still already; and nothing is begun without descriptors."""
    name = f"test-{uuid.uuid4().hex}"
    with member(places_of(f"treering-{name}"), SPIN) as one:
        group = Cgroup.of(name)
        for error in (OSError(errno.ENOMEM, "no memory"), KeyboardInterrupt()):
            with monkeypatch.context() as patched:
                patched.setattr(freezing, "_state", raising(error))
                with pytest.raises((EngineError, KeyboardInterrupt)):
                    group.freeze()
            assert not group.frozen
        with monkeypatch.context() as patched:
            patched.setattr(os, "open", raising(OSError(errno.EMFILE, "too many open files")))
            with pytest.raises(EngineError, match="cannot be used"):
                group.freeze()
            with pytest.raises(OSError, match="too many"):
                _ = group.frozen
        assert not group.frozen
        before = one.used()
        eventually(lambda: one.used() > before)


def raising(error: BaseException) -> Callable[..., NoReturn]:
    def fail(*_: object) -> NoReturn:
        raise error

    return fail


@needs_root
@v1_only
def test_what_is_frozen_from_above_cannot_be_thawed_below() -> None:
    name = f"test-{uuid.uuid4().hex}"
    top = Path(Hierarchies.here().v1["freezer"].point, f"treering-{name}")
    with member([top, top / "below"], SPIN):
        below = Cgroup({"freezer": top / "below"}, None)
        Cgroup.of(name).freeze()
        assert below.frozen
        with pytest.raises(EngineError, match="a cgroup above it"):
            below.thaw(seconds=0.05)
        Cgroup.of(name).thaw()
        assert not below.frozen
        (top / "cgroup.procs").write_text((top / "below/cgroup.procs").read_text())
        (top / "below").rmdir()


@needs_root
@v1_only
def test_a_cgroup_that_something_else_placed_is_found_by_its_process() -> None:
    """As systemd does: in a slice, and under another name. One that is not the container's is left alone."""
    identity = uuid.uuid4().hex
    top = f"test-{uuid.uuid4().hex}.slice"
    slices = places_of(top)
    with member([*slices, *places_of(f"{top}/crun-{identity}.scope")], SPIN) as one:
        assert not Cgroup.of(identity).exists
        found = Cgroup.find(identity, one.pid)
        assert found.processes() == [one.pid]
        assert found.usage().pids == 1
        found.freeze()
        assert found.frozen
        found.thaw()
        assert Cgroup.of_process(one.pid).processes() == [one.pid]
        assert not Cgroup.find("another", one.pid).exists
        for directory in slices:
            (directory / "cgroup.procs").write_text(str(one.pid))
            (directory / f"crun-{identity}.scope").rmdir()
        assert not Cgroup.find(identity, one.pid).exists, "it is in a slice with others"
    assert Cgroup.of_process(one.pid).processes() == []


@needs_root
@v1_only
def test_limits_of_v1() -> None:
    name = f"test-{uuid.uuid4().hex}"
    hold = HOLD.format(name=name)
    group = Cgroup.of(name)
    with member(places_of(f"treering-{name}"), hold):
        eventually(lambda: (group.usage().memory_bytes or 0) > 40 << 20)
        for limits in (Limits(1 << 30, 1.5, 50), Limits(64 << 20, 0.25, 7), Limits(128 << 20, 2.0, 9), Limits()):
            group.update(limits)
            assert group.limits() == limits
        with pytest.raises(Conflict, match="cannot be taken away") as caught:
            group.update(Limits(memory=8 << 20, cpus=0.5))
        assert caught.value.facts["used"] > 40 << 20
        assert group.limits() == Limits(), "nothing was changed"


@needs_root
@v1_only
def test_memory_and_swap_together_follow_memory() -> None:
    name = f"test-{uuid.uuid4().hex}"
    directory = Path(Hierarchies.here().v1["memory"].point, f"treering-{name}")
    directory.mkdir()
    try:
        both = directory / "memory.memsw.limit_in_bytes"
        if not both.exists():
            pytest.skip("this machine does not account for swap")
        (directory / "memory.limit_in_bytes").write_text(str(100 << 20))
        both.write_text(str(150 << 20))
        for size, together in ((400 << 20, 450 << 20), (20 << 20, 70 << 20)):
            Cgroup.of(name).update(Limits(memory=size))
            assert (Cgroup.of(name).limits().memory, int(both.read_text())) == (size, together)
        Cgroup.of(name).update(Limits())
        assert parsing.number(both.read_bytes()) is None
    finally:
        directory.rmdir()


IN_V2 = """
import os, sys
from runtime.system import mounts
mounts.private_mount_namespace()
mounts.mount(b"cgroup2", b"/sys/fs/cgroup", b"cgroup2")
import pytest
from tests.runtime import test_freezing
from runtime.cgroups import Cgroup, Hierarchies
assert not Hierarchies.here().v1
test_freezing.on_pure_v2()
"""


@needs_root
def test_pure_v2() -> None:
    """On a v2 tree over /sys/fs/cgroup, in a mount namespace of its own: processor time, processes, freezing."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", IN_V2], cwd=PROJECT, env=environment(), timeout=120,
        stdin=subprocess.DEVNULL, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def on_pure_v2() -> None:
    """What test_pure_v2 does in there."""
    for program in (SPIN, FORKER):
        name = f"test-{uuid.uuid4().hex}"
        group = Cgroup.of(name)
        assert group.usage() == Usage()
        with member([Path("/sys/fs/cgroup", f"treering-{name}")], program) as one:
            stands_still(group, one)
            used = group.usage()
            assert used.source == "cgroup"
            assert used.cpu_seconds is not None
            assert used.cpu_seconds >= one.used() / 100 - 0.05
            assert abs(used.cpu_seconds - (used.user_seconds or 0) - (used.system_seconds or 0)) < 0.01
            assert one.pid in Cgroup.of_process(one.pid).processes()  # not all: the second program forks without end
            if "memory" not in Path("/sys/fs/cgroup/cgroup.controllers").read_text().split():
                with pytest.raises(EngineError, match="limited in memory"):
                    group.update(Limits(memory=1 << 30))
        assert not group.exists
