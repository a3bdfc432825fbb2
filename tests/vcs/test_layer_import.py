"""Image layers: what a tar archive of changes makes of a root."""

from __future__ import annotations

import io
import random
import stat
import tarfile

import pytest

from tests.support import raw_tar
from vcs.errors import BadInput
from vcs.layer_import import import_layer
from vcs.model import Data, RootId, Symlink
from vcs.snapshot import Snapshot
from vcs.tar_import import import_tar
from vcs.testing import MemoryStore

Lines = set[str]


def lines_of(store: MemoryStore, root: RootId) -> Lines:
    """A root as a line for each name; names of one file say which others it has."""
    found: dict[str, str] = {}
    groups: dict[bytes, list[str]] = {}
    for path, entry in Snapshot(store, root).walk():
        content = entry.content
        what = ""
        if isinstance(content, Data):
            what = store.get(content.chunk).decode() if content.size else ""
        elif isinstance(content, Symlink):
            what = content.target.decode()
        name = path.decode()
        found[name] = f"{name} {entry.mode:o} {entry.uid} {what}"
        if entry.link:
            groups.setdefault(entry.link.group, []).append(name)
            assert entry.link.count >= 2
            found[name] += f" {entry.link.count}"
    for names in groups.values():
        for name in names:
            found[name] += f" {sorted(names)}"
    return set(found.values())


def layer(*members: bytes) -> io.BytesIO:
    return io.BytesIO(b"".join(members) + raw_tar.END)


def file(name: bytes, data: bytes = b"") -> bytes:
    return raw_tar.member(name, data)


def hidden(*names: bytes) -> bytes:
    return b"".join(map(file, names))


def applied(base: bytes, *members: bytes) -> tuple[MemoryStore, RootId]:
    store = MemoryStore()
    root = import_tar(io.BytesIO(base + raw_tar.END), store).root
    return store, import_layer(layer(*members), store, store, root).root


BASE = (
    raw_tar.directory(b"d", 0o700) + file(b"d/a", b"A") + file(b"d/b", b"B") + raw_tar.hard_link(b"d/c", b"d/b")
    + file(b"f", b"F") + raw_tar.symlink(b"s", b"d")
)  # fmt: skip


@pytest.mark.parametrize(
    ("members", "names"),
    [
        ((hidden(b"d/.wh.a"),), {"/d", "/d/b", "/d/c", "/f", "/s"}),
        ((hidden(b".wh.d"),), {"/f", "/s"}),
        ((hidden(b"d/.wh..wh..opq"),), {"/d", "/f", "/s"}),
        ((file(b"d/new"), hidden(b"d/.wh..wh..opq")), {"/d", "/d/new", "/f", "/s"}),
        ((file(b"d/new"), hidden(b".wh.d")), {"/d", "/d/new", "/f", "/s"}),
        ((hidden(b"d/.wh.a"), file(b"d/a", b"2")), {"/d", "/d/a", "/d/b", "/d/c", "/f", "/s"}),
        ((file(b"d/a", b"2"), hidden(b"d/.wh.a")), {"/d", "/d/a", "/d/b", "/d/c", "/f", "/s"}),
        ((file(b"d", b"2"),), {"/d", "/f", "/s"}),
        ((raw_tar.directory(b"f"), file(b"f/x")), {"/d", "/d/a", "/d/b", "/d/c", "/f", "/f/x", "/s"}),
        ((raw_tar.directory(b"s"), file(b"s/x")), {"/d", "/d/a", "/d/b", "/d/c", "/f", "/s", "/s/x"}),
        ((hidden(b".wh..wh..opq"),), set()),
        ((hidden(b".wh.nothing", b"no/.wh.thing", b"no2/.wh..wh..opq"),), {"/d", "/d/a", "/d/b", "/d/c", "/f", "/s"}),
        ((hidden(b".wh..wh.aufs", b".wh..wh.plnk/1.2", b"./.wh.f"),), {"/d", "/d/a", "/d/b", "/d/c", "/s"}),
        ((raw_tar.hard_link(b".wh.f", b".wh..wh.aufs"),), {"/d", "/d/a", "/d/b", "/d/c", "/s"}),
    ],
)
def test_what_is_there(members: tuple[bytes, ...], names: set[str]) -> None:
    store, root = applied(BASE, *members)
    assert {path.decode() for path, _ in Snapshot(store, root).walk()} == names | {"/"}


