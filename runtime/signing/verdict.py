"""What the signature of a commit or a tag is worth; and what makes one.

good        it is the key's of somebody whom gpg.ssh.allowedSignersFile names
unknown     it fits, but nobody says whose key it is
bad         it does not fit: what was signed, or the signature, was changed; or the key was withdrawn
unchecked   it is of another kind (PGP, X.509), which git itself can check; or something is missing to check it
none        there is none
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from runtime.signing import keygen, settings
from vcs.errors import NotFound
from vcs.gitwords import TAGS
from vcs.signed import Sign, signature_of, split_tag, without_signature
from vcs.store import Store

Worth = Literal["good", "unknown", "bad", "unchecked", "none"]

_ARMOUR = b"-----BEGIN SSH SIGNATURE-----"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a signature is worth."""

    worth: Worth
    principal: str | None = None
    """Whose it is, as the allowed signers call him."""
    key: str | None = None
    """Its kind and fingerprint, where it fits."""
    words: str = ""
    """Why it is no better."""


def signer(store: Store, key: str | None = None) -> Sign:
    """What signs with a key: the one that is named, else user.signingKey. It was seen that the key and ssh-keygen are
    there: BadInput, NotFound."""
    found = settings.find_key(store, key)
    keygen.check_program()
    return lambda data: keygen.sign(found, data)


def of_commit(store: Store, commit: str) -> Verdict:
    """What the signature of a commit, by its full id, is worth. No process is run if it has none."""
    data = store.history.raw(commit)
    return _judged(store, lambda: without_signature(data), signature_of(data), _time(data, b"committer "))


def of_tag(store: Store, name: str) -> Verdict:
    """The same of a tag. NotFound if there is no such tag."""
    oid = store.history.target(TAGS + name)
    if oid is None:
        raise NotFound(f"no tag {name!r}", name=name)
    data = store.history.raw(oid)
    if not data.startswith(b"object "):
        return Verdict("none", words="it is a plain tag: only an annotated one can be signed")
    signed, signature = split_tag(data)
    return _judged(store, lambda: signed, signature, _time(data, b"tagger "))


def _judged(store: Store, signed: Callable[[], bytes], signature: bytes | None, when: int) -> Verdict:
    if signature is None:
        return Verdict("none", words="there is no signature")
    if not signature.startswith(_ARMOUR):
        return Verdict("unchecked", words="it is none of an SSH key: `git verify-commit` or `verify-tag` checks it")
    allowed = settings.allowed_signers(store)
    found = keygen.check(signed(), signature, when, allowed, settings.revoked_keys(store))
    if not found.is_good:
        return Verdict("bad", words=found.words)
    if found.principal is None:
        why = "names nobody with this key" if allowed else "is not set"
        return Verdict("unknown", None, found.key, f"gpg.ssh.allowedSignersFile {why}")
    return Verdict("good", found.principal, found.key)


def _time(data: bytes, field: bytes) -> int:
    """When it was made, in seconds since 1970; 0 if it does not say."""
    header = data.partition(b"\n\n")[0]
    line = next((line for line in header.split(b"\n") if line.startswith(field)), b"")
    try:
        return int(line.split(b" ")[-2])
    except (ValueError, IndexError):
        return 0
