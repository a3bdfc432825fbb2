"""Export to an archive: our reader gets the same root back, and other people's tools the same files."""

from __future__ import annotations

import errno
import io
import shutil
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.support import rich_tree
from tests.support.compare import differences
from tests.support.rich_tree import needs_root
from tests.support.values import Spec, directory, file, link, names, root
from vcs.blobs import BlobWriter
from vcs.errors import NoSpace, NotFound
from vcs.importer import import_directory
from vcs.links import LinkGroups
from vcs.model import Device, Entry, Special, Symlink
from vcs.snapshot import Snapshot
from vcs.tar_export import export_tar
from vcs.tar_import import import_tar
from vcs.testing import MemoryStore
from vcs.trees import write_root


def packed(view: Snapshot, path: bytes = b"/") -> bytes:
    out = io.BytesIO()
    export_tar(view, path, out)
    return out.getvalue()


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rich_tree.make(tmp_path_factory.mktemp("export") / "source")


@pytest.fixture(scope="module")
def view(rich: Path) -> Snapshot:
    store = MemoryStore()
    return Snapshot(store, import_directory(store, rich).root)


@needs_root
def test_the_same_root_comes_back_but_for_sockets(rich: Path, view: Snapshot, tmp_path: Path) -> None:
    source = rich_tree.make(tmp_path / "source", sockets=False)
    store = MemoryStore()
    imported = import_directory(store, source)
    out = io.BytesIO()
    result = export_tar(Snapshot(store, imported.root), b"/", out)
    assert (result.entries, result.skipped) == (imported.entries, [])
    assert import_tar(io.BytesIO(out.getvalue()), MemoryStore()).root == imported.root
    result = export_tar(view, b"/", io.BytesIO())
    assert result.skipped == [(b"/socket", "an archive cannot hold a socket")]


@needs_root
def test_the_same_root_gives_the_same_bytes(rich: Path, view: Snapshot) -> None:
    other = MemoryStore()
    again = Snapshot(other, import_directory(other, rich).root)
    assert packed(view) == packed(again)
    assert len(packed(view)) % 10240 == 0


def unpacked(data: bytes, target: Path, *command: str) -> Path:
    target.mkdir()
    subprocess.run([*command, "-C", target], input=data, check=True, capture_output=True)
    return target


@needs_root
def test_gnu_tar_extracts_everything(rich: Path, view: Snapshot, tmp_path: Path) -> None:
    command = ["tar", "--xattrs", "--xattrs-include=*", "--acls", "--numeric-owner", "-xpf", "-"]
    target = unpacked(packed(view), tmp_path / "target", *command)
    assert differences(rich, target) == [f"socket: only in {rich}"]


@needs_root
@pytest.mark.skipif(not shutil.which("bsdtar"), reason="needs bsdtar (libarchive-tools)")
def test_bsdtar_extracts_everything(rich: Path, view: Snapshot, tmp_path: Path) -> None:
    target = unpacked(packed(view), tmp_path / "target", "bsdtar", "--numeric-owner", "-xpf", "-")
    # libarchive adds the fraction to a time before 1970 where POSIX takes it away, gives symbolic links no attributes,
    # and does not know how GNU tar escapes the one name in "xattrs".
    found = [line for line in differences(rich, target) if ": mtime:" not in line]
    assert [line for line in found if not line.startswith(("socket:", "symlink", "xattrs: xattrs:"))] == []


@needs_root
def test_pythons_tarfile_reads_it(view: Snapshot) -> None:
    with tarfile.open(fileobj=io.BytesIO(packed(view)), encoding="utf-8", errors="surrogateescape") as archive:
        found = {member.name.removeprefix("./"): member for member in archive}
    assert found["sparse"].size == rich_tree.SPARSE_SIZE
    assert found["small"].islnk()
    assert found["nobody"].uid == 4_000_000_000
    assert found["disk"].devminor == 1048575


@needs_root
def test_a_subdirectory_and_a_file(view: Snapshot) -> None:
    store = MemoryStore()
    below = Snapshot(store, import_tar(io.BytesIO(packed(view, b"/sticky/")), store).root)
    assert [path for path, _ in below.walk()] == [b"/", b"/link"]
    assert replace(below.root, content=Special()) == replace(view.lookup(b"sticky"), name=b"", content=Special())
    assert below.lookup(b"link").link is None
    single = Snapshot(store, import_tar(io.BytesIO(packed(view, b"sticky/link")), store).root)
    assert single.lookup(b"link").content == view.lookup(b"small").content
    with pytest.raises(NotFound):
        packed(view, b"/missing")


