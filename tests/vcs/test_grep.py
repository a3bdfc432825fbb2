"""Lines that match: compared with a search of each line by itself; binary files, large files, what is searched once."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.values import Spec, file, link, root
from vcs.blobs import BlobWriter, put_data
from vcs.errors import BadInput, NotFound
from vcs.grep import Hit, Pattern, Search
from vcs.snapshot import Snapshot
from vcs.testing import MemoryStore

PATTERNS = (
    b"a", b"^b", b"a$", b"x*", b"[^b]*c", b"^$", rb"a\s+b", rb"\Ab", rb"b\Z", b"a++", b"(?!a)b", rb"\bab\b", rb"a\n",
    b"[^b]*+$", b"a|b$", b"(?<!x)a", b"ab", b"(?s)a.b", rb"\W", b"",
)  # fmt: skip


def found(spec: Spec, pattern: Pattern, path: bytes = b"/") -> list[tuple[str, int | None, bytes]]:
    store = MemoryStore()
    hits = Search(pattern).below(Snapshot(store, root(store, spec)), path)
    return [(here.decode(), hit.number, hit.text) for here, hit in hits]


def in_text(text: bytes, pattern: Pattern) -> list[Hit]:
    return [Hit(number, line) for _, number, line in found({"f": text}, pattern)]


@settings(max_examples=1000)
@given(
    st.lists(st.sampled_from([b"a", b"b", b"c", b"x", b" ", b"\n"]), max_size=30).map(b"".join),
    st.sampled_from(PATTERNS), st.booleans(), st.booleans(),
)  # fmt: skip
def test_a_search_finds_the_lines_that_match_by_themselves(
    text: bytes, source: bytes, fixed: bool, words: bool
) -> None:
    words = words and not source.startswith(b"(?s)")
    pattern = Pattern.of(source, fixed=fixed, words=words)
    lines = text.split(b"\n")[: None if text[-1:] not in (b"", b"\n") else -1]
    assert in_text(text, pattern) == [Hit(n, line) for n, line in enumerate(lines, 1) if pattern.regex.search(line)]


def test_options() -> None:
    text = b"a.c\nabc\nABC\nxabcx\n"
    assert [hit.number for hit in in_text(text, Pattern.of(b"a.c"))] == [1, 2, 4]
    assert [hit.number for hit in in_text(text, Pattern.of(b"a.c", fixed=True))] == [1]
    assert [hit.number for hit in in_text(text, Pattern.of(b"abc", ignore_case=True))] == [2, 3, 4]
    assert [hit.number for hit in in_text(text, Pattern.of(b"abc|a", words=True))] == [1, 2]
    assert [hit.number for hit in in_text("ä\nÄ\n".encode(), Pattern.of("ä".encode(), ignore_case=True))] == [1]
    with pytest.raises(BadInput, match="no regular expression"):
        Pattern.of(b"a(")


def test_what_is_searched() -> None:
    """Regular files in the order of a walk, at and below a path; links are not followed."""
    spec = {"b": {"x": b"here\n", "y": b"not\nhere"}, "a": b"here\n", "l": link("a"), "e": b""}
    here = Pattern.of(b"^here")
    assert found(spec, here) == [("/a", 1, b"here"), ("/b/x", 1, b"here"), ("/b/y", 2, b"here")]
    assert found(spec, here, b"/b/y") == [("/b/y", 2, b"here")]
    assert found(spec, here, b"/l") == []
    with pytest.raises(NotFound):
        found(spec, here, b"/none")


def test_binary_files_are_noted() -> None:
    spec = {"bin": b"here\0\nhere\n", "late": b"x" * 8000 + b"\0here\n", "other": b"\0there"}
    assert found(spec, Pattern.of(b"^here")) == [("/bin", None, b"")]
    assert [(path, number) for path, number, _ in found(spec, Pattern.of(b"here$"))] == [
        ("/bin", None), ("/late", 1), ("/other", None)
    ]  # fmt: skip


def test_lines_of_a_large_file_are_counted_across_its_pieces() -> None:
    store = MemoryStore()
    lines = [b"%07d" % number for number in range(1, 500_000)]
    writer = BlobWriter(store)
    writer.feed(b"\n".join(lines))
    snapshot = Snapshot(store, root(store, {"f": file(writer.finish())}))
    hits = [hit for _, hit in Search(Pattern.of(b"^\\d*99999$")).below(snapshot)]
    assert hits == [Hit(number, b"%07d" % number) for number in range(99_999, 500_000, 100_000)]


def test_a_hole_has_no_lines_and_costs_nothing() -> None:
    store = MemoryStore()
    writer = BlobWriter(store)
    writer.feed(b"text\n" * 2000)
    writer.hole(1 << 50)
    writer.feed(b"\nhere\n")
    snapshot = Snapshot(store, root(store, {"f": file(writer.finish())}))
    assert [hit for _, hit in Search(Pattern.of(b"^here")).below(snapshot)] == [Hit(2002, b"here")]


def test_a_line_that_does_not_end_is_cut() -> None:
    """Memory stays bounded. What is found in what is left counts as a line."""
    store = MemoryStore()
    writer = BlobWriter(store)
    for _ in range(18):
        writer.feed(b"x" * (1 << 20))
    writer.feed(b"here")
    snapshot = Snapshot(store, root(store, {"f": file(writer.finish())}))
    ((_, hit),) = Search(Pattern.of(b"here$")).below(snapshot)
    assert hit.number == 1
    assert len(hit.text) < 17 << 20


class Counting(MemoryStore):
    asked: list[bytes]

    def get(self, digest: bytes) -> bytes:
        self.asked.append(digest)
        return super().get(digest)


def snapshots(store: MemoryStore) -> Iterator[Snapshot]:
    for spec in ({"a": b"one\n", "b": b"one\n"}, {"a": b"one\n", "c": {"d": b"one\n"}}):
        yield Snapshot(store, root(store, spec))


def test_a_content_is_searched_once() -> None:
    store = Counting()
    store.asked = []
    search = Search(Pattern.of(b"one"))
    text = put_data(store, b"one\n").chunk
    paths = [path for snapshot in snapshots(store) for path, _ in search.below(snapshot)]
    assert paths == [b"/a", b"/b", b"/a", b"/c/d"]
    assert store.asked.count(text) == 1


def test_a_content_with_very_many_hits_is_not_kept_but_found_again() -> None:
    text = b"one line\n" * 5000
    assert len(found({"a": text, "b": text}, Pattern.of(b"one"))) == 10_000


def test_the_first_hit_of_each_file_may_do() -> None:
    store = MemoryStore()
    snapshot = Snapshot(store, root(store, {"a": b"x\nx\n", "b": b"x\nx\n", "c": b"y"}))
    search = Search(Pattern.of(b"x"), first_only=True)
    assert [(path, hit.number) for path, hit in search.below(snapshot)] == [(b"/a", 1), (b"/b", 1)]


def test_a_pattern_that_a_line_alone_matches_is_known() -> None:
    assert all(Pattern.of(source).by_line for source in (rb"\Aa", rb"a\Z", b"(?=a)", b"a++"))
    assert not any(Pattern.of(source).by_line for source in (b"a", b"^a.*b$", rb"\ba+\b"))
    assert not Pattern.of(b"(?=a)", fixed=True).by_line
    assert re.MULTILINE & Pattern.of(b"a").regex.flags
