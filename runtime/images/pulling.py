"""An image in a registry -> an image that can be read: its layers come while those below them are imported.

skopeo(1) says what the reference names, then fetches the layers, several at a time, into a layout of its own:

    STORE/caches/pull-<manifest's digest, hexadecimal>/    flocked while a process pulls into it
        blobs/sha256/                                      complete blobs, each under its digest
        oci-put-blob*                                      what is being fetched

A pull that was interrupted leaves it, and the next one of the same image goes on with the blobs that it has. Once the
image is imported it is removed: what the store knows of layers (runtime.images.chains) is all that later pulls need.
A layer whose root is known is not fetched: in its place lies an empty file of its size, which skopeo takes for it, and
which nobody reads. What is wrong with a blob is found when it is imported, wherever it came from.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from runtime.images.chains import chain_ids, known_root
from runtime.images.choosing import Wish, without_default
from runtime.images.image import Image, image_of
from runtime.images.layout import Blobs, DirectoryFiles
from runtime.images.model import Descriptor, Manifest
from runtime.images.remote import SCHEME, Remote
from runtime.images.skopeo import Registry, begin_skopeo, end_skopeo, refusal
from vcs.durable import replace_file
from vcs.errors import BadInput
from vcs.existing import is_there
from vcs.leases import Lease
from vcs.store import Store
from vcs.tar.stream import Readable

PREFIX = "pull-"
_TAG = "image"
_PARTS = "oci-put-blob*"
_WAIT = 0.02
"""Seconds between looks at what has arrived: files of another process's."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """What a registry has sent of the layers that are fetched, which are known by their digests."""

    there: frozenset[str]
    parts: tuple[int, ...]
    """Bytes of each that is not complete. skopeo begins with the lowest, and does not say which part is whose."""


class Pull:
    """An image of a registry's that is being pulled. A context manager."""

    def __init__(
        self,
        store: Store,
        lease: Lease,
        reference: str,
        wish: Wish,
        registry: Registry,
        told: Callable[[], None] = lambda: None,
    ) -> None:
        """`told` is called now and then while a layer is waited for. EngineError (see skopeo) if the registry does not
        say what the reference names; NotFound, BadInput."""
        self._store = store
        self._reference = reference.removeprefix(SCHEME)
        self._registry = registry
        self._told = told
        self._process: subprocess.Popen[bytes] | None = None
        self._stack = ExitStack()
        self.begun: list[str] = []
        """The digests of layers that have been asked for, in that order: the last one is being imported."""
        self._remote = Remote(self._reference, registry)
        digest, manifest, config = self._remote.image(wish)
        self._path = self._stack.enter_context(_own_directory(store.caches / (PREFIX + digest.partition(":")[2])))
        self._files = DirectoryFiles(self._path)
        self.layers = self.wanted = manifest.layers
        """The layers that are not known, the lowest first."""
        try:
            self._prepare(manifest, config)
            self.image: Image = image_of(Blobs(self), manifest, self._reference, f"manifest {digest}")
            if wish.platform is not None and not wish.platform.fits(self.image.config.platform):
                raise without_default(wish, [self.image.config.platform])
            self.wanted = self._unknown(lease)
            self._fetch(digest)
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> Pull:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        """Without an error, or if it is the image's fault, remove what was fetched; else leave it to the next pull."""
        self._end()
        if kind is None or issubclass(kind, BadInput):
            shutil.rmtree(self._path, ignore_errors=True)
        self._stack.close()

    def open(self, name: str, /) -> AbstractContextManager[Readable]:
        """A blob, as soon as it is there. Satisfies layout.Files."""
        self.begun.append(":".join(Path(name).parts[-2:]))
        while not is_there(self._path / name) and self._process is not None:
            self._wait(self._process)
        return self._files.open(name)

    def wait(self) -> None:
        """Wait until all has arrived. EngineError."""
        while self._process is not None:
            self._wait(self._process)

    def arrived(self) -> Arrived:
        """What is there now."""
        parts = []
        for part in self._path.glob(_PARTS):
            with suppress(FileNotFoundError):
                parts.append(part.stat().st_size)
        return Arrived(frozenset(layer.digest for layer in self.wanted if is_there(self._place(layer))), tuple(parts))

    # -- layers

    def _prepare(self, manifest: Manifest, config: bytes) -> None:
        (self._path / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
        for left in self._path.glob(_PARTS):
            left.unlink()
        for blob in (self._path / "blobs" / "sha256").iterdir():
            if not blob.stat().st_blocks:
                blob.unlink()  # in the place of a layer that was known to an earlier pull, and may not be any more
        place = self._place(manifest.config)
        place.parent.mkdir(parents=True, exist_ok=True)
        replace_file(place, config, durable=False)

    def _unknown(self, lease: Lease) -> tuple[Descriptor, ...]:
        """The layers that have to be fetched; those on which nothing unknown lies have a file in their place."""
        wanted = list(self.wanted)
        for chain in chain_ids(self.image.config.rootfs.diff_ids):
            if known_root(self._store, lease, chain) is None:
                break
            layer = wanted.pop(0)
            if layer not in wanted and not is_there(self._place(layer)):
                self._place(layer).touch()
                os.truncate(self._place(layer), layer.size)
        return tuple({layer.digest: layer for layer in wanted}.values())

    def _fetch(self, digest: str) -> None:
        """Begin to fetch what is not there."""
        if all(is_there(self._place(layer)) for layer in self.wanted):
            return
        options = [] if self._registry.tls_verify else ["--src-tls-verify=false"]
        if self._registry.authfile is not None:
            options.append(f"--src-authfile={self._registry.authfile.absolute()}")
        arguments = ["copy", "--quiet", "--dest-oci-accept-uncompressed-layers", "--retry-times=3", *options]
        self._errors: BinaryIO = self._stack.enter_context(tempfile.TemporaryFile())
        # The layout's path might have a colon in it.
        self._process = begin_skopeo(
            [*arguments, SCHEME + self._remote.exact(digest), f"oci:.:{_TAG}"], self._path, errors=self._errors
        )

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        """A moment, or until skopeo has ended. EngineError if it has failed."""
        self._told()
        if process.poll() is None:
            time.sleep(_WAIT)
            return
        self._process = None
        if process.returncode:
            raise refusal(self._errors)

    def _end(self) -> None:
        """Have skopeo end: what it fetches is not wanted any more."""
        if self._process is not None:
            end_skopeo(self._process)
            self._process = None

    def _place(self, blob: Descriptor) -> Path:
        return self._path / "blobs" / blob.algorithm / blob.hex


@contextmanager
def _own_directory(path: Path) -> Iterator[Path]:
    """A directory that no other process uses, made if it is not there; waits for one that does."""
    while True:
        path.mkdir(mode=0o700, exist_ok=True)
        try:
            file = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue  # removed by the one that had it
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            if is_there(path) and os.path.samestat(os.fstat(file), path.stat()):
                yield path
                return
        finally:
            os.close(file)
