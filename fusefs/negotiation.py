"""INIT: what this driver asks of the kernel, and why."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from fusefs.wire import replies
from fusefs.wire.protocol import KERNEL_MINOR_VERSION, Init
from fusefs.wire.requests import InitRequest

_log = logging.getLogger(__name__)

MAX_PAGES = 256
"""The most that one READ may ask for, in pages: 1 MiB, the kernel's own limit."""
MAX_READAHEAD = 16 << 20
"""Bytes; the mount's own setting (mounting.set_readahead) decides below that."""
MAX_BACKGROUND = 64
"""Readahead requests in flight. Only one is served at a time: enough to keep the queue full, few enough to be fair."""
MAX_WRITE = 4096
"""Nothing is ever written; this only keeps the kernel's demand on our buffer low."""

_WANTED = {
    Init.ASYNC_READ: "readahead in several requests at once",
    Init.DO_READDIRPLUS: "a directory's names come with their attributes: a cold find asks nothing else",
    Init.NO_OPEN_SUPPORT: "files are opened without a message, and keep their page cache",
    Init.PARALLEL_DIROPS: "lookups in one directory do not wait for one another",
    Init.POSIX_ACL: "the kernel enforces the access lists that a root holds, through overlays too",
    Init.ABORT_ERROR: "the end of a connection can be told from an unmount",
    Init.MAX_PAGES: "READ of up to 1 MiB instead of 128 KiB",
    Init.CACHE_SYMLINKS: "the targets of links are kept",
    Init.NO_OPENDIR_SUPPORT: "directories are opened without a message, and their listing is kept",
    Init.INIT_EXT: "flags of the second word",
    Init.HAS_RESEND: "what a worker had in hand when it died is sent again; without it, the request memory tells",
    Init.ALLOW_IDMAP: "a container may have ids of its own: its lower is an idmapped mount of ours",
}
_REFUSED = {
    Init.AUTO_INVAL_DATA: "what a snapshot's file holds never changes, so there is nothing to compare",
    Init.READDIRPLUS_AUTO: "it would fall back to names without attributes, and a message for each",
}


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What was agreed on."""

    flags: int
    minor: int
    """The protocol's minor version that both know."""

    def has(self, capability: Init) -> bool:
        """Whether a capability is on."""
        return bool(self.flags & capability)


def negotiate(request: InitRequest) -> tuple[Capabilities, bytes]:
    """What is agreed on with a kernel of our major version, and the reply that says so. Logs each capability."""
    wanted = sum(_WANTED)
    agreed = Capabilities(request.flags & wanted, min(request.minor, KERNEL_MINOR_VERSION))
    _log.info("protocol 7.%d, the kernel has 7.%d", agreed.minor, request.minor)
    for capability, why in _WANTED.items():
        state = "on" if agreed.has(capability) else "off, the kernel has it not"
        _log.info("%s is %s: %s", capability.name, state, why)
    for capability, why in _REFUSED.items():
        _log.info("%s is off by choice: %s", capability.name, why)
    reply = replies.init(agreed.flags, MAX_READAHEAD, MAX_BACKGROUND, MAX_WRITE, MAX_PAGES, agreed.minor)
    return agreed, reply
