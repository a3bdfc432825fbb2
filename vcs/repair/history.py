"""What is damaged in the git repository, put right where there is no doubt what was there.

A damaged file is never deleted, nor moved away before what replaces it is there: vcs.repair.keeping. Nothing is
replaced because it could not be looked at once: what a check has told of is looked at again.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from vcs.check.history import FAILING, SETTINGS, inflated, loose_object
from vcs.durable import replace_file
from vcs.errors import Damaged, NotFound
from vcs.existing import files_below, is_directory, is_there
from vcs.gitfiles import drop_overridden, packed_refs
from vcs.gitobjects import KINDS, GitObjects, are_settings, translated
from vcs.gitwords import NO_ID
from vcs.history import History
from vcs.locks import flocked
from vcs.operationlines import without_damage
from vcs.operations import Operations
from vcs.packing import has_object
from vcs.reflogs import is_damaged, restored, without_seal
from vcs.repair.keeping import keep
from vcs.repair.packedrefs import mend_packed_refs
from vcs.repair.packs import mend_packs
from vcs.repair.sources import StoreSource
from vcs.repair.writing import path_of, write_loose

_LINE = re.compile(rb"([0-9a-f]{40}) ([0-9a-f]{40}) [^<>\n\0]+ <[^<>\n\0]*> \d+ [+-]\d{4}(\t[^\n\0]*)?")
_HEAD = re.compile(rb"ref: (refs/heads/\S+)\n")
_ID_LINE = re.compile(rb"[0-9a-f]{40}\n")
_ZERO = NO_ID.encode()
_BITS_TRIED = 32 << 10
"""Of one file: a tenth of a second. A commit has some 3,000."""


def mend_operations(path: Path) -> list[str]:
    """Put the operation log of the store at `path` right, and the reflogs kept for it: one byte of a line by its seal;
    other damaged lines go."""
    log = path / "operations.log"
    with flocked(path / "locks" / "refs", fcntl.LOCK_EX):
        gone = Operations(log).kept.mend() + (without_damage(log) if log.exists() else 0)
    return [f"the operation log was mended; {gone} lines of it were lost" if gone else "the operation log was mended"]


class HistoryRepair:
    """The repair of one repository. What it did is in `done`, a line for each thing."""

    def __init__(self, store: Path, sources: Iterable[StoreSource]) -> None:
        self._path = store / "history.git"
        self._lock = store / "locks" / "refs"
        self._sources = [source.path for source in sources]
        self.done: list[str] = []

    def settings(self) -> None:
        """Write git's settings as they were when the store was made, if something of that is missing, or if git could
        not read them; and HEAD, if it names nothing."""
        config = self._path / "config"
        lines = {line.strip() for line in config.read_bytes().decode("utf-8", "replace").split("\n")}
        if not set(SETTINGS) <= lines or not are_settings(config):
            keep(self._path, config)
            replace_file(config, "".join(f"{line}\n" for line in SETTINGS).encode())
            self.done.append("history.git/config is as it was at first; what it held is in history.git/damaged/config")
        if not _HEAD.fullmatch((self._path / "HEAD").read_bytes()):
            self._name_main()

    def packs(self) -> None:
        """Make damaged indexes of packs anew, and take what is whole out of damaged packs: vcs.repair.packs."""
        self.done += mend_packs(self._path)

    def objects(self, lost: Iterable[str]) -> bool:
        """Restore git objects: from what their files still hold, from other stores, or by trying which bit is wrong.
        Whether any was."""
        before = len(self.done)
        for oid in sorted(lost):
            if self._is_whole(oid):
                continue  # it could not be read then
            found = self._own(oid) or self._others(oid) or self._but_for_a_bit(oid)
            if found is not None:
                with flocked(self._lock, fcntl.LOCK_EX):
                    write_loose(self._path, *found)
                self.done.append(f"git object {oid} was restored")
        return len(self.done) > before

    def refs(self, names: Iterable[str]) -> None:
        """Point refs that name no commit where their reflogs say that they were last; put packed-refs right, and a HEAD
        that names no branch."""
        for name in sorted(names):
            lines = [match for line in self._log(name) if (match := _LINE.fullmatch(line))]
            if not lines or not self._is_commit(target := lines[-1][2].decode()) or self._stands(name):
                continue
            path = self._path / name
            if is_directory(path):
                continue  # another ref has its place
            if is_there(path):
                keep(self._path, path)
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, f"{target}\n".encode())
            self.done.append(f"{name} is at {target} again, as its reflog says")
        with flocked(self._lock, fcntl.LOCK_EX):
            if dropped := drop_overridden(self._path):
                self.done.append(f"what was out of date in packed-refs was removed: {dropped} lines")
            with contextlib.suppress(Damaged, NotFound):  # the check that follows tells of it
                self.done += mend_packed_refs(self._path, self._is_commit)
        found = _HEAD.fullmatch((self._path / "HEAD").read_bytes())
        if found and found[1] != b"refs/heads/main" and self._target(os.fsdecode(found[1])) is None:
            self._name_main()

    def reflogs(self) -> None:
        """Put reflogs right: one byte of a sealed line by its seal, else ids by the lines beside them and by their
        refs. Only if nothing is lost: an id that is not there is then one that was damaged. What makes no sense in any
        other way goes, and a line whose words cannot be had back loses its seal."""
        top = self._path / "logs"
        with closing(GitObjects(self._path)) as objects:
            for path in files_below(top, lambda *_: None):  # the check that follows tells of what cannot be read
                try:
                    data = path.read_bytes()
                except OSError:
                    continue
                mended = self._mended(data.split(b"\n"), self._target(path.relative_to(top).as_posix()), objects)
                if mended != data:
                    keep(self._path, path)
                    replace_file(path, mended)
                    self.done.append(f"the reflog of {path.relative_to(top)} was mended")

    # -- details

    def _name_main(self) -> None:
        """Have HEAD name the first branch."""
        head = self._path / "HEAD"
        keep(self._path, head)
        replace_file(head, b"ref: refs/heads/main\n")
        self.done.append("HEAD names the branch main again")

    def _mended(self, lines: list[bytes], target: bytes | None, objects: GitObjects) -> bytes:
        whole = (restored(line) or line if is_damaged(line) else line for line in lines)
        found = [match for line in whole if (match := _LINE.fullmatch(line))]
        kept: list[bytes] = []
        last: bytes = _ZERO
        for number, match in enumerate(found):
            following = found[number + 1][1] if number + 1 < len(found) else target
            old: bytes = match[1] if self._is_good(match[1], objects) else last
            new: bytes | None = match[2] if self._is_good(match[2], objects) else following
            if new is not None and self._is_good(old, objects) and self._is_good(new, objects):
                line = old + b" " + new + match[0][81:]
                kept.append(without_seal(line) if is_damaged(line) else line)
                last = new
        if target is not None and (not kept or target not in kept[-1][:81].split()):
            kept.append(last + b" " + target + b" fsck <> 0 +0000\tfsck: what was here was damaged")
        return b"".join(line + b"\n" for line in kept)

    def _target(self, name: str) -> bytes | None:
        """What a ref names; None for HEAD, and for one that is not there."""
        with closing(History(self._path, self._lock)) as history:
            found = None if name == "HEAD" else history.target(name)
        return found.encode() if found else None

    def _is_good(self, oid: bytes, objects: GitObjects) -> bool:
        """Whether an id is of an object that is there, or of none. OSError or Corrupt if that cannot be told."""
        with translated():
            return oid == _ZERO or has_object(objects, self._path / "objects", oid.decode())

    def _is_commit(self, oid: str) -> bool:
        """Whether an id leads to a commit that can be read."""
        with contextlib.suppress(Damaged, NotFound), closing(History(self._path, self._lock)) as history:
            history.resolve(oid)
            return True
        return False

    def _stands(self, name: str) -> bool:
        """Whether a ref leads to a commit that can be read. Its file or its line is looked at first: git's library
        takes capital letters for digits too, and other bytes for a space, and a check does not."""
        with contextlib.suppress(Damaged):
            file = self._read(self._path / name)
            if name not in packed_refs(self._path) if file is None else not _ID_LINE.fullmatch(file):
                return False
            target = self._target(name)
            return target is not None and self._is_commit(target.decode())
        return False

    def _is_whole(self, oid: str) -> bool:
        """Whether an object's file is there and as it should be. OSError if that cannot be told."""
        return loose_object(self._read(path_of(self._path, oid)) or b"", oid) is not None

    def _read(self, path: Path) -> bytes | None:
        """A file; None if it is not there, empty if the disk does not give it back. OSError."""
        try:
            return path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            if error.errno in FAILING:
                return b""
            raise

    def _own(self, oid: str) -> tuple[int, bytes] | None:
        """An object whose file holds all of it, and is damaged only where nobody looks."""
        with contextlib.suppress(OSError):
            data = path_of(self._path, oid).read_bytes()
            if loose_object(data, oid) is None:
                return _object(data, oid)
        return None

    def _but_for_a_bit(self, oid: str) -> tuple[int, bytes] | None:
        """An object of whose file a single bit is wrong, as disks and memory lose them: its id tells which."""
        data = bytearray(self._read(path_of(self._path, oid)) or b"")
        if len(data) > _BITS_TRIED // 8:
            return None
        for place in range(8 * len(data)):
            data[place // 8] ^= 1 << place % 8
            if found := _object(bytes(data), oid):
                return found
            data[place // 8] ^= 1 << place % 8
        return None

    def _others(self, oid: str) -> tuple[int, bytes] | None:
        for source in self._sources:
            with contextlib.suppress(Damaged, NotFound), closing(GitObjects(source / "history.git")) as objects:
                return objects.read(oid)
        return None

    def _log(self, name: str) -> list[bytes]:
        try:
            return (self._path / "logs" / name).read_bytes().split(b"\n")
        except OSError:
            return []


def _object(data: bytes, oid: str) -> tuple[int, bytes] | None:
    """What a loose object's file holds, if that has the id: its type (pygit2's ObjectType) and its bytes."""
    content = inflated(data)
    if content is None or hashlib.sha1(content).hexdigest() != oid:
        return None
    head, _, body = content.partition(b"\0")
    return KINDS[head.split(b" ")[0]], body
