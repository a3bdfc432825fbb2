"""Overlays and the stubs in them, on the real kernel; each test in a mount namespace of its own."""

from __future__ import annotations

import os
import stat
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runtime.overlay import Overlay, mount_overlay, never_mounted, prepare_upper
from runtime.stubs import Stub, Target, load_stubs, make_stubs, place, read_stubs
from runtime.system import mounts
from runtime.system.rootaccess import Root
from tests.support.busybox_root import make_busybox_root
from tests.support.containers import Bench, bench
from vcs.errors import EngineError

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def in_namespace(action: Callable[[], None]) -> None:
    """Run something in a child with a mount table of its own; what it raises is raised here as text."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 0
        try:
            mounts.private_mount_namespace()
            action()
        except BaseException:
            os.write(writer, traceback.format_exc().encode()[-60000:])
            code = 1
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader) as file:
        text = file.read()
    assert os.waitpid(child, 0)[1] == 0, text


def mounted(base: Path, lower: Path | None = None) -> Overlay:
    lower = lower or base / "lower"
    for name in ("lower", "merged"):
        (base / name).mkdir(parents=True, exist_ok=True)
    prepare_upper(lower, base / "upper", base / "work")
    return mount_overlay(lower, base / "upper", base / "work", base / "merged")


@pytest.mark.parametrize("name", ["plain", "a,b", "a:b", "a\\b", 'q"uote', "space d", "n\new", "ü\udcff", "x" * 250])
def test_any_path_can_be_mounted(tmp_path: Path, name: str) -> None:
    base = tmp_path / name
    (base / "lower").mkdir(parents=True)
    (base / "lower/file").write_text("below")

    def action() -> None:
        made = mounted(base)
        assert made.dropped == ()
        (base / "merged/file").write_text("above")
        assert Root(made.root).stat(b"/file")

    in_namespace(action)
    assert (base / "lower/file").read_text() == "below"
    assert (base / "upper/file").read_text() == "above"
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()


def test_renames_and_attribute_changes_copy_no_data(tmp_path: Path) -> None:
    (tmp_path / "lower/dir").mkdir(parents=True)
    (tmp_path / "lower/dir/big").write_bytes(bytes(1 << 20))

    def action() -> None:
        mounted(tmp_path)
        (tmp_path / "merged/dir").rename(tmp_path / "merged/moved")
        (tmp_path / "merged/moved/big").chmod(0o600)

    in_namespace(action)
    assert os.getxattr(tmp_path / "upper/moved", "trusted.overlay.redirect") == b"dir"
    big = tmp_path / "upper/moved/big"
    assert os.getxattr(big, "trusted.overlay.metacopy") == b""
    assert big.stat().st_blocks * 512 <= 4096  # an extended attribute may take a block
    assert "trusted.overlay.uuid" not in os.listxattr(tmp_path / "upper")


def test_an_upper_begins_with_the_attributes_of_the_root(tmp_path: Path) -> None:
    lower, upper, work = (tmp_path / name for name in ("lower", "upper", "work"))
    lower.mkdir()
    upper.mkdir(mode=0o755)
    os.setxattr(lower, "user.mine", b"1")
    os.setxattr(lower, "trusted.overlay.opaque", b"y")
    os.setxattr(lower, "trusted.overlay.overlay.opaque", b"y")
    os.chown(lower, 5, 6)
    lower.chmod(0o1751)
    os.utime(lower, ns=(1, 123456789))
    assert never_mounted(work)
    prepare_upper(lower, upper, work)
    status = upper.stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode), status.st_mtime_ns) == (5, 6, 0o1751, 123456789)
    assert sorted(os.listxattr(upper)) == ["trusted.overlay.overlay.opaque", "user.mine"]

    def action() -> None:
        mount_overlay(lower, upper, work, _made(tmp_path / "merged"))
        (tmp_path / "merged").chmod(0o700)

    in_namespace(action)
    assert not never_mounted(work)
    prepare_upper(lower, upper, work)  # what a container did to its root stays
    assert stat.S_IMODE(upper.stat().st_mode) == 0o700


def _new(base: Path) -> Path:
    """Prepare a new upper, and return it."""
    upper = base / "upper"
    prepare_upper(base / "lower", upper, base / "work")
    return upper


def test_a_new_upper_has_the_empty_tmp_of_the_lower(tmp_path: Path) -> None:
    """Names in it are then no business of the lower's."""
    lower = tmp_path / "lower"
    (lower / "tmp").mkdir(parents=True)
    (lower / "tmp").chmod(0o1777)
    os.chown(lower / "tmp", 5, 6)
    os.setxattr(lower / "tmp", "user.mine", b"1")
    os.utime(lower / "tmp", ns=(1, 123456789))
    os.utime(lower, ns=(1, 987654321))
    upper = _new(tmp_path)
    status = (upper / "tmp").stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode), status.st_mtime_ns) == (5, 6, 0o1777, 123456789)
    assert os.getxattr(upper / "tmp", "trusted.overlay.opaque") == b"y"
    assert os.getxattr(upper / "tmp", "user.mine") == b"1"
    assert upper.stat().st_mtime_ns == 987654321
    assert sorted(os.listdir(tmp_path)) == ["lower", "upper", "work"]

    def action() -> None:
        mounted(tmp_path)
        (tmp_path / "merged/tmp/file").write_text("above")
        (lower / "tmp/late").write_text("what only a look into the lower would find")
        assert os.listdir(tmp_path / "merged/tmp") == ["file"]
        assert not (tmp_path / "merged/tmp/late").exists()

    in_namespace(action)


