"""Changes between two roots, for people and for programs."""

from __future__ import annotations

import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from runtime.cli.linediff import Lines, count_lines, patch, read_text
from runtime.cli.output import Output, count_text
from runtime.cli.quoting import path_fields, quoted, safe
from runtime.cli.render_entries import entry_fields
from vcs.diff import Change
from vcs.model import Chunked, Data, Device, Entry, Symlink, type_name
from vcs.snapshot import Snapshot

_COLOURS = {"A": "green", "M": "yellow", "D": "red", "R": "cyan", "C": "cyan", "T": "magenta"}
_STAT_WIDTH = 40
"""How many + and - at most stand behind a file."""


def change_fields(change: Change) -> dict[str, Any]:
    """A change for JSON."""
    fields: dict[str, Any] = {"status": change.letter, **path_fields(change.path)}
    if change.old_path is not None:
        fields |= path_fields(change.old_path, "old_path")
        fields["similarity"] = change.similarity
    fields["what"] = list(change.what)
    fields["old"] = entry_fields(change.old) if change.old else None
    fields["new"] = entry_fields(change.new) if change.new else None
    return fields


def write_changes(output: Output, changes: Iterable[Change]) -> None:
    """A line for each change: letter, path, and what changed other than the content."""
    for change in changes:
        detail = _detail(change)
        line = f"{output.paint(change.letter, _COLOURS[change.letter])}  {_paths(change)}"
        output.line(f"{line}  {output.paint(f'({detail})', 'dim')}" if detail else line)


def write_names(output: Output, changes: Iterable[Change], status: bool, zero: bool) -> None:
    """As `git diff --name-status` (or --name-only): fields between tabs; with `zero`, unquoted and ended by NULs."""
    for change in changes:
        fields = change.name_status if status else (change.path,)
        if zero:
            output.raw(b"".join(field + b"\0" for field in fields))
        else:
            output.line("\t".join(map(quoted, fields)))


def summary(changes: Sequence[Change]) -> str:
    """Such as `3 changed: 1 added, 2 modified`."""
    counts = Counter[str](change.letter for change in changes)
    words = {"A": "added", "M": "modified", "D": "deleted", "R": "renamed", "C": "copied", "T": "of another type"}
    parts = [f"{counts[letter]:,} {word}" for letter, word in words.items() if counts[letter]]
    return f"{len(changes):,} changed: {', '.join(parts)}" if changes else "no changes"


# -- --stat


def line_counts(change: Change, old: Snapshot, new: Snapshot) -> Lines | None:
    """Lines of a changed text; None if it is not one, or is large."""
    if not _has_content(change):
        return Lines(0, 0)
    before, after = read_text(old, change.old), read_text(new, change.new)
    return None if before is None or after is None else count_lines(before, after)


def write_stat(output: Output, changes: Sequence[Change], old: Snapshot, new: Snapshot) -> None:
    """A line for each file with how many lines changed, or bytes of what is no text; then the totals."""
    rows = [(_paths(change), change, line_counts(change, old, new)) for change in changes]
    name_width = max((len(name) for name, _, _ in rows), default=0)
    most = max((lines.inserted + lines.deleted for _, _, lines in rows if lines), default=0)
    width = len(str(most))
    for name, change, lines in rows:
        detail = _detail(change) if _has_content(change) else ""
        line = f" {name.ljust(name_width)} | {_stat(output, change, lines, width, most)}"
        output.line(f"{line}  {output.paint(f'({detail})', 'dim')}" if detail else line)
    counted = [lines for _, _, lines in rows if lines]
    inserted, deleted = (sum(lines.inserted for lines in counted), sum(lines.deleted for lines in counted))
    parts = [f" {count_text(len(rows), 'entry', 'entries')} changed"]
    parts += [f"{count_text(inserted, 'insertion')}(+)"] if inserted else []
    parts += [f"{count_text(deleted, 'deletion')}(-)"] if deleted else []
    if rows:
        output.line(", ".join(parts))


