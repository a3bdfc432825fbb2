"""Each rule of docs/upper.md, on uppers made by hand and by real overlays."""

from __future__ import annotations

import gc
import os
import stat
import threading
from pathlib import Path

import pytest

from runtime.upper import TRUSTED, USER, content, pinned, scan_upper
from runtime.upper.conventions import separate
from tests.runtime.overlay_cases import Layers, described, exchange, imported, needs_root
from vcs.errors import BadInput, Conflict, Denied
from vcs.model import EMPTY_FILE, Chunked, Data, Device, Link
from vcs.snapshot import Snapshot

pytestmark = needs_root


@pytest.fixture
def layers(tmp_path: Path) -> Layers:
    made = Layers(tmp_path)
    for name in ("d/sub", "e"):
        (made.lower / name).mkdir(parents=True)
    for name in ("f", "d/g", "d/sub/h", "e/i"):
        (made.lower / name).write_text(f"base {name}")
    return made


@pytest.fixture(params=[TRUSTED, USER])
def prefix(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def whiteout(path: Path) -> None:
    os.mknod(path, stat.S_IFCHR, 0)


def mark(path: Path, name: str, value: bytes = b"y", prefix: str = TRUSTED) -> None:
    os.setxattr(path, prefix + name, value, follow_symlinks=False)


def names(root: Snapshot) -> set[str]:
    return {os.fsdecode(path) for path, _ in root.walk()} - {"/"}


def text(root: Snapshot, path: str) -> str:
    content = root.lookup(path.encode()).content
    assert isinstance(content, (Data, Chunked))
    return root.read(content).decode()


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


def test_a_hard_link_copied_up_alone_is_a_file_of_its_own(layers: Layers) -> None:
    for name in ("d/g2", "d/sub/g3"):
        (layers.lower / name).hardlink_to(layers.lower / "d/g")
    with layers.mounted() as merged:
        (merged / "d/g2").chmod(0o600)
    found = layers.scanned()
    assert found.lookup(b"/d/g2").link is None
    links = [found.lookup(path).link for path in (b"/d/g", b"/d/sub/g3")]
    assert links[0] == links[1]
    assert links[0] is not None
    assert links[0].count == 2
    assert links[0].group == layers.base.lookup(b"/d/g").link.group  # type: ignore[union-attr]
    assert found.root.content.linked == 2  # type: ignore[union-attr]


def test_a_group_of_the_base_that_loses_all_but_one_is_none(layers: Layers) -> None:
    (layers.lower / "d/sub/f").hardlink_to(layers.lower / "f")
    assert layers.base
    whiteout(layers.upper / "d")
    found = layers.scanned()
    assert found.lookup(b"/f").link is None
    assert found.root.content.linked == 0  # type: ignore[union-attr]


def test_a_moved_directory_takes_its_links_along(layers: Layers) -> None:
    (layers.lower / "d/sub/f").hardlink_to(layers.lower / "f")
    with layers.mounted() as merged:
        (merged / "d").rename(merged / "e/d2")
    found = layers.scanned()
    assert found.lookup(b"/e/d2/sub/f").link == found.lookup(b"/f").link == layers.base.lookup(b"/f").link


def test_a_directory_shown_twice_shows_its_links_twice(layers: Layers) -> None:
    (layers.lower / "d/f").hardlink_to(layers.lower / "f")
    (layers.upper / "again").mkdir()
    mark(layers.upper / "again", "redirect", b"/d")
    link = layers.scanned().lookup(b"/again/f").link
    assert link is not None
    assert link.count == 3


def test_links_made_in_the_upper(layers: Layers) -> None:
    with layers.mounted() as merged:
        (merged / "f2").hardlink_to(merged / "f")
        (merged / "d/new").write_text("new")
        (merged / "e/new").hardlink_to(merged / "d/new")
        (merged / "link").symlink_to("f")
        os.link(merged / "link", merged / "d/link", follow_symlinks=False)
    found = layers.scanned()
    groups = [found.lookup(path).link for path in (b"/f", b"/f2", b"/d/new", b"/e/new", b"/link", b"/d/link")]
    assert groups[0::2] == groups[1::2]
    assert len({link.group for link in groups if link}) == 3
    assert {link.count for link in groups if link} == {2}
    assert text(found, "/f2") == "base f"


def test_a_group_written_anew_as_it_was_is_no_change(layers: Layers) -> None:
    (layers.lower / "d/f").hardlink_to(layers.lower / "f")
    (layers.lower / "e/f").hardlink_to(layers.lower / "f")
    with layers.mounted() as merged:
        times = {path: path.stat() for path in (merged, merged / "d", merged / "e", merged / "f")}
        for name in ("f", "d/f", "e/f"):
            (merged / name).unlink()
        (merged / "f").write_text("base f")
        (merged / "d/f").hardlink_to(merged / "f")
        (merged / "e/f").hardlink_to(merged / "f")
        for path, status in times.items():
            os.utime(path, ns=(0, status.st_mtime_ns))
    assert layers.scan().root == layers.base.id


def test_a_group_that_was_split_keeps_its_id_once(layers: Layers) -> None:
    for name in ("d/f", "e/f", "e/g"):
        (layers.lower / name).hardlink_to(layers.lower / "f")
    with layers.mounted() as merged:
        for one, two in (("d/f", "f"), ("e/f", "e/g")):
            (merged / one).unlink()
            (merged / two).unlink()
            (merged / one).touch()
            (merged / two).hardlink_to(merged / one)
    found = layers.scanned()
    groups = {path: found.lookup(path).link for path in (b"/d/f", b"/f", b"/e/f", b"/e/g")}
    assert groups[b"/d/f"] == groups[b"/f"] == Link(layers.base.lookup(b"/f").link.group, 2)  # type: ignore[union-attr]
    assert groups[b"/e/f"] == groups[b"/e/g"] != groups[b"/f"]


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


STUBS = frozenset({b"/etc/resolv.conf", b"/run", b"/run/x", b"/proc", b"/d/stub", b"/f"})


def test_stubs_that_stayed_empty_leave_no_trace(layers: Layers) -> None:
    (layers.lower / "etc").mkdir()
    with layers.mounted() as merged:
        for directory in ("proc", "run", "run/x"):
            (merged / directory).mkdir()
        (merged / "etc/resolv.conf").touch()
        (merged / "d/stub").touch()
    assert layers.scan().root != layers.base.id
    assert layers.scan(stubs=STUBS).root == layers.base.id


def test_stubs_that_were_used_stay(layers: Layers) -> None:
    with layers.mounted() as merged:
        for directory in ("proc", "run/x"):
            (merged / directory).mkdir(parents=True)
        (merged / "run/x/file").touch()
        (merged / "d/stub").write_text("content")
        (merged / "f").write_text("")
    found = layers.scanned(stubs=STUBS)
    assert names(found) - names(layers.base) == {"/run", "/run/x", "/run/x/file", "/d/stub"}
    assert found.lookup(b"/f").content == EMPTY_FILE


def test_a_directory_with_a_stub_keeps_what_else_changed(layers: Layers) -> None:
    with layers.mounted() as merged:
        (merged / "d/stub").touch()
        (merged / "d/new").touch()
        (merged / "e").chmod(0o700)
        time = (merged / "d").stat().st_mtime_ns
    found = layers.scanned(stubs=STUBS | {b"/e/other"})
    assert names(found) - names(layers.base) == {"/d/new"}
    assert found.lookup(b"/d").mtime == time
    assert oct(found.lookup(b"/e").mode) == "0o40700"


def test_a_directory_above_a_stub_is_none_itself(layers: Layers) -> None:
    (layers.upper / "made/by").mkdir(parents=True)
    (layers.upper / "made/by/stub").touch()
    assert names(layers.scanned(stubs={b"/made/by/stub"})) >= {"/made", "/made/by"}


def test_stubs_beside_hard_links(layers: Layers) -> None:
    (layers.lower / "d/f").hardlink_to(layers.lower / "f")
    with layers.mounted() as merged:
        (merged / "d/stub").touch()
    assert layers.scan(stubs=STUBS).root == layers.base.id


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


LATER = 1 << 62
"""A time by which nothing is racy any more."""


# While a container runs


def before(monkeypatch: pytest.MonkeyPatch, function: str, name: bytes, action: object) -> None:
    """Do something once, just before pinned.<function> is called for a name."""
    original = getattr(pinned, function)
    pending = [action]

    def wrapper(*arguments: object) -> object:
        if name in arguments and pending:
            pending.pop()()  # type: ignore[operator]
        return original(*arguments)

    monkeypatch.setattr(pinned, function, wrapper)


def test_a_name_that_vanishes_was_never_there(layers: Layers, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("x", "f"):
        (layers.upper / name).write_text("upper")
    before(monkeypatch, "pin", b"x", (layers.upper / "x").unlink)
    found = layers.scanned()
    assert "/x" not in names(found)
    before(monkeypatch, "pin", b"f", (layers.upper / "f").unlink)
    assert text(layers.scanned(), "/f") == "base f"


def test_a_directory_that_becomes_something_else(layers: Layers, monkeypatch: pytest.MonkeyPatch) -> None:
    outside = layers.top / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    (layers.upper / "d").mkdir()

    def swap() -> None:
        (layers.upper / "d").rename(layers.top / "away")
        (layers.upper / "d").symlink_to(outside)

    before(monkeypatch, "open_directory", b"d", swap)
    found = layers.scanned()
    assert stat.S_ISLNK(found.lookup(b"/d").mode)
    assert not any("secret" in name for name in names(found))

    (layers.upper / "e").mkdir()
    before(monkeypatch, "open_directory", b"e", (layers.upper / "e").rmdir)
    assert "/e/i" in names(layers.scanned())


def test_a_directory_moved_away_while_deep_below_it(layers: Layers, monkeypatch: pytest.MonkeyPatch) -> None:
    path = layers.upper
    for _ in range(80):
        path = path / "n"
    path.mkdir(parents=True)
    (path / "leaf").touch()
    aside = layers.upper / "aside"
    aside.mkdir()
    moved = layers.upper / "n/n"
    before(monkeypatch, "pin", b"leaf", lambda: moved.rename(aside / "n"))
    with pytest.raises(Conflict):
        layers.scan()


def test_a_file_that_is_written_while_it_is_read(layers: Layers, monkeypatch: pytest.MonkeyPatch) -> None:
    log = layers.upper / "log"
    log.write_text("one")
    rounds = []
    original = content.write_file

    def write_file(sink: object, fd: int, status: os.stat_result, before: object = None) -> object:
        found = original(sink, fd, status)  # type: ignore[arg-type]
        if len(rounds) < limit:
            rounds.append(1)
            with log.open("a") as file:
                file.write("+")
        return found

    monkeypatch.setattr(content, "write_file", write_file)
    limit = 1
    result = layers.scan()
    assert result.unsteady == ()
    assert text(Snapshot(layers.store, result.root), "/log") == "one+"
    rounds.clear()
    limit = 1000
    assert layers.scan().unsteady == (b"/log",)


def test_swapping_directories_for_links_never_leads_outside(layers: Layers) -> None:
    outside = layers.top / "outside"
    (outside / "sub").mkdir(parents=True)
    (outside / "sub/secret").write_text("secret")
    (layers.upper / "x/sub").mkdir(parents=True)
    (layers.upper / "y").symlink_to(outside)
    done = threading.Event()

    def swap() -> None:
        while not done.is_set():
            exchange(layers.upper / "x", layers.upper / "y")

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for _ in range(150):
            try:
                found = names(layers.scanned())
            except Conflict:
                continue
            assert not any("secret" in name for name in found)
    finally:
        done.set()
        thread.join()


# What cannot be read


def test_no_such_upper(layers: Layers) -> None:
    for path in (layers.top / "none", layers.lower / "f"):
        with pytest.raises(BadInput, match="is not a directory"):
            scan_upper(path, layers.base, layers.store)


def test_an_upper_of_somebody_else(layers: Layers) -> None:
    assert layers.base
    layers.top.chmod(0o755)
    (layers.upper / "hidden").mkdir(mode=0o700)
    (layers.upper / "hidden/file").touch()
    nobody = 65534
    pid = os.fork()
    if not pid:
        try:
            os.chdir(layers.top)
            os.setresgid(nobody, nobody, nobody)
            os.setresuid(nobody, nobody, nobody)
            scan_upper(Path("upper"), layers.base, layers.store)
        except Denied as error:
            os._exit(0 if error.facts["path"] == b"/hidden" else 2)
        except BaseException:
            os._exit(3)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_another_file_system_inside_the_upper(layers: Layers) -> None:
    (layers.top / "other").mkdir()
    other = Layers(layers.top / "other")
    (layers.upper / "here").mkdir()
    other.merged = layers.upper / "here"
    with other.mounted(), pytest.raises(BadInput, match="another file system"):
        layers.scan()
