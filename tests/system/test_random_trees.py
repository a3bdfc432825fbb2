"""Random trees on a real file system, imported and looked at through the real mount: nothing is other than it was."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fusefs.client import Lease, Service
from tests.support.compare import differences
from tests.support.rich_tree import needs_root
from vcs.check import check
from vcs.importer import import_directory
from vcs.store import Store

pytestmark = needs_root
SERVED = frozenset({"extents"})
"""A file system says itself how finely it tells holes: FUSE to the byte, ext4 to the block."""
_SCALE = 40_000
"""Bytes that a run of a file is a multiple of: some files are above the size at which they are cut into chunks."""


@dataclass(frozen=True)
class Look:
    """What every kind of file has."""

    mode: int
    owner: tuple[int, int]
    mtime: int
    xattrs: Mapping[str, bytes]


@dataclass(frozen=True)
class File:
    look: Look
    runs: tuple[tuple[bool, int], ...]
    """Data or hole, and how long."""
    links: int


@dataclass(frozen=True)
class Special:
    look: Look
    kind: int
    device: tuple[int, int]


@dataclass(frozen=True)
class Link:
    look: Look
    target: bytes


@dataclass(frozen=True)
class Folder:
    look: Look
    names: Mapping[bytes, File | Special | Link | Folder]


IDS = st.integers(0, 2**32 - 2)
XATTRS = st.dictionaries(st.sampled_from(["user.a", "trusted.b", "trusted.overlay.opaque"]), st.binary(max_size=40))
LOOKS = st.builds(
    Look,
    mode=st.integers(0, 0o7777),
    owner=st.tuples(IDS, IDS),
    mtime=st.integers(-(2**31), 2**33) | st.integers(0, 2**62),
    xattrs=XATTRS,
)
NAMES = st.binary(min_size=1, max_size=255).filter(lambda name: not {*b"/\0"} & {*name} and name not in (b".", b".."))
RUNS = st.lists(st.tuples(st.booleans(), st.integers(1, 20)), max_size=4).map(tuple)
LEAVES = (
    st.builds(File, LOOKS, RUNS, st.integers(0, 2))
    | st.builds(Special, LOOKS, st.sampled_from([0o010000, 0o020000, 0o060000]), st.tuples(*[st.integers(1, 255)] * 2))
    | st.builds(Link, LOOKS, st.binary(min_size=1, max_size=200).filter(lambda target: 0 not in target))
)
TREES = st.recursive(
    LEAVES, lambda inner: st.builds(Folder, LOOKS, st.dictionaries(NAMES, inner, max_size=5)), max_leaves=20
)
ROOTS = st.builds(Folder, LOOKS, st.dictionaries(NAMES, TREES, max_size=5))


def make(path: bytes, what: File | Special | Link | Folder) -> None:
    """Make a file and all below it."""
    if isinstance(what, Folder):
        os.mkdir(path)
        for name, inner in what.names.items():
            make(os.path.join(path, name), inner)
    elif isinstance(what, Link):
        os.symlink(what.target, path)
    elif isinstance(what, Special):
        os.mknod(path, what.kind | 0o600, os.makedev(*what.device))
    else:
        _write(path, what)
    _dress(path, what.look, isinstance(what, Link), isinstance(what, File | Folder))


def _write(path: bytes, file: File) -> None:
    with open(path, "wb") as out:
        for position, (is_data, length) in enumerate(file.runs):
            if is_data:
                out.write(bytes([position + 1, length]) * (length * _SCALE // 2))
            else:
                out.seek(length * _SCALE, os.SEEK_CUR)
        out.truncate(out.tell())


def _dress(path: bytes, look: Look, is_link: bool, takes_user: bool) -> None:
    os.lchown(path, *look.owner)
    if not is_link:
        os.chmod(path, look.mode)
    for name, value in look.xattrs.items():
        if takes_user or not name.startswith("user."):
            os.setxattr(path, name, value, follow_symlinks=False)
    os.utime(path, ns=(0, look.mtime), follow_symlinks=False)


def add_links(top: bytes, folder: Folder) -> None:
    """More names for files, each in the root: hard links across directories."""

    def walk(path: bytes, inside: Folder) -> Iterator[tuple[bytes, File]]:
        for name, inner in inside.names.items():
            if isinstance(inner, Folder):
                yield from walk(os.path.join(path, name), inner)
            elif isinstance(inner, File):
                yield os.path.join(path, name), inner

    for number, (path, file) in enumerate(walk(top, folder)):
        for link in range(file.links):
            os.link(path, os.path.join(top, b"link\xff%d-%d" % (number, link)))
    os.utime(top, ns=(0, folder.look.mtime))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, Lease, Path]]:
    directory = tmp_path_factory.mktemp("random")
    with Store.create(directory / "store") as store:
        try:
            with Service.ensure(store.path) as lease:
                yield store, lease, directory
        finally:
            assert Service.stop(store.path)
        assert check(store).problems == []


def unescaped(top: Path) -> None:
    """Overlayfs's own names are served with one level more: make the source say the same."""
    for path, folders, files in os.walk(os.fsencode(top)):
        for name in (b"", *folders, *files):
            at = os.path.join(path, name) if name else path
            if "trusted.overlay.opaque" in os.listxattr(at, follow_symlinks=False):
                value = os.getxattr(at, "trusted.overlay.opaque", follow_symlinks=False)
                before = os.lstat(at)
                os.setxattr(at, "trusted.overlay.overlay.opaque", value, follow_symlinks=False)
                os.removexattr(at, "trusted.overlay.opaque", follow_symlinks=False)
                os.utime(at, ns=(before.st_atime_ns, before.st_mtime_ns), follow_symlinks=False)


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(tree=ROOTS)
def test_a_tree_is_the_same_through_the_mount(served: tuple[Store, Lease, Path], tree: Folder) -> None:
    store, lease, directory = served
    source = directory / "source"
    make(os.fsencode(source), tree)
    try:
        add_links(os.fsencode(source), tree)
        with store.batch() as batch:
            root = import_directory(batch, source).root
        unescaped(source)
        assert differences(source, lease.mountpoint / "trees" / root.hex(), ignore=SERVED) == []
    finally:
        shutil.rmtree(source)
