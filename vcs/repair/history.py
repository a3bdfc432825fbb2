"""What is damaged in the git repository, put right where there is no doubt what was there.

A damaged file is never deleted: it is moved to history.git/damaged/.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from vcs.check.history import SETTINGS, inflated, loose_object
from vcs.durable import replace_file, sync_directory
from vcs.errors import TreeringError
from vcs.gitfiles import drop_overridden, is_summed
from vcs.gitobjects import GitObjects
from vcs.gitwords import NO_ID
from vcs.history import History
from vcs.locks import flocked
from vcs.operationlines import without_damage
from vcs.operations import Operations
from vcs.reflogs import is_damaged, restored, without_seal
from vcs.repair.sources import StoreSource

_LINE = re.compile(rb"([0-9a-f]{40}) ([0-9a-f]{40}) [^<>\n\0]+ <[^<>\n\0]*> \d+ [+-]\d{4}(\t[^\n\0]*)?")
_ZERO = NO_ID.encode()
_KINDS = {b"commit": 1, b"tree": 2, b"blob": 3, b"tag": 4}


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
        """Write git's settings and HEAD as they were when the store was made, if something of that is missing."""
        config, head = self._path / "config", self._path / "HEAD"
        lines = {line.strip() for line in config.read_bytes().decode("utf-8", "replace").split("\n")}
        if not set(SETTINGS) <= lines:
            self._aside(config, keep=True)
            replace_file(config, "".join(f"{line}\n" for line in SETTINGS).encode())
            self.done.append("history.git/config is as it was at first")
        if not re.fullmatch(rb"ref: refs/heads/\S+\n", head.read_bytes()):
            replace_file(head, b"ref: refs/heads/main\n")
            self.done.append("HEAD names the branch main again")

    def packs(self) -> None:
        """Make a damaged index of a pack anew, and take the objects that are whole out of a damaged pack. Only git
        itself can do either, so nothing is done without it."""
        packs = self._path / "objects" / "pack"
        for pack in sorted(packs.glob("pack-*.pack")):
            index = pack.with_suffix(".idx")
            is_whole = is_summed(pack.read_bytes())
            if is_whole and index.exists() and is_summed(index.read_bytes()):
                continue
            if shutil.which("git") is None:
                continue
            aside = [self._aside(path, keep=path == pack and is_whole) for path in packs.glob(f"{pack.stem}.*")]
            if is_whole:
                self._git("index-pack", str(pack))
                self.done.append(f"{index.name} was made anew from its pack")
            else:
                damaged = next(path for path in aside if path.suffix == ".pack")
                with damaged.open("rb") as file:
                    self._git("unpack-objects", "-r", "-q", stdin=file)
                self.done.append(f"what is whole in {pack.name} was taken out of it")
        for other in (*packs.glob("*.bitmap"), *packs.glob("*.rev"), *packs.glob("multi-pack-index")):
            if not is_summed(other.read_bytes()):
                self._aside(other)
                self.done.append(f"{other.name}, which git can do without, was put aside")

    def objects(self, lost: Iterable[str]) -> bool:
        """Restore git objects: from what their files still hold, or from other stores. Whether any was."""
        before = len(self.done)
        for oid in sorted(lost):
            found = self._own(oid) or self._others(oid)
            if found is not None:
                path = self._path / "objects" / oid[:2] / oid[2:]
                if path.exists():
                    self._aside(path)
                with flocked(self._lock, fcntl.LOCK_EX), contextlib.closing(GitObjects(self._path)) as objects:
                    objects.write(*found)
                self.done.append(f"git object {oid} was restored")
        return len(self.done) > before

    def refs(self, names: Iterable[str]) -> None:
        """Point refs that name no commit where their reflogs say that they were last."""
        for name in sorted(names):
            lines = [match for line in self._log(name) if (match := _LINE.fullmatch(line))]
            if lines and self._is_there(target := lines[-1][2].decode()):
                path = self._path / name
                if path.exists():
                    self._aside(path)
                path.parent.mkdir(parents=True, exist_ok=True)
                replace_file(path, f"{target}\n".encode())
                self.done.append(f"{name} is at {target} again, as its reflog says")
        with flocked(self._lock, fcntl.LOCK_EX):
            if dropped := drop_overridden(self._path):
                self.done.append(f"what was out of date in packed-refs was removed: {dropped} lines")

    def reflogs(self) -> None:
        """Put reflogs right: one byte of a sealed line by its seal, else ids by the lines beside them and by their
        refs. Only if nothing is lost: an id that is not there is then one that was damaged. What makes no sense in any
        other way goes, and a line whose words cannot be had back loses its seal."""
        top = self._path / "logs"
        for path in sorted(top.rglob("*")):
            if path.is_file():
                data = path.read_bytes()
                mended = self._mended(data.split(b"\n"), self._target(path.relative_to(top).as_posix()))
                if mended != data:
                    self._aside(path, keep=True)
                    replace_file(path, mended)
                    self.done.append(f"the reflog of {path.relative_to(top)} was mended")

    # -- details

    def _mended(self, lines: list[bytes], target: bytes | None) -> bytes:
        whole = (restored(line) or line if is_damaged(line) else line for line in lines)
        found = [match for line in whole if (match := _LINE.fullmatch(line))]
        kept: list[bytes] = []
        last: bytes = _ZERO
        for number, match in enumerate(found):
            following = found[number + 1][1] if number + 1 < len(found) else target
            old: bytes = match[1] if self._is_good(match[1]) else last
            new: bytes | None = match[2] if self._is_good(match[2]) else following
            if new is not None and self._is_good(old) and self._is_good(new):
                line = old + b" " + new + match[0][81:]
                kept.append(without_seal(line) if is_damaged(line) else line)
                last = new
        if target is not None and (not kept or target not in kept[-1][:81].split()):
            kept.append(last + b" " + target + b" fsck <> 0 +0000\tfsck: what was here was damaged")
        return b"".join(line + b"\n" for line in kept)

    def _target(self, name: str) -> bytes | None:
        """What a ref names; None for HEAD, and for one that is not there."""
        with contextlib.closing(History(self._path, self._lock)) as history:
            found = None if name == "HEAD" else history.target(name)
        return found.encode() if found else None

    def _is_good(self, oid: bytes) -> bool:
        return oid == _ZERO or self._is_there(oid.decode())

    def _is_there(self, oid: str) -> bool:
        with contextlib.suppress(TreeringError), contextlib.closing(GitObjects(self._path)) as objects:
            objects.read(oid)
            return True
        return False

    def _own(self, oid: str) -> tuple[int, bytes] | None:
        """An object whose file holds all of it, and is damaged only where nobody looks."""
        path = self._path / "objects" / oid[:2] / oid[2:]
        with contextlib.suppress(OSError):
            data = path.read_bytes()
            content = inflated(data)
            if content is not None and hashlib.sha1(content).hexdigest() == oid and loose_object(data, oid) is None:
                head, _, body = content.partition(b"\0")
                return _KINDS[head.split(b" ")[0]], body
        return None

    def _others(self, oid: str) -> tuple[int, bytes] | None:
        for source in self._sources:
            with contextlib.suppress(TreeringError), contextlib.closing(GitObjects(source / "history.git")) as objects:
                return objects.read(oid)
        return None

    def _log(self, name: str) -> list[bytes]:
        try:
            return (self._path / "logs" / name).read_bytes().split(b"\n")
        except OSError:
            return []

    def _aside(self, path: Path, *, keep: bool = False) -> Path:
        """Move a damaged file away, or copy it (`keep`)."""
        target = self._path / "damaged" / path.relative_to(self._path)
        target.parent.mkdir(parents=True, exist_ok=True)
        if keep:
            shutil.copyfile(path, target)
        else:
            path.replace(target)
            sync_directory(path.parent)
        return target

    def _git(self, *arguments: str, stdin: object = subprocess.DEVNULL) -> None:
        command = ["git", "-c", "core.fsync=all", "-C", str(self._path), *arguments]
        subprocess.run(command, stdin=stdin, capture_output=True, check=False)  # type: ignore[call-overload]
