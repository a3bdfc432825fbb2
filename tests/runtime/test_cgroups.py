"""Cgroups: the kernel's files as values, where they lie, and real ones, measured, limited and frozen.

What v2's memory, pids and io controllers say is read from copies of their files (tests/golden/cgroups): where tests
run on v1, v1 has those controllers, and the kernel lets a controller be in one tree only. Processor time, processes and
freezing are v2's own on every machine, and are tried on a real v2 tree.
"""

from __future__ import annotations

import builtins
import errno
import os
import re
import shutil
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
from hypothesis import given
from hypothesis import strategies as st

from runtime.cgroups import Cgroup, Hierarchies, Usage, freezing, parsing, places
from runtime.cgroups.places import CONTROLLERS, Tree
from runtime.settings import Limits
from tests.support.containers import environment, eventually
from vcs.errors import Conflict, EngineError

GOLDEN = Path(__file__).parents[1] / "golden/cgroups"
PROJECT = Path(__file__).parents[2]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

# -- parsing

_PARSERS: list[Callable[[bytes], object]] = [
    parsing.number, parsing.keyed, parsing.blkio, parsing.io_stat, parsing.cpu_max, parsing.memberships, parsing.stat,
    parsing.fields, places.parse,
]  # fmt: skip
_WORDS = st.sampled_from(
    [b"8:0", b"Read", b"Write", b"rbytes=1", b"wios=", b"max", b"-1", b"99999999999999999999999", b"(a b)", b"0::/x",
     b"cgroup2", b"-", b"/sys/fs/cgroup", b"rw,cpu", b"usage_usec", b"\xff", b"Pss:", b"7", b"\n", b" "]
)  # fmt: skip


@pytest.mark.parametrize("parser", _PARSERS)
@given(text=st.binary(max_size=200) | st.lists(_WORDS, max_size=40).map(b" ".join))
def test_no_text_is_too_odd(parser: Callable[[bytes], object], text: bytes) -> None:
    parser(text)


@given(st.dictionaries(st.from_regex(rb"[a-z_]{1,20}", fullmatch=True), st.integers(0, 2**64)))
def test_lines_of_a_name_and_a_number(values: dict[bytes, int]) -> None:
    assert parsing.keyed(b"".join(b"%s %d\n" % item for item in values.items())) == values


@given(st.lists(st.tuples(*[st.integers(0, 2**50)] * 4), max_size=5))
def test_io_is_summed_over_devices(devices: list[tuple[int, int, int, int]]) -> None:
    v2 = b"".join(b"8:%d rbytes=%d wbytes=%d rios=%d wios=%d dbytes=7 dios=7\n" % (n, *io)
                  for n, io in enumerate(devices))  # fmt: skip
    sums = tuple(sum(io[column] for io in devices) for column in range(4))
    assert parsing.io_stat(v2) == sums
    v1 = b"".join(b"8:%d Read %d\n8:%d Write %d\n8:%d Sync 9\n" % (n, io[0], n, io[1], n)
                  for n, io in enumerate(devices))  # fmt: skip
    assert parsing.blkio(v1 + b"Total 99\n") == sums[:2]


@given(st.text(st.characters(codec="ascii", exclude_characters="\n\0"), max_size=15), st.integers(0, 2**40))
def test_a_name_with_parentheses_does_not_confuse_a_stat(name: str, ticks: int) -> None:
    numbers = list(range(100, 150))
    numbers[14 - 4] = ticks
    text = f"7 ({name}) S {' '.join(map(str, numbers))}\n".encode()
    found = parsing.stat(text)
    assert found
    assert (found.parent, found.user, found.threads, found.start, found.resident) == (100, ticks, 116, 118, 120)


@pytest.mark.parametrize(
    ("text", "value"),
    [(b"12\n", 12), (b"max\n", None), (b"-1\n", None), (b"9223372036854771712\n", None), (b"", None), (None, None)],
)
def test_numbers(text: bytes | None, value: int | None) -> None:
    assert parsing.number(text) == value


