"""Packs: a damaged index is made anew, and what is whole in a damaged pack gets files of its own.

Where nothing but a pack's header or its checksum is damaged, its index says what was there. Else only git itself can
help. It may fail for reasons that have nothing to do with the pack, and says so only in words where it is to go on
after damage. So nothing is put aside before what it made was looked at.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from vcs.durable import replace_file, sync_all, sync_directory
from vcs.errors import Damaged, NotFound, StoreError
from vcs.existing import files_below, is_there, names_in
from vcs.gitfiles import is_summed
from vcs.gitobjects import GitObjects
from vcs.packing import count_in, ids_in
from vcs.repair.keeping import keep, put_aside
from vcs.repair.writing import path_of, write_loose

_REFUSALS = [
    os.strerror(code)
    for code in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.ENOMEM, errno.EMFILE, errno.ENFILE)
] + ["ut of memory"]
"""What git says where it could not work: nothing of what it was to read."""
_WANTED = re.compile(r"tried to allocate (\d+) bytes")
_DENSEST = 1032
"""Bytes that a byte of zlib's can become."""
_HEADER = struct.Struct(">4sII")
"""Of a pack: its magic, its version, how many objects it has (gitformat-pack(5))."""
_SUM = 20
"""Bytes of the checksum at a pack's end, which its index has before its own."""


def mend_packs(repository: Path) -> list[str]:
    """Mend the packs of a repository, as far as git is there to do it; returns what was done. OSError, and StoreError
    if git could not do its work, with the pack that it was at left as it was."""
    packs = repository / "objects" / "pack"
    names = sorted(names_in(packs))
    done: list[str] = []
    damaged = []
    for pack in [packs / name for name in names if name.startswith("pack-") and name.endswith(".pack")]:
        if not is_summed(data := pack.read_bytes()):
            if not _put_right(repository, pack, data):
                damaged.append(pack)
                continue
            done.append(f"the header and the checksum of {pack.name} are as they were")
        if not _has_index(pack) and shutil.which("git") and _index_anew(repository, pack):
            done.append(f"{pack.stem}.idx was made anew from its pack")
    for pack in damaged:
        if shutil.which("git"):
            # Also if nothing is: it would hide what comes from elsewhere, and without an index all of the history.
            is_any = _taken_out(repository, pack)
            _put_aside(repository, pack)
            done.append(f"what is whole in {pack.name} was taken out of it" if is_any else f"{pack.name} was put aside")
    for other in [packs / name for name in names if name.endswith((".bitmap", ".rev")) or name == "multi-pack-index"]:
        if is_there(other) and not is_summed(other.read_bytes()):
            put_aside(repository, other)
            done.append(f"{other.name}, which git can do without, was put aside")
    return done


def _has_index(pack: Path) -> bool:
    """Whether a pack has an index that is whole."""
    index = pack.with_suffix(".idx")
    return is_there(index) and is_summed(index.read_bytes())


def _put_right(repository: Path, pack: Path, data: bytes) -> bool:
    """Give a pack of these bytes its header and its checksum back. Whether nothing else was damaged; else it stays."""
    known = pack.with_suffix(".idx").read_bytes()[-2 * _SUM : -_SUM] if _has_index(pack) else b""
    for body in (data[:-_SUM], _with_header(pack, data)[:-_SUM]):
        if (found := hashlib.sha1(body).digest()) in (data[-_SUM:], known):
            keep(repository, pack)
            replace_file(pack, body + found)
            return True
    return False


def _with_header(pack: Path, data: bytes) -> bytes:
    """A pack's bytes with the header that it should have, by what its index says, or else the damaged header."""
    count = count_in(pack.with_suffix(".idx")) if _has_index(pack) else int.from_bytes(data[8 : _HEADER.size], "big")
    return _HEADER.pack(b"PACK", 2, count) + data[_HEADER.size :]


@contextlib.contextmanager
def _apart(repository: Path) -> Iterator[Path]:
    """A directory for git to take for that of the repository's objects: it leaves out what it finds there, and stumbles
    over what is damaged."""
    apart = repository / "damaged" / "apart"
    shutil.rmtree(apart, ignore_errors=True)  # a repair that was killed left it
    apart.mkdir(parents=True)
    try:
        yield apart
    finally:
        shutil.rmtree(apart, ignore_errors=True)


