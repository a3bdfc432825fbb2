"""How members of a network find one another, and the rest of the world: /etc/hosts and /etc/resolv.conf.

Each member has a hosts file of its own, of which one section is ours; it lists all members and is written anew when
one comes or goes. Nothing has to run for it. The file is mounted into the container by its inode, so it is written in
place.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from runtime.network.record import Record

_BEGIN, _END = "# Members of the network, kept by treering", "# End of the members"
_SECTION = re.compile(re.escape(f"{_BEGIN}\n".encode()) + b".*?" + re.escape(f"{_END}\n".encode()), re.DOTALL)
_NAME = re.compile(r"[a-zA-Z0-9_]([a-zA-Z0-9_.-]{0,251}[a-zA-Z0-9_])?")
GATEWAY_NAMES = ("host.containers.internal", "host.docker.internal")
"""The machine, as Podman and Docker call it in containers."""
_RESERVED = {"localhost", "ip6-localhost", "ip6-loopback", "ip6-allnodes", "ip6-allrouters", *GATEWAY_NAMES}

_STUBS = (
    # What a resolver on the loopback writes about the nameservers that it asks itself.
    Path("/run/systemd/resolve/resolv.conf"),
    Path("/run/NetworkManager/no-stub-resolv.conf"),
)
_LOOPBACK = re.compile(rb"^[ \t]*nameserver[ \t]+(?:127\.|::1[ \t]*$|0\.0\.0\.0|::[ \t]*$)", re.MULTILINE)
_NAMESERVER = re.compile(rb"^[ \t]*nameserver[ \t]", re.MULTILINE)


def usable(name: str) -> bool:
    """Whether a name may stand in the hosts files of others: it can be looked up, and is nobody else's."""
    return bool(_NAME.fullmatch(name)) and name.lower() not in _RESERVED


def section(members: Iterable[Record], gateway: str) -> tuple[str, ...]:
    """Our lines of a hosts file. A container's name is its alone; another name is of the first who has it."""
    found = [(record.address, record.names) for record in members if record.address and record.names]
    owners = {names[0].lower() for _, names in found}
    lines = [_BEGIN, f"{gateway}\t{' '.join(GATEWAY_NAMES)}"]
    for address, (name, *others) in found:
        own = [name] if usable(name) else []
        for other in others:
            if usable(other) and other.lower() not in owners:
                owners.add(other.lower())
                own.append(other)
        if own:
            lines.append(f"{address}\t{' '.join(own)}")
    return (*lines, _END)


def replace_section(text: bytes, lines: Iterable[str]) -> bytes:
    """A hosts file with another section, put in front if it has none; the rest may be the container's."""
    new = "".join(f"{line}\n" for line in lines).encode()
    replaced, count = _SECTION.subn(lambda _: new, text, count=1)
    return replaced if count else new + text


def write(path: Path, lines: Iterable[str]) -> None:
    """Put a section into a hosts file, in place; a file that is not there has no reader. OSError."""
    with suppress(FileNotFoundError):
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            old = _read(fd)
            text = replace_section(old, lines)
            if text != old:
                # In one piece, and no shorter than what it replaces: no reader sees a part of the old text after it.
                os.pwrite(fd, text + b"\n" * (len(old) - len(text)), 0)
                os.ftruncate(fd, len(text))
        finally:
            os.close(fd)


def _read(fd: int) -> bytes:
    parts = []
    while part := os.read(fd, 1 << 16):
        parts.append(part)
    return b"".join(parts)


def nameservers(own: bytes, others: Sequence[Path] = _STUBS) -> bytes:
    """A resolv.conf for a network in which the machine's loopback is another's, from the machine's own. If it names
    nameservers on the loopback alone, what these have written down of those that they ask takes its place; if there is
    none of that, no nameserver is left. OSError if one cannot be read."""
    if not _LOOPBACK.search(own):
        return own
    rest = b"".join(line for line in own.splitlines(keepends=True) if not _LOOPBACK.match(line))
    if _NAMESERVER.search(rest):
        return rest
    for path in others:
        with suppress(FileNotFoundError, PermissionError):
            text = path.read_bytes()
            if _NAMESERVER.search(text) and not _LOOPBACK.search(text):
                return text
    return rest


def resolv_conf(*first: str) -> bytes:
    """The machine's resolv.conf, for a network of its own. With `first`, these nameservers replace all others.
    OSError if it is there and cannot be read."""
    own = b""
    with suppress(FileNotFoundError):
        own = Path("/etc/resolv.conf").read_bytes()
    if not first:
        return nameservers(own)
    kept = [line for line in own.splitlines(keepends=True) if not _NAMESERVER.match(line)]
    return b"".join(kept) + b"".join(f"nameserver {address}\n".encode() for address in first)
