"""What FROM and --from name: a branch, a tag or another revision of the store, else an image of a registry."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from vcs.errors import EngineError, NotFound
from vcs.gitwords import Author
from vcs.model import CommitId
from vcs.store import Store

_PULLING = "runtime.images.pulling"


def resolve_base(store: Store, reference: str, author: Author | None = None, *, tls_verify: bool = True) -> CommitId:
    """The commit that a reference names: a revision of that name, else the branch of an image that was pulled, else, if
    there is an `author`, the image itself, pulled now.

    NotFound, with what to do about it. `tls_verify`: the registry must have a valid certificate.
    """
    for name in (reference, reference.removesuffix(":latest"), _branch_of(reference)):
        try:
            if name and "@" not in name and ".." not in name:
                return store.history.resolve(name)
        except NotFound:
            continue
    why = ""
    if author is not None and find_spec(_PULLING) is not None:
        try:
            return _pulled(store, reference, author, tls_verify)
        except (EngineError, NotFound) as error:
            why = f", and no such image can be pulled: {error}"
    raise NotFound(
        f"there is no branch, tag or commit {reference!r}{why}", base=reference,
        advice=f"`treering pull {reference}` fetches an image, `treering import DIRECTORY --branch NAME` takes a "
        "root filesystem, and `treering branch` lists what there is",
    )  # fmt: skip


def _branch_of(reference: str) -> str | None:
    """Where a pull puts an image."""
    if find_spec(_PULLING) is None:
        return None
    try:
        branch: str = import_module(_PULLING).branch_of(reference)
    except Exception:  # no image is called so
        return None
    return branch


def _pulled(store: Store, reference: str, author: Author, tls_verify: bool) -> CommitId:
    pulling: Any = import_module(_PULLING)
    importing: Any = import_module("runtime.images.importing")
    wish, registry = (
        import_module("runtime.images.choosing").Wish(),
        import_module("runtime.images.skopeo").Registry(tls_verify),
    )
    with store.writing() as lease, pulling.Pull(store, lease, reference, wish, registry) as image:
        done = importing.import_image(store, image.image)
        image.wait()
        branch, reason = pulling.branch_of(reference), f"pull: {reference}"
        importing.move_branch(store, branch, done.commit, reason, author)
    return CommitId(done.commit)