def _index_anew(repository: Path, pack: Path) -> bool:
    """Have git make an index, which then takes the place of the damaged one. Whether it did."""
    index = pack.with_suffix(".idx")
    with _apart(repository) as apart:
        made = apart / index.name
        arguments = ("-c", "pack.writeReverseIndex=false", "index-pack", "-o", str(made), str(pack))
        if refusal := _refusal(_git(repository, *arguments, objects=apart), pack):
            raise refusal
        if not is_there(made) or not is_summed(made.read_bytes()):
            return False
        if is_there(index):
            keep(repository, index)
        made.replace(index)
        sync_directory(index.parent)
    return True


def _taken_out(repository: Path, pack: Path) -> bool:
    """Give files of their own to all objects that can be read of a damaged pack, which stays; whether there are any.
    StoreError if there may be more, which git did not come to."""
    with _apart(repository) as apart:
        done = _git(
            repository, "unpack-objects", "-r", "-q", objects=apart, given=_with_header(pack, pack.read_bytes())
        )
        moved, read = _moved_in(repository, apart), _read_by_index(repository, pack)
    refusal = _refusal(done, pack)
    if refusal and not read and not _has_all(repository, pack):
        raise refusal
    return moved + read > 0


def _has_all(repository: Path, pack: Path) -> bool:
    """Whether all objects of a pack, as its index tells them, have files of their own. Not if that is damaged."""
    return _has_index(pack) and all(is_there(path_of(repository, oid)) for oid in _ids(pack))


def _moved_in(repository: Path, apart: Path) -> int:
    """Move objects into the repository, durably; returns how many there were."""
    found = [path for path in files_below(apart) if len(path.parent.name) == 2]
    changed = {repository / "objects"}
    for path in found:
        target = path_of(repository, path.parent.name + path.name)
        changed.add(target.parent)
        target.parent.mkdir(exist_ok=True)
        if not is_there(target):
            path.replace(target)
    sync_all(sorted(changed))
    return len(found)


def _read_by_index(repository: Path, pack: Path) -> int:
    """Write what git did not come to, since it loses its way behind damage, and what the index leads to nevertheless;
    returns how many."""
    count = 0
    with contextlib.suppress(Damaged), closing(GitObjects(repository)) as objects:  # Damaged, if no pack can be read
        for oid in _ids(pack):
            if not is_there(path_of(repository, oid)):
                with contextlib.suppress(Damaged, NotFound):
                    write_loose(repository, *objects.read(oid))
                    count += 1
    return count


def _ids(pack: Path) -> Iterator[str]:
    """The ids that a pack's index names; none if that is damaged."""
    if _has_index(pack):
        yield from (raw.hex() for raw in ids_in(pack.with_suffix(".idx")))


def _put_aside(repository: Path, pack: Path) -> None:
    """A pack and what belongs to it; the index first, without which git does not look at the others."""
    names = [name for name in names_in(pack.parent) if name.startswith(f"{pack.stem}.")]
    for name in sorted(names, key=lambda name: (not name.endswith(".idx"), name)):
        put_aside(repository, pack.parent / name)


def _git(repository: Path, *arguments: str, objects: Path, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run git, with another directory for objects, and `given` to read. OSError if it cannot be run."""
    variables = (f"GIT_OBJECT_DIRECTORY={objects}", "LC_ALL=C")
    command = ["env", *variables, "git", "-c", "core.fsync=all", "-C", str(repository), *arguments]
    return subprocess.run(command, input=given, capture_output=True, check=False)


def _refusal(done: subprocess.CompletedProcess[bytes], pack: Path) -> StoreError | None:
    """What kept git from its work, if that is something else than the pack: a signal, or the system. Of a pack it has
    something to say."""
    said = done.stderr.decode("utf-8", "replace").strip()
    if not done.returncode or (done.returncode > 0 and said and not any(refusal in said for refusal in _REFUSALS)):
        return None
    wanted = _WANTED.search(said)
    if wanted and int(wanted[1]) > _DENSEST * pack.stat().st_size:
        return None  # damage, taken for the length of an object
    return StoreError(f"git cannot mend the history's packs: {said or f'it ended with {done.returncode}'}")