@pytest.mark.parametrize("kind", ["missing", "full", "link", "file"])
def test_a_tmp_that_is_no_empty_directory_is_left_to_the_lower(tmp_path: Path, kind: str) -> None:
    tmp = tmp_path / "lower/tmp"
    tmp.parent.mkdir()
    if kind == "full":
        tmp.mkdir()
        (tmp / "file").touch()
    elif kind == "link":
        tmp.symlink_to("/")
    elif kind == "file":
        tmp.touch()
    assert os.listdir(_new(tmp_path)) == []


def test_an_interrupted_preparation_is_taken_up(tmp_path: Path) -> None:
    (tmp_path / "lower/tmp").mkdir(parents=True)
    (tmp_path / "lower/tmp").chmod(0o1777)
    (tmp_path / "tmp").mkdir(mode=0o700)  # as far as it came
    upper = _new(tmp_path)
    assert stat.S_IMODE((upper / "tmp").stat().st_mode) == 0o1777
    assert not (tmp_path / "tmp").exists()


def test_a_tmp_that_an_upper_has_already_stays(tmp_path: Path) -> None:
    """A fork begins with a copy of an upper, and was never mounted."""
    (tmp_path / "lower/tmp").mkdir(parents=True)
    (tmp_path / "upper/tmp").mkdir(parents=True)
    (tmp_path / "upper/tmp/file").touch()
    upper = _new(tmp_path)
    assert os.listdir(upper / "tmp") == ["file"]
    assert "trusted.overlay.opaque" not in os.listxattr(upper / "tmp")


def _made(path: Path) -> Path:
    path.mkdir()
    return path


def test_an_upper_on_overlayfs_is_refused_with_advice(tmp_path: Path) -> None:
    def action() -> None:
        mounted(tmp_path)
        (tmp_path / "merged/inner").mkdir()
        with pytest.raises(EngineError, match=r"lies on overlayfs, which cannot hold .*ext4"):
            mounted(tmp_path / "merged/inner", tmp_path / "lower")

    in_namespace(action)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    def action() -> None:
        mounted(tmp_path)
        with pytest.raises(EngineError, match=r"cannot open .*/nowhere"):
            mount_overlay(tmp_path / "nowhere", tmp_path / "upper", tmp_path / "work", tmp_path / "merged")
        prepare_upper(tmp_path / "lower", tmp_path / "u2", tmp_path / "w2")
        with pytest.raises(EngineError, match="cannot mount at"):
            mount_overlay(tmp_path / "lower", tmp_path / "u2", tmp_path / "w2", tmp_path / "nowhere")

    in_namespace(action)