def test_a_directory_gets_new_attributes_and_keeps_its_content() -> None:
    store, root = applied(BASE, raw_tar.directory(b"d", 0o755))
    entry = Snapshot(store, root).lookup(b"/d")
    assert stat.S_IMODE(entry.mode) == 0o755
    assert Snapshot(store, root).find(b"/d/a")


def test_a_directory_that_is_only_named_keeps_its_attributes() -> None:
    store, root = applied(BASE, file(b"d/new"), hidden(b"d/.wh..wh..opq"))
    assert stat.S_IMODE(Snapshot(store, root).lookup(b"/d").mode) == 0o700


def test_nothing_said_is_the_same_root() -> None:
    store = MemoryStore()
    base = import_tar(io.BytesIO(BASE + raw_tar.END), store).root
    for nothing in (b"", raw_tar.END, hidden(b"d/.wh.z")):
        assert import_layer(io.BytesIO(nothing), store, store, base).root == base


@pytest.mark.parametrize(
    ("members", "links"),
    [
        ((raw_tar.hard_link(b"x", b"f"),), {"/f": 2, "/x": 2, "/d/b": 2, "/d/c": 2}),
        ((raw_tar.hard_link(b"x", b"f"), raw_tar.hard_link(b"y", b"x"), file(b"d/b")), {"/f": 3, "/x": 3, "/y": 3}),
        ((raw_tar.hard_link(b"x", b"d/b"),), {"/x": 3, "/d/b": 3, "/d/c": 3}),
        ((raw_tar.hard_link(b"x", b"d/b"), raw_tar.hard_link(b"y", b"d/c")), {"/x": 4, "/y": 4, "/d/b": 4, "/d/c": 4}),
        ((raw_tar.hard_link(b"x", b"d/b"), file(b"d/b", b"2")), {"/x": 2, "/d/c": 2}),
        ((raw_tar.hard_link(b"x", b"d/b"), hidden(b"d/.wh.c")), {"/x": 2, "/d/b": 2}),
        ((raw_tar.hard_link(b"x", b"f"), file(b"f", b"2")), {"/d/b": 2, "/d/c": 2}),
        ((hidden(b"d/.wh.c"),), {}),
        ((file(b"d/b", b"B"), raw_tar.hard_link(b"d/c", b"d/b")), {"/d/b": 2, "/d/c": 2}),
    ],
)  # fmt: skip
def test_hard_links_keep_their_counts(members: tuple[bytes, ...], links: dict[str, int]) -> None:
    store, root = applied(BASE, *members)
    found = {path.decode(): entry.link for path, entry in Snapshot(store, root).walk() if entry.link}
    assert {path: link.count for path, link in found.items()} == links


