"""The git repository, file by file: every object by its id, packs by their checksums, refs, reflogs, settings.

Files are read as git defines them (gitformat-pack(5), gitrepository-layout(5)) and without libgit2: it opens what it
needs and no more, and forgives where this must not. What commits say is for the graph to check.
"""

from __future__ import annotations

import hashlib
import os
import re
import zlib
from dataclasses import dataclass, field
from pathlib import Path

from vcs.check.report import Report
from vcs.gitfiles import is_interrupted
from vcs.gitwords import NO_ID
from vcs.reflogs import is_damaged

_LOOSE_MAX = 256 << 20
_ID = "[0-9a-f]{40}"
_LOOSE = re.compile(r"objects/([0-9a-f]{2})/([0-9a-f]{38})")
_TARGET = re.compile(rf"({_ID})\n")
_PACKED = re.compile(rf"({_ID}) (refs/\S+)")
_PEELED = re.compile(rf"\^({_ID})")
_PACKED_FIRST = [
    f"# pack-refs with: {traits} " for traits in ("peeled", "peeled fully-peeled", "peeled fully-peeled sorted")
]
_LINE = re.compile(rf"({_ID}) ({_ID}) [^<>\n\0]+ <[^<>\n\0]*> \d+ [+-]\d{{4}}(\t[^\n\0]*)?")
_HEAD = re.compile(r"ref: (refs/heads/\S+)\n")
_ZLIB_HEADERS = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
_SUMMED = (".pack", ".idx", ".rev", ".bitmap", ".mtimes")
SETTINGS = ("[core]", "bare = true", "repositoryformatversion = 0", "logAllRefUpdates = always", "[gc]", "auto = 0")


@dataclass(slots=True)
class Refs:
    """What the files say that refs name."""

    targets: dict[str, str] = field(default_factory=dict)
    """Refs by full name, and the ids that they name."""
    others: set[str] = field(default_factory=set)
    """The ids that reflogs name, and those in packed-refs that newer files override or that tags lead to."""


def check_history(path: Path, report: Report) -> Refs:
    """Check the files of the repository at `path`. Damaged objects are noted in `report.git_lost`, without a problem:
    the graph knows which commits need them."""
    for file in sorted((path / "objects").rglob("*")):
        if file.is_file():
            _check_object_file(file, file.relative_to(path).as_posix(), report)
    refs = Refs()
    _read_refs(path, refs, report)
    for file in sorted((path / "logs").rglob("*")):
        if file.is_file():
            _check_log(path, file, file.relative_to(path / "logs").as_posix(), refs, report)
    for name in refs.targets:
        if not (path / "logs" / name).is_file():
            report.add("ref", f"{name} has no reflog, and every ref that was made here has one")
    _check_head(path, refs, report)
    _check_settings(path / "config", report)
    return refs


# -- objects


def _check_object_file(file: Path, name: str, report: Report) -> None:
    try:
        if found := _LOOSE.fullmatch(name):
            if loose_object(file.read_bytes(), oid := "".join(found.groups())) is None:
                report.git_lost.add(oid)
        elif file.suffix in _SUMMED or file.name in ("multi-pack-index", "commit-graph"):
            _check_sum(file, name, report)
    except FileNotFoundError:
        return  # gc has packed or removed it just now
    except OSError as error:
        report.add("history", f"history.git/{name} cannot be read: {error.strerror}")


def loose_object(data: bytes, oid: str) -> bytes | None:
    """What the file of a loose object holds, header included; None if it is damaged.

    Also if nothing of what it holds has changed: deflate pads its last byte with bits that nobody reads.
    """
    content = inflated(data)
    if content is None or hashlib.sha1(content).hexdigest() != oid or data[:2] not in _ZLIB_HEADERS:
        return None
    last = data[-5]  # before Adler-32
    if last:
        shorter = data[:-5] + bytes([last & ~(1 << last.bit_length() - 1)]) + data[-4:]
        if inflated(shorter) == content:
            return None
    return content


def inflated(data: bytes) -> bytes | None:
    """A zlib stream's content; None unless it is one, whole and with nothing after it."""
    inflater = zlib.decompressobj()
    try:
        content = inflater.decompress(data, _LOOSE_MAX)
    except zlib.error:
        return None
    return content if inflater.eof and not inflater.unused_data else None


