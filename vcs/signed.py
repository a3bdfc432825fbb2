"""Signatures in the bytes of commits and tags, as git has them; no key is known here, and no process is run.

A commit's signature is a header, `gpgsig`, after all others; what is signed is the commit without it. A tag's is the
end of its message; what is signed is what is before. Whose signature it is, and whether it is true, is for others
(runtime.signing).
"""

from __future__ import annotations

import re
from collections.abc import Callable

Sign = Callable[[bytes], bytes]
"""Makes the signature of some bytes: lines of text, armoured (`-----BEGIN SSH SIGNATURE-----`)."""

_HEADER = re.compile(rb"^gpgsig(?:-sha256)? .*\n(?: .*\n)*", re.MULTILINE)
_SHA1_HEADER = re.compile(rb"^gpgsig (.*\n(?: .*\n)*)", re.MULTILINE)
_ARMOUR = re.compile(rb"^-----BEGIN (?:PGP SIGNATURE|PGP MESSAGE|SSH SIGNATURE|SIGNED MESSAGE)-----", re.MULTILINE)


def with_signature(commit: bytes, signature: bytes) -> bytes:
    r"""The bytes of a commit with a signature.

    >>> with_signature(b"tree 1\nauthor A\n\nwords\n", b"-----BEGIN\nabc\n")
    b'tree 1\nauthor A\ngpgsig -----BEGIN\n abc\n\nwords\n'
    """
    header, empty, message = commit.partition(b"\n\n")
    return header + b"\ngpgsig " + b"\n ".join(signature.rstrip(b"\n").split(b"\n")) + empty + message


def without_signature(commit: bytes) -> bytes:
    r"""The bytes of a commit without its signature, if it has one.

    >>> without_signature(b"tree 1\nauthor A\ngpgsig -----BEGIN\n abc\n\ngpgsig words\n")
    b'tree 1\nauthor A\n\ngpgsig words\n'
    """
    header, _, message = commit.partition(b"\n\n")
    return _HEADER.sub(b"", header + b"\n") + b"\n" + message


def signature_of(commit: bytes) -> bytes | None:
    r"""A commit's signature; None if it is not signed.

    >>> signature_of(b"tree 1\nauthor A\ngpgsig -----BEGIN\n abc\n\nwords\n")
    b'-----BEGIN\nabc\n'
    """
    header, _, _ = commit.partition(b"\n\n")
    found = _SHA1_HEADER.search(header + b"\n")
    return found[1].replace(b"\n ", b"\n") if found else None


def split_tag(tag: bytes) -> tuple[bytes, bytes | None]:
    """The bytes of a tag that are signed, and its signature: None if it is not. As with git, the last one counts."""
    starts = [found.start() for found in _ARMOUR.finditer(tag)]
    return (tag[: starts[-1]], tag[starts[-1] :]) if starts else (tag, None)
