"""Three-way merges of roots: each thing that two sides can do to one path, and what is not opened."""

from __future__ import annotations

import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest
from msgspec.structs import replace

from tests.support.values import Spec, directory, file, link, root
from vcs.blobs import put_data
from vcs.links import linked_entries
from vcs.merging import Favour, Labels, Merge, lay_beside, merge_configs, merge_roots
from vcs.merging.text import mark_lines, merge_lines
from vcs.merging.values import Texts
from vcs.model import Chunked, Data, Device, Entry, Link
from vcs.snapshot import Snapshot
from vcs.testing import MemoryStore

DEVICE = Entry(b"", stat.S_IFCHR | 0o600, 0, 0, 0, Device(1, 3))


class Counting(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.opened = 0

    def get(self, digest: bytes) -> bytes:
        self.opened += 1
        return super().get(digest)


@dataclass
class Result:
    merge: Merge
    snapshot: Snapshot

    @property
    def told(self) -> list[str]:
        return [f"{conflict.kind} {conflict.path.decode()}" for conflict in self.merge.conflicts]

    def __getitem__(self, path: str) -> Entry:
        return self.snapshot.lookup(path.encode())

    def text(self, path: str) -> bytes:
        content = self[path].content
        assert isinstance(content, (Data, Chunked))
        return self.snapshot.read(content)

    @property
    def paths(self) -> list[str]:
        return [path.decode() for path, _ in self.snapshot.walk()][1:]


def snapshots(store: MemoryStore, base: Spec, ours: Spec, theirs: Spec) -> tuple[Snapshot, Snapshot, Snapshot]:
    return Snapshot(store, root(store, base)), Snapshot(store, root(store, ours)), Snapshot(store, root(store, theirs))


def merged(base: Spec, ours: Spec, theirs: Spec, favour: Favour = None, store: MemoryStore | None = None) -> Result:
    store = store or MemoryStore()
    merge = merge_roots(*snapshots(store, base, ours, theirs), favour)
    return Result(merge, Snapshot(store, merge.write(store)))


def one(data: bytes = b"1", **fields: Any) -> Entry:
    store = MemoryStore()
    return replace(file(put_data(store, data)), **fields)


# -- one path


def test_each_side_changed_something_else() -> None:
    base = {"a": b"1", "b": b"1", "gone": b"1", "d": {"x": b"1", "y": b"1"}, "far": {"z": {"z": b"1"}}}
    ours = {**base, "a": b"2", "ours": b"new", "d": {"x": b"2", "y": b"1"}}
    theirs = {"a": b"1", "b": b"2", "d": {"x": b"1", "y": b"1", "theirs": b"new"}, "far": {"z": {"z": b"2"}}}
    result = merged(base, ours, theirs)
    assert not result.merge.conflicts
    assert result.paths == ["/a", "/b", "/d", "/d/theirs", "/d/x", "/d/y", "/far", "/far/z", "/far/z/z", "/ours"]
    assert [result.text(path) for path in ("/a", "/b", "/d/x", "/far/z/z")] == [b"2"] * 4


def test_content_and_attributes_are_merged_separately() -> None:
    store = MemoryStore()
    plain = file(put_data(store, b"1"))
    ours = replace(plain, content=put_data(store, b"2"), mtime=5)
    theirs = replace(plain, mode=stat.S_IFREG | 0o4755, uid=3, xattrs=((b"user.a", b"1"),), mtime=7)
    result = merged({"a": plain}, {"a": ours}, {"a": theirs}, store=store)
    assert not result.merge.conflicts
    assert result["/a"] == replace(theirs, name=b"a", content=ours.content)


def test_extended_attributes_are_merged_by_name() -> None:
    plain = one(xattrs=((b"user.gone", b"1"), (b"user.same", b"1")))
    ours = replace(plain, xattrs=((b"user.gone", b"1"), (b"user.ours", b"1"), (b"user.same", b"1")))
    theirs = replace(plain, xattrs=((b"user.same", b"2"),))
    result = merged({"a": plain}, {"a": ours}, {"a": theirs})
    assert not result.merge.conflicts
    assert result["/a"].xattrs == ((b"user.ours", b"1"), (b"user.same", b"2"))


def test_texts_are_merged_by_their_lines() -> None:
    base = b"one\ntwo\nthree\nfour\n"
    result = merged({"a": base}, {"a": base.replace(b"one", b"1")}, {"a": base + b"five"})
    assert not result.merge.conflicts
    assert result.text("/a") == b"1\ntwo\nthree\nfour\nfive"


@pytest.mark.parametrize(
    ("base", "ours", "theirs", "expected"),
    [
        ({"a": b"1\n"}, {"a": b"2\n"}, {"a": b"3\n"}, ["content /a"]),
        ({"a": b"\0"}, {"a": b"\0002"}, {"a": b"\0003"}, ["content /a"]),
        ({"a": link("1")}, {"a": link("2")}, {"a": link("3")}, ["content /a"]),
        ({"a": DEVICE}, {"a": replace(DEVICE, content=Device(1, 4))}, {"a": replace(DEVICE, content=Device(1, 5))},
         ["content /a"]),
        ({}, {"a": b"2\n"}, {"a": b"3\n"}, ["added /a"]),
        ({}, {"a": {"x": b"1"}}, {"a": b"3"}, ["added /a"]),
        ({"a": b"1"}, {}, {"a": b"2"}, ["deleted /a"]),
        ({"a": b"1"}, {"a": b"2"}, {}, ["deleted /a"]),
        ({"a": {"x": b"1"}}, {}, {"a": {"x": b"2"}}, ["deleted /a"]),
        ({"a": {"x": b"1"}}, {"a": {"x": b"1", "y": b"1"}}, {}, ["deleted /a"]),
        ({"a": b"1"}, {"a": link("1")}, {"a": b"2"}, ["type /a"]),
        ({"a": {"x": b"1"}}, {"a": b"1"}, {"a": {"x": b"2"}}, ["type /a"]),
        ({"a": {}}, {"a": link("1")}, {"a": link("2")}, ["added /a"]),
        ({"a": one(uid=0)}, {"a": one(uid=1)}, {"a": one(uid=2)}, ["attributes /a"]),
        ({"a": one()}, {"a": one(xattrs=((b"user.a", b"1"),))}, {"a": one(xattrs=((b"user.a", b"2"),))},
         ["attributes /a"]),
        ({}, {"a": one()}, {"a": one(mode=stat.S_IFREG | 0o600)}, ["added /a"]),
    ],
)  # fmt: skip
def test_what_cannot_both_be_had_is_a_conflict(base: Spec, ours: Spec, theirs: Spec, expected: list[str]) -> None:
    store = MemoryStore()
    put_data(store, b"1")
    sides = [Snapshot(store, root(store, spec)) for spec in (base, ours, theirs)]
    result = merged(base, ours, theirs, store=store)
    assert result.told == expected
    assert result.snapshot.id == sides[1].id, "ours stands where nobody is favoured"
    assert merged(base, ours, theirs, "theirs", store).snapshot.id == sides[2].id
    assert merged(base, theirs, ours, "ours", store).snapshot.id == sides[2].id


@pytest.mark.parametrize(
    ("base", "ours", "theirs", "expected"),
    [
        ({}, {"a": b"1"}, {"a": b"1"}, ["/a"]),
        ({}, {"a": {"x": b"1"}}, {"a": {"y": b"1"}}, ["/a", "/a/x", "/a/y"]),
        ({"a": b"1"}, {}, {}, []),
        ({"a": {"x": b"1", "y": b"1"}}, {"a": {"x": b"1"}}, {"a": {"y": b"1"}}, ["/a"]),
        ({"a": b"1"}, {"a": {"x": b"1"}}, {"a": {"x": b"1"}}, ["/a", "/a/x"]),
    ],
)  # fmt: skip
def test_the_same_done_twice_is_no_conflict(base: Spec, ours: Spec, theirs: Spec, expected: list[str]) -> None:
    result = merged(base, ours, theirs)
    assert not result.merge.conflicts
    assert result.paths == expected


def test_a_conflict_says_what_each_side_did() -> None:
    store = MemoryStore()
    theirs = file(put_data(store, b"1\n4\n"), uid=7)
    result = merged({"a": b"1\n2\n"}, {"a": b"1\n3\n"}, {"a": theirs}, store=store)
    (conflict,) = result.merge.conflicts
    assert (conflict.ours, conflict.theirs, conflict.detail) == ("changed content", "changed content, owner", "line 2")


def test_of_two_times_the_newer_is_taken() -> None:
    store = MemoryStore()
    base, ours, theirs = ({"d": directory(store, {"x": b"1"}, mtime=time)} for time in (1, 5, 9))
    put_data(store, b"1")
    result = merged(base, ours, theirs, store=store)
    assert result["/d"].mtime == 9
    assert merged(base, theirs, ours, store=store)["/d"].mtime == 9
    assert not result.merge.conflicts


def test_a_favoured_side_decides_hunks_not_files() -> None:
    base = b"1\n2\n3\n4\n5\n"
    ours, theirs = b"ours\n2\n3\n4\nours\n", b"1\n2\ntheirs\n4\ntheirs\n"
    assert merged({"a": base}, {"a": ours}, {"a": theirs}, "theirs").text("/a") == b"ours\n2\ntheirs\n4\ntheirs\n"
    assert merged({"a": base}, {"a": ours}, {"a": theirs}, "ours").text("/a") == b"ours\n2\ntheirs\n4\nours\n"


def test_a_directory_that_both_moved_into_needs_no_common_ancestor() -> None:
    ours = {"srv": {"app": {"a": b"1"}}}
    result = merged({}, ours, {"srv": {"app": {"b": b"2"}}})
    assert not result.merge.conflicts
    assert result.paths == ["/srv", "/srv/app", "/srv/app/a", "/srv/app/b"]


def test_merged_content_of_many_chunks_can_be_read() -> None:
    base = b"".join(b"line %d of a text that is long\n" % number for number in range(30_000))
    ours, theirs = base.replace(b"line 5 ", b"LINE 5 "), base.replace(b"line 29999 ", b"LINE 29999 ")
    assert 512 << 10 < len(base) < 1 << 20
    store = MemoryStore()

    def large(data: bytes) -> Entry:
        from vcs.blobs import BlobWriter

        writer = BlobWriter(store)
        writer.feed(data)
        return file(writer.finish())

    result = merged({"a": large(base)}, {"a": large(ours)}, {"a": large(theirs)}, store=store)
    assert not result.merge.conflicts
    assert result.text("/a") == ours.replace(b"line 29999 ", b"LINE 29999 ")


def test_what_is_equal_is_not_opened() -> None:
    store = Counting()
    deep = {f"d{number}": {f"f{inner}": b"%d" % inner for inner in range(20)} for number in range(200)}
    base = {"same": deep, "ours": deep, "theirs": deep, "both": {"a": b"1", "b": b"1"}}
    ours = {**base, "ours": {"x": b"1"}, "both": {"a": b"2", "b": b"1"}}
    theirs = {**base, "theirs": {"x": b"1"}, "both": {"a": b"1", "b": b"2"}}
    sides = snapshots(store, base, ours, theirs)
    store.opened = 0
    merge = merge_roots(*sides)
    assert sorted(merge.edits) == [b"/both/b", b"/theirs"]
    assert store.opened <= 8, "the root and one directory, of each side"


def test_a_root_may_be_deeper_than_the_stack() -> None:
    store = MemoryStore()

    def deep(leaf: Spec) -> Spec:
        entry = directory(store, leaf)
        for _ in range(3000):
            entry = directory(store, {"d": entry})
        return {"d": entry}

    result = merged(deep({}), deep({"ours": b"1"}), deep({"theirs": b"1"}), store=store)
    bottom = b"/d" * 3001
    assert result.snapshot.find(bottom + b"/ours")
    assert result.snapshot.find(bottom + b"/theirs")


# -- hard links

GROUP, OTHER = b"g" * 16, b"h" * 16


def names(data: bytes, group: bytes, *paths: str, **fields: Any) -> dict[str, Entry]:
    return {path: one(data, link=Link(group, len(paths)), **fields) for path in paths}


def links(result: Result) -> dict[bytes, tuple[int, int]]:
    """Of each group, how many names there are, and what they say of that."""
    found: dict[bytes, list[int]] = {}
    for entry in linked_entries(result.snapshot.objects, result.snapshot.root):
        assert entry.link is not None
        found.setdefault(entry.link.group, []).append(entry.link.count)
    assert all(len(set(counts)) == 1 for counts in found.values())
    return {group: (len(counts), counts[0]) for group, counts in found.items()}


def linked_merge(base: Spec, ours: Spec, theirs: Spec, favour: Favour = None) -> Result:
    store = MemoryStore()
    for data in (b"1", b"2", b"3"):
        put_data(store, data)
    return merged(base, ours, theirs, favour, store)


def test_names_added_and_removed_on_both_sides_are_counted() -> None:
    result = linked_merge(
        names(b"1", GROUP, "a", "b", "c"), names(b"1", GROUP, "a", "b"), names(b"1", GROUP, "a", "b", "c", "d")
    )
    assert not result.merge.conflicts
    assert result.paths == ["/a", "/b", "/d"]
    assert links(result) == {GROUP: (3, 3)}


def test_a_name_that_one_side_adds_holds_what_the_other_made_of_the_file() -> None:
    result = linked_merge(names(b"1", GROUP, "a", "b"), names(b"2", GROUP, "a", "b"), names(b"1", GROUP, "a", "b", "c"))
    assert not result.merge.conflicts
    assert [result.text(path) for path in result.paths] == [b"2"] * 3
    assert links(result) == {GROUP: (3, 3)}


def test_a_file_left_with_one_name_is_still_the_one_that_gets_another() -> None:
    base = names(b"1", GROUP, "a", "b")
    result = linked_merge(base, {"a": one(b"1")}, names(b"1", GROUP, "a", "b", "c"))
    assert result.paths == ["/a", "/c"]
    assert links(result) == {GROUP: (2, 2)}
    assert not result.merge.conflicts


def test_the_same_links_made_on_both_sides_are_one_group() -> None:
    """Both installed the same package: the groups' ids differ, the files do not."""
    result = linked_merge({}, names(b"1", GROUP, "a", "b"), names(b"1", OTHER, "a", "b", "c"))
    assert not result.merge.conflicts
    assert links(result) == {GROUP: (3, 3)}


def test_one_side_links_what_the_other_changes_apart() -> None:
    base = {"a": one(b"1"), "b": one(b"2")}
    result = linked_merge(base, {"a": one(b"3"), "b": one(b"2")}, names(b"1", GROUP, "a", "b"))
    assert result.told == ["links /a", "links /b"]
    assert links(result) == {}
    assert [result.text("/a"), result.text("/b")] == [b"3", b"2"], "ours stands"
    favoured = linked_merge(base, {"a": one(b"3"), "b": one(b"2")}, names(b"1", GROUP, "a", "b"), "theirs")
    assert links(favoured) == {GROUP: (2, 2)}


def test_a_file_made_several_of_cannot_get_another_name() -> None:
    base = names(b"1", GROUP, "a", "b")
    result = linked_merge(base, {"a": one(b"1"), "b": one(b"1")}, names(b"1", GROUP, "a", "b", "c"))
    assert result.told == ["links /c"]


def test_one_name_for_two_files_of_the_base() -> None:
    """And crosswise: what is whose is not gone after in circles."""
    third = b"i" * 16
    base = {**names(b"1", GROUP, "a", "b"), **names(b"1", OTHER, "c", "d"), **names(b"1", third, "x", "y")}
    ours, theirs = (
        {**names(b"1", GROUP, "a", "b", first), **names(b"1", OTHER, "c", "d", second)}
        for first, second in (("x", "y"), ("y", "x"))
    )
    result = linked_merge(base, ours, theirs)
    assert result.told == ["links /x", "links /y"]
    assert links(result) == {GROUP: (3, 3), OTHER: (3, 3)}
    assert linked_merge(base, ours, theirs, "theirs").snapshot.id == linked_merge(base, theirs, ours).snapshot.id


def test_names_of_two_files_that_the_other_side_has_as_one() -> None:
    ours = {**names(b"1", GROUP, "a", "b"), **names(b"1", OTHER, "c", "d")}
    result = linked_merge({}, ours, names(b"1", b"i" * 16, "a", "b", "c", "d"))
    assert not result.merge.conflicts
    assert list(links(result).values()) == [(4, 4)]


def test_a_link_into_what_the_other_side_replaced() -> None:
    """The file has no link on our side, and gets one on theirs."""
    result = linked_merge({"a": one(b"1")}, {"a": one(b"2")}, names(b"1", GROUP, "a", "b"))
    assert not result.merge.conflicts
    assert links(result) == {GROUP: (2, 2)}
    assert result.text("/b") == b"2"


# -- lines, and the image config


@pytest.mark.parametrize(
    ("base", "ours", "theirs", "expected", "clashes"),
    [
        (b"a\nb\nc\n", b"a\nB\nc\n", b"a\nb\nc\nd\n", b"a\nB\nc\nd\n", 0),
        (b"a\nb\n", b"a\n", b"a\nb\n", b"a\n", 0),
        (b"a\nb\nc\n", b"c\n", b"a\nb\nc\nd\n", b"c\nd\n", 0),
        (b"a\n", b"b\n", b"b\n", b"b\n", 0),
        (b"a\nb\n", b"A\nb\n", b"a\nB\n", b"A\nb\n", 1),
        (b"", b"x\n", b"y\n", b"x\n", 1),
        (b"a", b"a\nb", b"0\na", b"0\na\nb", 1),
        (b"a\xff\nb\nc\n", b"\xfe\nb\nc\n", b"a\xff\nb\n\xfd\n", b"\xfe\nb\n\xfd\n", 0),
    ],
)  # fmt: skip
def test_lines(base: bytes, ours: bytes, theirs: bytes, expected: bytes, clashes: int) -> None:
    result = merge_lines(Texts(base, ours, theirs, None))
    assert len(result.clashes) == clashes
    if not clashes:
        assert result.data == expected
    else:
        assert result.data == ours


def test_git_merges_the_same_lines(tmp_path: Path) -> None:
    """Where `git merge-file` finds no conflict nor do we, with the same result; and the other way round."""
    random = Random(6)
    clean = 0
    for case in range(60):
        base = [f"line {number}\n" for number in range(random.randint(1, 30))]
        sides = []
        for side in ("ours", "theirs"):
            lines = [*base]
            for change in range(random.randint(1, 4)):
                place = random.randrange(len(lines) + 1)
                new = [] if random.random() < 0.3 else [f"{side} {change}\n"]
                lines[place : place + random.randint(0, 2)] = new
            sides.append(lines)
        texts = [("".join(lines)).encode() for lines in (base, *sides)]
        for name, text in zip(("base", "ours", "theirs"), texts, strict=True):
            (tmp_path / name).write_bytes(text)
        git = subprocess.run(
            ["git", "merge-file", "--stdout", "ours", "base", "theirs"], cwd=tmp_path, capture_output=True, timeout=60
        )
        found = merge_lines(Texts(texts[0], texts[1], texts[2], None))
        assert bool(found.clashes) == bool(git.returncode), f"case {case}"
        if not found.clashes:
            clean += 1
            assert found.data == git.stdout, f"case {case}"
    assert 10 < clean < 50, "both outcomes are looked at"


def test_the_image_config_is_merged_by_key() -> None:
    base = {"config": {"Cmd": ["sh"], "Env": ["PATH=/bin", "A=1"], "Labels": {"x": "1"}}, "architecture": "amd64"}
    ours = {"config": {"Cmd": ["sh"], "Env": ["PATH=/bin", "A=2"], "Labels": {"x": "1", "y": "1"}, "User": "web"},
            "architecture": "amd64"}  # fmt: skip
    theirs = {"config": {"Cmd": ["nginx"], "Env": ["PATH=/usr/bin", "A=1", "B=1"]}, "architecture": "amd64"}
    merged, conflicts = merge_configs(base, ours, theirs, None)
    assert [(conflict.kind, conflict.path, conflict.theirs) for conflict in conflicts] == [
        ("config", b"config.Labels", "removed it")
    ]
    assert merged == {
        "architecture": "amd64",
        "config": {
            "Cmd": ["nginx"],
            "Env": ["PATH=/usr/bin", "A=2", "B=1"],
            "Labels": {"x": "1", "y": "1"},
            "User": "web",
        },
    }
    assert "Labels" not in merge_configs(base, ours, theirs, "theirs")[0]["config"]


def test_two_command_lines_are_a_conflict() -> None:
    base, ours, theirs = ({"config": {"Cmd": [name]}} for name in ("sh", "redis", "nginx"))
    _, (conflict,) = merge_configs(base, ours, theirs, None)
    assert (conflict.path, conflict.ours, conflict.theirs) == (
        b"config.Cmd", 'made it ["redis"]', 'made it ["nginx"]',
    )  # fmt: skip


# -- both sides beside each other

LABELS = Labels("ours", "base", "theirs")


def beside(base: Spec, ours: Spec, theirs: Spec) -> Result:
    store = MemoryStore()
    merge = merge_roots(*snapshots(store, base, ours, theirs))
    lay_beside(merge, LABELS)
    return Result(merge, Snapshot(store, merge.write(store)))


def test_a_name_that_is_taken_is_not_used() -> None:
    base = {"a": b"\0", "a.ours": b"1", "a.theirs-2": b"mine"}
    result = beside(base, {**base, "a": b"\0ours"}, {**base, "a": b"\0theirs"})
    assert result.paths == [*["/a", "/a.base-3", "/a.ours"], *["/a.ours-3", "/a.theirs-2", "/a.theirs-3"]]
    assert (result.text("a.ours"), result.text("a.ours-3"), result.text("a.theirs-2")) == (b"1", b"\0ours", b"mine")


def test_a_name_that_is_itself_in_conflict_is_not_used() -> None:
    base = {"a": b"\0", "a.ours": b"1"}
    result = beside(base, {"a": b"\0ours"}, {"a": b"\0theirs", "a.ours": b"2"})
    assert result.told == ["content /a", "deleted /a.ours"]
    assert result.paths == [
        *["/a", "/a.base-2", "/a.ours-2"],
        *["/a.ours.base", "/a.ours.theirs", "/a.theirs-2"],
    ]


def test_the_longest_names_have_room() -> None:
    long = "x" * 255
    result = beside({long: b"\0"}, {long: b"\0ours"}, {long: b"\0theirs"})
    assert [len(path) - 1 for path in result.paths] == [255] * 4
    assert result.text("x" * 248 + ".theirs") == b"\0theirs"


def test_the_attributes_of_the_top_directory() -> None:
    store = MemoryStore()
    base, ours, theirs = (root(store, {"a": b"1"}, mode=stat.S_IFDIR | mode) for mode in (0o755, 0o750, 0o700))
    merge = merge_roots(Snapshot(store, base), Snapshot(store, ours), Snapshot(store, theirs))
    lay_beside(merge, LABELS)
    result = Result(merge, Snapshot(store, merge.write(store)))
    assert result.paths == ["/.base", "/.ours", "/.theirs", "/a"]
    assert [stat.S_IMODE(result[name].mode) for name in ("/", ".ours", ".theirs", ".base")] == [
        *[0o750, 0o750, 0o700, 0o755]
    ]


def test_records_get_no_markers() -> None:
    line = b"a:x:%d:100::/:\n"
    base = {"etc": {"passwd": line % 100}}
    result = beside(base, {"etc": {"passwd": line % 101}}, {"etc": {"passwd": line % 102}})
    assert result.text("etc/passwd") == line % 101
    assert result.text("etc/passwd.theirs") == line % 102


def test_markers_are_on_lines_of_their_own() -> None:
    marked = mark_lines(Texts(b"x\nold", b"x\nA", b"x\nB", None), LABELS)
    assert marked.data == b"x\n<<<<<<< ours\nA\n||||||| base\nold\n=======\nB\n>>>>>>> theirs\n"


def test_markers_are_as_git_has_them(tmp_path: Path) -> None:
    """Where git finds the same lines to clash: it looks for equal lines in another way than difflib."""
    random = Random(1)
    same = 0
    for number in range(100):
        base = [b"%d\n" % line for line in range(30)]
        ours, theirs = list(base), list(base)
        for side, name in ((ours, b"ours"), (theirs, b"theirs")):
            for place in sorted(random.sample(range(30), 3), reverse=True):
                side[place : place + random.randrange(2)] = [
                    random.choice([b"same\n", b"%s %d\n" % (name, number)]) for _ in range(random.randrange(3))
                ]
        for label, lines in (("ours", ours), ("base", base), ("theirs", theirs)):
            (tmp_path / label).write_bytes(b"".join(lines))
        command = ["git", "merge-file", "-p", "--zdiff3", "-L", "ours", "-L", "base", "-L", "theirs"]
        done = subprocess.run(
            [*command, "ours", "base", "theirs"], cwd=tmp_path, capture_output=True, check=False, timeout=60
        )
        assert done.returncode >= 0, done.stderr
        texts = Texts(b"".join(base), b"".join(ours), b"".join(theirs), None)
        same += done.stdout == mark_lines(texts, LABELS).data
    assert same > 80
