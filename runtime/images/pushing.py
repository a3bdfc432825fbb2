"""An image that was made -> a registry, by skopeo: it knows registries, credentials and mirrors as Podman does, and
asks for each blob whether it is there already before it sends it."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from runtime.images import model
from runtime.images.composing import Image
from runtime.images.layout import TAG, VERSION
from runtime.images.made import Made
from runtime.images.model import Index
from vcs.errors import EngineError, InvalidName

_TAG = "image"
_SCHEME = "docker://"


@dataclass(frozen=True, slots=True)
class Registry:
    """How to reach one."""

    tls_verify: bool = True
    authfile: Path | None = None
    """Otherwise where Podman and Docker keep credentials."""


def push(made: Made, image: Image, reference: str, registry: Registry, output: int | None = None) -> str:
    """Push an image to `reference` ([docker://]HOST/NAME:TAG); returns its digest there. What skopeo says of its
    progress goes to the descriptor `output`, None for nowhere.

    EngineError if skopeo is not installed, or with its own words if it fails. It is not ended by us: Ctrl-C reaches it
    as well, and it gives up by itself on a registry that does not answer.
    """
    reference = reference.removeprefix(_SCHEME)
    if not reference or reference.startswith(("-", "/")):
        raise InvalidName(f"{reference!r} names no registry: write HOST/NAME:TAG", name=reference)
    with _layout(made, image) as directory:
        digest = directory / "digest"
        options = [f"--dest-tls-verify={str(registry.tls_verify).lower()}", f"--digestfile={digest}"]
        if registry.authfile is not None:
            options.append(f"--dest-authfile={registry.authfile.absolute()}")
        # The policy is about images from elsewhere, and this one is ours. The layout's path might have a colon in it.
        command = ["skopeo", "--insecure-policy", "copy", "--preserve-digests", *options, f"oci:.:{_TAG}"]
        _run([*command, _SCHEME + reference], directory, output)
        return digest.read_text().strip()


@contextmanager
def _layout(made: Made, image: Image) -> Iterator[Path]:
    """A layout of its own for one image: others may push at the same time. Its blobs are the store's."""
    named = msgspec.structs.replace(image.manifest, annotations={TAG: _TAG})
    with tempfile.TemporaryDirectory(prefix="treering-push-") as name:
        directory = Path(name)
        (directory / "oci-layout").write_bytes(VERSION)
        (directory / "index.json").write_bytes(model.encoded(Index((named,))))
        (directory / "blobs").symlink_to((made.layout.path / "blobs").absolute())
        yield directory


def _run(command: Sequence[str], directory: Path, output: int | None) -> None:
    said: list[bytes] = []
    try:
        process = subprocess.Popen(
            command,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL if output is None else output,
            stderr=subprocess.PIPE,
        )
    except FileNotFoundError:
        raise EngineError(
            "skopeo is not installed, which talks to registries", advice="as root: apt-get install skopeo"
        ) from None
    with process:
        assert process.stderr is not None
        said += process.stderr.read().splitlines()
    if process.returncode:
        raise EngineError(_reason(said), advice=_advice(said))


def _reason(said: Sequence[bytes]) -> str:
    """skopeo's own words, without the frame of its log."""
    text = said[-1].decode(errors="replace") if said else "it said nothing"
    _, found, message = text.partition('msg="')
    return "the push failed: " + (message.rstrip('"').replace('\\"', '"') if found else text)


def _advice(said: Sequence[bytes]) -> str:
    text = b"\n".join(said).decode(errors="replace")
    if "server gave HTTP response to HTTPS client" in text:
        return "the registry has no TLS; if you trust the way to it: --tls-verify=false"
    if "certificate" in text:
        return "its certificate is not known here; install it, or, if you trust the way to it: --tls-verify=false"
    if "unauthorized" in text or "authentication required" in text or "denied" in text:
        return "log in first: skopeo login REGISTRY (or podman login, docker login)"
    return ""
