"""An ordinary user whose machine lacks something: what is missing is said, and what does not need it works."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.busybox_root import make_busybox_root
from tests.support.containers import eventually
from tests.support.ordinary_user import OrdinaryUser, give_ids, ordinary_user, take_ids
from tests.system.homes import changes, owned_by_root

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: makes a user")


ENTER_WITH_OTHER_IDS = """
import os, sys
from pathlib import Path
from runtime.namespace import door, needs
from runtime.namespace.mapping import Span
spans = (Span(1, 5),)
door.find_means = lambda user: needs.Means(Path("/usr/bin/newuidmap"), Path("/usr/bin/newgidmap"), spans, spans)
door.enter(Path(sys.argv[1]), needs.User(os.getuid(), os.getgid(), "me"))
"""


class TestWhatIsMissing:
    """Each says what it is and what root must do, and leaves nothing behind."""

    def error(self, user: OrdinaryUser, *arguments: str, **settings: Any) -> dict[str, Any]:
        done = user.treering("--format", "json", *arguments, code=125, **settings)
        found: dict[str, Any] = json.loads(done.stderr.splitlines()[-1])["error"]
        return found

    def test_newuidmap(self, user: OrdinaryUser) -> None:
        program = shutil.which("newuidmap")
        assert program
        error = self.error(user, "run", "main", "true", hidden=[program])
        assert (error["kind"], error["facts"]["missing"]) == ("Denied", "uidmap")
        assert "apt-get install uidmap" in error["advice"]

    def test_dev_fuse(self, user: OrdinaryUser) -> None:
        error = self.error(user, "run", "main", "true", fuse_mode=0o600)
        assert "/dev/fuse is not open to you" in error["message"]
        assert "chmod 0666 /dev/fuse" in error["advice"]
        assert user.treering("ps", "--format", "json", "-a").json() == []
        without = user.treering("unshare", "sh", "-c", "echo ${TREERING_MOUNT-none}", fuse_mode=0o600)
        assert without.stdout == "none\n"
        assert "/dev/fuse is not open to you" in without.stderr

    def test_attributes_for_the_upper(self, user: OrdinaryUser) -> None:
        script = 'cd "$0" && "$@" init && "$@" import "$HOME/root" && "$@" --format json run main true; code=$?'
        script += '; "$@" service stop; exit $code'
        done = user.run("sh", "-c", script, str(user.place / "ram"), *user.command, "--store", "store")
        error = json.loads(done.stderr.splitlines()[-1])["error"]
        assert (done.code, error["kind"]) == (125, "EngineError")
        assert "lies on a file system without user.* attributes" in error["message"]
        eventually(lambda: not user.processes())

    def test_a_range_that_newuidmap_does_not_allow(self, user: OrdinaryUser) -> None:
        """newuidmap asks the machine, whatever we have read: here, one that has changed since."""
        done = user.run(*user.python, "-c", ENTER_WITH_OTHER_IDS, str(user.store))
        assert done.code == 1
        assert "vcs.errors.Denied: /usr/bin/newuidmap refused: uid range" in done.stderr
        eventually(lambda: not user.processes())


class TestWithOneId:
    """The machine gives the user no ids but his own: what needs no others works, and the rest says what is missing."""

    @pytest.fixture(scope="class")
    @staticmethod
    def made() -> Iterator[OrdinaryUser]:
        with ordinary_user(ids=False) as user:
            root = make_busybox_root(user.home / "root")
            (root / "etc/noted").write_text("one\n")
            (root / "home/ana/gone").write_text("gone\n")
            for path in (root, *root.rglob("*")):
                os.chown(path, user.uid, user.uid, follow_symlinks=False)
            yield user

    @pytest.fixture
    def user(self, made: OrdinaryUser) -> Iterator[OrdinaryUser]:
        try:
            made.treering("init")
            imported = made.treering("import", "--format", "json", "root", "-m", "base")
            assert imported.json()["nobody"] == 0
            assert f"warning: /etc/subuid gives {made.name} no ids" in imported.stderr
            assert "containers have root alone, and cannot chown" in imported.stderr
            assert imported.stderr.endswith(f" {made.name}\n"), "usermod's arguments"
            yield made
            assert made.settled()
        finally:
            made.clear(keep=["root"])

    def test_from_the_first_store_to_a_rollback(self, user: OrdinaryUser) -> None:
        script = "id -u; echo two >> /etc/noted; rm -r /home/ana; mkdir /home/ana; mv /etc/group /etc/renamed"
        assert user.treering("run", "--name", "web", "main", "sh", "-c", script).stdout == "0\n"
        assert changes(user, "web").items() >= {"/etc/noted": "M", "/home/ana/gone": "D", "/etc/renamed": "R"}.items()
        user.treering("commit", "web", "-m", "changes", "-b", "changed")
        assert user.treering("cat", "changed:/etc/noted").stdout == "one\ntwo\n"
        look = ["sh", "-c", "cat $TREERING_MOUNT/branches/changed/etc/noted"]
        assert user.treering("unshare", *look).stdout == "one\ntwo\n"
        user.treering("rollback", "web", "main")
        assert changes(user, "web") == {}
        user.treering("export", "changed", "out")
        assert {path.lstat().st_uid for path in (user.home / "out").rglob("*")} == {user.uid}
        again = user.treering("import", "--format", "json", "out", "-b", "again").json()
        assert again["root"] == user.treering("show", "--format", "json", "changed").json()["root"]
        user.treering("rm", "web")
        user.treering("gc")
        user.treering("fsck", "--read-data")

    @pytest.mark.parametrize("engine", ["crun", "runc"])
    def test_both_engines(self, user: OrdinaryUser, engine: str) -> None:
        script = "id; cat /proc/self/setgroups /dev/null; exit 7"
        for network in ("host", "none"):
            run = ["run", "--rm", "--runtime", engine, "--network", network, "main", "sh", "-c", script]
            assert user.treering(*run, code=7).stdout == "uid=0(root) gid=0(root)\ndeny\n"

    def test_another_user_in_a_container_is_refused_with_what_to_do(self, user: OrdinaryUser) -> None:
        done = user.treering("--format", "json", "run", "--rm", "--user", "ana", "main", "true", code=125)
        error = json.loads(done.stderr.splitlines()[-1])["error"]
        assert error["kind"] == "EngineError"
        assert error["message"].startswith("user 1000 of group 1000 cannot be had in your containers")
        assert "usermod --add-subuids" in error["advice"]
        inside = user.treering("run", "--rm", "main", "busybox", "su", "ana", "-c", "id", code=1)
        assert inside.stderr == "su: can't set groups: Operation not permitted\n"

    def test_what_belongs_to_others(self, user: OrdinaryUser) -> None:
        """In a directory it is imported as nobody's; out of an archive it keeps its owners, and nobody changes it."""
        (user.home / "root/etc/foreign").write_text("root's\n")
        with tarfile.open(user.home / "odd.tar", "w") as archive:
            archive.add(user.home / "root/bin", "bin", filter=owned_by_root)
            for name, mode in (("open", 0o644), ("closed", 0o600)):
                member = tarfile.TarInfo(name)
                member.uid, member.mode = 1000, mode
                archive.addfile(member)
        try:
            imported = user.treering("import", "--format", "json", "root", "-b", "foreign")
        finally:
            (user.home / "root/etc/foreign").unlink()
        assert imported.json()["nobody"] == 1
        assert "1 file belongs to users or groups outside of your range" in imported.stderr
        user.treering("import", "odd.tar", "-b", "odd")
        script = "cat /open; chown 1000 /bin; cat /closed"
        done = user.treering("run", "--rm", "odd", "sh", "-c", script, code=1)
        assert done.stderr == ("chown: /bin: Invalid argument\ncat: can't open '/closed': Permission denied\n")
        refused = user.treering("export", "odd", "out", code=125).stderr
        assert "there is no owner 1000:0 in this user namespace" in refused
        assert "--no-owners lets all files be yours" in refused
        user.treering("export", "--no-owners", "odd", "out")

    def test_a_range_that_comes_later(self, user: OrdinaryUser) -> None:
        assert user.treering("run", "--name", "web", "main", "touch", "/made").stderr == ""
        assert user.settled()
        give_ids(user.name)
        try:
            script = "chown ana /made; ls -ln /made"
            user.treering("commit", "web", "-m", "made", "-b", "made")
            done = user.treering("run", "--rm", "made", "sh", "-c", script)
            assert done.stdout.split()[2:4] == ["1000", "0"]
            assert user.treering("run", "--rm", "--user", "ana", "main", "id", "-u").stdout == "1000\n"
            assert user.settled()
        finally:
            user.clear(keep=["root", ".local"])
            take_ids(user.name)
