"""What git's config says of signatures: that of a store's history, the user's, the system's (git-config(1)).

gpg.format                  `ssh`: the one format that is made here
user.signingKey             a file, private or public, or the public key itself after `key::`
commit.gpgSign, tag.gpgSign whether to sign what nobody says anything of
gpg.ssh.allowedSignersFile  whose keys are whose (ssh-keygen(1), ALLOWED SIGNERS)
gpg.ssh.revocationFile      keys that are not to be trusted any more
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vcs.errors import BadInput
from vcs.store import Store

_YES = frozenset({"true", "yes", "on", "1"})
_LITERAL = ("key::", "ssh-")


@dataclass(frozen=True, slots=True)
class Key:
    """What signs: a file, or a public key whose private half an agent has."""

    file: Path | None
    public: str = ""


def is_wished(store: Store, setting: str) -> bool:
    """Whether `commit.gpgSign` or `tag.gpgSign` is set."""
    return (store.history.setting(setting) or "").lower() in _YES


def signs_otherwise(store: Store) -> str | None:
    """The format that signatures are to have, if it is not that of SSH; git's own default is `openpgp`."""
    found = store.history.setting("gpg.format") or "openpgp"
    return None if found == "ssh" else found


def find_key(store: Store, named: str | None) -> Key:
    """The key that is `named`, else user.signingKey. BadInput if there is none."""
    words = named or store.history.setting("user.signingKey")
    if not words:
        raise BadInput("there is no key to sign with: user.signingKey is not set", signing="key")
    if words.startswith(_LITERAL):
        return Key(None, words.removeprefix("key::"))
    path = _path(store, words)
    if not path.is_file():
        raise BadInput(f"the key to sign with is not there: {path} is no file", signing="key", path=str(path))
    return Key(path)


def allowed_signers(store: Store) -> Path | None:
    """The file that says whose keys are whose. BadInput if it is named and not there."""
    return _file(store, "gpg.ssh.allowedSignersFile")


def revoked_keys(store: Store) -> Path | None:
    """The file of keys that are not to be trusted any more. BadInput if it is named and not there."""
    return _file(store, "gpg.ssh.revocationFile")


def _file(store: Store, setting: str) -> Path | None:
    words = store.history.setting(setting)
    if words is None:
        return None
    path = _path(store, words)
    if not path.is_file():
        raise BadInput(f"{setting} is {words!r}, and there is no such file", signing="file", path=str(path))
    return path


def _path(store: Store, words: str) -> Path:
    """As `git -C STORE/history.git` would find it."""
    return store.path / "history.git" / Path(words).expanduser()
