"""The benchmarks measure the same bytes everywhere, tell the truth about memory and failures, and run."""

import hashlib
import json
import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.corpora.big import big
from benchmarks.corpora.million import million
from benchmarks.corpora.small import small
from benchmarks.corpora.workplace import work_tree
from benchmarks.inside import Root
from benchmarks.measure import FailedError, Run, run, size_of
from benchmarks.pairs import Pairs, pairs
from benchmarks.peers.disks import Copy
from benchmarks.peers.peer import Peer
from benchmarks.peers.servers import Server, servers
from benchmarks.peers.treering import COMMAND
from benchmarks.report import Section, as_json, markdown
from benchmarks.residency import memory_group, resident
from benchmarks.setting import Setting
from fusefs.mounting import mounts
from tests.support.rich_tree import needs_root

TOP = Path(__file__).parents[1]


def fingerprint(top: Path) -> str:
    """A digest of everything that a corpus promises: names, modes, owners, times, attributes, links, contents."""
    state = hashlib.sha256()
    inodes: dict[int, int] = {}
    for directory, names, files in os.walk(os.fsencode(top)):
        names.sort()
        for name in [b".", *sorted([*names, *files])]:
            path = os.path.join(directory, name)
            status = os.lstat(path)
            link = inodes.setdefault(status.st_ino, len(inodes))
            state.update(repr((name, link, status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns)).encode())
            for attribute in sorted(os.listxattr(path, follow_symlinks=False)):
                state.update(repr((attribute, os.getxattr(path, attribute, follow_symlinks=False))).encode())
            if os.path.islink(path):
                state.update(os.readlink(path))
            elif os.path.isfile(path):
                state.update(Path(os.fsdecode(path)).read_bytes())
    return state.hexdigest()[:16]


@needs_root
def test_the_corpora_are_the_same_bytes_everywhere(tmp_path: Path) -> None:
    small(tmp_path / "small", 600, 60)
    big(tmp_path / "big", 1 << 20)
    million(tmp_path / "million", 500)
    work_tree(tmp_path / "work", 300)
    for directory, _, _ in os.walk(tmp_path / "work"):
        os.utime(directory, (0, 0))  # git looks at files' times alone
    assert {name: fingerprint(tmp_path / name) for name in ("small", "big", "million", "work")} == {
        "small": "623ea595213bff4a",
        "big": "584132713d04555b",
        "million": "46fd0af152c01fd9",
        "work": "d5af96197c45232e",
    }


@needs_root
def test_the_small_files_have_what_breaks_tools(tmp_path: Path) -> None:
    small(tmp_path / "small", 1_500, 160)
    paths = [
        os.path.join(directory, name)
        for directory, names, files in os.walk(os.fsencode(tmp_path / "small"))
        for name in [*names, *files]
    ]
    names = [os.path.basename(path) for path in paths]
    regular = [path for path in paths if os.path.isfile(path) and not os.path.islink(path)]
    assert len(regular) == 1_500
    assert sum(os.path.isdir(path) and not os.path.islink(path) for path in paths) == 159  # and the top
    assert sum(os.path.islink(path) for path in paths) == 30
    assert sum(os.lstat(path).st_nlink > 1 for path in regular) > 15
    attributes = {name for path in paths for name in os.listxattr(path, follow_symlinks=False)}
    assert attributes == {"user.comment", "user.digest.sha256", "security.capability"}
    assert any(b"\n" in name for name in names)
    assert any(name.startswith(b"-") for name in names)
    assert any(len(name) == 255 for name in names)
    assert any(b"\xff" in name for name in names)


def test_a_million_entries_are_as_many_as_asked_for(tmp_path: Path) -> None:
    for entries in (1, 13, 1_300):
        million(tmp_path / str(entries), entries)
        assert sum(len(names) + len(files) for _, names, files in os.walk(tmp_path / str(entries))) == entries


def test_memory_is_the_commands_and_not_ours() -> None:
    ballast = bytearray(os.urandom(1 << 20) * 150)
    assert run(["true"]).peak_bytes < 50e6
    # Two processes at once count together.
    hold = "import os, time; x = bytearray(b'x' * 60_000_000); pid = os.fork(); time.sleep(0.4); pid and os.wait()"
    forked = run([sys.executable, "-c", hold])
    assert 120e6 < forked.peak_bytes < 200e6
    assert forked.cpu_seconds > 0
    del ballast


