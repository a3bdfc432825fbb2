"""A user of the machine who is not root, made for a test and removed after it, and commands as him.

He needs nothing of the checkout's place, which he may not be able to enter: the packages and what they depend on are
copied to where he can read them. Each command has a mount namespace of its own, in which /dev/fuse is for everybody, as
distributions have it (the machine's own is left alone), and a ramfs of his own, which knows no extended attributes. A
command writes to files, not pipes, so that nothing which it leaves behind can keep a test waiting; what that is, is
found by its owner.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.namespace.mapping import Span, free_span, subordinate
from tests.support.containers import eventually

PROJECT = Path(__file__).parents[2]
PACKAGES = ("vcs", "fusefs", "runtime")
SECONDS = 120

_PRELUDE = """
set -e
mount -t tmpfs -o size=64k,mode=755 tmpfs "$SPARE"
mknod -m "$FUSE_MODE" "$SPARE/fuse" c 10 229
mount --bind "$SPARE/fuse" /dev/fuse
mount -t ramfs ramfs "$RAM"
chown "$OWNER" "$RAM"
if [ -n "$BASE" ]; then mount --bind "$BASE" "$PYTHONHOME"; fi
for program in $HIDDEN; do mount --bind /dev/null "$program"; done
user=$OWNER
unset SPARE FUSE_MODE BASE HIDDEN OWNER RAM
exec setpriv --reuid "$user" --regid "$user" --clear-groups -- "$@"
"""


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
    """Holds his home, and what he cannot change: a copy of the program."""
    span: Span | None

    @property
    def home(self) -> Path:
        return self.place / "home"

    @property
    def store(self) -> Path:
        return self.home / ".local/share/treering"

    @property
    def python(self) -> list[str]:
        own = Path(os.path.realpath(sys.executable))
        return [str(own if _is_open(own) else self.place / "python/bin" / own.name), "-P"]

    def outside(self, number: int) -> int:
        """What an id of his namespace is on the machine."""
        assert self.span is not None
        return self.uid if number == 0 else self.span.first + number - 1

    def start(
        self,
        *command: str,
        output: int,
        errors: int,
        fuse_mode: str = "666",
        hidden: Sequence[str] = (),
        as_root: bool = False,
    ) -> subprocess.Popen[bytes]:
        """Start a command in his home, in a session of its own. `hidden` are programs that are not there for it."""
        own = Path(os.path.realpath(sys.executable))
        moved = self.place / "python"
        home = {"PYTHONHOME": str(moved), "LD_LIBRARY_PATH": str(moved / "lib"), "BASE": sys.base_prefix}
        environment = {
            "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "HOME": str(self.home),
            "LC_ALL": "C.UTF-8",
            "PYTHONPATH": str(self.place / "program"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "SPARE": str(self.place / "spare"),
            "RAM": str(self.place / "ram"),
            "FUSE_MODE": fuse_mode,
            "HIDDEN": " ".join(hidden),
            "OWNER": str(0 if as_root else self.uid),
            "BASE": "",
            **({} if _is_open(own) else home),
        }
        return subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", _PRELUDE, "sh", *command],
            stdin=subprocess.DEVNULL, stdout=output, stderr=errors,
            cwd=self.home, env=environment, start_new_session=True,
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
        return str(self.place) not in table and not list((self.store / "run/engine").glob("*"))

    def clear(self) -> None:
        """Kill whatever a failed test has left, with which its namespaces and mounts end, and empty his home."""

        def ended() -> bool:
            for pid in self.processes():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return not self.processes()

        eventually(ended)
        for entry in os.scandir(self.home):
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
        for part in ("home", "spare", "ram", "program", "python"):
            (place / part).mkdir()
            (place / part).chmod(0o755)
        _admin("useradd", "--no-create-home", "--user-group", "--home-dir", str(place / "home"), name)
        uid = int(_admin("id", "--user", name))
        _admin("groupmod", "--non-unique", "--gid", str(uid), name)
        user = OrdinaryUser(name, uid, place, _give_ids(name) if ids else _take_ids(name))
        os.chown(user.home, uid, uid)
        _copy_program(place / "program")
        try:
            yield user
        finally:
            user.clear()
    finally:
        subprocess.run(["userdel", "--force", name], capture_output=True, timeout=SECONDS, check=False)
        shutil.rmtree(place, ignore_errors=True)


def _give_ids(name: str) -> Span:
    files = [Path("/etc/subuid"), Path("/etc/subgid")]
    texts = [file.read_text() if file.exists() else "" for file in files]
    spans = [subordinate(text, [name]) for text in texts]
    if not (spans[0] and spans[0] == spans[1]):
        _take_ids(name)
        span = free_span("".join(texts))
        given = f"{span.first}-{span.first + span.size - 1}"
        _admin("usermod", "--add-subuids", given, "--add-subgids", given, name)
        return span
    return spans[0][0]


def _take_ids(name: str) -> None:
    for file, option in ((Path("/etc/subuid"), "--del-subuids"), (Path("/etc/subgid"), "--del-subgids")):
        for span in subordinate(file.read_text() if file.exists() else "", [name]):
            _admin("usermod", option, f"{span.first}-{span.first + span.size - 1}", name)


def _admin(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def _open_directory() -> Path:
    """A directory for temporary files that everybody can reach."""
    return next(path for path in map(Path, (tempfile.gettempdir(), "/tmp", "/var/tmp")) if _is_open(path))


def _is_open(path: Path) -> bool:
    return all(part.stat().st_mode & 0o005 == 0o005 for part in (path, *path.parents))


def _copy_program(target: Path) -> None:
    """The three packages, what they need, and the tests' own `compare`."""
    for package in PACKAGES:
        shutil.copytree(PROJECT / package, target / package, ignore=shutil.ignore_patterns("__pycache__"))
    for distribution in _needed("treering", set()):
        for file in distribution.files or ():
            if ".." not in file.parts and "__pycache__" not in file.parts:
                (target / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(str(file.locate()), target / file)
    shutil.copyfile(PROJECT / "tests/support/compare.py", target / "compare.py")
    for path in target.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _needed(name: str, seen: set[str]) -> Iterator[importlib.metadata.Distribution]:
    """What a distribution depends on, here and now, and it all in turn; not itself."""
    for requirement in importlib.metadata.requires(name) or ():
        found = re.match(r"[A-Za-z0-9._-]+", requirement)
        if found and "extra ==" not in requirement and found[0].lower() not in seen:
            seen.add(found[0].lower())
            with suppress(importlib.metadata.PackageNotFoundError):  # of another Python or machine
                yield importlib.metadata.distribution(found[0])
                yield from _needed(found[0], seen)
