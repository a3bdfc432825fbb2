"""An image -> commits: each layer's root, made on the one before, and a commit for each step of its history.

Nothing refers to what was made until a branch is moved to the last commit; what a failure leaves is garbage, for gc.
Layers are read in order, each in one pass, and nothing of them is written but what the store keeps.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from runtime.images.chains import chain_ids, known_root, remember_root
from runtime.images.image import Image, ImageLayer
from runtime.images.steps import flat_step, steps_of
from runtime.secrets import Finding, Policy, SecretWatch
from vcs.decompress import Limits, decompressed
from vcs.errors import BadInput, Conflict
from vcs.gitwords import BRANCHES, Author
from vcs.layer_import import import_layer
from vcs.leases import Lease
from vcs.model import CommitId, RootId, Tree
from vcs.store import Store
from vcs.tar.stream import Readable

_PIECE = 1 << 20
_LIMITS = Limits(ratio=200)
"""Honest layers of over a gigabyte expand to ten times their size, or twenty; gzip could do a thousand."""
_IS_IMAGE = re.compile(r"^Image: sha(256|512):[0-9a-f]+$", re.MULTILINE)

Progress = Callable[[int, int], None]
"""Called now and then with the bytes of layers read so far, as they are stored, and how many there are."""


@dataclass(slots=True)
class Imported:
    """What an import of an image made."""

    commit: CommitId
    root: RootId
    commits: int
    layers: int
    known: int = 0
    """Of the layers, those that had been imported before, and were not read."""
    added: int = 0
    """Bytes that the store grew by, in layers."""
    secrets: list[Finding] = field(default_factory=list)
    whiteouts: list[bytes] = field(default_factory=list)
    """Character devices 0:0, which overlayfs takes for deleted names."""


def import_image(
    store: Store, image: Image, *, flat: bool = False, policy: Policy = "off", progress: Progress | None = None
) -> Imported:
    """Make the commits of an image; no branch is moved. For use inside the store's `writing()`.

    The same image gives the same commits. BadInput for whatever is wrong with the image, SecretsFound.
    """
    with store.writing() as lease:
        return _Import(store, lease, image, policy, progress).run(flat)


class _Import:
    def __init__(self, store: Store, lease: Lease, image: Image, policy: Policy, progress: Progress | None) -> None:
        self._store = store
        self._lease = lease
        self._image = image
        self._policy = policy
        self._progress = progress
        self._read = 0
        self._total = sum(layer.size for layer in image.layers)
        self._done = Imported(CommitId(""), RootId(b""), 0, len(image.layers))

    def run(self, flat: bool) -> Imported:
        roots = self._roots()
        steps = (flat_step(self._image),) if flat else steps_of(self._image)
        parents: tuple[CommitId, ...] = ()
        root = self._empty_root() if steps[0].layer is None else roots[0]
        for step in steps:
            root = root if step.layer is None else roots[step.layer]
            parents = (self._store.add_commit(root, step.config, step.message, step.author, parents),)
        self._done.commit, self._done.root, self._done.commits = parents[0], root, len(steps)
        return self._done

    def _roots(self) -> list[RootId]:
        """The root of each layer; only those are read on which nothing is known to lie."""
        chains = list(chain_ids(self._image.config.rootfs.diff_ids))
        roots: list[RootId] = []
        for chain, layer in zip(chains, self._image.layers, strict=True):
            base = roots[-1] if roots else None
            root = known_root(self._store, self._lease, chain)
            if root is None:
                root = self._applied(layer, base)
                self._lease.root(root)
                remember_root(self._store, chain, root)
            else:
                self._done.known += 1
                self._total -= layer.size
            roots.append(root)
        return roots

    def _applied(self, layer: ImageLayer, base: RootId | None) -> RootId:
        """The root that a layer makes; all of it is in the store, and the layer was what the image says that it is."""
        with self._store.batch() as batch, layer.open() as file:
            watch = SecretWatch(self._store, batch, self._policy)
            stored = _Counted(file, self._tell)
            try:
                content = _Summed(decompressed(stored, _LIMITS), layer.diff_id)
                result = import_layer(content, self._store, watch, base)
                content.check()
                while stored.read(_PIECE):
                    pass  # what follows the compressed stream is part of what has a digest too
            except BadInput as error:
                raise BadInput(f"layer {layer.diff_id}: {error}", **error.facts | {"layer": layer.diff_id}) from error
            watch.refuse(base, result.root)
        self._done.added += batch.added
        self._done.secrets += watch.findings(base, result.root)
        self._done.whiteouts += result.whiteouts
        return result.root

    def _empty_root(self) -> RootId:
        with self._store.batch() as batch:
            return import_layer(_Nothing(), self._store, batch, None).root

    def _tell(self, size: int) -> None:
        self._read += size
        if self._progress:
            self._progress(self._read, self._total)


class _Nothing:
    def read(self, _size: int, /) -> bytes:
        return b""


class _Counted:
    """A stream whose bytes are told of."""

    def __init__(self, source: Readable, tell: Callable[[int], None]) -> None:
        self._source = source
        self._tell = tell

    def read(self, size: int, /) -> bytes:
        data = self._source.read(size) or b""
        self._tell(len(data))
        return data


class _Summed:
    """A layer's content, and whether it is what the image says."""

    def __init__(self, source: Readable, diff_id: str) -> None:
        self._source = source
        self._expected = diff_id
        self._sum = hashlib.new(diff_id.partition(":")[0])

    def read(self, size: int, /) -> bytes:
        data = self._source.read(size) or b""
        self._sum.update(data)
        return data

    def check(self) -> None:
        """BadInput unless all that was read has the digest; to be called at the end."""
        while self.read(_PIECE):
            pass
        if self._sum.hexdigest() != self._expected.partition(":")[2]:
            raise BadInput("its content has another digest than the image's config says")


def move_branch(store: Store, branch: str, commit: CommitId, reason: str, who: Author, *, force: bool = False) -> bool:
    """Have a branch name an image; returns whether it did not do so before.

    A branch that has the image already, and work on it, stays where it is. One that is elsewhere moves if that is
    another image, or with `force`; Conflict if it has commits of anybody's own, which it would lose.
    """
    history = store.history
    with history.locked():
        tip = history.target(BRANCHES + branch)
        if tip is not None:
            if history.is_ancestor(commit, tip):
                return False
            is_free = history.is_ancestor(tip, commit) or _IS_IMAGE.search(history.info(tip).message)
            if not (is_free or force):
                raise Conflict(
                    f"branch {branch!r} has commits of its own, which the image does not have",
                    image=commit,
                    branch=branch,
                    expected=commit,
                    found=tip,
                )
        history.move(BRANCHES + branch, commit, tip, reason, who, force=force)
        return True


def tree_of(store: Store, root: RootId) -> Tree:
    """How much a root has."""
    content = store.snapshot(root).root.content
    assert isinstance(content, Tree)
    return content
