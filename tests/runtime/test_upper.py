"""Each rule of docs/upper.md, on uppers made by hand and by real overlays."""

from __future__ import annotations

import gc
import os
import stat
from pathlib import Path

import pytest

from runtime.upper import TRUSTED, USER, scan_upper
from runtime.upper.conventions import separate
from tests.runtime.overlay_cases import (
    Layers,
    described,
    exchange,
    imported,
    mark,
    names,
    needs_root,
    text,
    whiteout,
)
from vcs.errors import BadInput
from vcs.model import Chunked, Device
from vcs.snapshot import Snapshot

pytestmark = needs_root

LATER = 1 << 62
"""A time by which nothing is racy any more."""


@pytest.fixture(params=[TRUSTED, USER])
def prefix(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def metacopy(layers: Layers, name: str, like: str, value: bytes = b"", prefix: str = TRUSTED) -> Path:
    """A file of the right size whose data is elsewhere, as overlayfs leaves it."""
    path = layers.upper / name
    with path.open("wb") as file:
        file.truncate((layers.lower / like).stat().st_size)
    mark(path, "metacopy", value, prefix)
    return path


def test_an_upper_that_changes_nothing_gives_the_base(layers: Layers) -> None:
    assert layers.scan().root == layers.base.id


def test_copying_up_alone_changes_nothing(layers: Layers) -> None:
    with layers.mounted() as merged:
        for path in (merged / "d/sub/h", merged / "f", merged / "d"):
            mode = stat.S_IMODE(path.stat().st_mode)
            path.chmod(0o700)
            path.chmod(mode)
        with (merged / "e/i").open("r+") as file:
            before = os.fstat(file.fileno())
            file.write("base e/i")
        os.utime(merged / "e/i", ns=(0, before.st_mtime_ns))
    assert names(Snapshot(layers.store, layers.scan().root)) == names(layers.base)
    assert (layers.upper / "d/sub/h").exists()
    assert layers.scan().root == layers.base.id


def test_a_whiteout_hides_whatever_the_base_has(layers: Layers) -> None:
    assert layers.base
    whiteout(layers.upper / "f")
    os.link(layers.upper / "f", layers.upper / "d")
    os.link(layers.upper / "f", layers.upper / "nothing-below")
    result = layers.scan()
    assert names(Snapshot(layers.store, result.root)) == {"/e", "/e/i"}
    assert result.deleted == 3


def test_an_empty_file_marked_whiteout_hides_too(layers: Layers, prefix: str) -> None:
    (layers.upper / "d").mkdir()
    mark(layers.upper / "d", "opaque", b"x", prefix)
    (layers.upper / "d/g").touch()
    mark(layers.upper / "d/g", "whiteout", b"", prefix)
    os.link(layers.upper / "d/g", layers.upper / "d/other")
    assert names(layers.scanned(prefix=prefix)) == {"/d", "/d/sub", "/d/sub/h", "/e", "/e/i", "/f"}


def test_the_kernel_hides_such_a_file_as_well(layers: Layers) -> None:
    (layers.upper / "f").touch()
    mark(layers.upper / "f", "whiteout")
    with layers.mounted() as merged:
        if (merged / "f").exists():
            pytest.skip("needs Linux 6.7: attribute whiteouts")
    assert "/f" not in names(layers.scanned())


def test_an_opaque_directory_shows_nothing_of_the_base(layers: Layers, prefix: str) -> None:
    (layers.upper / "d/sub").mkdir(parents=True)
    (layers.upper / "d/new").write_text("new")
    mark(layers.upper / "d", "opaque", b"y", prefix)
    assert names(layers.scanned(prefix=prefix)) == {"/d", "/d/new", "/d/sub", "/e", "/e/i", "/f"}


def test_a_directory_removed_and_made_again_is_empty(layers: Layers) -> None:
    with layers.mounted() as merged:
        (merged / "e/i").unlink()
        (merged / "e").rmdir()
        (merged / "e").mkdir()
    assert os.getxattr(layers.upper / "e", "trusted.overlay.opaque") == b"y"
    assert "/e/i" not in names(layers.scanned())


def test_the_root_is_merged_whatever_it_is_marked_with(layers: Layers) -> None:
    assert layers.base
    mark(layers.upper, "opaque")
    mark(layers.upper, "redirect", b"/d")
    assert names(layers.scanned()) == names(layers.base)


def test_the_root_has_the_attributes_of_the_upper(layers: Layers) -> None:
    assert layers.base
    layers.upper.chmod(0o1700)
    os.chown(layers.upper, 5, 6)
    os.setxattr(layers.upper, "user.root", b"r")
    mark(layers.upper, "impure")
    os.utime(layers.upper, ns=(0, 123))
    root = layers.scanned().root
    assert (oct(root.mode), root.uid, root.gid, root.mtime) == ("0o41700", 5, 6, 123)
    assert root.xattrs == ((b"user.root", b"r"),)


@pytest.mark.parametrize("target", [b"/d", b"d"])
def test_a_redirected_directory_shows_another_of_the_base(layers: Layers, prefix: str, target: bytes) -> None:
    whiteout(layers.upper / "d")
    (layers.upper / "moved").mkdir()
    mark(layers.upper / "moved", "redirect", target, prefix)
    found = layers.scanned(prefix=prefix)
    assert names(found) == {"/moved", "/moved/g", "/moved/sub", "/moved/sub/h", "/e", "/e/i", "/f"}
    assert text(found, "/moved/sub/h") == "base d/sub/h"


def test_a_relative_redirect_is_a_name_in_the_parents_own_directory_of_the_base(layers: Layers) -> None:
    (layers.upper / "moved/inner").mkdir(parents=True)
    whiteout(layers.upper / "moved/sub")
    mark(layers.upper / "moved", "redirect", b"/d")
    mark(layers.upper / "moved/inner", "redirect", b"sub")
    assert text(layers.scanned(), "/moved/inner/h") == "base d/sub/h"


def test_a_redirect_to_nothing_shows_nothing(layers: Layers) -> None:
    for name, target in (("one", b"/no/such"), ("two", b"/f"), ("three", b"/f/under"), ("four", b"none")):
        (layers.upper / name).mkdir()
        mark(layers.upper / name, "redirect", target)
    assert names(layers.scanned()) - names(layers.base) == {"/one", "/two", "/three", "/four"}


def test_an_opaque_directory_is_not_redirected(layers: Layers) -> None:
    (layers.upper / "new").mkdir()
    mark(layers.upper / "new", "redirect", b"/d")
    mark(layers.upper / "new", "opaque")
    assert "/new/g" not in names(layers.scanned())


def test_exchanged_and_chained_moves(layers: Layers) -> None:
    with layers.mounted() as merged:
        exchange(merged / "d", merged / "e")
        (merged / "e/sub").rename(merged / "sub")
        (merged / "sub").rename(merged / "d/sub2")
        (merged / "e").rename(merged / "d/sub2/last")
        shown = described(imported(layers.store, merged))
    found = layers.scanned()
    assert described(found) == shown
    assert text(found, "/d/sub2/last/g") == "base d/g"
    assert text(found, "/d/sub2/h") == "base d/sub/h"


@pytest.mark.parametrize("value", [b"", b"\0\4\0\0", b"\0\x24\0\1" + bytes(32)])
def test_a_metacopy_has_its_data_in_the_base(layers: Layers, prefix: str, value: bytes) -> None:
    metacopy(layers, "f", "f", value, prefix).chmod(0o4711)
    found = layers.scanned(prefix=prefix)
    assert text(found, "/f") == "base f"
    entry = found.lookup(b"/f")
    assert oct(entry.mode) == "0o104711"
    assert entry.xattrs == ()


@pytest.mark.parametrize("target", [b"/d/sub/h", b"h"])
def test_a_metacopy_that_was_moved(layers: Layers, target: bytes) -> None:
    (layers.upper / "d/sub").mkdir(parents=True)
    mark(metacopy(layers, "d/sub/moved", "d/sub/h"), "redirect", target)
    whiteout(layers.upper / "d/sub/h")
    found = layers.scanned()
    assert text(found, "/d/sub/moved") == "base d/sub/h"
    assert "/d/sub/h" not in names(found)


def test_a_redirect_on_a_file_with_data_of_its_own_says_nothing(layers: Layers) -> None:
    (layers.upper / "f").write_text("own")
    mark(layers.upper / "f", "redirect", b"/d/g")
    assert text(layers.scanned(), "/f") == "own"


@pytest.mark.parametrize("target", [None, b"/d", b"/none", b"/d/g"])
def test_a_metacopy_without_its_data_is_refused(layers: Layers, target: bytes | None) -> None:
    path = metacopy(layers, "x", "f")
    if target:
        mark(path, "redirect", target)
    with pytest.raises(BadInput, match=r"'/x' has its data in a file that the base does not have"):
        layers.scan()


@pytest.mark.parametrize("target", [b"", b"a/b", b"..", b"/..", b"/a//b", b"//", b"/a/../b", b"/a\0"])
def test_a_malformed_redirect_is_refused(layers: Layers, target: bytes) -> None:
    (layers.upper / "x").mkdir()
    mark(layers.upper / "x", "redirect", target)
    with pytest.raises(BadInput, match="'/x': overlayfs redirect"):
        layers.scan()


@pytest.mark.parametrize("value", [b"\1\4\0\0", b"\0\5\0\0", b"\0\4\1\0", b"\0"])
def test_an_unknown_metacopy_is_refused(layers: Layers, value: bytes) -> None:
    metacopy(layers, "f", "f", value)
    with pytest.raises(BadInput, match="'/f': overlayfs metacopy"):
        layers.scan()


def test_overlays_own_attributes_stay_behind_and_others_are_unescaped_once() -> None:
    xattrs = tuple(
        sorted(
            {
                b"security.capability": b"c",
                b"trusted.overlay.impure": b"y",
                b"trusted.overlay.origin": b"o",
                b"trusted.overlay.overlay.opaque": b"y",
                b"trusted.overlay.overlay.overlay.redirect": b"r",
                b"trusted.overlayfs": b"1",
                b"user.overlay.metacopy": b"",
                b"user.overlay.overlay.metacopy": b"served",
                b"user.overlay.overlay.x": b"x",
            }.items()
        )
    )
    marks, kept = separate(xattrs, TRUSTED)
    assert marks == separate((), TRUSTED)[0]
    assert dict(kept) == {
        b"security.capability": b"c",
        b"trusted.overlay.opaque": b"y",
        b"trusted.overlay.overlay.redirect": b"r",
        b"trusted.overlayfs": b"1",
        b"user.overlay.metacopy": b"",
        b"user.overlay.x": b"x",
    }
    assert list(kept) == sorted(kept)
    assert separate(xattrs, USER)[0].metacopy


def test_what_a_container_sets_comes_back_as_it_set_it(layers: Layers) -> None:
    with layers.mounted() as merged:
        for name in ("trusted.overlay.redirect", "trusted.overlay.overlay.x", "user.overlay.opaque", "user.z"):
            os.setxattr(merged / "d", name, b"/e")
    assert [name.decode() for name, _ in layers.scanned().lookup(b"/d").xattrs] == [
        "trusted.overlay.overlay.x",
        "trusted.overlay.redirect",
        "user.overlay.opaque",
        "user.z",
    ]


def test_a_terabyte_of_nothing(layers: Layers) -> None:
    with layers.mounted() as merged, (merged / "huge").open("wb") as file:
        file.seek(1 << 40)
        file.write(b"end")
    result = layers.scan()
    found = Snapshot(layers.store, result.root).lookup(b"/huge").content
    assert isinstance(found, Chunked)
    assert found.size == (1 << 40) + 3
    assert found.allocated <= 4096


def test_names_of_any_bytes_and_many_of_them(layers: Layers) -> None:
    odd = [b"\xff\xfe", b"new\nline", b"x" * 255, b" ", "é".encode()]
    (layers.upper / "many").mkdir()
    for name in [*odd, *(b"%05d" % number for number in range(3000))]:
        Path(os.fsdecode(os.fsencode(layers.upper / "many") + b"/" + name)).touch()
    found = layers.scanned()
    assert all(found.find(b"/many/" + name) for name in odd)
    assert found.lookup(b"/many").content.entries == 3005  # type: ignore[union-attr]


def test_one_change_in_a_large_directory_of_the_base(layers: Layers) -> None:
    (layers.lower / "many").mkdir()
    for number in range(3000):
        (layers.lower / f"many/{number:05}").touch()
    with layers.mounted() as merged:
        (merged / "many/01234").unlink()
        (merged / "many/00001").write_text("x")
    found = layers.scanned()
    assert found.lookup(b"/many").content.entries == 2999  # type: ignore[union-attr]
    assert text(found, "/many/00001") == "x"


def test_a_tree_deeper_than_pythons_stack_and_the_table_of_descriptors(layers: Layers) -> None:
    assert layers.base
    fd = os.open(layers.upper, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("n", dir_fd=fd)
        below = os.open("n", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(os.open("one", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.link("one", "two", src_dir_fd=fd, dst_dir_fd=fd)
    os.close(fd)
    gc.collect()  # what other tests have left is not closed meanwhile
    before = len(os.listdir("/proc/self/fd"))
    result = layers.scan()
    assert len(os.listdir("/proc/self/fd")) == before
    assert result.entry.content.linked == 2  # type: ignore[union-attr]
    assert result.entry.content.entries == len(names(layers.base)) + 1502  # type: ignore[union-attr]
    _remove_deep(layers.upper)


def _remove_deep(top: Path) -> None:
    """Take a chain of directories apart from the top: shutil.rmtree would exhaust the stack."""
    aside = top / "aside"
    while (top / "n").exists():
        (top / "n").rename(aside)
        for name in os.listdir(aside):
            (aside / name).rename(top / name)
        aside.rmdir()


def test_devices_and_other_specials(layers: Layers) -> None:
    os.mknod(layers.upper / "null", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.mknod(layers.upper / "disk", stat.S_IFBLK | 0o600, os.makedev(0, 0))
    os.mkfifo(layers.upper / "fifo")
    os.mknod(layers.upper / "socket", stat.S_IFSOCK | 0o600)
    found = layers.scanned()
    assert found.lookup(b"/null").content == Device(1, 3)
    assert found.lookup(b"/disk").content == Device(0, 0)
    assert {"/fifo", "/socket"} <= names(found)


def test_the_cost_is_that_of_the_upper(layers: Layers, monkeypatch: pytest.MonkeyPatch) -> None:
    assert layers.base
    (layers.upper / "d").mkdir()
    (layers.upper / "d/new").touch()
    opened = []
    get = layers.store.get
    monkeypatch.setattr(layers.store, "get", lambda digest: opened.append(digest) or get(digest))
    scan_upper(layers.upper, layers.base, layers.store)
    assert len(opened) == 2  # the trees of / and /d, not those of /d/sub and /e


def test_what_was_seen_saves_reading(layers: Layers) -> None:
    assert layers.base
    (layers.upper / "new").write_text("new")
    seen = layers.scan(since=LATER).seen
    again = layers.scan(before=seen)
    assert (again.files, again.names) == (0, 0)
    assert again.root == layers.scan().root == seen.root
    (layers.upper / "new").write_text("neu")
    assert text(layers.scanned(before=seen), "/new") == "neu"
