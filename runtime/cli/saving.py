"""save, push."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runtime.cli.exporting import whole_file
from runtime.cli.invocation import Invocation
from runtime.cli.options import F, revision_argument, verb
from runtime.cli.output import count_text, message, size_text
from runtime.cli.progress import Progress, seconds_text

if TYPE_CHECKING:
    from runtime.images.composing import Composed, Layers, MadeImage
    from runtime.images.compression import Compression
    from runtime.images.made import Made
    from runtime.images.references import Reference
    from vcs.model import CommitId
    from vcs.progress import Progress as Told

_KINDS = ("oci", "oci-archive", "docker-archive")
_COMPRESSIONS = ("gzip", "zstd", "none")
_LAYERS_MAX = 127
"""What Docker takes."""


class _LayersType(click.ParamType[str]):
    """per-commit, flat, or since=REV."""

    name = "layers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value)
        if text not in ("per-commit", "flat") and not re.match("since=.", text):
            self.fail(f"{text!r} is not one of 'per-commit', 'flat', 'since=REV'.", param, ctx)
        return text


def _layer_options(command: F) -> F:
    """--layers and --compression."""
    for option in (
        click.option("--compression", type=click.Choice(_COMPRESSIONS),
                     help="Of layers. Otherwise gzip, but none in a docker-archive."),
        click.option("--layers", type=_LayersType(), default="per-commit", show_default=True,
                     metavar="per-commit|flat|since=REV", help="What becomes a layer."),
    ):  # fmt: skip
        command = option(command)
    return command


@verb("save", data=True)
@revision_argument("revisions", nargs=-1, required=True, metavar="REV...")
@click.option("-o", "--output", "target", metavar="PATH", type=click.Path(path_type=Path, allow_dash=True),
              help="An archive's file (- is standard output), or a layout's directory.")  # fmt: skip
@click.option("--image-format", "kind", type=click.Choice(_KINDS),
              help="Otherwise docker-archive for an archive, and oci for a directory.")  # fmt: skip
@click.option("-t", "--tag", "tags", multiple=True, metavar="NAME:TAG", help="What the image is called.")
@_layer_options
def save(
    invocation: Invocation,
    revisions: tuple[str, ...],
    target: Path | None,
    kind: str | None,
    tags: tuple[str, ...],
    layers: str,
    compression: Compression | None,
) -> None:
    """Write a commit as an image for Docker, Podman and others.

    Each commit becomes a layer, along first parents, and a line of the image's history; with `--layers flat` all is one
    layer, with `since=REV` the state at REV is one, and each commit after it another. The same commits are the same
    image, with the same digests: an image that is saved or pushed again after a commit has one new layer.

    PATH is a directory that becomes an OCI image layout, or gets a further image if it is one; or a file, if its name
    ends in .tar, which `docker load` and `podman load` take. Without it, an archive goes to standard output. The image
    is called by the branch or tag that REV is, unless --tag says otherwise.

    Several revisions, each for a platform of its own, become one image for all of these (an index).

    \b
    Example:
      treering save web | podman load
      treering save web -o web.tar --tag example.org/web:1.2
      treering save web -o ./layout --compression zstd
      treering save web-amd64 web-arm64 -o ./layout --tag web:1.2
      skopeo inspect oci:./layout:web
    """
    from runtime.images.writing import write_docker_archive, write_layout, write_oci_archive

    is_stream = target is None or str(target) == "-"
    kind = kind or ("docker-archive" if target is None or _is_archive(target) else "oci")
    if is_stream:
        _check_stream(invocation, kind)
    elif kind == "oci" and target is not None and target.exists() and not target.is_dir():
        raise click.UsageError(f"{target} is a file, and an image layout is a directory")
    if kind == "docker-archive" and len(revisions) > 1:
        raise click.UsageError("a docker-archive is for one platform: take --image-format oci or oci-archive")
    commits = [invocation.commit(revision) for revision in revisions]
    names = _names(tags, revisions[0], commits[0])
    compression = compression or ("none" if kind == "docker-archive" else "gzip")
    with _composed(invocation, commits, layers, compression) as (made, composed, seconds):
        if kind == "oci":
            assert target is not None
            write_layout(made, composed, names, target)
        else:
            with whole_file(target, invocation.output.stream) as stream:
                if kind == "oci-archive":
                    write_oci_archive(made, composed, names, stream)
                else:
                    write_docker_archive(made, composed.images[0], names, stream)
    where = "standard output" if is_stream else str(target)
    if is_stream or invocation.output.is_table:
        message(f"Saved {names[0]} to {where}: {_summary(composed)} in {seconds_text(seconds())}")
    else:
        called = [str(name) for name in names if name.name]
        invocation.output.value({"output": where, "tags": called, **_fields(commits, composed)})


@verb("push", data=True)
@revision_argument("revisions", nargs=-1, required=True, metavar="REV...")
@click.argument("reference", metavar="HOST/NAME:TAG")
@_layer_options
@click.option("--tls-verify", type=bool, default=True, show_default=True, help="Demand a certificate that is valid.")
@click.option("--authfile", type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="FILE",
              help="Credentials; otherwise those of podman, skopeo and docker login.")  # fmt: skip
def push(
    invocation: Invocation,
    revisions: tuple[str, ...],
    reference: str,
    layers: str,
    compression: Compression | None,
    tls_verify: bool,
    authfile: Path | None,
) -> None:
    """Push a commit as an image to a registry.

    The image is the one that `treering save` writes, also of several revisions. Only layers that the registry does not
    have are sent. It needs skopeo.

    \b
    Example:
      treering push web registry.example.org/web:1.2
      treering push web localhost:5000/web --tls-verify=false --layers since=base
    """
    from runtime.images.pushing import push
    from runtime.images.skopeo import Registry

    commits = [invocation.commit(revision) for revision in revisions]
    with _composed(invocation, commits, layers, compression or "gzip") as (made, composed, seconds):
        shown = sys.stderr.fileno() if sys.stderr.isatty() else subprocess.DEVNULL
        digest = push(made, composed, reference, Registry(tls_verify, authfile), shown)
    if invocation.output.is_table:
        message(f"Pushed {reference}: {_summary(composed)} in {seconds_text(seconds())}")
        invocation.output.line(digest)
    else:
        invocation.output.value({"reference": reference, **_fields(commits, composed), "digest": digest})


def _check_stream(invocation: Invocation, kind: str) -> None:
    if kind == "oci":
        raise click.UsageError("an image layout is a directory: name one with -o, or take --image-format oci-archive")
    if not invocation.output.is_table:
        raise click.UsageError("standard output is the image; with --format, name a file with -o")
    if sys.stdout.isatty():
        raise click.UsageError("standard output is a terminal; name a file or a directory with -o")


def _is_archive(target: Path) -> bool:
    return str(target) == "-" or (target.name.endswith(".tar") and not target.is_dir())


def _names(tags: tuple[str, ...], revision: str, commit: CommitId) -> list[Reference]:
    from runtime.images.references import parse_reference, reference_of

    return [parse_reference(tag) for tag in tags] or [reference_of(revision, commit)]


def _layers(invocation: Invocation, text: str) -> Layers:
    from runtime.images.composing import Flat, PerCommit, Since

    if text == "flat":
        return Flat()
    _, since, revision = text.partition("since=")
    return Since(invocation.commit(revision)) if since else PerCommit()


@contextmanager
def _composed(
    invocation: Invocation, commits: Sequence[CommitId], layers: str, compression: Compression
) -> Iterator[tuple[Made, Composed, Callable[[], float]]]:
    """The image of commits, all of whose blobs are there; and a function that tells how long it has taken so far."""
    from runtime.images.composing import compose, steps_of, together
    from runtime.images.made import made_images

    store = invocation.store
    chains = [steps_of(store, commit, _layers(invocation, layers)) for commit in commits]
    most = max(sum(not step.is_empty for step in steps) for steps in chains)
    if most > _LAYERS_MAX:
        message(
            f"warning: these are {most:,} layers, and Docker takes {_LAYERS_MAX} at most: --layers flat or since=REV "
            "makes fewer"
        )
    with made_images(store) as made:
        with Progress("Making layers") as progress:

            def working(number: int, count: int) -> Told:
                title = f"Making layer {number} of {count}"
                return lambda files, size: progress.update(size, files, title=title)

            composed = together(made, [compose(store, made, steps, compression, working) for steps in chains])
        yield made, composed, lambda: progress.seconds


def _summary(composed: Composed) -> str:
    layers = {layer.digest: layer for image in composed.images for layer in image.layers}
    size = sum(layer.size for layer in layers.values())
    return f"{count_text(len(layers), 'layer')}, {size_text(size)}, {composed.top.digest[:19]}"


def _fields(commits: Sequence[CommitId], composed: Composed) -> dict[str, Any]:
    images = [_image_fields(*one) for one in zip(commits, composed.images, strict=True)]
    return images[0] if len(images) == 1 else {"digest": composed.top.digest, "images": images}


def _image_fields(commit: CommitId, image: MadeImage) -> dict[str, Any]:
    return {
        "commit": commit,
        "platform": str(image.platform),
        "digest": image.manifest.digest,
        "id": image.config.digest,
        "layers": [
            {"digest": layer.digest, "size": layer.size, "diff_id": diff_id, "media_type": layer.media_type}
            for layer, diff_id in zip(image.layers, image.diff_ids, strict=True)
        ],
    }


VERBS: dict[str, click.Command] = {"save": save, "push": push}
