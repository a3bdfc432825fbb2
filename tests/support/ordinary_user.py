"""A user of the machine who is not root, and commands as him.

    NOBODY            the number of one who is there anyway, and has nothing: as_nobody(), own()
    ordinary_user()   one who is made for a test and removed after it, with a home and ids for a namespace

    python -P -m tests.support.ordinary_user SETTINGS COMMAND...

as root runs a command as such a user, in a mount namespace of its own, in which

    /dev/net/tun       is for everybody as well, if it is there
    /dev/fuse          is for everybody, as distributions have it, or of another mode; the machine's own is not touched
    `reached`          are paths that he can reach, though they may lie below directories that only root may enter: each
                       of these is replaced by one that everybody may, with the same things in it
    `ram`              is a ramfs of his own, which knows no extended attributes
    `hidden`           are programs that are not there

and which ends with the last process in it. fusermount is set-user-ID root, and mounts there for its caller.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.namespace.mapping import Span, free_span, subordinate
from runtime.system import mounts
from tests.support.containers import engine_states, eventually

PROJECT = Path(__file__).parents[2]
SECONDS = 120
NOBODY = 65534
_OPEN_TO_ALL = stat.S_IROTH | stat.S_IXOTH


def as_nobody(command: Sequence[str | os.PathLike[str]], *paths: Path, device_mode: int = 0o666) -> list[str]:
    """A command line that runs another one as nobody, who can reach the project, its Python and `paths`."""
    return _as_user(NOBODY, [os.fspath(word) for word in command], reached=paths, device_mode=device_mode)


def own(path: Path) -> None:
    """Give a directory and all in it to nobody."""
    for place, directories, files in os.walk(path):
        for name in (".", *directories, *files):
            os.chown(os.path.join(place, name), NOBODY, NOBODY, follow_symlinks=False)


def _as_user(
    uid: int,
    command: Sequence[str],
    *,
    reached: Sequence[Path] = (),
    device_mode: int = 0o666,
    tun_mode: int = 0o666,
    ram: Path | None = None,
    hidden: Sequence[str] = (),
    directory: Path = Path("/"),
) -> list[str]:
    python = [Path(sys.prefix), Path(sys.base_prefix), Path(sys.executable).resolve()]
    settings = {
        "uid": uid,
        "device_mode": device_mode,
        "tun_mode": tun_mode,
        "reached": [os.fspath(path) for path in (PROJECT, *python, *reached)],
        "ram": ram and os.fspath(ram),
        "hidden": list(hidden),
        "directory": os.fspath(directory),
    }
    return [sys.executable, "-P", "-m", "tests.support.ordinary_user", json.dumps(settings), *command]


@dataclass(frozen=True)
class Done:
    """What a command did."""

    code: int
    stdout: str
    stderr: str

    def json(self) -> Any:
        return json.loads(self.stdout)


@dataclass(frozen=True)
class OrdinaryUser:
    """The user, whose group has his number, and his home."""

    name: str
    uid: int
    place: Path
    """Holds his home, and what he cannot change."""
    span: Span | None

    @property
    def home(self) -> Path:
        return self.place / "home"

    @property
    def store(self) -> Path:
        return self.home / ".local/share/treering"

    @property
    def python(self) -> list[str]:
        return [sys.executable, "-P"]

    def outside(self, number: int) -> int:
        """What an id of his namespace is on the machine."""
        assert self.span is not None
        return self.uid if number == 0 else self.span.first + number - 1

    def start(
        self,
        *command: str,
        output: int,
        errors: int,
        fuse_mode: int = 0o666,
        tun_mode: int = 0o666,
        hidden: Sequence[str] = (),
        as_root: bool = False,
        fork_server: bool = False,
    ) -> subprocess.Popen[bytes]:
        """Start a command in his home, in a session of its own. `hidden` are programs that are not there for it."""
        environment = {
            "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "HOME": str(self.home),
            "LC_ALL": "C.UTF-8",
            "PYTHONPATH": str(PROJECT),
            "PYTHONDONTWRITEBYTECODE": "1",
            "TREERING_FORK_SERVER": str(int(fork_server)),
        }
        uid = 0 if as_root else self.uid
        return subprocess.Popen(
            _as_user(
                uid, command, device_mode=fuse_mode, tun_mode=tun_mode, ram=self.place / "ram", hidden=hidden,
                directory=self.home,
            ),
            stdin=subprocess.DEVNULL, stdout=output, stderr=errors,
            cwd=PROJECT, env=environment, start_new_session=True,
        )  # fmt: skip

    def run(self, *command: str, **settings: Any) -> Done:
        """Run a command to its end; kills it, and fails, when it takes too long."""
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            process = self.start(*command, output=output.fileno(), errors=errors.fileno(), **settings)
            try:
                code = process.wait(SECONDS)
            except BaseException:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait(SECONDS)
                errors.seek(0)
                print(errors.read().decode(errors="replace"))
                raise
            texts = []
            for file in (output, errors):
                file.seek(0)
                texts.append(file.read().decode(errors="surrogateescape"))
        return Done(code, *texts)

    @property
    def command(self) -> list[str]:
        return [*self.python, "-m", "runtime.cli"]

    def treering(self, *arguments: str, code: int = 0, **settings: Any) -> Done:
        """Run `treering`; fails unless it exits with `code`."""
        done = self.run(*self.command, *arguments, **settings)
        assert done.code == code, f"{arguments}: {done.code}\n{done.stdout}\n{done.stderr}"
        return done

    def processes(self) -> list[int]:
        """The pids of what runs as him, or as one of his ids."""
        return list(_processes(self))

    def settled(self) -> bool:
        """Whether nothing of his runs or is mounted; fails if that does not come to pass."""
        self.treering("service", "stop")
        eventually(lambda: not self.processes())
        table = Path("/proc/self/mountinfo").read_text()
        return str(self.place) not in table and not engine_states(self.store)

    def clear(self, keep: Sequence[str] = ()) -> None:
        """Kill whatever a failed test has left, with which its namespaces and mounts end, and empty his home but for
        what is named."""

        def ended() -> bool:
            for pid in self.processes():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return not self.processes()

        eventually(ended)
        for entry in os.scandir(self.home):
            if entry.name in keep:
                continue
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry)
            else:
                os.unlink(entry)


def _processes(user: OrdinaryUser) -> Iterator[int]:
    first, size = user.span or (0, 0)
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):
                status = (entry / "status").read_text()
                found = re.search(r"^Uid:\t(\d+)", status, re.MULTILINE)
                owner = int(found[1]) if found else 0
                if (owner == user.uid or first <= owner < first + size) and "State:\tZ" not in status:
                    yield int(entry.name)


@contextmanager
def ordinary_user(*, ids: bool = True) -> Iterator[OrdinaryUser]:
    """A new user, with ids in /etc/subuid and /etc/subgid or without. Nothing of him is left afterwards."""
    name = f"treering{secrets.token_hex(4)}"
    place = Path(tempfile.mkdtemp(prefix="treering-user-", dir=_open_directory()))
    try:
        place.chmod(0o755)
        for part in ("home", "ram"):
            (place / part).mkdir()
            (place / part).chmod(0o755)
        _admin("useradd", "--no-create-home", "--user-group", "--home-dir", str(place / "home"), name)
        uid = int(_admin("id", "--user", name))
        _admin("groupmod", "--non-unique", "--gid", str(uid), name)
        user = OrdinaryUser(name, uid, place, give_ids(name) if ids else take_ids(name))
        os.chown(user.home, uid, uid)
        try:
            yield user
        finally:
            user.clear()
    finally:
        subprocess.run(["userdel", "--force", name], capture_output=True, timeout=SECONDS, check=False)
        shutil.rmtree(place, ignore_errors=True)


def give_ids(name: str) -> Span:
    """Give a user ids in /etc/subuid and /etc/subgid, the same in both."""
    files = [Path("/etc/subuid"), Path("/etc/subgid")]
    texts = [file.read_text() if file.exists() else "" for file in files]
    spans = [subordinate(text, [name]) for text in texts]
    if not (spans[0] and spans[0] == spans[1]):
        take_ids(name)
        span = free_span("".join(texts))
        given = f"{span.first}-{span.first + span.size - 1}"
        _admin("usermod", "--add-subuids", given, "--add-subgids", given, name)
        return span
    return spans[0][0]


def take_ids(name: str) -> None:
    """Take them away."""
    for file, option in ((Path("/etc/subuid"), "--del-subuids"), (Path("/etc/subgid"), "--del-subgids")):
        for span in subordinate(file.read_text() if file.exists() else "", [name]):
            _admin("usermod", option, f"{span.first}-{span.first + span.size - 1}", name)


def _admin(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def _open_directory() -> Path:
    """A directory for temporary files that everybody can reach."""

    def is_open(path: Path) -> bool:
        return all(~part.stat().st_mode & _OPEN_TO_ALL == 0 for part in (path, *path.parents))

    return next(path for path in map(Path, (tempfile.gettempdir(), "/tmp", "/var/tmp")) if is_open(path))


def _make_device(device: str, mode: int) -> None:
    """What lies on a file system with `nodev` cannot be opened, so the node gets one of its own."""
    mounts.mount(b"tmpfs", b"/mnt", b"tmpfs", 0, b"mode=755")
    os.mknod("/mnt/device", stat.S_IFCHR, os.stat(device).st_rdev)
    os.chmod("/mnt/device", mode)
    mounts.mount(b"/mnt/device", os.fsencode(device), None, mounts.MS_BIND)
    mounts.umount(b"/mnt")


def _reach(path: Path, uid: int) -> None:
    for directory in (*reversed(path.parents), path):
        status = directory.stat()
        if status.st_uid != uid and stat.S_ISDIR(status.st_mode) and ~status.st_mode & _OPEN_TO_ALL:
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


def _become(settings: dict[str, Any]) -> None:
    uid: int = settings["uid"]
    mounts.private_mount_namespace()
    _make_device("/dev/fuse", settings["device_mode"])
    if os.path.exists("/dev/net/tun"):
        _make_device("/dev/net/tun", settings["tun_mode"])
    for path in settings["reached"]:
        _reach(Path(path), uid)
    if settings["ram"] is not None:
        mounts.mount(b"ramfs", os.fsencode(settings["ram"]), b"ramfs", 0, None)
        os.chown(settings["ram"], uid, uid)
    for program in settings["hidden"]:
        mounts.mount(b"/dev/null", os.fsencode(program), None, mounts.MS_BIND)
    os.chdir(settings["directory"])
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def main(arguments: list[str]) -> None:
    settings, *command = arguments
    _become(json.loads(settings))
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
