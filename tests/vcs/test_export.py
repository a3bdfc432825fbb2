"""Export to a directory: everything comes back as it was, and nothing goes where it should not."""

from __future__ import annotations

import errno
import os
import resource
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.support import rich_tree
from tests.support.compare import differences
from tests.support.rich_tree import needs_root
from tests.support.values import Spec, directory, file, link, root
from vcs.errors import AlreadyExists, BadInput, Denied, Missing, NoSpace, NotFound, StoreError
from vcs.exporter import export_directory
from vcs.importer import import_directory
from vcs.model import Data, Device, Entry, Special
from vcs.snapshot import Snapshot
from vcs.testing import MemoryStore
from vcs.trees import write_root


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def snapshot(store: MemoryStore, spec: Spec) -> Snapshot:
    return Snapshot(store, root(store, spec))


@needs_root
def test_everything_comes_back(store: MemoryStore, tmp_path: Path) -> None:
    source = rich_tree.make(tmp_path / "source")
    imported = import_directory(store, source)
    result = export_directory(Snapshot(store, imported.root), b"/", tmp_path / "target")
    assert differences(source, tmp_path / "target") == []
    assert result.skipped == []
    assert result.entries == imported.entries
    assert import_directory(store, tmp_path / "target").root == imported.root


@needs_root
def test_rsync_agrees(store: MemoryStore, tmp_path: Path) -> None:
    source = rich_tree.make(tmp_path / "source")
    imported = import_directory(store, source)
    export_directory(Snapshot(store, imported.root), b"/", tmp_path / "target")
    command = ["rsync", "-aHAXn", "--checksum", "--delete", "--itemize-changes", f"{source}/", f"{tmp_path}/target/"]
    done = subprocess.run(command, capture_output=True, check=True)
    assert done.stdout == b""


@needs_root
def test_a_target_with_inheritance_passes_nothing_on(store: MemoryStore, tmp_path: Path) -> None:
    source = rich_tree.make(tmp_path / "source")
    target = tmp_path / "target"
    target.mkdir()
    os.setxattr(target, "system.posix_acl_default", rich_tree.DEFAULT)
    os.chmod(target, 0o2777)
    export_directory(Snapshot(store, import_directory(store, source).root), b"/", target)
    assert differences(source, target) == []


@needs_root
def test_a_subdirectory_and_one_of_its_hard_links(store: MemoryStore, tmp_path: Path) -> None:
    source = rich_tree.make(tmp_path / "source")
    imported = import_directory(store, source)
    export_directory(Snapshot(store, imported.root), b"/sticky", tmp_path / "target")
    assert differences(source / "sticky", tmp_path / "target") == []
    assert (tmp_path / "target/link").stat().st_nlink == 1


def test_a_tree_deeper_than_descriptors_allow(store: MemoryStore, tmp_path: Path) -> None:
    entry = directory(store, {"bottom": b"reached"})
    for _ in range(1500):
        entry = directory(store, {"d": entry, "file": b"beside"})
    target = tmp_path / "target"
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 100, limits[1]))
    try:
        export_directory(Snapshot(store, write_root(store, entry)), b"/", target, owners=False)
        assert import_directory(store, target).entries == 1500 * 2 + 1
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        subprocess.run(["rm", "-rf", target], check=True)  # too deep for those who clean up after pytest


@pytest.mark.parametrize(
    "make", [lambda p: p.write_text("x"), lambda p: p.symlink_to("."), lambda p: (p / "x").mkdir(parents=True)]
)
def test_a_target_that_is_taken(store: MemoryStore, tmp_path: Path, make) -> None:  # type: ignore[no-untyped-def]
    make(tmp_path / "target")
    with pytest.raises(AlreadyExists, match="target exists"):
        export_directory(snapshot(store, {"a": b"a"}), b"/", tmp_path / "target")


def test_a_target_without_a_parent(store: MemoryStore, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="does not exist"):
        export_directory(snapshot(store, {}), b"/", tmp_path / "no" / "target")