def _check_sum(file: Path, name: str, report: Report) -> None:
    """A file that ends with the SHA-1 of the rest."""
    digest = hashlib.sha1()
    left = file.stat().st_size - 20
    with file.open("rb") as stream:
        while left > 0 and (data := stream.read(min(left, 1 << 20))):
            digest.update(data)
            left -= len(data)
        end = stream.read()
    if digest.digest() != end:
        report.add("history", f"history.git/{name} is damaged: its bytes do not have its checksum")


# -- refs


def _read_refs(path: Path, refs: Refs, report: Report) -> None:
    if (path / "packed-refs").exists():
        _read_packed_refs(_text(path / "packed-refs"), refs, report)
    for file in sorted((path / "refs").rglob("*")):
        name = file.relative_to(path).as_posix()
        if not file.is_file() or name.endswith(".lock"):
            continue  # a lock that a killed process left
        target = _TARGET.fullmatch(_text(file))
        if target is None:
            report.add("ref", f"{name} is damaged: it does not hold a commit's id")
            report.refs.add(name)
            refs.targets.pop(name, None)
        else:
            refs.targets[name] = target[1]


def _read_packed_refs(text: str, refs: Refs, report: Report) -> None:
    first, *lines = text.split("\n")
    if first not in _PACKED_FIRST or lines[-1:] != [""]:
        report.add("ref", "packed-refs is damaged: it does not begin or end as it should")
    names = []
    for line in lines[:-1]:
        if found := _PACKED.fullmatch(line):
            refs.targets[found[2]] = found[1]
            refs.others.add(found[1])  # whether or not a newer file overrides it: gc removes the line before the commit
            names.append(found[2])
        elif found := _PEELED.fullmatch(line):
            refs.others.add(found[1])
        else:
            report.add("ref", f"packed-refs is damaged: {line!r} makes no sense")
    if "sorted" in first and names != sorted(set(names), key=os.fsencode):
        report.add("ref", "packed-refs is damaged: it is not sorted, and says that it is")


def _check_log(path: Path, file: Path, name: str, refs: Refs, report: Report) -> None:
    """A reflog: each line whole, as it was sealed if it was, and the ref where the last one says. A process that is
    killed may have written the line and not moved the ref, or not made it, or removed the ref alone."""
    *lines, end = _text(file).split("\n")
    matches = [_LINE.fullmatch(line) for line in lines]
    if end or not all(matches):
        report.add("ref", f"the reflog of {name} is damaged: a line of it makes no sense")
    for number, line in enumerate(lines, 1):
        if is_damaged(os.fsencode(line)):
            report.add("ref", f"the reflog of {name} is damaged: line {number} is not as it was written")
    found = [match for match in matches if match]
    refs.others.update(oid for match in found for oid in match.group(1, 2) if oid != NO_ID)
    if name == "HEAD" or not found:
        return
    target = refs.targets.get(name)
    if target is None and name not in report.refs:
        if is_interrupted(path, name, lines):
            return
        report.add("ref", f"{name} is gone, but has a reflog", object=found[-1][2])
        report.refs.add(name)
    elif target not in (None, *found[-1].group(1, 2)):
        report.add("ref", f"{name} is not where its reflog says", object=str(target))


def _check_head(path: Path, refs: Refs, report: Report) -> None:
    """HEAD names the first branch, which need not be there yet; somebody may have made it another that is there."""
    found = _HEAD.fullmatch(_text(path / "HEAD"))
    if found is None or (found[1] != "refs/heads/main" and found[1] not in refs.targets):
        report.add("ref", "HEAD is damaged: it does not name a branch")


def _check_settings(path: Path, report: Report) -> None:
    """Git's settings: what was written when the store was made is there. There may be more."""
    lines = {line.strip() for line in _text(path).split("\n")}
    if missing := [line for line in SETTINGS if line not in lines]:
        report.add("history", f"history.git/config is damaged: it should have {missing[0]!r}")


def _text(path: Path) -> str:
    """A small file; empty, and so damaged in the eyes of whoever asks, if it cannot be read."""
    try:
        return path.read_bytes().decode("utf-8", "surrogateescape")
    except OSError:
        return ""
