"""Who makes a commit."""

from __future__ import annotations

import os
import pwd
import re
import socket
import time
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from vcs.history import Author
    from vcs.store import Store

_AUTHOR = re.compile(r"\s*(?P<name>[^<>\n]*[^<>\s])\s*<(?P<email>[^<>\n]*)>\s*")


def find_author(store: Store, option: str | None, uid: int) -> Author:
    """The first of: `option` ("NAME <EMAIL>"); TREERING_AUTHOR_NAME and _EMAIL; git's GIT_AUTHOR_*; git's user.name and
    user.email, as set for the store's history or the user; the login name of `uid` at this host. The time is now, in
    local time.
    """
    from vcs.history import Author

    name, email = _named(option) if option else (_from_environment("NAME"), _from_environment("EMAIL"))
    if not (name and email):
        configured = store.history.user()
        name, email = name or configured[0], email or configured[1]
    if not (name and email):
        login = login_name(uid)
        name, email = name or login, email or f"{login}@{socket.gethostname()}"
    now = int(time.time())
    return Author(name, email, now, time.localtime(now).tm_gmtoff // 60)


def user_trailer() -> dict[str, str]:
    """The trailer that says who asked for a commit, where that is not who made it: of root, whoever called sudo(8)."""
    uid = os.environ.get("SUDO_UID", "")
    if os.geteuid() != 0 or not uid.isdecimal() or int(uid) == 0:
        return {}
    return {"User": f"{login_name(int(uid))} ({uid}), by sudo"}


def _named(option: str) -> tuple[str, str]:
    found = _AUTHOR.fullmatch(option)
    if not found:
        raise click.BadParameter("write it as 'NAME <EMAIL>'", param_hint="--author")
    return found["name"], found["email"]


def _from_environment(part: str) -> str | None:
    return os.environ.get(f"TREERING_AUTHOR_{part}") or os.environ.get(f"GIT_AUTHOR_{part}")


def login_name(uid: int) -> str:
    """What the machine calls a user; his number if nothing."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
