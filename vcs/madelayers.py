"""What is remembered of image layers that were made, so that none is made twice.

    STORE/caches/images/           an image layout, whose blobs are layers, configs and manifests
    STORE/caches/images.lock       flocked: shared while blobs are used, exclusively while gc removes some
    STORE/caches/layer-<32 hex of BLAKE3 over what it is made of>

Such a file says in lines: the root after, the root before (zeros for none), the compression, the digest of the archive,
that of the blob, and its size. All of it may be deleted at any time by who holds the lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from blake3 import blake3

from vcs.durable import replace_file
from vcs.existing import names_in
from vcs.locks import flocked
from vcs.model import DIGEST_SIZE, RootId

PREFIX = "layer-"
_CONTEXT = b"treering layer 1\0"


class Needed(Protocol):
    """The objects that something needs."""

    def __contains__(self, digest: bytes, /) -> bool: ...


_KEPT = 7 * 86400
"""Seconds since its last use for which gc leaves a layer."""


@dataclass(frozen=True, slots=True)
class Sides:
    """What a layer is made of, and how it is compressed."""

    old: RootId | None
    new: RootId
    compression: str


@dataclass(frozen=True, slots=True)
class MadeLayer:
    """A layer: the digests, `sha256:...`, of the archive and of the blob, and the blob's bytes."""

    diff_id: str
    digest: str
    size: int


def layout_path(caches: Path) -> Path:
    """Where the blobs are."""
    return caches / "images"


@contextlib.contextmanager
def used(caches: Path) -> Iterator[None]:
    """Keep gc from removing blobs meanwhile."""
    with flocked(_lock(caches), fcntl.LOCK_SH):
        yield


def find_layer(caches: Path, sides: Sides) -> MadeLayer | None:
    """The layer that was made of these, if its blob is still there. To be asked inside `used`."""
    path = _record(caches, sides)
    try:
        lines = path.read_text("ascii").splitlines()
        layer = MadeLayer(lines[3], lines[4], int(lines[5]))
        if lines[:3] != _named(sides) or _blob(caches, layer.digest).stat().st_size != layer.size:
            return None
        os.utime(path)
    except (OSError, ValueError, IndexError):
        return None
    return layer


def note_layer(caches: Path, sides: Sides, layer: MadeLayer) -> None:
    """Remember a layer whose blob is there."""
    lines = [*_named(sides), layer.diff_id, layer.digest, str(layer.size), ""]
    path = _record(caches, sides)
    # Two may make the same layer at once.
    aside = path.with_name(f"images-{os.urandom(8).hex()}.new")
    replace_file(path, "\n".join(lines).encode("ascii"), durable=False, aside=aside)


def removable(caches: Path, needed: Needed) -> Iterator[Path]:
    """What gc may remove: layers of roots that are not needed, those not used for a week, and blobs of neither. They
    are to be removed while this is iterated. Nothing, where somebody uses blobs."""
    layout = layout_path(caches)
    if not layout.is_dir():
        return
    with _alone(caches) as is_alone:
        if not is_alone:
            return
        oldest = time.time() - _KEPT
        kept = set()
        for path in (caches / name for name in names_in(caches) if name.startswith(PREFIX)):
            lines = path.read_bytes().decode("ascii", "replace").splitlines()
            if len(lines) == 6 and _digest(lines[0]) in needed and path.stat().st_mtime >= oldest:
                kept.add(lines[4].partition(":")[2])
            else:
                yield path
        yield from caches.glob("images-*.new")
        yield from (blob for blob in layout.glob("blobs/*/*") if blob.name not in kept)


@contextlib.contextmanager
def _alone(caches: Path) -> Iterator[bool]:
    try:
        with flocked(_lock(caches), fcntl.LOCK_EX | fcntl.LOCK_NB):
            yield True
    except BlockingIOError:
        yield False


def _named(sides: Sides) -> list[str]:
    return [sides.new.hex(), (sides.old or bytes(DIGEST_SIZE)).hex(), sides.compression]


def _record(caches: Path, sides: Sides) -> Path:
    name = blake3(_CONTEXT + "\n".join(_named(sides)).encode()).digest(16)
    return caches / f"{PREFIX}{name.hex()}"


def _blob(caches: Path, digest: str) -> Path:
    return layout_path(caches) / "blobs" / "sha256" / digest.partition(":")[2]


def _lock(caches: Path) -> Path:
    return caches / "images.lock"


def _digest(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""
