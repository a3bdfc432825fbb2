"""The git repository, file by file: every object by its id, packs by their checksums, refs, reflogs, settings.

Files are read as git defines them (gitformat-pack(5), gitrepository-layout(5)) and without libgit2: it opens what it
needs and no more, and forgives where this must not. What commits say is for the graph to check.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import zlib
from dataclasses import dataclass, field
from pathlib import Path

from vcs.check.report import Kind, Report
from vcs.existing import files_below
from vcs.gitfiles import is_interrupted
from vcs.gitwords import NO_ID
from vcs.reflogs import is_damaged
from vcs.shortage import raise_shortage

_LOOSE_MAX = 256 << 20
_ID = "[0-9a-f]{40}"
_LOOSE = re.compile(r"objects/([0-9a-f]{2})/([0-9a-f]{38})")
_TARGET = re.compile(rf"({_ID})\n")
_PACKED = re.compile(rf"({_ID}) (refs/\S+)")
_PEELED = re.compile(rf"\^({_ID})")
PACKED_FIRST = [
    f"# pack-refs with: {traits} " for traits in ("peeled", "peeled fully-peeled", "peeled fully-peeled sorted")
]
_LINE = re.compile(rf"({_ID}) ({_ID}) [^<>\n\0]+ <[^<>\n\0]*> \d+ [+-]\d{{4}}(\t[^\n\0]*)?")
_HEAD = re.compile(r"ref: (refs/heads/\S+)\n")
_ZLIB_HEADERS = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
_SUMMED = (".pack", ".idx", ".rev", ".bitmap", ".mtimes")
FAILING = (errno.EIO, errno.EBADMSG, errno.EUCLEAN)
"""What the kernel says of a file of which the disk has lost bytes, or the file system on it: a second look may say the
same. Whatever else it says does not mean that anything is wrong with the file."""
SETTINGS = ("[core]", "bare = true", "repositoryformatversion = 0", "logAllRefUpdates = always", "[gc]", "auto = 0")


@dataclass(slots=True)
class Refs:
    """What the files say that refs name."""

    targets: dict[str, str] = field(default_factory=dict)
    """Refs by full name, and the ids that they name."""
    others: set[str] = field(default_factory=set)
    """The ids that reflogs name, and those in packed-refs that newer files override or that tags lead to."""
    are_known: bool = True
    """Whether all that says something of refs could be read: else one that was not found may be there."""


def check_history(path: Path, report: Report) -> Refs:
    """Check the files of the repository at `path`. Damaged objects are noted in `report.git_lost`, without a problem:
    the graph knows which commits need them."""
    files = _Files(path, report)
    for file in files.below("objects", "history"):
        _check_object_file(file, file.relative_to(path).as_posix(), report)
    refs = Refs()
    _read_refs(files, refs, report)
    refs.are_known = files.are_read
    logs = {file.relative_to(path / "logs").as_posix(): file for file in files.below("logs", "ref")}
    are_all_logs = files.are_read
    for name, file in logs.items():
        _check_log(files, file, name, refs, report)
    for name in refs.targets:
        if are_all_logs and name not in logs:
            report.add("ref", f"{name} has no reflog, and every ref that was made here has one")
    _check_head(files, refs, report)
    _check_settings(files, report)
    return refs


class _Files:
    """The files of a repository. What cannot be read is told of, and is not taken for what is not there."""

    def __init__(self, path: Path, report: Report) -> None:
        self.path = path
        self._report = report
        self.are_read = True
        """Whether everything that was asked for could be read."""
        self.lost: set[Path] = set()
        """What the disk does not give back."""

    def below(self, name: str, kind: Kind) -> list[Path]:
        """The files in a directory, at any depth."""
        return files_below(self.path / name, lambda path, error: self._tell(path, error, kind))

    def text(self, path: Path, kind: Kind = "ref") -> str | None:
        """A small file; empty, and so damaged in the eyes of whoever asks, if it is not there. None if it cannot be
        read."""
        try:
            return path.read_bytes().decode("utf-8", "surrogateescape")
        except FileNotFoundError:
            return ""
        except OSError as error:
            self._tell(path, error, kind)
            return None

    def _tell(self, path: Path, error: OSError, kind: Kind) -> None:
        self.are_read = False
        if error.errno in FAILING:
            self.lost.add(path)
        name = path.relative_to(self.path).as_posix()
        self._report.add_unread(kind, f"history.git/{name}", error)


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
        report.add_unread("history", f"history.git/{name}", error)


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
    except zlib.error as error:
        raise_shortage(error)
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


def _read_refs(files: _Files, refs: Refs, report: Report) -> None:
    packed = files.path / "packed-refs"
    text = files.text(packed)
    if text or (text is not None and packed.exists()):
        _read_packed_refs(text, refs, report)
    for file in files.below("refs", "ref"):
        name = file.relative_to(files.path).as_posix()
        if name.endswith(".lock"):
            continue  # a lock that a killed process left
        text = files.text(file)
        if text is None:
            refs.targets.pop(name, None)
            if file in files.lost:
                report.refs.add(name)
        elif target := _TARGET.fullmatch(text):
            refs.targets[name] = target[1]
        else:
            report.add("ref", f"{name} is damaged: it does not hold a commit's id")
            report.refs.add(name)
            refs.targets.pop(name, None)


def _read_packed_refs(text: str, refs: Refs, report: Report) -> None:
    first, *lines = text.split("\n")
    if first not in PACKED_FIRST or lines[-1:] != [""]:
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


def _check_log(files: _Files, file: Path, name: str, refs: Refs, report: Report) -> None:
    """A reflog: each line whole, as it was sealed if it was, and the ref where the last one says. A process that is
    killed may have written the line and not moved the ref, or not made it, or removed the ref alone."""
    text = files.text(file)
    if text is None:
        return
    *lines, end = text.split("\n")
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
        if not refs.are_known or is_interrupted(files.path, name, lines):
            return
        report.add("ref", f"{name} is gone, but has a reflog", object=found[-1][2])
        report.refs.add(name)
    elif target not in (None, *found[-1].group(1, 2)):
        report.add("ref", f"{name} is not where its reflog says", object=str(target))


def _check_head(files: _Files, refs: Refs, report: Report) -> None:
    """HEAD names the first branch, which need not be there yet; somebody may have made it another that is there."""
    text = files.text(files.path / "HEAD")
    if text is None:
        return
    found = _HEAD.fullmatch(text)
    if found is None or (refs.are_known and found[1] != "refs/heads/main" and found[1] not in refs.targets):
        report.add("ref", "HEAD is damaged: it does not name a branch")


def _check_settings(files: _Files, report: Report) -> None:
    """Git's settings: what was written when the store was made is there. There may be more."""
    text = files.text(files.path / "config", "history")
    if text is None:
        return
    lines = {line.strip() for line in text.split("\n")}
    if missing := [line for line in SETTINGS if line not in lines]:
        report.add("history", f"history.git/config is damaged: it should have {missing[0]!r}")