def test_a_group_of_hard_links_that_is_written_anew_is_no_change() -> None:
    store = MemoryStore()
    base = import_tar(io.BytesIO(BASE + raw_tar.END), store).root
    same = layer(file(b"d/b", b"B"), raw_tar.hard_link(b"d/c", b"d/b"))
    assert import_layer(same, store, store, base).root == base


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ((hidden(b".wh."),), "no name that could be deleted"),
        ((hidden(b".wh.."),), "no name that could be deleted"),
        ((hidden(b"d/.wh..."),), "no name that could be deleted"),
        ((hidden(b"d/.wh..wh.x"),), "no name that could be deleted"),
        ((hidden(b".wh.a/b"),), "below a name that says what is deleted"),
        ((hidden(b"d/.wh..wh..opq/b"),), "below a name that says what is deleted"),
        ((hidden(b"../.wh.a"),), "contains '..'"),
        ((hidden(b"d/../../.wh.a"),), "contains '..'"),
        ((file(b"../x"),), "contains '..'"),
        ((file(b"s/x"),), "a symlink to b'd', not a directory"),
        ((hidden(b"s/.wh.a"),), "a symlink to b'd', not a directory"),
        ((hidden(b"s/.wh..wh..opq"),), "a symlink to b'd', not a directory"),
        ((raw_tar.symlink(b"e", b"/etc"), file(b"e/x")), "not a directory"),
        ((raw_tar.symlink(b"e", b"/etc"), hidden(b"e/.wh.x")), "not a directory"),
        ((raw_tar.symlink(b"e", b"/etc"), hidden(b"e/.wh..wh..opq")), "not a directory"),
        ((file(b"f/x"),), "which is a file"),
        ((raw_tar.directory(b".wh.f"),), "is no file"),
        ((raw_tar.symlink(b".wh.f", b"x"),), "is no file"),
        ((raw_tar.hard_link(b"x", b"nothing"),), "neither in the layer before it nor below"),
        ((raw_tar.hard_link(b"x", b"s/a"),), "neither in the layer before it nor below"),
        ((raw_tar.hard_link(b"x", b"d"),), "which is a directory"),
        ((raw_tar.hard_link(b"x", b"../../etc/shadow"),), "contains '..'"),
        ((raw_tar.hard_link(b"x", b"d/a"), hidden(b"d/.wh.a")), "which the layer deletes"),
        ((hidden(b".wh.d"), raw_tar.hard_link(b"x", b"d/a")), "which the layer deletes"),
        ((hidden(b"d/.wh..wh..opq"), raw_tar.hard_link(b"x", b"d/a")), "which the layer deletes"),
        ((file(b"d", b""), raw_tar.hard_link(b"x", b"d/a")), "neither in the layer before it nor below"),
    ],
)
def test_what_is_refused(members: tuple[bytes, ...], words: str) -> None:
    with pytest.raises(BadInput) as error:
        applied(BASE, *members)
    assert words in str(error.value)


def test_an_absolute_name_is_one_of_the_root() -> None:
    store, root = applied(BASE, file(b"/d/x"), hidden(b"/d/.wh.a"))
    assert Snapshot(store, root).find(b"/d/x")
    assert not Snapshot(store, root).find(b"/d/a")


# -- random trees, and random changes

Model = dict[str, tuple[str, int]]
"""By path: `dir`, or a file's text; and the mode, or which file it is."""


