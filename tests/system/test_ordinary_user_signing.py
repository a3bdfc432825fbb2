"""Signatures of an ordinary user, whose commands are root in namespaces of his own."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.support.busybox_root import make_busybox_root
from tests.support.ordinary_user import ordinary_user
from tests.system.homes import give

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: makes a user")


def test_an_ordinary_user_signs() -> None:
    with ordinary_user() as user:
        key = user.home / "key"
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)]
        subprocess.run(words, check=True, stdin=subprocess.DEVNULL, timeout=60)
        allowed = user.home / "allowed"
        allowed.write_text(f"ana@example.org {key.with_suffix('.pub').read_text()}")
        for path in (key, key.with_suffix(".pub"), allowed):
            os.chown(path, user.uid, user.uid)
        settings = user.home / ".gitconfig"
        settings.write_text(
            f'[gpg]\nformat = ssh\n[gpg "ssh"]\nallowedSignersFile = {allowed}\n'
            f"[user]\nsigningKey = {key}\n[commit]\ngpgSign = true\n"
        )
        os.chown(settings, user.uid, user.uid)
        give(user, make_busybox_root(user.home / "root"))
        user.treering("init")
        user.treering("import", "root", "-m", "base")
        user.treering("create", "--name", "web", "main")
        user.treering("commit", "web", "-m", "signed", "--allow-empty", "--branch", "web")
        rows = user.treering("verify-commit", "--format", "json", "main", "web").json()
        assert [(row["worth"], row["principal"]) for row in rows] == [("good", "ana@example.org")] * 2
        user.treering("rm", "--discard", "web")
        assert user.settled()
