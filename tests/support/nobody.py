"""An ordinary user for tests: nobody, with a /dev/fuse of a chosen mode.

    python -P -m tests.support.nobody MODE PATH... -- COMMAND...

as root runs a command as that user, in a mount namespace of its own in which

    /dev/fuse     is a node of that mode, 666 mostly; the machine's own is not touched
    each PATH     can be reached, though it may lie below directories that only root may enter: each of these is
                  replaced by one that everybody may, with the same things in it

and which ends with the last process in it. fusermount is set-user-ID root, and mounts there for its caller.
"""

from __future__ import annotations

import os
import pwd
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

from runtime import mounts

PROJECT = Path(__file__).parents[2]
USER = pwd.getpwnam("nobody")
_OPEN_TO_ALL = stat.S_IROTH | stat.S_IXOTH


def as_nobody(command: Sequence[str | os.PathLike[str]], *paths: Path, device_mode: int = 0o666) -> list[str]:
    """A command line that does it. The project, its Python and `paths` can be reached."""
    python = [Path(sys.prefix), Path(sys.base_prefix), Path(sys.executable).resolve()]
    reached = [os.fspath(path) for path in (PROJECT, *python, *paths)]
    return [
        sys.executable,
        "-P",
        "-m",
        "tests.support.nobody",
        f"{device_mode:o}",
        *reached,
        "--",
        *map(os.fspath, command),
    ]


def own(path: Path) -> None:
    """Give a directory and all in it to that user."""
    for place, directories, files in os.walk(path):
        for name in (".", *directories, *files):
            os.chown(os.path.join(place, name), USER.pw_uid, USER.pw_gid, follow_symlinks=False)


def _make_device(mode: int) -> None:
    """What lies on a file system with `nodev` cannot be opened, so the node gets one of its own."""
    mounts.mount(b"tmpfs", b"/mnt", b"tmpfs", 0, b"mode=755")
    os.mknod("/mnt/fuse", stat.S_IFCHR, os.stat("/dev/fuse").st_rdev)
    os.chmod("/mnt/fuse", mode)
    mounts.mount(b"/mnt/fuse", b"/dev/fuse", None, mounts.MS_BIND)
    mounts.umount(b"/mnt")


def _reach(path: Path) -> None:
    for directory in (*reversed(path.parents), path):
        status = directory.stat()
        if status.st_uid != USER.pw_uid and stat.S_ISDIR(status.st_mode) and ~status.st_mode & _OPEN_TO_ALL:
            _replace(directory)


def _replace(directory: Path) -> None:
    here = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    mounts.mount(b"tmpfs", os.fsencode(directory), b"tmpfs", 0, b"mode=755")
    for name in os.listdir(here):
        status = os.lstat(name, dir_fd=here)
        shown = directory / name
        if stat.S_ISLNK(status.st_mode):
            shown.symlink_to(os.readlink(name, dir_fd=here))
            continue
        if stat.S_ISDIR(status.st_mode):
            shown.mkdir()
        else:
            shown.touch()
        mounts.mount(
            os.fsencode(f"/proc/self/fd/{here}/{name}"), os.fsencode(shown), None, mounts.MS_BIND | mounts.MS_REC
        )
    os.close(here)


def main(arguments: list[str]) -> None:
    place = arguments.index("--")
    mode, *paths = arguments[:place]
    command = arguments[place + 1 :]
    mounts.private_mount_namespace()
    _make_device(int(mode, 8))
    for path in paths:
        _reach(Path(path))
    os.setgroups([])
    os.setresgid(USER.pw_gid, USER.pw_gid, USER.pw_gid)
    os.setresuid(USER.pw_uid, USER.pw_uid, USER.pw_uid)
    os.chdir("/")
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