def test_our_own_stat_is_understood() -> None:
    found = parsing.stat(Path("/proc/self/stat").read_bytes())
    assert found
    assert found.parent == os.getppid()
    assert found.resident > 100


# -- where they lie

V1 = b"""31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
"""
UNIFIED = b"41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
V2 = b"31 23 0:28 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"


def test_layouts() -> None:
    both = Tree("/sys/fs/cgroup/cpu,cpuacct", "/")
    found = places.parse(V1 + UNIFIED)
    assert found.v1 == {
        "cpu": both, "cpuacct": both, "memory": Tree("/sys/fs/cgroup/memory", "/"),
        "name=systemd": Tree("/sys/fs/cgroup/systemd", "/"),
    }  # fmt: skip
    assert found.v2 == Tree("/sys/fs/cgroup/unified", "/")
    assert places.parse(V1).v2 is None
    assert places.parse(V2) == Hierarchies({}, Tree("/sys/fs/cgroup", "/"))


def test_what_is_covered_is_not_there() -> None:
    """As crun is shown a hybrid layout, and an ordinary user's crun none at all."""
    tmpfs = b"90 %d 0:99 / %s rw - tmpfs tmpfs rw\n"
    assert places.parse(V1 + UNIFIED + tmpfs % (41, b"/sys/fs/cgroup/unified")).v2 is None
    assert places.parse(V1 + UNIFIED + tmpfs % (31, b"/sys/fs/cgroup")) == Hierarchies({}, None)
    assert places.parse(V1 + UNIFIED + V2) == Hierarchies({}, Tree("/sys/fs/cgroup", "/"))
    assert places.parse(V1 + tmpfs % (23, b"/sys/fs/cgroup/memory2")).v1 == places.parse(V1).v1


def test_odd_mount_points() -> None:
    line = rb"31 23 0:28 /a\040b /mnt/c\011d rw - cgroup2 none rw" + b"\n"
    assert places.parse(line).v2 == Tree("/mnt/c\td", "/a b")


def test_a_container_that_shows_its_own_cgroup_only() -> None:
    tree = Tree("/sys/fs/cgroup", "/docker/abc")
    assert tree.directory("/docker/abc/treering-1") == Path("/sys/fs/cgroup/treering-1")
    assert tree.directory("/docker/abc") == Path("/sys/fs/cgroup")
    assert tree.directory("/docker/abcd") is None
    assert tree.directory("/../other") is None


# -- what files say


def v1_copy(place: Path) -> Cgroup:
    shutil.copytree(GOLDEN / "v1", place / "v1")
    return Cgroup({controller: place / "v1" / controller for controller in CONTROLLERS}, None)


def v2_copy(place: Path) -> Cgroup:
    shutil.copytree(GOLDEN / "v2", place / "v2")
    return Cgroup({}, place / "v2")


V1_USAGE = Usage(
    cpu_seconds=0.160441915, user_seconds=0.15, system_seconds=0.0,
    memory_bytes=34394112 - 32145408, memory_limit=128 << 20, memory_peak=35885056, pids=1, pids_limit=100,
    read_bytes=0, written_bytes=0, read_operations=0, write_operations=0, oom_kills=0, source="cgroup",
)  # fmt: skip
V2_USAGE = Usage(
    cpu_seconds=2.371925, user_seconds=2.012604, system_seconds=0.359321,
    memory_bytes=47058944 - 20152320, memory_limit=256 << 20, memory_peak=61431808, pids=5, pids_limit=100,
    read_bytes=91889664, written_bytes=613781504, read_operations=9142, write_operations=1605, oom_kills=1,
    source="cgroup",
)  # fmt: skip


@pytest.mark.parametrize(("copy", "usage"), [(v1_copy, V1_USAGE), (v2_copy, V2_USAGE)])
def test_usage(tmp_path: Path, copy: Callable[[Path], Cgroup], usage: Usage) -> None:
    group = copy(tmp_path)
    assert group.usage() == usage
    assert group.limits() == Limits(usage.memory_limit, 1.5, usage.pids_limit)
    assert group.processes() in ([22543], [1201, 1207, 1210])
    assert not group.frozen


