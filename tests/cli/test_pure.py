"""The parts that need no store: names, sizes, lines, places."""

from __future__ import annotations

import difflib
import doctest
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.cli import invocation, linediff, output, progress, quoting
from runtime.cli.invocation import split_place
from runtime.cli.linediff import Lines, count_lines, patch
from runtime.cli.output import size_text
from runtime.cli.progress import duration_text, progress_line
from runtime.cli.quoting import path_fields, quoted, safe
from runtime.cli.render_commits import date_text
from vcs.gitwords import trailer_values, trailers


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (b"/etc/hosts", "/etc/hosts"),
        ("/home/zoë".encode(), "/home/zoë"),
        (b"a b", "a b"),
        (b"a\nb\t", '"a\\nb\\t"'),
        (b'say "x"', '"say \\"x\\""'),
        (b"back\\slash", '"back\\\\slash"'),
        (b"\xff\x1b[31m", '"\\377\\033[31m"'),
        ("right\u202eleft".encode(), '"right\\342\\200\\256left"'),
    ],
)
def test_odd_names_are_quoted_as_git_does(path: bytes, text: str) -> None:
    assert quoted(path) == text


@given(st.binary(max_size=40))
def test_a_quoted_name_is_one_printable_line_and_says_the_name(path: bytes) -> None:
    text = quoted(path)
    assert text.isprintable()
    if text.startswith('"'):
        raw = text[1:-1].encode().decode("unicode_escape").encode("latin-1") if text.isascii() else None
        assert raw in (None, path)
    else:
        assert text.encode() == path


@given(st.binary(max_size=40))
def test_a_path_in_json_is_exact(path: bytes) -> None:
    fields = path_fields(path)
    exact = bytes.fromhex(fields["path_bytes"]) if "path_bytes" in fields else fields["path"].encode()
    assert exact == path


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(json_values, max_size=4))
def test_an_array_made_one_by_one_is_the_same(values: list[object]) -> None:
    assert output._as_array(values) == output.as_json(values, indent=2)


def test_messages_cannot_command_the_terminal() -> None:
    assert safe("line\n\ttab \x1b]0;title\x07") == "line\n\ttab \\033]0;title\\a"


def test_places() -> None:
    assert split_place("main") == ("main", None)
    assert split_place("main:/etc/x:y") == ("main", b"/etc/x:y")
    assert split_place("main@{12:30}:etc") == ("main@{12:30}", b"etc")
    assert split_place(":/etc") == ("", b"/etc")


_LINES = st.lists(st.sampled_from([b"a\n", b"b\n", b"c\n", b"d\n", b"last"]), max_size=12).map(b"".join)


@given(_LINES, _LINES)
def test_counted_lines_are_the_fewest(old: bytes, new: bytes) -> None:
    lines = count_lines(old, new)
    before, after = old.splitlines(keepends=True), new.splitlines(keepends=True)
    # By dynamic programming, the plain definition of the longest common subsequence.
    row = [0] * (len(after) + 1)
    for line in before:
        row = _next_row(row, line, after)
    assert lines == Lines(len(after) - row[-1], len(before) - row[-1])


def _next_row(row: list[int], line: bytes, after: list[bytes]) -> list[int]:
    made = [0]
    for column, other in enumerate(after):
        made.append(row[column] + 1 if line == other else max(row[column + 1], made[-1]))
    return made


def test_wildly_different_texts_are_counted_quickly() -> None:
    old = b"".join(b"%d\n" % (n * 7919 % 10007) for n in range(10000))
    new = b"".join(b"%d\n" % (n * 104729 % 10007) for n in range(10000))
    lines = count_lines(old, new)
    assert lines.inserted == lines.deleted


def test_a_patch_is_what_diff_writes() -> None:
    found = list(patch(b"a\nb", b"a\nc\n", "a/x", "b/x"))
    assert found == ["--- a/x", "+++ b/x", "@@ -1,2 +1,2 @@", " a", "-b", "\\ No newline at end of file", "+c"]
    assert list(difflib.unified_diff(["a\n"], ["a\n"])) == list(patch(b"a\n", b"a\n", "a", "b"))


@pytest.mark.parametrize("module", [invocation, linediff, output, progress, quoting])
def test_examples_in_docstrings(module: ModuleType) -> None:
    assert doctest.testmod(module).failed == 0


def test_progress_fits_the_terminal() -> None:
    for width in (40, 80, 200):
        line = progress_line("Exporting", 506_000_000, 10_710, 525_000_000, 2.1, width)
        assert "[" not in line or len(line) <= width
        assert line.endswith("0 s left")


def test_numbers_for_people() -> None:
    assert [size_text(n) for n in (0, 999, 1000, 9949, 9951, 999_600, 10**12)] == [
        "0 B", "999 B", "1.0 kB", "9.9 kB", "10 kB", "1.0 MB", "1.0 TB",
    ]  # fmt: skip
    assert duration_text(59.4) == "59 s"
    assert duration_text(90061) == "25 h 1 min"
    assert progress_line("Reading", 10, None, None, 0) == "Reading  10 B  0 B/s"


def test_dates_are_as_gits() -> None:
    assert date_text(0, 90) == "Thu Jan 1 01:30:00 1970 +0130"


def test_trailers() -> None:
    assert trailers("title\n\nbody\n\nContainer: web\nChanges: A1\n") == [("Container", "web"), ("Changes", "A1")]
    assert trailers("Title: not one") == []
    assert trailers("title\n\nKey: value\nplain line") == []
    assert trailer_values("title\n\nCommand: a\nUser: x\nCommand: b\n") == {
        "Command": "a; b",
        "User": "x",
    }
