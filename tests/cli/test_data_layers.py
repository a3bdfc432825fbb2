"""Programs that containers have as plain files: the bytes are right, whatever is done to them, killed or removed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusefs.client import Service
from fusefs.datadir import LOCK
from tests.cli.conftest import Cli, stop_service
from tests.support.containers import eventually
from vcs.model import Chunked, Data
from vcs.plain import bytes_path, digest_of_copy, remove
from vcs.plainwriter import save_plain
from vcs.snapshot import Snapshot
from vcs.store import Store

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

SIZE = 300_000
DATA = random.Random(1).randbytes(SIZE)
OTHER = random.Random(2).randbytes(SIZE)
"""As long, so that it can be put in the place of the first, to see which one is read."""
PATH = "opt/data"
CHANGES = """
set -e
cd /opt
chmod 4755 data; chown 5:6 data
ln data linked
mv data moved
printf more >> second; dd if=/dev/zero of=third bs=1000 count=1 conv=notrunc 2>/dev/null
mv fourth /opt/away; chmod 600 away
mkdir -p deep; mv dir deep/dir
echo new > deep/dir/fifth
: > sixth
rm seventh
touch -d '2020-01-01 00:00:00' moved linked second third deep/dir/fifth sixth away deep deep/dir . / /tmp
"""


@pytest.fixture
def store(box: Cli, tmp_path: Path) -> Iterator[Cli]:
    """A store whose `data` branch has files of some size."""
    top = tmp_path / "tree"
    top.mkdir()
    box("export", "main", str(top))
    (top / "opt/dir").mkdir(parents=True)
    for name in ("data", "second", "third", "fourth", "dir/fifth", "sixth", "seventh"):
        (top / "opt" / name).write_bytes(DATA if name == "data" else name.encode() * 40_000)
    box("import", str(top), "-b", "data", "-m", "data")
    yield box
    box("fsck", "--read-data")


def copy(box: Cli, *paths: str, branch: str = "data") -> list[Path]:
    """Have plain copies of files; where their bytes are."""
    made = []
    with Store.open(box.store) as store:
        snapshot = Snapshot(store, store.commit(store.history.resolve(branch)).root)
        for path in paths:
            content = snapshot.lookup(path.encode()).content
            assert isinstance(content, Data | Chunked)
            assert save_plain(store, store.caches, content)
            made.append(bytes_path(store.caches, digest_of_copy(content)))
    return made


def links(box: Cli) -> list[str]:
    """The files that overlays have been told where to find."""
    return [path.name for path in (box.store / "run/data").glob("*/*") if path.name != LOCK]


def output(box: Cli, *arguments: str) -> bytes:
    done = box.process(*arguments)
    assert done.returncode == 0, done.stderr
    printed: bytes = done.stdout
    return printed


def test_the_programs_of_one_container_are_plain_files_of_the_next(store: Cli) -> None:
    script = "cat /proc/uptime /bin/busybox > /dev/null; echo ran"
    assert output(store, "run", "--rm", "data", "--", "sh", "-c", script) == b"ran\n"
    assert links(store) == []
    plain = store.store / "caches/plain"
    (made,) = eventually(lambda: [path for path in plain.glob("*") if not path.suffix] if plain.is_dir() else [])
    assert made.read_bytes() == Path("/bin/busybox").read_bytes()
    assert output(store, "run", "--rm", "data", "--", "sh", "-c", script) == b"ran\n"
    assert [name.partition(".")[2] for name in links(store)] == [made.name]
    assert store.json("service")["plain"] == 1
    assert "1 program as plain files" in store("service").stdout
    stop_service(store.store)
    assert list((store.store / "run/data").iterdir()) == []
    assert made.stat().st_nlink == 1


@pytest.mark.parametrize("options", [(), ("--userns", "auto"), ("--read-only",), ("--volatile",)])
def test_the_bytes_come_from_the_copy(store: Cli, options: tuple[str, ...]) -> None:
    (made,) = copy(store, PATH)
    made.chmod(0o600)
    made.write_bytes(OTHER)
    assert output(store, "run", "--rm", *options, "data", "cat", f"/{PATH}") == OTHER
    both = output(store, "run", "--rm", *options, "data", "cat", f"/{PATH}", "/opt/second")
    assert both == OTHER + b"second" * 40_000
    made.write_bytes(DATA)


def test_whoever_mounts_an_overlay_of_his_own_over_the_view_has_all_from_there(store: Cli, tmp_path: Path) -> None:
    copy(store, PATH)
    point = tmp_path / "view"
    point.mkdir()
    assert store.process("mount", str(point)).returncode == 0
    for name in ("upper", "work", "merged"):
        (tmp_path / name).mkdir()
    options = f"lowerdir={point}/branches/data,upperdir={tmp_path}/upper,workdir={tmp_path}/work"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, str(tmp_path / "merged")], check=True)
    try:
        assert (tmp_path / "merged" / PATH).read_bytes() == DATA
        assert links(store) == []
    finally:
        subprocess.run(["umount", str(tmp_path / "merged")], check=True)
        assert store.process("umount", str(point)).returncode == 0


def test_what_is_changed_is_committed_as_if_there_were_no_copies(store: Cli) -> None:
    output(store, "run", "--name", "without", "data", "--", "sh", "-c", CHANGES)
    store("commit", "without", "-m", "one", "-b", "without")
    copy(store, *(f"opt/{name}" for name in ("data", "second", "third", "fourth", "dir/fifth", "sixth", "seventh")))
    output(store, "run", "--name", "with", "data", "--", "sh", "-c", CHANGES)
    assert len(links(store)) >= 4
    store("commit", "with", "-m", "two", "-b", "with")
    assert store.lines("diff", "without", "with") == []
    with Store.open(store.store) as opened:
        roots = {opened.commit(opened.history.resolve(name)).root for name in ("with", "without")}
    assert len(roots) == 1
    for name in ("with", "without"):
        shown = output(store, "run", "--rm", name, "--", "sh", "-c", "cat /opt/moved; stat -c '%a %u %g %h' /opt/moved")
        assert shown == DATA + b"755 5 6 2\n"
    assert output(store, "cp", "with:/opt/away", "-")[512 : 512 + 12] == b"fourthfourth"


def test_a_container_at_rest_is_read_and_written_through_its_copies(store: Cli, tmp_path: Path) -> None:
    (made,) = copy(store, PATH)
    output(store, "create", "--name", "rest", "data", "true")
    store("cp", f"rest:/{PATH}", str(tmp_path / "out"))
    assert (tmp_path / "out").read_bytes() == DATA
    (tmp_path / "in").write_bytes(OTHER)
    store("cp", str(tmp_path / "in"), f"rest:/{PATH}")
    assert made.read_bytes() == DATA, "a copy is never written to"
    assert made.stat().st_mode & 0o7777 == 0o400
    store("cp", f"rest:/{PATH}", str(tmp_path / "again"))
    assert (tmp_path / "again").read_bytes() == OTHER


def test_what_was_seen_can_be_read_though_the_copy_is_gone(store: Cli) -> None:
    """An overlay looks for the bytes when a file is opened first."""
    (made,) = copy(store, PATH)
    output(store, "run", "-d", "--name", "seen", "data", "--", "sleep", "1000")
    assert output(store, "exec", "seen", "stat", "-c", "%s", f"/{PATH}") == b"%d\n" % SIZE
    (link,) = links(store)
    remove(store.store / "caches", bytes.fromhex(made.name))
    store("gc")
    assert links(store) == [link], "the kernel knows the file"
    assert output(store, "exec", "seen", "cat", f"/{PATH}") == DATA
    store("rm", "-f", "--discard", "seen")
    Path("/proc/sys/vm/drop_caches").write_text("2")
    store("gc")
    assert links(store) == []


def test_workers_and_holder_may_be_killed(store: Cli) -> None:
    copy(store, PATH, "opt/second")
    output(store, "run", "-d", "--name", "on", "data", "--", "sleep", "1000")
    assert output(store, "exec", "on", "stat", "-c", "%s", f"/{PATH}") == b"%d\n" % SIZE
    before = Service.status(store.store)
    assert before is not None
    os.kill(before["workers"][0], signal.SIGKILL)
    assert output(store, "exec", "on", "cat", f"/{PATH}") == DATA
    os.kill(before["holder"], signal.SIGKILL)
    assert output(store, "run", "--rm", "data", "cat", "/opt/second") == b"second" * 40_000
    assert len(list((store.store / "run/data").iterdir())) == 2, "the workers of the first hold theirs"
    assert output(store, "exec", "on", "cat", "/opt/second", f"/{PATH}") == b"second" * 40_000 + DATA
    store("rm", "-f", "--discard", "on")
    stop_service(store.store)
    eventually(lambda: _gone(store))


def _gone(box: Cli) -> bool:
    """Once the workers that nobody looks after have ended, gc takes away what was theirs."""
    box("gc")
    return list((box.store / "run/data").iterdir()) == []


def test_a_damaged_copy_is_told_of_and_mended_where_it_is_in_use(store: Cli) -> None:
    (made,) = copy(store, PATH)
    output(store, "run", "-d", "--name", "in", "data", "--", "sleep", "1000")
    output(store, "exec", "in", "stat", f"/{PATH}")
    made.chmod(0o600)
    damaged = bytearray(DATA)
    damaged[123_456] ^= 1
    made.write_bytes(damaged)
    found = json.loads(store("fsck", "--read-data", "--format", "json", code=1).stdout)
    assert "plain-" in json.dumps(found)
    assert output(store, "exec", "in", "cat", f"/{PATH}") == damaged
    store("fsck", "--read-data", "--repair")
    assert output(store, "exec", "in", "cat", f"/{PATH}") == DATA, "while it runs"
    assert output(store, "run", "--rm", "data", "cat", f"/{PATH}") == DATA
