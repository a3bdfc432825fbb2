"""mount and umount, with each driver, also by an ordinary user."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusefs import mounting
from tests.cli.conftest import Cli, environment
from tests.fusefs.serving import needs_fuse
from tests.support.deadline import abort_below
from tests.support.ordinary_user import as_nobody, own

pytestmark = needs_fuse

SECONDS = 120


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A directory for what an ordinary user does; whatever is mounted there ends with the test."""
    directory = tmp_path / "place"
    (directory / "root/etc").mkdir(parents=True)
    (directory / "root/etc/motd").write_text("hello\n")
    own(directory)
    yield directory
    abort_below(directory)
    for mount in reversed(mounting.mounts()):
        if mount.point.startswith(os.fsencode(directory)):
            mounting.detach(Path(os.fsdecode(mount.point)))


def run(command: list[str], place: Path) -> subprocess.CompletedProcess[str]:
    """A command to its end. Its output goes to files: what it leaves running must not hold a pipe."""
    with open(place / "out", "w+") as out, open(place / "err", "w+") as err:
        process = subprocess.Popen(
            command, cwd="/", env=environment(place / "store"), stdin=subprocess.DEVNULL, stdout=out, stderr=err
        )
        try:
            code = process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            abort_below(place)
            process.kill()
            process.wait(30)
            raise
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(command, code, out.read(), err.read())


STORY = """
set -eu
treering() { "$PYTHON" -P -m runtime.cli "$@"; }
cd "$1"
treering init
tar -cf root.tar -C root .
treering import root.tar --branch main
treering mount shown $2
cat shown/branches/main/etc/motd
stat -f -c %T shown
if touch shown/branches/main/etc/new; then exit 1; fi
grep -c 'fuse.treering.*user_id=65534' /proc/self/mountinfo
treering umount shown
ls -A shown
if treering umount shown; then exit 1; fi
"""


@pytest.mark.parametrize("driver", ["--driver=libfuse", "--driver=auto", ""])
def test_an_ordinary_user_looks_at_a_store_of_their_own(place: Path, driver: str) -> None:
    story = ["env", f"PYTHON={sys.executable}", "sh", "-c", STORY, "sh", str(place), driver]
    done = run(as_nobody(story, place), place)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["hello", "fuseblk", "1"] or done.stdout.split() == ["hello", "fuse", "1"]
    assert "Read-only file system" in done.stderr
    assert "is not where treering mounted something" in done.stderr


def test_one_who_may_not_open_the_device_is_told_of_both_drivers(place: Path) -> None:
    command = [sys.executable, "-P", "-m", "runtime.cli", "--format", "json"]
    assert run(as_nobody([*command, "init"], place), place).returncode == 0
    done = run(as_nobody([*command, "mount", str(place / "shown")], place, device_mode=0o600), place)
    assert done.returncode == 125, done.stderr
    error = json.loads(done.stderr.splitlines()[-1])["error"]
    assert error["kind"] == "Denied"
    assert "/dev/fuse is not open to you" in error["facts"]["native"]
    assert "/dev/fuse: Permission denied" in error["facts"]["libfuse"]
    assert error["facts"]["native"] in error["message"]
    assert error["facts"]["libfuse"] in error["message"]
    assert "libfuse2" in error["advice"]
    assert "chmod 0666 /dev/fuse" in error["advice"]


def test_a_driver_that_cannot_mount_says_what_to_do(place: Path) -> None:
    command = [sys.executable, "-P", "-m", "runtime.cli", "--format", "json"]
    assert run(as_nobody([*command, "init"], place), place).returncode == 0
    done = run(as_nobody([*command, "mount", "--driver=native", str(place / "shown")], place, device_mode=0o600), place)
    assert done.returncode == 125
    assert "--driver libfuse" in json.loads(done.stderr.splitlines()[-1])["error"]["advice"]


@pytest.fixture
def point(tmp_path: Path) -> Iterator[Path]:
    """Where something is shown, and nothing any more after the test."""
    yield tmp_path / "shown"
    while mounting.mount_at(tmp_path / "shown"):
        mounting.detach(tmp_path / "shown")


def test_root_may_choose(cli: Cli, point: Path) -> None:
    """The files are looked at by a process, so that nothing here waits for a mount."""
    for driver in ("auto", "native", "libfuse"):
        cli("mount", "--driver", driver, str(point))
        try:
            listed = subprocess.run(["ls", point / "branches"], capture_output=True, text=True, timeout=60, check=True)
            assert listed.stdout.split() == ["main", "other"]
            assert cli.error("mount", str(point))["kind"] == "AlreadyExists"
        finally:
            cli("umount", str(point))


def test_the_library_is_found_without_any_program() -> None:
    """fusepy would start ldconfig, gcc and ld, of which none need be there."""
    code = (
        "import sys\n"
        "def refuse(event, arguments):\n"
        "    assert event not in ('subprocess.Popen', 'os.posix_spawn', 'os.fork', 'os.exec', 'os.system'), event\n"
        "sys.addaudithook(refuse)\n"
        "import fusefs.libfuse\n"
    )
    subprocess.run([sys.executable, "-P", "-c", code], env=environment(Path("/nowhere")), check=True, timeout=60)
