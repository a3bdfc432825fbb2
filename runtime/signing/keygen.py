"""One signature made, or checked, by ssh-keygen(1), `-Y`. Its words are passed on where something is wrong.

Nothing is written to the disk: what is signed goes through a pipe, and a signature, or a public key that is no file,
through memory that only the two processes see.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from runtime.signing.settings import Key
from vcs.errors import BadInput, NotFound

PROGRAM = "ssh-keygen"
NAMESPACE = "git"
"""What the signature is for: part of what is signed, so that one for another purpose is not taken for it."""
_PATIENCE = 120
"""Seconds. A key may ask for its passphrase, or to be touched; an agent may never answer."""
_GOOD = re.compile(rb'Good "git" signature (?:for (?P<who>.+) )?with (?P<kind>\S+) key (?P<key>\S+)')


@dataclass(frozen=True, slots=True)
class Checked:
    """What ssh-keygen says of a signature."""

    is_good: bool
    """It fits what was signed, and the key."""
    principal: str | None = None
    """Whose key it is, if the allowed signers say so."""
    key: str | None = None
    """Its kind and its fingerprint: `ED25519 SHA256:...`."""
    words: str = ""
    """What is wrong."""


def check_program() -> None:
    """NotFound if there is no ssh-keygen."""
    if shutil.which(PROGRAM) is None:
        raise NotFound(f"{PROGRAM} is not installed: it makes and checks signatures", signing="program")


def sign(key: Key, data: bytes) -> bytes:
    """The armoured signature of some bytes. BadInput, with ssh-keygen's words, if the key cannot be used."""
    with contextlib.ExitStack() as stack:
        if key.file is not None:
            which, fds = ["-f", str(key.file)], []
        else:
            fd = stack.enter_context(_in_memory(key.public.encode() + b"\n"))
            which, fds = ["-U", "-f", f"/proc/self/fd/{fd}"], [fd]
        done = _run(["sign", "-n", NAMESPACE, *which], data, fds)
    if done.returncode or not done.stdout.startswith(b"-----BEGIN SSH SIGNATURE-----"):
        name = key.file or key.public
        raise BadInput(f"{PROGRAM} cannot sign with {name}: {_words(done.stderr)}", signing="key")
    return done.stdout


def check(data: bytes, signature: bytes, when: int, allowed: Path | None, revoked: Path | None) -> Checked:
    """Check a signature as git does. `when` it was made, in seconds since 1970, counts for keys with a term."""
    with _in_memory(signature) as fd:
        about = ["-s", f"/proc/self/fd/{fd}"]
        if allowed is not None:
            term = "-Overify-time=" + time.strftime("%Y%m%d%H%M%S", time.localtime(when))
            known = ["-f", str(allowed), term]
            problem = ""
            found = _run(["find-principals", *known, *about], b"", [fd])
            for principal in found.stdout.decode("utf-8", "replace").splitlines() if not found.returncode else ():
                withdrawn = ["-r", str(revoked)] if revoked else []
                words = ["verify", "-n", NAMESPACE, "-I", principal, *known, *about, *withdrawn]
                done = _run(words, data, [fd])
                good = _GOOD.match(done.stdout)
                if not done.returncode and good:
                    return Checked(True, principal, _key(good))
                problem = _words(done.stderr + done.stdout)
            if problem:
                return Checked(False, words=problem)
        done = _run(["check-novalidate", "-n", NAMESPACE, *about], data, [fd])
    good = _GOOD.match(done.stdout)
    if not done.returncode and good:
        return Checked(True, None, _key(good))
    return Checked(False, words=_words(done.stderr + done.stdout))


def _key(good: re.Match[bytes]) -> str:
    return f"{good['kind'].decode()} {good['key'].decode()}"


def _run(words: Sequence[str], data: bytes, fds: Sequence[int]) -> subprocess.CompletedProcess[bytes]:
    check_program()
    try:
        return subprocess.run(
            [PROGRAM, "-Y", *words], input=data, capture_output=True, pass_fds=fds, timeout=_PATIENCE, check=False
        )
    except subprocess.TimeoutExpired:
        raise BadInput(f"{PROGRAM} has not answered for {_PATIENCE} seconds", signing="key") from None


def _words(output: bytes) -> str:
    lines = [line.strip() for line in output.decode("utf-8", "replace").splitlines()]
    told = [line for line in lines if line and not line.startswith("Signing data")]
    return "; ".join(dict.fromkeys(told)) or "it does not say why"


@contextlib.contextmanager
def _in_memory(data: bytes) -> Iterator[int]:
    fd = os.memfd_create("treering-signing", os.MFD_CLOEXEC)
    try:
        os.write(fd, data)
        yield fd
    finally:
        os.close(fd)
