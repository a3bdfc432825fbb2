"""treering build, as an ordinary user."""

from __future__ import annotations

import os

import pytest

from tests.support.busybox_root import make_busybox_root
from tests.support.ordinary_user import ordinary_user
from tests.system.homes import give

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: makes a user")


def test_an_ordinary_user_builds() -> None:
    with ordinary_user() as user:
        root, context = make_busybox_root(user.home / "root"), user.home / "context"
        context.mkdir()
        (context / "a").write_text("a\n")
        (context / "token").write_text("secret")
        (context / "Dockerfile").write_text(
            "FROM main\nCOPY a /a\nCOPY --chown=7:8 a /owned\nWORKDIR /work\nUSER ana\n"
            "RUN --mount=type=cache,target=/c,uid=1000,gid=1000 echo kept > /c/f; id -u > /tmp/id\n"
            "USER root\nRUN --mount=type=secret,id=token wc -c < /run/secrets/token > /length\n"
            "RUN --mount=type=bind,source=a,target=/bound cat /bound > /copy\n"
        )
        give(user, root)
        give(user, context)
        try:
            user.treering("init")
            user.treering("import", "root", "-m", "base")
            words = ("build", "-t", "app", "--secret", "id=token,src=context/token", "context")
            user.treering(*words)
            assert user.treering("cat", "app:/tmp/id", "app:/length", "app:/copy").stdout == "1000\n6\na\n"
            assert "0 of 8 steps" in user.treering(*words).stderr
            owned = user.treering("ls", "-l", "app:/owned").stdout
            assert " 7 " in owned or " 7:8 " in owned
            user.treering("fsck")
        finally:
            assert user.settled()
