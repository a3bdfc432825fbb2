"""Archives by hand: headers that no tool would write."""

from __future__ import annotations

from vcs.tar.block import Header, build_header
from vcs.tar.pax import Records, build_records

END = bytes(1024)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def resum(block: bytes) -> bytes:
    """The header with a right checksum, after something in it was changed."""
    total = sum(block[:148]) + 256 + sum(block[156:])
    return block[:148] + b"%06o\0 " % total + block[156:]


def patch(block: bytes, offset: int, data: bytes) -> bytes:
    """The header with `data` at `offset`, and a right checksum."""
    return resum(block[:offset] + data + block[offset + len(data) :])


def member(
    name: bytes, data: bytes = b"", kind: bytes = b"0", link: bytes = b"", size: int | None = None, mode: int = 0o644
) -> bytes:
    """A header and its data."""
    length = len(data) if size is None else size
    return build_header(Header(name, mode, 1, 2, length, 3, kind[0], link, 0, 0)) + padded(data)


def directory(name: bytes, mode: int = 0o755) -> bytes:
    return member(name, kind=b"5", mode=mode)


def symlink(name: bytes, target: bytes) -> bytes:
    return member(name, kind=b"2", link=target)


def hard_link(name: bytes, target: bytes) -> bytes:
    return member(name, kind=b"1", link=target)


def pax(*records: tuple[bytes, bytes], kind: bytes = b"x") -> bytes:
    """An extended header for the member that follows."""
    found: Records = list(records)
    return member(b"PaxHeaders/x", build_records(found), kind=kind)
