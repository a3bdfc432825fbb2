"""Attacks that other container engines have fallen to, tried on ours; docs/security.md has the list, with those of
which the tests are elsewhere. Where it can be shown cheaply that an attack is one, it is."""

from __future__ import annotations

import glob
import hashlib
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.cli.conftest import Cli, remove_containers
from tests.support import raw_tar
from tests.support.busybox_root import make_busybox_root
from tests.support.containers import eventually
from tests.support.ordinary_user import NOBODY, ordinary_user
from tests.system.homes import give

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

ENGINES = ("crun", "runc")
SECRET = "what only the machine has"
UP = "../" * 24
FOREVER = ("sleep", "100000")


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A directory to which everybody can go: what keeps others out must be the store's own."""
    directory = Path(tempfile.mkdtemp(prefix="treering-escapes-", dir="/var/tmp"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="module")
def box(place: Path) -> Iterator[Cli]:
    """A store of whose last commit the author is hostile, and a file on the machine that he wants."""
    (place / "secret").write_text(SECRET)
    root = make_busybox_root(place / "root")
    for number in range(3, 12):
        (root / f"fd{number}").symlink_to(f"/proc/self/fd/{number}")
    shutil.copy2(root / "bin/busybox", root / "bin/setuid")
    (root / "bin/setuid").chmod(0o4755)
    character, block = stat.S_IFCHR | 0o666, stat.S_IFBLK | 0o666
    for name, mode, device in (("memory", character, (1, 1)), ("zero", character, (1, 5)), ("disk", block, _disk())):
        os.mknod(root / name, mode, os.makedev(*device))
        (root / name).chmod(0o666)
    _plant_library(root, place / "sprung")
    cli = Cli(place / "store")
    cli("init")
    cli("import", str(root), "-m", "hostile")
    try:
        yield cli
    finally:
        remove_containers(cli)


def _disk() -> tuple[int, int]:
    device = os.stat("/").st_dev
    return os.major(device), os.minor(device)


@contextmanager
def running(box: Cli, *command: str, engine: str = "crun", env: Mapping[str, str] | None = None) -> Iterator[None]:
    """A container called web, as long as the block lasts."""
    options = ("-d", "--stop-signal", "KILL", "--runtime", engine, "--name", "web")
    done = box.process("run", *options, "main", *command, env=env)
    assert done.returncode == 0, done.stderr
    try:
        yield
    finally:
        box("rm", "-f", "--discard", "web")


@pytest.fixture
def web(box: Cli) -> Iterator[Cli]:
    """The same, doing nothing."""
    with running(box, *FOREVER):
        yield box


def pid_of(box: Cli) -> int:
    return int(box.json("ps")[0]["pid"])


def as_nobody(action: Callable[[], object]) -> int:
    """What a process of another user gets: 0, or the errno."""
    child = os.fork()
    if not child:
        code = 255
        try:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            action()
            code = 0
        except OSError as error:
            code = error.errno or 254
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


# -- CVE-2019-14271: who copies loads libraries of the container

_LIBRARY = """
#include <fcntl.h>
__attribute__((constructor)) static void spring(void) { open(MARK, O_CREAT | O_WRONLY, 0600); }
"""


def _plant_library(root: Path, mark: Path) -> None:
    """Let the root's own /etc/nsswitch.conf name a library that leaves a mark when it is loaded."""
    (root / "etc/nsswitch.conf").write_text("passwd: evil files\ngroup: evil files\nhosts: evil files\n")
    made = root / "lib/libnss_evil.so.2"
    made.parent.mkdir()
    command: list[str | Path] = ["gcc", "-shared", "-fPIC", "-x", "c", "-", "-o", made, f'-DMARK="{mark}"']
    subprocess.run(command, input=_LIBRARY.encode(), check=True)
    for name in ("lib/x86_64-linux-gnu", "lib/aarch64-linux-gnu", "lib64", "usr/lib", "usr/lib64"):
        (root / name).mkdir(parents=True)
        shutil.copy(made, root / name)
    (root / mark.parent.relative_to("/")).mkdir(parents=True)


def test_nothing_of_ours_loads_a_library_of_the_container(web: Cli, place: Path) -> None:
    """CVE-2019-14271: Docker's helper for cp went into the container's root, and then looked up users."""
    done = web.process("cp", "web:/etc/passwd", str(place / "out"))
    assert done.returncode == 0, done.stderr
    assert web.process("cp", "-a", str(place / "out"), "web:/etc/in").returncode == 0
    assert web.process("cp", "web:/etc", "-").returncode == 0
    assert web.process("exec", "-u", "ana", "web", "true").returncode == 0
    assert web.process("exec", "-u", "nosuch", "web", "true").returncode == 125
    for verb in (("top", "web"), ("status", "web"), ("commit", "web", "-m", "x"), ("inspect", "web")):
        done = web.process(*verb)
        assert done.returncode == 0, done.stderr
    web("stop", "web")
    assert web.process("cp", "web:/etc/passwd", str(place / "out2")).returncode == 0
    web("export", "main", str(place / "exported"))
    shutil.rmtree(place / "exported")
    assert not (place / "sprung").exists()
    assert not list((web.store / "containers").glob("*/gen/*/upper/var"))


def test_the_library_is_a_trap(box: Cli, place: Path) -> None:
    """Who does go into that root, and looks a user up, springs it."""
    code = "import os, pwd, sys; os.chroot(sys.argv[1]); os.chdir('/'); pwd.getpwnam('ana')"
    subprocess.run([sys.executable, "-c", code, place / "root"], check=False)
    mark = place / "root" / (place / "sprung").relative_to("/")
    assert mark.exists()
    mark.unlink()


# -- CVE-2024-21626: descriptors of the engine

NUMBERS = range(3, 11)


def reaching_out(place: Path) -> str:
    """A script that reads the machine's secret from wherever it is."""
    return f"cat {UP}{place}/secret ./{place}/secret; ls -d {UP}/treering-nowhere; true"


@pytest.mark.parametrize("engine", ENGINES)
def test_no_working_directory_is_outside(box: Cli, place: Path, engine: str) -> None:
    """A directory /proc/self/fd/N is looked up by the engine, which may have the machine's directories open."""
    for directory in ("/proc/self/fd/7", "/proc/self/fd/8", "/fd7"):
        done = box.process("run", "--rm", "--runtime", engine, "-w", directory, "main", "sh", "-c", reaching_out(place))
        assert SECRET.encode() not in done.stdout + done.stderr, directory
    with running(box, *FOREVER, engine=engine):
        for number in NUMBERS:
            done = box.process("exec", "-w", f"/proc/self/fd/{number}", "web", "sh", "-c", reaching_out(place))
            assert SECRET.encode() not in done.stdout + done.stderr, number
        box("commit", "web", "-m", "x", "--allow-empty", "-b", f"fds-{engine}", "-c", "WORKDIR /proc/self/fd/7")
    done = box.process("run", "--rm", "--runtime", engine, f"fds-{engine}", "sh", "-c", reaching_out(place))
    assert SECRET.encode() not in done.stdout + done.stderr


@pytest.mark.parametrize("engine", ENGINES)
def test_nothing_is_open_while_a_command_comes_in(box: Cli, place: Path, engine: str) -> None:
    """Processes in the container look through /proc at what comes in by exec, from its first moment on."""
    look = f"""
        while true; do for fd in /proc/[0-9]*/fd/*; do
            cat $fd/{UP}{place}/secret >> /found 2>/dev/null
            case $(readlink $fd) in {place}/*|/proc/*/ns/*) readlink $fd >> /found;; esac
        done; echo >> /rounds; done
    """
    with running(box, "sh", "-c", look, engine=engine):
        stay = "n=$(wc -c < /rounds); until [ $(wc -c < /rounds) -gt $((n + 2)) ]; do :; done"  # until it was looked at
        eventually(Path(f"/proc/{pid_of(box)}/root/rounds").exists)
        for command in ("true", "true", stay, "true", stay):
            assert box.process("exec", "web", "sh", "-c", command).returncode == 0
        found = Path(f"/proc/{pid_of(box)}/root/found")
        assert not found.exists() or found.read_text() == ""


# -- CVE-2019-5736: the engine's own file

_OVERWRITE = """
    exec 2>/dev/null
    while true; do for process in /proc/[0-9]*; do
        [ $process = /proc/1 ] || {
            readlink $process/exe >> /seen
            for n in 1 2 3 4 5 6 7 8 9 10; do echo overwritten > /proc/self/fd/9; done
        } 9< $process/exe
    done; done
"""


@pytest.mark.parametrize("engine", ENGINES)
def test_the_engine_cannot_be_written_over(box: Cli, place: Path, engine: str) -> None:
    """A command /proc/self/exe is the engine itself, which a process in the container then opens to write to it. Tried
    on a copy of the engine."""
    programs = place / f"programs-{engine}"
    programs.mkdir()
    copy = programs / engine
    shutil.copy2(shutil.which(engine) or "", copy)
    before, own = _digest(copy), _digest(place / "root/bin/setuid")
    env = {"PATH": f"{programs}:{os.environ['PATH']}"}
    with running(box, "sh", "-c", _OVERWRITE, engine=engine, env=env):
        for _ in range(5):
            box.process("exec", "web", "sh", "-c", "exec /proc/self/exe", env=env)
        inside = Path(f"/proc/{pid_of(box)}/root")
        eventually((inside / "seen").exists)
        # the attack is one: a program of the container's own cannot be trusted after it
        eventually(lambda: box.process("exec", "web", "/bin/setuid", "true") and _digest(inside / "bin/setuid") != own)
        box.process("run", "--rm", "--runtime", engine, "main", "/proc/self/exe", env=env)
        assert _digest(copy) == before


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("command", ["run", "exec"])
def test_no_capability_is_inheritable(web: Cli, command: str) -> None:
    """CVE-2022-24769, CVE-2022-29162: with those, a file's inheritable capabilities would be given to other users."""
    arguments = ("run", "--rm", "main") if command == "run" else ("exec", "web")
    done = web.process(*arguments, "grep", "-E", "Cap(Inh|Amb)", "/proc/self/status")
    assert done.stdout.decode().split() == ["CapInh:", "0" * 16, "CapAmb:", "0" * 16]


# -- CVE-2020-15257: sockets that are in no file system


def test_nothing_of_ours_listens_where_a_container_reaches(web: Cli) -> None:
    """A container with the machine's network reaches abstract sockets of the machine."""
    ours = [path.parent for path in Path("/proc").glob("[0-9]*/cmdline") if _names(path, web.store)]
    assert ours
    inodes = set()
    for process in ours:
        for fd in glob.glob(f"{process}/fd/*"):
            with suppress(FileNotFoundError):  # it has just been closed
                if (target := os.readlink(fd)).startswith("socket:["):
                    inodes.add(target[8:-1])
    assert inodes
    lines = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
    assert not [line for line in lines if line[6] in inodes and len(line) > 7 and line[7].startswith("@")]


def _names(path: Path, store: Path) -> bool:
    try:
        return os.fsencode(store) in path.read_bytes()
    except OSError:
        return False


# -- CVE-2021-41091, CVE-2024-25621: what another user of the machine reaches


def reachable(box: Cli) -> list[Path]:
    """What somebody else would like to reach: set-user-ID programs, secrets, sockets."""
    process = Path(f"/proc/{pid_of(box)}")
    (upper,) = box.store.glob("containers/*/gen/0/upper")
    return [
        box.store / "run/mnt/branches/main/bin/setuid", upper / "setuid", upper / "secret",
        process / "root/bin/setuid", process / "cwd", box.store / "index.db",
        *(path for path in (box.store / "run").rglob("*") if path.is_socket()),
    ]  # fmt: skip


def test_another_user_reaches_nothing(box: Cli) -> None:
    script = "cat /bin/busybox > /setuid; chmod 4755 /setuid; echo x > /secret; chmod 666 /secret; sleep 600"
    with running(box, "sh", "-c", script):
        eventually(lambda: "A  /secret" in box.lines("status", "web"))
        paths = reachable(box)
        assert [path for path in paths if not os.path.lexists(path)] == []
        assert any(path.is_socket() for path in paths)
        assert {as_nobody(path.stat) for path in paths} == {13}
        assert as_nobody(lambda: os.listdir(box.store)) == 13
        assert as_nobody(lambda: os.execv(paths[1], ["busybox", "id"])) == 13
        # and it is the store's mode alone that keeps him out, as it must not be in the places above
        box.store.chmod(0o755)
        try:
            assert as_nobody(paths[5].stat) == 0
        finally:
            box.store.chmod(0o700)


# -- devices, set-user-ID programs and attributes that somebody smuggles in


def test_devices_of_a_commit_are_names_only(web: Cli) -> None:
    """In a container the cgroup denies them, in the service's mount the mount does."""
    done = web.process("exec", "web", "sh", "-c", "for name in memory disk; do head -c1 /$name; done")
    assert done.stderr.count(b"Operation not permitted") == 2, done.stderr
    served = web.store / "run/mnt/branches/main"
    for name in ("memory", "disk", "zero"):
        assert stat.S_IFMT((served / name).stat().st_mode) in (stat.S_IFCHR, stat.S_IFBLK)
        with pytest.raises(PermissionError):
            os.open(served / name, os.O_RDONLY)
    options = _options(web.store / "run/mnt")
    assert {"nosuid", "nodev", "ro"} <= options


def _options(point: Path) -> set[str]:
    line = next(line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f" {point} " in line)
    return set(line.split()[5].split(","))


def test_devices_that_a_container_makes_come_to_nothing(web: Cli, place: Path) -> None:
    """It may make them, and commit them; nobody can open them by that in another container either."""
    major, minor = _disk()
    done = web.process("exec", "web", "sh", "-c", f"mknod /made b {major} {minor}; chmod 666 /made; head -c1 /made")
    assert b"Operation not permitted" in done.stderr
    web("commit", "web", "-m", "device", "-b", "device")
    done = web.process("run", "--rm", "--userns", "auto", "device", "head", "-c1", "/made")
    assert done.returncode != 0
    assert b"ermi" in done.stderr


HIDDEN = b"only for root"
ATTRIBUTES = {
    f"{prefix}.overlay.{name}": value
    for prefix in ("trusted", "user")
    for name, value in (("metacopy", b""), ("redirect", b"/hidden"), ("opaque", b"y"), ("whiteout", b"y"))
}


def hostile_archive() -> bytes:
    """Files with overlayfs's attributes, as GNU tar writes them: with metacopy=on, /trap would show /hidden."""
    records = [(b"SCHILY.xattr." + name.encode(), value) for name, value in ATTRIBUTES.items()]
    trap = raw_tar.pax(*records) + raw_tar.member(b"trap", b"own content  ")
    directory = raw_tar.pax(*records) + raw_tar.directory(b"dir") + raw_tar.member(b"dir/file", b"inside")
    return raw_tar.member(b"hidden", HIDDEN, mode=0o600) + trap + directory + raw_tar.END


@pytest.fixture(scope="module")
def smuggled(place: Path) -> Path:
    """The busybox root and that, as an archive."""
    root = make_busybox_root(place / "smuggled")
    archive = place / "smuggled.tar"
    subprocess.run(["tar", "-C", root, "-cf", archive, "."], check=True)
    data = archive.read_bytes()
    end = len(data.rstrip(b"\0"))
    archive.write_bytes(data[: -(-end // 512) * 512] + hostile_archive())
    return archive


SHOW = ("sh", "-c", "cat /trap; ls /dir; chmod 755 /trap; mv /dir /moved; cat /trap; ls /moved")
SHOWN = "own content  file\nown content  file\n"


def test_overlay_attributes_in_an_archive_are_not_obeyed(box: Cli, smuggled: Path) -> None:
    box("import", str(smuggled), "-b", "smuggled", "-m", "smuggled")
    for more in ((), ("--userns", "auto")):
        done = box.process("run", "--name", "trapped", *more, "smuggled", *SHOW)
        assert done.stdout.decode() == SHOWN, done.stderr
        box("commit", "trapped", "-m", "again", "-b", f"again{len(more)}")
        box("rm", "trapped")
        done = box.process("run", "--rm", f"again{len(more)}", "sh", "-c", "cat /trap; ls /moved")
        assert done.stdout.decode() == "own content  file\n", done.stderr


def test_nor_are_those_that_are_copied_in(web: Cli, place: Path) -> None:
    """By cp, as root, who may set any: into a container that runs, and one that does not."""
    source = place / "with-attributes"
    source.write_bytes(b"own content  ")
    for name, value in ATTRIBUTES.items():
        os.setxattr(source, name, value)
    for state in ("running", "stopped"):
        assert web.process("cp", "-a", str(source), f"web:/{state}").returncode == 0
        if state == "running":
            web("stop", "web")
    web("commit", "web", "-m", "copied", "-b", "copied")
    for name in ("running", "stopped"):
        assert web.process("run", "--rm", "copied", "cat", f"/{name}").stdout == b"own content  "


_SET_INSIDE = """
import ctypes, os, sys
namespaces = [os.open(f"/proc/{sys.argv[1]}/ns/{kind}", os.O_RDONLY) for kind in ("user", "mnt")]
assert not any(ctypes.CDLL(None).setns(namespace, 0) for namespace in namespaces)
os.setgid(0)
os.setuid(0)
for name, value in (("metacopy", b""), ("redirect", b"/hidden")):
    os.setxattr("/etc/passwd", f"user.overlay.{name}", value)
"""


def test_overlay_attributes_made_in_a_user_namespace(smuggled: Path) -> None:
    """An ordinary user's overlays are mounted with userxattr, so `user.overlay.*` are the kernel's own there, and every
    owner of a file may set them: an archive's, and those that a container sets itself, say nothing to it."""
    with ordinary_user() as user:
        archive = user.home / "smuggled.tar"
        shutil.copy(smuggled, archive)
        give(user, archive)
        user.treering("init")
        user.treering("import", "smuggled.tar", "-m", "smuggled")
        try:
            assert user.treering("run", "--name", "box", "main", *SHOW).stdout == SHOWN
            user.treering("run", "-d", "--stop-signal", "KILL", "--name", "web", "main", *FOREVER)
            pid = user.treering("inspect", "-f", ".state.pid", "web").stdout.strip()
            subprocess.run([sys.executable, "-c", _SET_INSIDE, pid], check=True)
            text = user.treering("exec", "web", "cat", "/etc/passwd").stdout
            user.treering("commit", "web", "-m", "set", "-b", "set")
            assert text.startswith("root:")
            assert user.treering("run", "--rm", "set", "cat", "/etc/passwd").stdout == text
            _check_setuid(user.store, user.uid)
        finally:
            user.treering("rm", "-f", "--discard", "web", "box")
        assert user.settled()


def _check_setuid(store: Path, uid: int) -> None:
    """No file below an ordinary user's store is root's, whatever a container's root did."""
    owners = {path.lstat().st_uid for path in store.glob("containers/*/gen/*/upper/**/*")}
    assert 0 not in owners
    assert uid in owners