def test_a_commands_time_is_its_own(tmp_path: Path) -> None:
    done = run(["sh", "-c", "pwd; sleep 0.2"], cwd=tmp_path)
    assert done.output.strip() == os.fsencode(tmp_path)
    assert done.seconds >= 0.2
    assert done + Run(1.0, 2.0, 10**12) == Run(done.seconds + 1, done.cpu_seconds + 2, 10**12, done.output)


def test_sizes_count_a_file_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 5_000)
    os.link(tmp_path / "file", tmp_path / "link")
    found = size_of(tmp_path)
    assert found.apparent == 5_000
    assert found.allocated >= 8_192


@needs_root
def test_a_program_runs_with_the_root_as_its_own(tmp_path: Path) -> None:
    root = Root(tmp_path)
    with pytest.raises(FileNotFoundError):
        root.run(["/bin/true"])
    assert Root(Path("/")).run(["/bin/true"]) > 0
    with pytest.raises(FailedError, match=r"ended with 3 .*: no"):
        Root(Path("/")).run(["/bin/sh", "-c", "echo no >&2; exit 3"])


@needs_root
def test_a_program_that_does_not_end_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    with pytest.raises(FailedError, match="ended with -9"):
        Root(Path("/")).run(["/bin/sh", "-c", f"sleep 250 & echo $! >{tmp_path}/pid; sleep 250"], seconds=1)
    try:
        child = os.pidfd_open(int((tmp_path / "pid").read_text()))
    except ProcessLookupError:
        return
    with os.fdopen(child) as ended:
        assert select.select([ended], [], [], 10)[0]


def test_pairs_are_compared_with_one_another_and_the_quiet_ones_count() -> None:
    found = Pairs([1.0, 2.0, 3.0, 44.0, 50.0], [1.0, 2.0, 2.0, 10.0, 5.0])
    assert found.quiet == [(1.0, 1.0), (2.0, 2.0), (3.0, 2.0)]  # what others slowed does not count
    assert found.ratio == 1.0
    assert found.spread == (1.0, 1.25)
    order: list[str] = []

    def once(name: str) -> float:
        order.append(name)
        return 1.0

    found = pairs(3, lambda: once("a") * 2, lambda: once("b"))
    assert (found.ours, found.theirs) == ([2.0] * 3, [1.0] * 3)
    assert order == ["a", "b", "b", "a", "a", "b"]


def test_a_files_pages_are_counted_where_they_are(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * 100_000)
    with open(file, "rb") as opened:
        os.fsync(opened.fileno())
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        assert resident(file) < 100_000
        opened.read()
    assert resident(file) == 25 * 4096
    (tmp_path / "empty").touch()
    assert resident(tmp_path / "empty") == 0