@pytest.mark.parametrize("copy", [v1_copy, v2_copy])
def test_any_file_may_vanish(tmp_path: Path, copy: Callable[[Path], Cgroup]) -> None:
    """What the others say stays known, and when all are gone nothing is."""
    group = copy(tmp_path)
    whole = group.usage()
    names = Usage.__dataclass_fields__
    for path in sorted(path for path in tmp_path.rglob("*") if path.is_file()):
        path.unlink()
        left = group.usage()
        for name in names:
            if name not in ("memory_bytes", "source"):  # without memory.stat, more seems to be in use
                assert getattr(left, name) in (getattr(whole, name), None)
    assert group.usage() == Usage()
    shutil.rmtree(tmp_path)
    assert group.usage() == Usage()
    assert group.processes() == []
    assert not group.exists
    assert not group.frozen
    assert group.limits() == Limits()
    with pytest.raises(EngineError, match="no cgroup"):
        group.freeze()
    with pytest.raises(EngineError, match="no cgroup"):
        group.update(Limits(memory=1 << 30))


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOMEM, errno.EINTR])
def test_processes_that_cannot_be_told_are_not_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """A live commit goes by what they have open: one that is passed over may write what nobody then looks at."""
    (tmp_path / "below").mkdir()
    for name, pid in (("", 1), ("below", 2)):
        (tmp_path / name / "cgroup.procs").write_text(f"{pid}\n")
    group = Cgroup({}, tmp_path)
    assert group.processes() == [1, 2]

    def failing(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    for place, name in ((os, "scandir"), (builtins, "open")):
        with monkeypatch.context() as patch:
            patch.setattr(place, name, failing)
            with pytest.raises(OSError, match=re.escape(os.strerror(number))):
                group.processes()


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP])
def test_a_cgroup_that_goes_or_is_of_threads_has_no_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def failing(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(builtins, "open", failing)
    assert Cgroup({}, tmp_path).processes() == []


def test_limits_of_v2(tmp_path: Path) -> None:
    group = v2_copy(tmp_path)
    group.update(Limits(memory=64 << 20, cpus=0.5, pids=20))
    names = ("memory.max", "cpu.max", "pids.max")
    assert [(tmp_path / "v2" / name).read_text() for name in names] == ["67108864", "50000 100000", "20"]
    with pytest.raises(Conflict, match="11,048,168 are in use") as caught:
        group.update(Limits(memory=10 << 20))
    assert caught.value.facts == {"limit": 10 << 20, "used": 11048168}
    group.update(Limits())
    assert [(tmp_path / "v2" / name).read_text() for name in names] == ["max", "max 100000", "max"]
    with pytest.raises(EngineError, match=r"at least 0\.01"):
        group.update(Limits(cpus=0.001))
    (tmp_path / "v2/cgroup.controllers").write_text("cpuset io memory pids")
    with pytest.raises(EngineError, match="limited in cpu") as refused:
        group.update(Limits(cpus=1))
    assert refused.value.facts["advice"] == f"as root: echo +cpu > {tmp_path}/cgroup.subtree_control"


def test_a_v2_cgroup_that_does_not_freeze_goes_on(tmp_path: Path) -> None:
    group = v2_copy(tmp_path)  # nobody ever changes its cgroup.events
    with pytest.raises(EngineError, match="does not stop"):
        group.freeze(seconds=0.05)
    assert (tmp_path / "v2/cgroup.freeze").read_text().strip() == "0"


# -- real ones

SPIN = "import time\nwhile True: time.process_time()"
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
            patched.setattr(freezing.os, "open", raising(OSError(errno.EMFILE, "too many open files")))
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
    hold = "import time\nheld = bytearray(b'x' * (40 << 20))\nwhile True: time.sleep(60)"
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
from tests.runtime import test_cgroups
from runtime.cgroups import Cgroup, Hierarchies
assert not Hierarchies.here().v1
test_cgroups.on_pure_v2()
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