def _stat(output: Output, change: Change, lines: Lines | None, width: int, most: int) -> str:
    if lines is None:
        return f"Bin {_sizes(change)}"
    total = lines.inserted + lines.deleted
    if not total and not _has_content(change):
        return _detail(change) or _kind(change)
    scale = min(1.0, _STAT_WIDTH / most) if most else 1.0
    plus, minus = (round(count * scale) or bool(count) for count in (lines.inserted, lines.deleted))
    return f"{total:>{width}} {output.paint('+' * plus, 'green')}{output.paint('-' * minus, 'red')}".rstrip()


def _sizes(change: Change) -> str:
    before, after = (entry.size if entry else 0 for entry in (change.old, change.new))
    return f"{before:,} -> {after:,} bytes"


# -- --patch


def write_patches(output: Output, changes: Iterable[Change], old: Snapshot, new: Snapshot) -> None:
    """Each change with a unified diff of its text."""
    for change in changes:
        write_changes(output, [change])
        if change.old_path is not None:
            how = "copy" if change.letter == "C" else "rename"
            output.line(f"similarity index {change.similarity}%")
            output.line(f"{how} from {quoted(change.old_path)}")
            output.line(f"{how} to {quoted(change.path)}")
        if not _has_content(change):
            continue
        before, after = read_text(old, change.old), read_text(new, change.new)
        if before is None or after is None:
            output.line(f"Binary or large file; its text is not shown: {_sizes(change)}")
            continue
        names = [_side(change.old, change.old_path or change.path, "a"), _side(change.new, change.path, "b")]
        for line in patch(before, after, *names):
            output.line(_painted(output, line))


def _side(entry: Entry | None, path: bytes, side: str) -> str:
    return "/dev/null" if entry is None else quoted(side.encode() + path)


def _painted(output: Output, line: str) -> str:
    colour = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1])
    if line.startswith(("+++", "---")):
        colour = "bold"
    text = safe(line) if output.colours else line
    return output.paint(text, colour) if colour else text


# -- details


def _has_content(change: Change) -> bool:
    """Whether the bytes of a regular file changed."""
    files = [isinstance(entry.content, (Data, Chunked)) for entry in (change.old, change.new) if entry]
    return any(files) and (not (change.old and change.new) or "content" in change.what or change.letter == "T")


def _paths(change: Change) -> str:
    slash = "/" if _is_dir(change) else ""
    here = quoted(change.path) + slash
    return here if change.old_path is None else f"{quoted(change.old_path)}{slash} -> {here}"


def _is_dir(change: Change) -> bool:
    entry = change.new or change.old
    return entry is not None and entry.is_dir and change.path != b"/"


def _kind(change: Change) -> str:
    entry = change.new or change.old
    return type_name(entry) if entry else ""


def _detail(change: Change) -> str:
    """What changed besides the content of a file; empty if that is all."""
    if change.old is None or change.new is None:
        return ""
    alike = [f"{change.similarity}% the same"] if change.similarity not in (None, 100) else []
    return ", ".join([*alike, *_details(change.what, change.old, change.new)])


def _details(what: Sequence[str], old: Entry, new: Entry) -> Iterator[str]:
    if "type" in what:
        yield f"{type_name(old)} -> {type_name(new)}"
    elif "content" in what and isinstance(old.content, Symlink) and isinstance(new.content, Symlink):
        yield f"{quoted(old.content.target)} -> {quoted(new.content.target)}"
    elif "content" in what and isinstance(old.content, Device) and isinstance(new.content, Device):
        numbers = [f"{device.major}:{device.minor}" for device in (old.content, new.content)]
        yield f"device {numbers[0]} -> {numbers[1]}"
    if "mode" in what:
        yield f"mode {stat.S_IMODE(old.mode):o} -> {stat.S_IMODE(new.mode):o}"
    if "owner" in what:
        yield f"owner {old.uid}:{old.gid} -> {new.uid}:{new.gid}"
    if "xattrs" in what:
        yield from _xattr_details(dict(old.xattrs), dict(new.xattrs))
    if "link" in what:
        yield f"hard links {old.link.count if old.link else 1} -> {new.link.count if new.link else 1}"
    if set(what) == {"mtime"}:
        yield "mtime"


def _xattr_details(old: dict[bytes, bytes], new: dict[bytes, bytes]) -> Iterator[str]:
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            sign = "+" if name not in old else "-" if name not in new else "changed "
            yield f"xattr {sign}{quoted(name)}"
