"""An image that was made -> a registry. Of each blob it is asked first whether it is there: then it is not sent."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from runtime.images import model
from runtime.images.composing import Composed
from runtime.images.layout import TAG
from runtime.images.made import Made
from runtime.images.model import Index
from runtime.images.remote import SCHEME
from runtime.images.skopeo import Registry, run_skopeo
from vcs.errors import InvalidName

_TAG = "image"


def push(made: Made, composed: Composed, reference: str, registry: Registry, output: int = subprocess.DEVNULL) -> str:
    """Push an image to `reference` ([docker://]HOST/NAME:TAG); returns its digest there. EngineError, see run_skopeo;
    InvalidName."""
    reference = reference.removeprefix(SCHEME)
    if not reference or reference.startswith(("-", "/")):
        raise InvalidName(f"{reference!r} names no registry: write HOST/NAME:TAG", name=reference)
    with _layout(made, composed) as directory:
        digest = directory / "digest"
        options = [f"--dest-tls-verify={str(registry.tls_verify).lower()}", f"--digestfile={digest}"]
        if registry.authfile is not None:
            options.append(f"--dest-authfile={registry.authfile.absolute()}")
        # The policy is about images from elsewhere, and this one is ours. The layout's path might have a colon in it.
        copy = ["--insecure-policy", "copy", "--all", "--preserve-digests", *options]
        run_skopeo([*copy, f"oci:.:{_TAG}", SCHEME + reference], directory, output)
        return digest.read_text().strip()


@contextmanager
def _layout(made: Made, composed: Composed) -> Iterator[Path]:
    """A layout of its own for one image: others may push at the same time. Its blobs are the store's."""
    named = msgspec.structs.replace(composed.top, annotations={TAG: _TAG})
    with tempfile.TemporaryDirectory(prefix="treering-push-") as name:
        directory = Path(name)
        (directory / "oci-layout").write_bytes(made.marker)
        (directory / "index.json").write_bytes(model.encoded(Index((named,))))
        (directory / "blobs").symlink_to((made.layout.path / "blobs").absolute())
        yield directory