@needs_root
def test_a_memory_group_counts_and_goes(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(os.urandom(8 << 20))
    with open(file, "rb") as opened:
        os.fsync(opened.fileno())
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    with memory_group(f"treering-test-{os.getpid()}") as group:
        if group is None:
            pytest.skip("this machine has no memory cgroup to count by")
        subprocess.run(["cat", file], preexec_fn=group.enter, stdout=subprocess.DEVNULL, check=True, timeout=60)
        assert group.cached() > 7 << 20


@needs_root
@pytest.mark.skipif(not COMMAND.exists(), reason="needs the treering command beside the interpreter")
@pytest.mark.parametrize("server", servers(), ids=lambda server: server.name)
def test_every_server_shows_the_tree_and_leaves_nothing_behind(server: Server, tmp_path: Path) -> None:
    source, place = tmp_path / "source", tmp_path / "place"
    place.mkdir()
    for directory in ("a", "a/b", "c"):
        (source / directory).mkdir(parents=True)
        for number in range(40):
            (source / directory / f"file {number}").write_bytes(b"%d\n" % number * 3_000)
    os.symlink("a/b", source / "link")
    if why := server.absent():
        assert "installed" in why
        return
    server.prepare(place, source)
    with server.serving(place, source) as root, root.deadline(60):
        assert contents(root.path) == contents(source)
    assert not [mount for mount in mounts() if mount.point.startswith(os.fsencode(tmp_path))]


def contents(top: Path) -> dict[str, bytes]:
    """Every name, with what it holds."""
    found = {}
    for directory, names, files in os.walk(top):
        for name in [*names, *files]:
            path = Path(directory, name)
            data = os.fsencode(os.readlink(path)) if path.is_symlink() else path.read_bytes() if name in files else b""
            found[os.fspath(path.relative_to(top))] = data
    return found


class Broken(Copy):
    name = "broken"

    def save(self, place: Path, source: Path, label: str) -> Run:
        return run(["sh", "-c", "echo 'no space' >&2; exit 3"])


def test_a_tool_that_fails_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    setting = Setting(tmp_path / "cache", tmp_path, rounds=2)
    section = Section("Trial")
    peers: list[Peer] = [Broken(), Copy()]
    (tmp_path / "source").mkdir()

    def save(peer: Peer, number: int) -> Run:
        return peer.save(setting.repository(peer, str(number)), tmp_path / "source", "first")

    found = setting.trials(section, peers, 2, save)
    assert list(found) == ["cp -a"]
    assert len(found["cp -a"]) == 2
    assert section.notes == ["broken is left out: sh ended with 3: no space"]


def test_a_tool_that_is_not_installed_is_named(tmp_path: Path) -> None:
    class Absent(Copy):
        name = "absent"
        program = "treering-benchmarks-no-such-program"

    section = Section("Trial")
    assert [peer.name for peer in Setting(tmp_path, tmp_path).there(section, [Absent(), Copy()])] == ["cp -a"]
    assert section.notes == ["absent is left out: treering-benchmarks-no-such-program is not installed."]


def test_tables_are_rendered() -> None:
    section = Section("Import", notes=["Three rounds."])
    section.put("treering", "seconds", 1.234, "s")
    section.put("restic", "seconds", 2.468, "s")
    section.put("restic", "ours to it", 0.5, "×")
    section.claim("1", "time", 0.5, 0.6)
    section.claim("1", "memory", 251e6, 250e6, "MB")
    section.claim("10", "rate", 801e6, 800e6, "MB/s", at_least=True)
    text = markdown([section])
    assert "| 1 | time | 0.50× | ≤ 0.60× | kept |" in text
    assert "| 1 | memory | 251.0 MB | ≤ 250.0 MB | **missed** |\n| 10 | rate | 801 MB/s | ≥ 800 MB/s | kept |" in text
    assert (
        "| tool | seconds | ours to it |\n|---|---:|---:|\n| treering | 1.23 s |  |\n| restic | 2.47 s | 0.50× |"
        in text
    )
    assert text.endswith("\n\nThree rounds.\n")
    assert json.loads(as_json([section]))["sections"][0]["rows"]["treering"]["seconds"]["value"] == 1.234


def test_a_plot_is_the_same_each_time(tmp_path: Path) -> None:
    from benchmarks.plot import plot

    section = Section("Import: small files", series={"treering": [1e6, 2e6]})
    section.put("treering", "seconds", 1.234, "s")
    for name in ("one.svg", "two.svg"):
        plot([section], tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    assert b"1.23 s" in (tmp_path / "one.svg").read_bytes()


@needs_root
@pytest.mark.skipif(not COMMAND.exists(), reason="needs the treering command beside the interpreter")
def test_a_section_runs_from_end_to_end(tmp_path: Path) -> None:
    source = tmp_path / "root"
    small(source, 200, 20)
    places = [f"--{name}={tmp_path / name}" for name in ("cache", "work", "results")]
    command = [sys.executable, "-m", "benchmarks", "imports", "--quick", "--rounds=1", "--peers=treering;cp"]
    subprocess.run([*command, *places, f"--root={source}"], cwd=TOP, check=True, capture_output=True)
    found = json.loads((tmp_path / "results" / "results.json").read_text())["sections"]
    assert [section["title"] for section in found] == [
        "Import: 1 GiB file", "Import: Debian root", "Import: small files"
    ]  # fmt: skip
    for section in found:
        assert list(section["rows"]) == ["treering", "cp -a"]
        assert section["rows"]["treering"]["added"]["value"] < 64_000
        assert {claim["aim"] for claim in section["claims"]} == {"1", "2"}
    assert "| treering |" in (tmp_path / "results" / "results.md").read_text()
    assert not list((tmp_path / "work").iterdir())