class OldContext(mounts.FsContext):
    """A kernel that does not know two of the options: a new one says so at once, one before 6.5 in the end."""

    at_once: bool

    def __init__(self, fstype: bytes) -> None:
        super().__init__(fstype)
        self._bad = False

    def set(self, key: bytes, value: bytes) -> None:
        if key in (b"uuid", b"xino"):
            if self.at_once:
                raise OSError(22, "Invalid argument")
            self._bad = True
            return
        super().set(key, value)

    def mount(self) -> int:
        if self._bad:
            raise OSError(22, "Invalid argument")
        return super().mount()


@pytest.mark.parametrize("at_once", [True, False])
def test_options_that_a_kernel_lacks_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: bool
) -> None:
    monkeypatch.setattr(OldContext, "at_once", at_once, raising=False)
    monkeypatch.setattr(mounts, "FsContext", OldContext)

    def action() -> None:
        assert mounted(tmp_path).dropped == ("uuid", "xino")
        line = next(line for line in Path("/proc/self/mounts").read_text().splitlines() if str(tmp_path) in line)
        assert "redirect_dir=on" in line
        assert "metacopy=on" in line

    in_namespace(action)


def rooted(path: Path, action: Callable[[Root], Any]) -> Any:
    fd = os.open(path, os.O_PATH)
    try:
        return action(Root(fd))
    finally:
        os.close(fd)


def test_looking_into_a_root_never_leaves_it(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (tmp_path / "secret").write_text("s")
    (root / "etc/passwd").symlink_to("../../../../../secret")
    (root / "etc/absolute").symlink_to(tmp_path / "secret")
    (root / "etc/loop").symlink_to("loop")
    (root / "etc/proc").symlink_to("/proc/self/root/etc/passwd")
    (root / "link").symlink_to("/etc/../etc/./real")
    (root / "etc/real").write_text("r")
    os.mkfifo(root / "etc/fifo")

    def look(view: Root) -> None:
        for name in (b"/etc/passwd", b"/etc/absolute", b"/etc/loop", b"/etc/proc", b"/etc/fifo", b"/etc", b"/none"):
            assert view.read(name) is None
        assert view.read(b"/link") == b"r"
        assert view.read(b"../../link") == b"r"
        assert view.resolve(b"/link/../x//y") == b"/etc/x/y"
        assert view.resolve(b"/etc/passwd") == b"/secret"
        with pytest.raises(EngineError, match="too many symbolic links"):
            view.resolve(b"/etc/loop/x")

    rooted(root, look)


TARGETS = [
    Target(b"/proc", True),
    Target(b"/dev", True),
    Target(b"/dev/pts", True),
    Target(b"/etc/hosts", False),
    Target(b"/etc/resolv.conf", False),
]


def test_where_targets_are_and_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "proc").mkdir()
    (tmp_path / "etc/resolv.conf").symlink_to("../run/resolve/stub.conf")
    placed, missing = rooted(tmp_path, lambda view: place(view, TARGETS))
    assert placed == {
        b"/proc": b"/proc",
        b"/dev": b"/dev",
        b"/dev/pts": b"/dev/pts",
        b"/etc/hosts": b"/etc/hosts",
        b"/etc/resolv.conf": b"/run/resolve/stub.conf",
    }
    assert missing == [
        Stub(b"/dev", True),
        Stub(b"/etc/hosts", False),
        Stub(b"/run", True),
        Stub(b"/run/resolve", True),
        Stub(b"/run/resolve/stub.conf", False),
    ]


