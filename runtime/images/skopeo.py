"""skopeo(1), which talks to registries: it knows them, their credentials and their mirrors as Podman does."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vcs.errors import EngineError


@dataclass(frozen=True, slots=True)
class Registry:
    """How to reach one."""

    tls_verify: bool = True
    authfile: Path | None = None
    """Otherwise where Podman and Docker keep credentials."""


def run_skopeo(arguments: Sequence[str], directory: Path, output: int | None = None) -> None:
    """Run it in a directory, to its end. What it says of its progress goes to the descriptor `output`, None: nowhere.

    EngineError if it is not installed, or with its own words if it fails. Ctrl-C reaches it as well, and it gives up by
    itself on a registry that does not answer.
    """
    try:
        done = subprocess.run(
            ["skopeo", *arguments],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL if output is None else output,
            stderr=subprocess.PIPE,
            check=False,
        )
    except FileNotFoundError:
        raise not_installed() from None
    if done.returncode:
        raise refusal(done.stderr)


def not_installed() -> EngineError:
    """That there is no skopeo."""
    return EngineError(
        "skopeo is not installed, and it is what talks to registries", advice="as root: apt-get install skopeo"
    )


def refusal(said: bytes) -> EngineError:
    """That it failed, in the words that it `said`."""
    text = said.decode(errors="replace").strip()
    return EngineError(_reason(text), advice=_advice(text))


def _reason(text: str) -> str:
    """skopeo's own words, without the frame of its log."""
    last = text.rpartition("\n")[2]
    _, found, message = last.partition('msg="')
    words = message.rstrip('"').replace('\\"', '"') if found else last
    return f"skopeo could not do it: {words or 'it said nothing'}"


def _advice(text: str) -> str:
    if "server gave HTTP response to HTTPS client" in text:
        return "the registry has no TLS; if you trust the way to it: --tls-verify=false"
    if "certificate" in text:
        return "its certificate is not known here: install it; or, if you trust the way to it: --tls-verify=false"
    if any(words in text for words in ("unauthorized", "authentication required", "denied")):
        return "log in first: skopeo login REGISTRY (podman login and docker login do as well)"
    return ""