class _Case:
    """A tree, changes to it, and the layer that holds them, by a writer of its own (Python's tarfile)."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.number = 0

    def tree(self, size: int) -> Model:
        model: Model = {"": ("dir", 0o755)}
        for _ in range(size):
            self.add(model, self.path(model))
        return model

    def path(self, model: Model) -> str:
        parents = sorted(path for path, (what, _) in model.items() if what == "dir")
        return f"{self.random.choice(parents)}/{self.random.choice('abcdef')}"

    def add(self, model: Model, path: str) -> None:
        if path in model:
            return
        self.number += 1
        others = sorted(other for other, (what, _) in model.items() if what != "dir")
        match self.random.randrange(4):
            case 0 if path.count("/") < 4:
                model[path] = "dir", self.random.choice((0o755, 0o700))
            case 1 if others:
                model[path] = model[self.random.choice(others)]
            case _:
                model[path] = f"text {self.number}", self.number

    def layer(self, lower: Model) -> tuple[Model, bytes]:
        """What a layer makes of a tree, and the layer."""
        paths = sorted(set(lower) - {""})
        gone = {path for path in paths if self.random.random() < 0.2}
        opaque = {path for path, (what, _) in lower.items() if what == "dir" and self.random.random() < 0.1}
        left = {path: what for path, what in lower.items() if not _is_gone(path, gone, opaque)}
        upper = self.tree(self.random.randrange(6))
        for path, (kind, mode) in list(left.items()):
            if kind == "dir" and self.random.random() < 0.2:
                self._with_parents(upper, left, path, (kind, mode ^ 0o050))
        for path, what in left.items():
            if what[0] != "dir" and self.random.random() < 0.1:
                self._with_parents(upper, left, path, (f"new {path}", self.number + len(path) * 1000))
        result = dict(left)
        for path in sorted(upper):
            is_merge = upper[path][0] == "dir" and result.get(path, ("",))[0] == "dir"
            if not is_merge:
                for below in [other for other in result if other == path or other.startswith(path + "/")]:
                    del result[below]
            result[path] = upper[path]
        links: dict[str, str] = {}
        for path, what in sorted(left.items()):
            if what[0] != "dir" and self.random.random() < 0.15 and result.get(path) == what and path not in upper:
                name = f"/link{len(links)}"
                links[name] = path
                result[name] = what
        return result, self._archive(upper, gone, opaque, links)

    def _with_parents(self, upper: Model, left: Model, path: str, what: tuple[str, int]) -> None:
        if self._is_below_a_file(path, upper):
            return
        above = path
        while above := above.rpartition("/")[0]:
            upper.setdefault(above, left[above])
        if path not in upper:
            upper[path] = what

    def _archive(self, upper: Model, gone: set[str], opaque: set[str], links: dict[str, str]) -> bytes:
        names = sorted(set(upper) - {""})
        signs = [f"{path.rpartition('/')[0]}/.wh.{path.rpartition('/')[2]}" for path in gone]
        signs += [f"{path}/.wh..wh..opq" for path in opaque]
        signs = [sign for sign in signs if not self._is_below_a_file(sign, upper)]
        out = io.BytesIO()
        first: dict[tuple[str, int], str] = {}
        root = tarfile.TarInfo(".")
        root.type, root.mode = tarfile.DIRTYPE, upper[""][1]
        with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
            archive.addfile(root)
            for name in [*names, *links]:
                while signs and self.random.random() < 0.5:
                    archive.addfile(tarfile.TarInfo(signs.pop()[1:]))
                what = upper.get(name)
                info = tarfile.TarInfo(name[1:])
                data = b""
                if what is None or (what[0] != "dir" and what in first):
                    info.type, info.linkname = tarfile.LNKTYPE, (links.get(name) or first[what])[1:]  # type: ignore[index]
                elif what[0] == "dir":
                    info.type, info.mode = tarfile.DIRTYPE, what[1]
                else:
                    first[what] = name
                    data = what[0].encode()
                    info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
            for sign in signs:
                archive.addfile(tarfile.TarInfo(sign[1:]))
        return out.getvalue()

    def _is_below_a_file(self, sign: str, upper: Model) -> bool:
        above = sign
        while above := above.rpartition("/")[0]:
            if above in upper and upper[above][0] != "dir":
                return True
        return False


def _is_gone(path: str, gone: set[str], opaque: set[str]) -> bool:
    above = path
    while above:
        if above in gone:
            return True
        above = above.rpartition("/")[0]
        if above in opaque:
            return True
    return False


def _lines(model: Model) -> Lines:
    found = set()
    for path, (what, number) in model.items():
        if what == "dir":
            found.add(f"{path or '/'} {number | stat.S_IFDIR:o} 0 ")
            continue
        names = sorted(other for other, value in model.items() if value == (what, number))
        links = f" {len(names)} {names}" if len(names) > 1 else ""
        found.add(f"{path} {0o644 | stat.S_IFREG:o} 0 {what}{links}")
    return found


@pytest.mark.parametrize("seed", range(300))
def test_random_layers(seed: int) -> None:
    case = _Case(seed)
    model = case.tree(14)
    store = MemoryStore()
    first, root = case._archive(model, set(), set(), {}), None
    root = import_layer(io.BytesIO(first), store, store, None).root
    assert lines_of(store, root) == _lines(model)
    for _ in range(3):
        model, archive = case.layer(model)
        root = import_layer(io.BytesIO(archive), store, store, root).root
        assert lines_of(store, root) == _lines(model)
