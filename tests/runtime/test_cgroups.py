"""Cgroups: the kernel's files as values, and where they lie. Real ones are in test_freezing.py.

What v2's memory, pids and io controllers say is read from copies of their files (tests/golden/cgroups): where tests
run on v1, v1 has those controllers, and the kernel lets a controller be in one tree only.
"""

from __future__ import annotations

import builtins
import errno
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.cgroups import Cgroup, Hierarchies, Usage, parsing, places
from runtime.cgroups.places import CONTROLLERS, Tree
from runtime.settings import Limits
from vcs.errors import Conflict, EngineError

GOLDEN = Path(__file__).parents[1] / "golden/cgroups"

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
