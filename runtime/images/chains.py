"""Which root some layers make, one on the other, remembered: so that the same layers are never read twice.

STORE/caches/image-<chain>, which may be deleted at any time, and is by gc when its root is. <chain> is the hexadecimal
part of the layers' ChainID (OCI image specification, config.md), so it says which layers, and in which order.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from vcs.durable import replace_file
from vcs.leases import Lease
from vcs.model import DIGEST_SIZE, RootId
from vcs.store import Store

PREFIX = "image-"
_MAGIC = b"treering image 1\n"
_SIZE = 2 * DIGEST_SIZE + 1 + len(_MAGIC)


def chain_ids(diff_ids: Iterable[str]) -> Iterator[str]:
    """What is below and with each of some layers, the lowest first, as one digest."""
    chain = ""
    for diff_id in diff_ids:
        chain = diff_id if not chain else f"sha256:{hashlib.sha256(f'{chain} {diff_id}'.encode()).hexdigest()}"
        yield chain


def known_root(store: Store, lease: Lease, chain: str) -> RootId | None:
    """The root that layers make, if it is known, and everything below it is in the store and stays there.

    As with the caches of imports (vcs.importcache): if the file is still there after our lease says that we need its
    root, gc has either found the root needed, or will find our lease.
    """
    with contextlib.suppress(OSError, ValueError), _path(store, chain).open("rb") as file:
        data = file.read(_SIZE + 1)
        if len(data) != _SIZE or not data.endswith(_MAGIC):
            return None
        root = RootId(bytes.fromhex(data[: 2 * DIGEST_SIZE].decode("ascii")))
        lease.root(root)
        if os.fstat(file.fileno()).st_nlink and root in store:
            return root
    return None


def remember_root(store: Store, chain: str, root: RootId) -> None:
    """Note what layers make. Only once a ref leads to the root, or a lease keeps it."""
    replace_file(_path(store, chain), root.hex().encode() + b"\n" + _MAGIC, durable=False)


def _path(store: Store, chain: str) -> Path:
    return store.caches / f"{PREFIX}{chain.partition(':')[2]}"
