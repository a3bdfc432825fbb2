"""What an ordinary user has at home, and what he sees in his store."""

from __future__ import annotations

import os
import stat
import subprocess
import tarfile
from pathlib import Path

from tests.support.ordinary_user import SECONDS, OrdinaryUser


def copy(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-a", f"{source}/.", str(target)], check=True, timeout=SECONDS, stdin=subprocess.DEVNULL)


def give(user: OrdinaryUser, top: Path) -> None:
    """Make what has an id of a root file system belong to that id of the user's; what is beyond stays."""
    below = [Path(place, name) for place, *names in os.walk(top) for name in (*names[0], *names[1])]
    for path in (top, *below):
        status = path.lstat()
        owner, group = (number if number > 65536 else user.outside(number) for number in (status.st_uid, status.st_gid))
        os.chown(path, owner, group, follow_symlinks=False)
        if not path.is_symlink():
            path.chmod(stat.S_IMODE(status.st_mode))


def changes(user: OrdinaryUser, container: str) -> dict[str, str]:
    found = user.treering("status", "--format", "json", container).json()
    return {change["path"]: change["status"] for change in found}


def owned_by_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    return member
