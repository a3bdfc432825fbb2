"""What a registry says that a reference names: indexes, manifests and configs, fetched by skopeo(1) and checked."""

from __future__ import annotations

import re
import tempfile

from runtime.images import model
from runtime.images.choosing import Wish, for_platform
from runtime.images.model import Descriptor, Index, Manifest, Platform
from runtime.images.skopeo import Registry, run_skopeo
from vcs.errors import BadInput, InvalidName

SCHEME = "docker://"
_ANSWER = "60s"
"""What a registry may take to answer with a document."""
_DEPTH_MAX = 4
_ASKED_MAX = 100
_NAME = re.compile(r"(?P<name>[^@]+?)(?::(?P<tag>[^/:@]+))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?")


class Remote:
    """What a reference names in a registry. Everything raises EngineError (see skopeo) if that does not say."""

    def __init__(self, reference: str, registry: Registry) -> None:
        """InvalidName if the reference is none."""
        self._reference = reference.removeprefix(SCHEME)
        self._name = _parsed(reference)["name"]
        self._registry = registry

    def exact(self, digest: str) -> str:
        """The reference of one of its manifests."""
        return f"{self._name}@{digest}"

    def image(self, wish: Wish) -> tuple[str, Manifest, bytes]:
        """The digest of the manifest that is meant, the manifest, and its config's bytes. NotFound, BadInput."""
        digest, found = self._top()
        depth = 0
        while isinstance(found, Index):
            depth += 1
            if depth > _DEPTH_MAX:
                raise BadInput(f"{self._reference} names an index in an index in an index", reference=self._reference)
            digest, found = self._below(for_platform(self._images(found), wish))
        return digest, found, self._config(digest, found)

    def platforms(self) -> list[Platform]:
        """Those that there are images for, as the index has them. BadInput."""
        todo = [self._top()]
        platforms: list[Platform] = []
        asked = 0
        while todo:
            digest, found = todo.pop(0)
            if isinstance(found, Manifest):
                config, _ = model.config_of(self._config(digest, found), f"config {found.config.digest}")
                platforms.append(config.platform)
                continue
            for one in self._images(found):
                if one.platform is not None and one.platform.architecture:
                    platforms.append(one.platform)
                    continue
                asked += 1
                if asked > _ASKED_MAX:
                    raise BadInput(f"{self._reference} names too many indexes in indexes", reference=self._reference)
                todo.append(self._below(one))
        return platforms

    def _top(self) -> tuple[str, Manifest | Index]:
        data = self._inspect(self._reference)
        return model.digest_of(data), model.manifest_or_index(data, f"what {self._reference} names")

    def _below(self, one: Descriptor) -> tuple[str, Manifest | Index]:
        data = self._inspect(self.exact(one.digest))
        _check(data, one)
        return one.digest, model.manifest_or_index(data, f"manifest {one.digest}")

    def _images(self, index: Index) -> list[Descriptor]:
        """The members of an index but for those that merely tell of others."""
        there = [one for one in index.manifests if not (one.platform and one.platform.os == "unknown")]
        if not there:
            raise BadInput(f"{self._reference} names an empty index", reference=self._reference)
        return there

    def _config(self, digest: str, manifest: Manifest) -> bytes:
        if manifest.config.media_type not in model.CONFIGS:
            raise BadInput(f"{self._reference} is of a {manifest.config.media_type!r}, which is no image")
        config = self._inspect(self.exact(digest), "--config")
        _check(config, manifest.config)
        return config

    def _inspect(self, reference: str, *more: str) -> bytes:
        """A document, as the registry has it."""
        options = [] if self._registry.tls_verify else ["--tls-verify=false"]
        if self._registry.authfile is not None:
            options.append(f"--authfile={self._registry.authfile.absolute()}")
        arguments = [f"--command-timeout={_ANSWER}", "inspect", "--raw", *more, *options, SCHEME + reference]
        with tempfile.TemporaryFile() as said:
            # Into a file: a registry decides how long it is.
            run_skopeo(arguments, output=said)
            said.seek(0)
            return said.read(model.DOCUMENT_MAX + 1)


def branch_of(reference: str) -> str:
    """The branch that an image goes to, unless another is said: the last part of its name, and its tag.

    >>> branch_of("docker.io/library/debian:12"), branch_of("debian"), branch_of("localhost:5000/team/app:v1.2")
    ('debian-12', 'debian', 'app-v1.2')
    """
    found = _parsed(reference)
    name = found["name"].rpartition("/")[2]
    more = found["digest"].partition(":")[2][:12] if found["digest"] else found["tag"]
    return name if more in (None, "latest") else f"{name}-{more}"


def _parsed(reference: str) -> re.Match[str]:
    found = _NAME.fullmatch(reference.removeprefix(SCHEME))
    if found is None or found["name"].startswith(("-", "/")):
        raise InvalidName(
            f"{reference!r} names no image in a registry: write NAME:TAG, such as debian:12 or quay.io/team/app:1",
            name=reference,
        )
    return found


def _check(data: bytes, descriptor: Descriptor) -> None:
    if model.digest_of(data) != descriptor.digest:
        raise BadInput(f"the registry's {descriptor.digest} has other bytes than its digest says")