def test_a_path_that_is_no_directory(store: MemoryStore, tmp_path: Path) -> None:
    view = snapshot(store, {"a": b"a"})
    with pytest.raises(BadInput, match="not a directory"):
        export_directory(view, b"/a", tmp_path / "target")
    with pytest.raises(NotFound):
        export_directory(view, b"/b", tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_after_an_error_nothing_is_left(store: MemoryStore, tmp_path: Path) -> None:
    lost = file(Data(4, bytes(32)))
    view = snapshot(
        store, {"a": {"b": {"c": b"c", "closed": directory(store, {"x": b"x"}, mode=stat.S_IFDIR)}}, "z": lost}
    )
    with pytest.raises(Missing):
        export_directory(view, b"/", tmp_path / "target", owners=False)
    assert not (tmp_path / "target").exists()
    (tmp_path / "target").mkdir(0o750)
    with pytest.raises(Missing):
        export_directory(view, b"/", tmp_path / "target", owners=False)
    assert list((tmp_path / "target").iterdir()) == []
    assert stat.S_IMODE((tmp_path / "target").stat().st_mode) == 0o750


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=50", "tmpfs", place], check=True)
    yield place
    subprocess.run(["umount", place], check=True)


@needs_root
@pytest.mark.parametrize("spec", [{"big": os.urandom(2 << 20)}, {"d": {f"f{n}": b"" for n in range(60)}}])
def test_a_full_disk(store: MemoryStore, small_disk: Path, spec: Spec) -> None:
    with pytest.raises(NoSpace, match="no space left to write") as caught:
        export_directory(snapshot(store, spec), b"/", small_disk / "target")
    assert caught.value.facts["path"].startswith((b"/big", b"/d/f"))
    assert list(small_disk.iterdir()) == []


def test_a_device_number_that_no_kernel_has(store: MemoryStore, tmp_path: Path) -> None:
    device = Entry(b"", stat.S_IFCHR | 0o600, 0, 0, 0, Device(1 << 31, 1 << 31))
    with pytest.raises((StoreError, Denied), match="dev"):
        export_directory(snapshot(store, {"dev": device}), b"/", tmp_path / "target")


_AS_NOBODY = """
import os, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from tests.vcs.test_export import owned_by_many
from vcs.errors import Denied
from vcs.exporter import export_directory
os.setgroups([]), os.setgid(65534), os.setuid(65534)
view, target = owned_by_many(), Path(sys.argv[2])
try:
    export_directory(view, b"/", target / "refused")
except Denied as error:
    assert "as it is in the snapshot" in str(error), error
else:
    raise SystemExit("an ordinary user gave files away")
assert not (target / "refused").exists()
result = export_directory(view, b"/", target / "made", owners=False)
assert [path for path, _ in result.skipped] == [b"/null"], result
"""


def owned_by_many() -> Snapshot:
    """A root that only root can export as it is."""
    store = MemoryStore()
    null = Entry(b"", stat.S_IFCHR | 0o666, 0, 0, 0, Device(1, 3))
    setuid = replace(
        file(Data(2, store.put_chunk(b"su")), mode=0o4755), xattrs=((b"security.capability", b"x"), (b"user.u", b"u"))
    )
    locked = directory(
        store,
        {"file": replace(file(Data(2, store.put_chunk(b"hi")), mode=0o400), uid=5)},
        mode=stat.S_IFDIR | 0o500,
        uid=5,
    )
    fifo = Entry(b"", stat.S_IFIFO | 0o640, 1, 1, 5, Special())
    return Snapshot(
        store, root(store, {"fifo": fifo, "link": link("file"), "locked": locked, "null": null, "su": setuid})
    )


@needs_root
def test_an_ordinary_user(tmp_path: Path) -> None:
    # Under /tmp itself, since an ordinary user cannot get into root's temporary directories.
    with tempfile.TemporaryDirectory() as place:
        os.chown(place, 65534, 65534)
        subprocess.run([sys.executable, "-c", _AS_NOBODY, os.getcwd(), place], check=True)
        made = Path(place) / "made"
        assert sorted(p.name for p in made.iterdir()) == ["fifo", "link", "locked", "su"]
        assert stat.S_IMODE((made / "su").stat().st_mode) == 0o755
        assert os.listxattr(made / "su") == ["user.u"]
        assert (made / "locked/file").stat().st_uid == 65534
        assert (made / "locked/file").read_bytes() == b"hi"


def test_progress_ends_with_everything(store: MemoryStore, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    view = snapshot(store, {f"f{n}": b"x" * 10 for n in range(200)})
    export_directory(view, b"/", tmp_path / "t", progress=lambda f, b: seen.append((f, b)), owners=False)
    assert seen[-1] == (200, 2000)
    assert 2 < len(seen) < 10
    assert seen == sorted(seen)


def test_a_failing_call_names_the_path(store: MemoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fchmod", refuse)
    with pytest.raises(StoreError, match="cannot be written: Input/output error"):
        export_directory(snapshot(store, {"d": {"f": b"x"}}), b"/", tmp_path / "t", owners=False)
