"""diff: copies, files renamed with changes, and the form of `docker diff`."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.runtime.overlay_cases import needs_root

_LIST = "".join(f"line {number}\n" for number in range(20))

BEFORE = """
mkdir -p etc/sub etc/gone/deep a/x ty opq/q dirmv
echo 1 >etc/motd; echo 2 >etc/sub/f; echo 3 >etc/gone/deep/g; echo 4 >a/x/y; echo 5 >a-b; echo 6 >ty/t; echo 7 >opq/q/z
echo 8 >opq/w; echo 9 >moved; echo 10 >chm; echo 11 >dirmv/in; echo 12 >top; ln -s x lnk
"""
CHANGE = """
echo more >>etc/motd; rm -r etc/gone; mkdir -p new/d; echo x >new/d/e; echo q >a-b; echo y2 >a/x/y; rm -r ty; echo f >ty
rm -r opq; mkdir opq; echo n >opq/n; mv moved moved2; chmod 600 chm; ln -sfn z lnk; touch -d @1 etc/sub; echo u >a/zz
mv dirmv dirmv2; rm top
"""
PODMAN = """
C /a|C /a/x/y|A /a/zz|C /a-b|C /chm|D /dirmv|A /dirmv2|A /dirmv2/in|C /etc|D /etc/gone|C /etc/motd|C /etc/sub|A /lnk
D /moved|A /moved2|A /new|A /new/d|A /new/d/e|D /opq|A /opq/n|D /top|C /ty
"""
"""What `podman diff` (4.3.1, overlay) prints of a container in whose root CHANGE was run on an image of BEFORE."""


@pytest.fixture
def changed(empty: Cli, tmp_path: Path) -> Cli:
    root = tmp_path / "root"
    root.mkdir()
    empty("init")
    for script in (BEFORE, CHANGE):
        subprocess.run(["sh", "-ec", script], cwd=root, check=True, timeout=60, stdin=subprocess.DEVNULL)
        empty("import", str(root), "-m", "state")
    return empty


@pytest.fixture
def copied(empty: Cli, tmp_path: Path) -> Cli:
    root = tmp_path / "root"
    (root / "lib").mkdir(parents=True)
    (root / "etc").mkdir()
    (root / "etc/list").write_text(_LIST)
    (root / "etc/same").write_text("the same")
    (root / "lib/far").write_text("far")
    empty("init")
    empty("import", str(root), "-m", "before")
    (root / "etc/list").write_text(_LIST + "more\n")
    (root / "etc/list2").write_text(_LIST.replace("line 7\n", "line seven\n"))
    (root / "etc/list2").chmod(0o600)
    (root / "etc/same2").write_text("the same")
    (root / "etc/far2").write_text("far")
    empty("import", str(root), "-m", "after")
    return empty


def test_as_docker_lists_them(changed: Cli) -> None:
    lines = changed.lines("diff", "--format", "docker", "main")
    podman = PODMAN.strip().replace("\n", "|").split("|")
    # Podman takes a replaced link for a new one, and a replaced directory for one that is gone. And it lists a
    # directory above a file that was only written to if something else has changed its mtime.
    ours = {"C /a/x", "C /lnk", "C /opq", "D /opq/q", "D /opq/w"}
    theirs = {"A /lnk", "D /opq"}
    assert set(lines) - set(podman) == ours
    assert set(podman) - set(lines) == theirs
    assert [line for line in lines if line not in ours] == [line for line in podman if line not in theirs]


def test_as_docker_lists_a_part(changed: Cli) -> None:
    assert changed.lines("diff", "--format=docker", "main~1", "main", "/new/d") == ["C /new", "A /new/d", "A /new/d/e"]
    assert changed.lines("diff", "--format=docker", "main", "/etc/gone/deep") == ["C /etc", "D /etc/gone/deep"]
    assert changed.lines("diff", "--format=docker", "main", "main") == []
    changed("diff", "--format=docker", "--exit-code", "main", code=1)
    for option in ("--stat", "-p", "--name-status", "-z", "--packages"):
        changed("diff", "--format=docker", option, "main", code=2)
    changed("status", "--format=docker", "main", code=2)


def test_copies_in_every_form(copied: Cli) -> None:
    assert copied.lines("diff", "--name-status", "main") == [
        "A\t/etc/far2", "M\t/etc/list", "A\t/etc/list2", "A\t/etc/same2",
    ]  # fmt: skip
    assert copied.lines("diff", "-C", "--name-status", "main") == [
        "A\t/etc/far2", "M\t/etc/list", "C092\t/etc/list\t/etc/list2", "C100\t/etc/same\t/etc/same2",
    ]  # fmt: skip
    assert copied.lines("diff", "--find-copies-harder", "--name-status", "main")[0] == "C100\t/lib/far\t/etc/far2"
    assert copied.lines("diff", "-C", "--similarity", "93", "--name-status", "main")[2] == "A\t/etc/list2"
    assert "C  /etc/list -> /etc/list2  (92% the same, mode 644 -> 600)" in copied.lines("diff", "-C", "main")
    rows = {row["path"]: row for row in map(json.loads, copied.lines("diff", "-C", "--format", "jsonl", "main"))}
    copy = rows["/etc/list2"]
    assert (copy["status"], copy["old_path"], copy["similarity"]) == ("C", "/etc/list", 92)
    assert "content" in copy["what"]
    assert rows["/etc/same2"]["what"] == ["mtime"]


def test_a_patch_of_a_copy_can_be_applied(copied: Cli, tmp_path: Path) -> None:
    lines = copied.lines("diff", "-C", "-p", "main", "/etc/list2")
    at = lines.index("similarity index 92%")
    assert lines[at + 1 : at + 5] == ["copy from /etc/list", "copy to /etc/list2", "--- a/etc/list", "+++ b/etc/list2"]
    (tmp_path / "list2").write_text(_LIST)
    patch = "\n".join(lines[at + 3 :]) + "\n"
    subprocess.run(["git", "apply", "-p2"], input=patch.replace("a/etc/list\n", "a/etc/list2\n"), text=True,
                   cwd=tmp_path, check=True, timeout=60, env={"PATH": os.environ["PATH"]})  # fmt: skip
    assert "line seven\n" in (tmp_path / "list2").read_text()


def test_a_count_of_lines_tells_the_metadata_too(copied: Cli) -> None:
    lines = copied.lines("diff", "-C", "--stat", "main", "/etc/list2")
    assert lines[0] == " /etc/list -> /etc/list2 | 2 +-  (92% the same, mode 644 -> 600)"


@needs_root
def test_metadata_is_shown_as_such(empty: Cli, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "dev").mkdir(parents=True)
    for name in ("mode", "owner", "xattr", "time"):
        (root / name).write_text("the same")
    (root / "text").write_text("1\n")
    (root / "binary").write_bytes(bytes(10))
    (root / "large").write_text("1\n" * (600 << 10))
    os.mknod(root / "dev/null", 0o020666, os.makedev(1, 3))
    empty("init")
    empty("import", str(root), "-m", "before")
    (root / "mode").chmod(0o4755)
    os.chown(root / "owner", 5, 6)
    os.setxattr(root / "xattr", "user.key", b"value")
    os.utime(root / "time", (1, 1))
    (root / "text").write_text("2\n")
    (root / "text").chmod(0o600)
    (root / "binary").write_bytes(bytes(11))
    (root / "large").write_text("2\n" * (600 << 10))
    (root / "dev/null").unlink()
    os.mknod(root / "dev/null", 0o020666, os.makedev(1, 5))
    empty("import", str(root), "-m", "after")
    assert empty.lines("diff", "main") == [
        "M  /binary", "M  /dev/null  (device 1:3 -> 1:5)", "M  /large", "M  /mode  (mode 644 -> 4755)",
        "M  /owner  (owner 0:0 -> 5:6)", "M  /text  (mode 644 -> 600)", "M  /time  (mtime)",
        "M  /xattr  (xattr +user.key)",
    ]  # fmt: skip
    assert empty.lines("diff", "-p", "main", "/binary", "/large", "/text", "/mode") == [
        "M  /binary", "Binary or large file; its text is not shown: 10 -> 11 bytes",
        "M  /large", "Binary or large file; its text is not shown: 1,228,800 -> 1,228,800 bytes",
        "M  /mode  (mode 644 -> 4755)",
        "M  /text  (mode 644 -> 600)", "--- a/text", "+++ b/text", "@@ -1 +1 @@", "-1", "+2",
    ]  # fmt: skip
    rows = {row["path"]: row["what"] for row in empty.json("diff", "main")}
    assert rows["/owner"] == ["owner"]
    assert rows["/xattr"] == ["xattrs"]
    assert rows["/text"] == ["content", "mode", "mtime"]