class _Full(io.RawIOBase):
    def __init__(self, number: int) -> None:
        self._number = number

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        raise OSError(self._number, "it failed")


def test_when_the_stream_takes_no_more() -> None:
    store = MemoryStore()
    small = Snapshot(store, root(store, {"a": b"a"}))
    with pytest.raises(NoSpace, match="no space left"):
        export_tar(small, b"/", _Full(errno.ENOSPC))
    with pytest.raises(BrokenPipeError):
        export_tar(small, b"/", _Full(errno.EPIPE))


def test_progress_ends_with_everything() -> None:
    store = MemoryStore()
    seen: list[tuple[int, int]] = []
    many = Snapshot(store, root(store, {f"f{n}": b"x" * 10 for n in range(200)}))
    export_tar(many, b"/", io.BytesIO(), progress=lambda f, b: seen.append((f, b)))
    assert seen[-1] == (200, 2000)
    seen.clear()
    import_tar(io.BytesIO(packed(many)), MemoryStore(), progress=lambda f, b: seen.append((f, b)))
    assert seen[-1] == (200, 2000)
    assert 2 < len(seen) < 10


# -- by chance

_store = MemoryStore()
_ids = st.integers(0, (1 << 32) - 1)
_modes = st.integers(0, 0o7777)
_attributes = st.dictionaries(
    st.binary(min_size=1, max_size=40).filter(lambda b: b"\0" not in b).map(lambda b: b"user." + b),
    st.binary(max_size=60),
    max_size=2,
).map(lambda found: tuple(sorted(found.items())))


@st.composite
def _contents(draw: st.DrawFn) -> Entry:
    kind = draw(st.sampled_from(["file", "sparse", "symlink", "device", "fifo"]))
    if kind == "symlink":
        target = draw(st.binary(min_size=1, max_size=200).filter(lambda b: b"\0" not in b))
        return Entry(b"", stat.S_IFLNK | 0o777, 0, 0, 0, Symlink(target))
    if kind == "device":
        return Entry(b"", stat.S_IFBLK | 0o600, 0, 0, 0, Device(draw(_ids), draw(_ids)))
    if kind == "fifo":
        return Entry(b"", stat.S_IFIFO | 0o600, 0, 0, 0, Special())
    writer = BlobWriter(_store)
    for data in draw(st.lists(st.binary(max_size=600), max_size=4)):
        if kind == "sparse":
            writer.hole(draw(st.integers(0, 20)) * 512)
            data += bytes(-len(data) % 512)
        writer.feed(data)
    return file(writer.finish())


@st.composite
def _entries(draw: st.DrawFn) -> Entry:
    entry = draw(_contents())
    mode = stat.S_IFMT(entry.mode) | draw(_modes)
    time = draw(st.integers(-(1 << 63), (1 << 63) - 1))
    return replace(entry, mode=mode, uid=draw(_ids), gid=draw(_ids), mtime=time, xattrs=draw(_attributes))


_trees = st.recursive(
    st.dictionaries(names, _entries(), max_size=5),
    lambda below: st.dictionaries(names, _entries() | below, max_size=4),
    max_leaves=12,
)


@given(_trees)
def test_any_tree_comes_back(spec: Spec) -> None:
    made = root(_store, spec)
    assert import_tar(io.BytesIO(packed(Snapshot(_store, made))), MemoryStore()).root == made


@given(st.lists(st.tuples(st.integers(0, 3000), st.binary(max_size=1500)), max_size=6))
def test_holes_of_any_length_keep_the_content(parts: list[tuple[int, bytes]]) -> None:
    writer = BlobWriter(_store)
    for hole, data in parts:
        writer.hole(hole)
        writer.feed(data)
    before = Snapshot(_store, root(_store, {"f": file(writer.finish())}))
    after = Snapshot(_store, import_tar(io.BytesIO(packed(before)), _store).root)
    expected = b"".join(bytes(hole) + data for hole, data in parts)
    assert after.read(after.lookup(b"f").content) == expected  # type: ignore[arg-type]


@given(st.lists(st.sampled_from(["a", "b", "c/d", "c/e", "f"]), unique=True, min_size=2))
def test_hard_links_come_back(paths: list[str]) -> None:
    groups = LinkGroups()
    for path in paths:
        groups.add(0, b"/" + path.encode())
    linked = replace(link("target"), link=groups.link(0))
    below = {p.removeprefix("c/"): linked for p in paths if p.startswith("c/")}
    top = {p: linked for p in paths if not p.startswith("c/")}
    made = write_root(_store, directory(_store, {**top, "c": below}))
    assert import_tar(io.BytesIO(packed(Snapshot(_store, made))), MemoryStore()).root == made
