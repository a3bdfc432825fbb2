"""Data to stdout: a table for people, JSON or JSON lines for programs. Messages for people to stderr.

Everything is written as bytes: names need not be text in the locale's encoding.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, BinaryIO, Literal, TypeVar

Format = Literal["table", "json", "jsonl"]
FORMATS: tuple[Format, ...] = ("table", "json", "jsonl")

Row = TypeVar("Row")

_COLOURS = {"red": 31, "green": 32, "yellow": 33, "blue": 34, "magenta": 35, "cyan": 36, "bold": 1, "dim": 2}


class Output:
    """Where the data of one invocation goes, and how it looks. With a pager, `stream` is the pager's input."""

    def __init__(self, format_: Format = "table") -> None:
        self.format: Format = format_
        self.stream: BinaryIO = sys.stdout.buffer
        self.colours = use_colours(sys.stdout)

    @property
    def is_table(self) -> bool:
        """Whether people read it."""
        return self.format == "table"

    def line(self, text: str = "") -> None:
        """Write one line."""
        self.stream.write(text.encode("utf-8", "surrogateescape") + b"\n")

    def raw(self, data: bytes | bytearray) -> None:
        """Write bytes as they are."""
        self.stream.write(data)

    def paint(self, text: str, colour: str) -> str:
        """The text in a colour, where colours are wanted."""
        return f"\x1b[{_COLOURS[colour]}m{text}\x1b[m" if self.colours else text

    def value(self, value: Mapping[str, Any]) -> None:
        """One object, for --format json and jsonl."""
        self.raw(as_json(value, indent=2 if self.format == "json" else None))

    def rows(
        self, rows: Iterable[Row], fields: Callable[[Row], Mapping[str, Any]], table: Callable[[Iterable[Row]], None]
    ) -> None:
        """Many objects: through `table`, or each as its `fields` in an array or on a line of its own."""
        if self.format == "table":
            table(rows)
        elif self.format == "jsonl":
            for row in rows:
                self.raw(as_json(fields(row)))
        else:
            self.raw(_as_array(map(fields, rows)))

    def columns(self, titles: Sequence[str], lines: Iterable[Sequence[str]], numbers: Collection[str] = ()) -> None:
        """A table with a line of titles; `numbers` are those of columns that end flush. The last one is not padded."""
        for line in self.columns_text(titles, lines, numbers):
            self.line(line)

    def columns_text(
        self, titles: Sequence[str], lines: Iterable[Sequence[str]], numbers: Collection[str] = ()
    ) -> list[str]:
        """The lines of such a table."""
        every = [titles, *lines]
        widths = [max(len(line[column]) for line in every) for column in range(len(titles) - 1)]
        pads = [str.rjust if title in numbers else str.ljust for title in titles]
        return [
            "   ".join(
                [*(pad(cell, width) for cell, width, pad in zip(line, widths, pads, strict=False)), line[-1]]
            ).rstrip()
            for line in every
        ]

    def flush(self) -> None:
        """Hand over what is buffered."""
        self.stream.flush()


def message(text: str) -> None:
    """Say something to the user, on stderr."""
    data = (text + "\n").encode("utf-8", "surrogateescape")
    sys.stderr.flush()
    sys.stderr.buffer.write(data)
    sys.stderr.buffer.flush()


def use_colours(stream: Any) -> bool:
    """Whether to colour a stream: on a terminal that can, unless NO_COLOR (no-color.org) says otherwise."""
    return bool(stream.isatty()) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def as_json(value: Any, indent: int | None = None) -> bytes:
    """A value as --format json and jsonl print it, with the end of the line."""
    import json

    return json.dumps(value, indent=indent, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


def _as_array(values: Iterable[Any]) -> bytearray:
    """What as_json(list(values), indent=2) returns. A million of them as Python's objects would take 2 GB, as text a
    sixth of that. All are written at once, so that an error among them is told instead of half an array."""
    text = bytearray()
    for value in values:
        text += b",\n  " if text else b"[\n  "
        text += as_json(value, indent=2)[:-1].replace(b"\n", b"\n  ")
    return text + b"\n]\n" if text else bytearray(b"[]\n")


def size_text(size: float) -> str:
    """Bytes for people, in powers of 1000.

    >>> size_text(999), size_text(1500), size_text(526_000_000)
    ('999 B', '1.5 kB', '526 MB')
    """
    if size < 1000:
        return f"{size:.0f} B"
    for unit in ("kB", "MB", "GB", "TB", "PB"):
        size /= 1000
        if size < 999.5 or unit == "PB":
            break
    return f"{size:.1f} {unit}" if size < 9.95 else f"{size:.0f} {unit}"


def count_text(count: int, one: str, many: str | None = None) -> str:
    """A number with its noun.

    >>> count_text(1, "file"), count_text(2000, "file")
    ('1 file', '2,000 files')
    """
    return f"{count:,} {one if count == 1 else many or one + 's'}"
