"""pull."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runtime.cli.images import image_options, take_image, tell_images, wish_of
from runtime.cli.invocation import Invocation
from runtime.cli.options import branch_completion, verb
from runtime.cli.output import count_text, message, size_text
from runtime.cli.secrets import allow_secrets_option

if TYPE_CHECKING:
    from runtime.images.choosing import Wish
    from runtime.images.skopeo import Registry


@verb("pull", data=True)
@click.argument("reference", metavar="NAME:TAG")
@click.option("-b", "--branch", metavar="BRANCH", help="Where the commits go; otherwise NAME-TAG.",
              shell_complete=branch_completion)  # fmt: skip
@image_options
@click.option("--tls-verify", type=bool, default=True, show_default=True, help="Demand a certificate that is valid.")
@click.option("--authfile", type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="FILE",
              help="Credentials; otherwise those of podman, skopeo and docker login.")  # fmt: skip
@allow_secrets_option
def pull(
    invocation: Invocation,
    reference: str,
    branch: str | None,
    platform: str | None,
    flat: bool,
    force: bool,
    tls_verify: bool,
    authfile: Path | None,
    allow_secrets: bool,
) -> None:
    """Fetch an image from a registry, and make commits of it.

    Each step of the image's history becomes a commit; the branch, named after the image if you do not say another,
    names the last of them. Only layers that the store does not know are fetched; a pull that was interrupted goes on
    where it was. Of an image for several platforms, it is the machine's; `--platform all` takes each to a branch of its
    own, NAME-TAG-ARCH, and `push` makes one image of these again. It needs skopeo.

    A branch moves from one image to the next, but if it has commits of your own, that takes --force.

    \b
    Example:
      treering pull debian:12
      treering pull quay.io/team/app:1.2 --branch app --platform linux/arm64
      treering pull localhost:5000/web --tls-verify=false
      treering pull --platform all debian:12
    """
    from runtime.images.choosing import Wanted, Wish, branch_for, usable
    from runtime.images.remote import Remote, branch_of
    from runtime.images.skopeo import Registry

    branch = branch or branch_of(reference)
    wish, registry = wish_of(None, platform), Registry(tls_verify, authfile)
    each = [(branch, wish)]
    if wish.all_platforms:
        there = usable(Remote(reference, registry).platforms())
        each = [(branch_for(branch, one), Wish(platform=Wanted(one))) for one in there]
    told = [
        _pulled(invocation, reference, each_branch, one, registry, flat=flat, force=force, allow_secrets=allow_secrets)
        for each_branch, one in each
    ]
    tell_images(invocation, wish, told)


def _pulled(
    invocation: Invocation, reference: str, branch: str, wish: Wish, registry: Registry,
    *, flat: bool, force: bool, allow_secrets: bool,
) -> dict[str, Any]:  # fmt: skip
    """Pull one image to a branch; returns what is to be told of it."""
    from runtime.cli.layerlines import LayerLines
    from runtime.images.pulling import Pull

    store = invocation.store
    with store.writing() as lease, LayerLines() as lines:
        read = 0

        def told() -> None:
            if lines.is_due():
                lines.draw(coming.layers, coming.wanted, coming.arrived(), coming.begun, read)

        def imported(size: int, _: int) -> None:
            nonlocal read
            read = size
            told()

        def ended() -> None:
            coming.wait()
            lines.clear()

        with Pull(store, lease, reference, wish, registry, told) as coming:
            if not lines.is_shown and invocation.output.is_table:
                size = sum(layer.size for layer in coming.wanted)
                count = count_text(len(coming.layers), "layer")
                message(f"{count}, {len(coming.wanted):,} to fetch ({size_text(size)})")
            return take_image(
                invocation, coming.image, branch, f"pull: {reference}", flat=flat, force=force,
                allow_secrets=allow_secrets, progress=imported, before_end=ended,
            )  # fmt: skip


VERBS: dict[str, click.Command] = {"pull": pull}