def test_a_link_into_the_kernels_trees_is_not_mounted_over(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/hosts").symlink_to("/dev/null")
    placed, missing = rooted(tmp_path, lambda view: place(view, [Target(b"/etc/hosts", False)]))
    assert (placed, missing) == ({}, [])


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda root: (root / "proc").symlink_to("/tmp"), "/proc in the root is a symbolic link"),
        (lambda root: (root / "dev").write_text(""), "/dev in the root must be a directory"),
        (lambda root: (root / "etc").write_text(""), "/etc in the root must be a directory"),
        (lambda root: (root / "etc/hosts").mkdir(parents=True), "/etc/hosts in the root must not be a directory"),
    ],
)
def test_what_is_in_the_way(tmp_path: Path, build: Callable[[Path], Any], words: str) -> None:
    build(tmp_path)
    with pytest.raises(EngineError, match=words):
        rooted(tmp_path, lambda view: place(view, TARGETS))


def test_stubs_are_noted_and_leave_no_other_trace(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    for path in (tmp_path / "etc", tmp_path):
        os.utime(path, ns=(5, 7))
    stubs = [Stub(b"/dev", True), Stub(b"/etc/h\xff", False), Stub(b"/run", True), Stub(b"/run/x", False)]
    record = tmp_path.with_name(tmp_path.name + "-stubs.json")
    rooted(tmp_path, lambda view: make_stubs(view, stubs, record))
    assert load_stubs(record) == stubs
    assert (tmp_path / "etc").stat().st_mtime_ns == tmp_path.stat().st_mtime_ns == 7
    assert stat.S_IMODE((tmp_path / os.fsdecode(b"etc/h\xff")).stat().st_mode) == 0o644
    more = [Stub(b"/proc", True)]
    rooted(tmp_path, lambda view: make_stubs(view, more, record))
    assert load_stubs(record) == stubs + more
    record.unlink()


@pytest.fixture(scope="module", params=["crun", "runc"])
def place_to_run(request: pytest.FixtureRequest) -> Any:
    with bench(request.param) as made:
        yield made


def test_a_start_leaves_only_stubs_in_the_upper(place_to_run: Bench) -> None:
    lower = make_busybox_root(place_to_run.path / "leak", bare=True)
    (lower / "etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    for path in (lower, lower / "etc"):
        os.utime(path, ns=(1_000, 1_234_567_891))
    paths = place_to_run.container()
    assert place_to_run.run("cat", "/etc/hostname", "/etc/resolv.conf", paths=paths, lower=lower)[0] == 0
    stubs = set(read_stubs(paths.generation))
    found = {b"/" + os.fsencode(path.relative_to(paths.upper)) for path in paths.upper.rglob("*")}
    kernel = {b"/proc", b"/dev", b"/sys"}
    assert stubs == kernel | {
        b"/etc/hosts",
        b"/etc/hostname",
        b"/run",
        b"/run/systemd",
        b"/run/systemd/resolve",
        b"/run/systemd/resolve/stub-resolv.conf",
    }
    assert found == stubs | {b"/etc", b"/tmp"}  # the last is no stub: it is what the base has
    for name in ("", "etc"):
        ours, theirs = (paths.upper / name).stat(), (lower / name).stat()
        assert ours.st_mtime_ns == theirs.st_mtime_ns
        assert (ours.st_mode, ours.st_uid, ours.st_gid) == (theirs.st_mode, theirs.st_uid, theirs.st_gid)
    assert all(path.stat().st_size == 0 for path in paths.upper.rglob("*") if path.is_file())
    # A second start finds them and makes nothing.
    assert place_to_run.run("true", paths=paths, lower=lower)[0] == 0
    assert set(read_stubs(paths.generation)) == stubs


def test_a_start_on_a_whole_root_leaves_nothing(place_to_run: Bench) -> None:
    paths = place_to_run.container()
    assert place_to_run.run("true", paths=paths)[0] == 0
    (made,) = paths.upper.iterdir()
    assert (made.name, list(made.iterdir())) == ("tmp", [])  # which is what the base has
    assert read_stubs(paths.generation) == []


def test_the_kernels_values() -> None:
    """Our constants against what the kernel does: statfs of proc (0x9fa0, linux/magic.h) by path and descriptor."""
    assert mounts.file_system_type(b"/proc") == 0x9FA0
    fd = os.open("/proc", os.O_PATH)
    assert mounts.file_system_type(fd) == 0x9FA0
    os.close(fd)
