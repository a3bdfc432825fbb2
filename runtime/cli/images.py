"""What `import` and `pull` have in common: options for images, and how one comes into the store and is told of."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypeVar

import click

from runtime.cli.invocation import Invocation
from runtime.cli.output import count_text, message, size_text
from runtime.cli.progress import Progress, seconds_text
from runtime.cli.quoting import path_fields, quoted
from runtime.cli.render_commits import SHORT
from runtime.cli.secrets import secret_fields, secrets_policy, tell_secrets

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from runtime.images.choosing import Wish
    from runtime.images.image import Image
    from runtime.images.importing import Imported
    from runtime.images.importing import Progress as Told

F = TypeVar("F", bound="Callable[..., Any]")

_SHOWN = 10
_ALL = "all"


def image_options(command: F) -> F:
    """--platform, --flat and --force."""
    for option in (
        click.option("--force", is_flag=True, help="Move the branch even if it has commits that the image has not."),
        click.option("--flat", is_flag=True, help="Make one commit of an image, and not one of each of its steps."),
        click.option(
            "--platform",
            metavar="OS/ARCH",
            help="Of an image for several platforms, which one; `all` takes each to a branch of its own.",
        ),
    ):
        command = option(command)
    return command


def wish_of(name: str | None, platform: str | None) -> Wish:
    """What --image and --platform say."""
    from runtime.images.choosing import Wish, platform_of

    if platform == _ALL:
        return Wish(name, all_platforms=True)
    return Wish(name, platform_of(platform) if platform else None)


def tell_images(invocation: Invocation, wish: Wish, told: Sequence[dict[str, Any]]) -> None:
    """What take_image returned, as values: one, or an array where all platforms are wished for."""
    if wish.all_platforms:
        invocation.output.rows(told, lambda facts: facts, lambda _: None)
    elif not invocation.output.is_table:
        invocation.output.value(told[0])


def take_image(
    invocation: Invocation,
    image: Image,
    branch: str,
    reason: str,
    *,
    flat: bool,
    force: bool,
    allow_secrets: bool,
    progress: Told | None = None,
    before_end: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Import an image, have a branch name it, and tell of it, or return what is to be told as values. For use inside
    the store's `writing()`.

    `progress` is told instead of who looks at the terminal. `before_end` is called when all is imported, before the
    branch moves.
    """
    from runtime.images.importing import import_image, move_branch

    store, start = invocation.store, time.monotonic()
    policy = secrets_policy(invocation, allow_secrets)
    with Progress("Importing") as line:
        told = progress or (lambda size, total: line.update(size, total=total))
        done = import_image(store, image, flat=flat, policy=policy, progress=told)
    before_end()
    made = move_branch(store, branch, done.commit, reason, invocation.author(), force=force)
    return _told(invocation, image, done, branch, time.monotonic() - start, made=made)


def _told(
    invocation: Invocation, image: Image, done: Imported, branch: str, seconds: float, *, made: bool
) -> dict[str, Any]:
    from runtime.images.importing import tree_of

    for path in done.whiteouts[:_SHOWN]:
        message(
            f"warning: {quoted(path)} is a character device 0:0, which overlayfs takes for a deleted name: "
            "no container sees it"
        )
    tell_secrets(done.secrets)
    tree = tree_of(invocation.store, done.root)
    if invocation.output.is_table:
        what = f"{count_text(tree.entries, 'entry', 'entries')}, {size_text(tree.size)}"
        layers = count_text(done.layers, "layer")
        known = f" ({done.known:,} known)" if done.known else ""
        if made:
            message(
                f"[{branch} {done.commit[:SHORT]}] {count_text(done.commits, 'commit')} of {layers}{known}, {what} "
                f"in {seconds_text(seconds)}; the store grew by {size_text(done.added)}"
            )
        else:
            message(f"Nothing has changed: {branch} has {done.commit[:SHORT]} already ({layers}, {what})")
    return {
        "commit": done.commit,
        "made": made,
        "branch": branch,
        "root": done.root.hex(),
        "image": image.id,
        "name": image.name,
        "commits": done.commits,
        "layers": done.layers,
        "known": done.known,
        "entries": tree.entries,
        "size": tree.size,
        "added": done.added,
        "seconds": round(seconds, 3),
        "whiteouts": [path_fields(path) for path in done.whiteouts],
        "secrets": secret_fields(done.secrets),
    }
