"""What FROM and --from name: a branch, a tag or another revision of the store, else an image of a registry."""

from __future__ import annotations

from contextlib import suppress

from runtime.images.choosing import Wish
from runtime.images.importing import import_image, move_branch
from runtime.images.pulling import Pull
from runtime.images.remote import branch_of
from runtime.images.skopeo import Registry
from vcs.errors import BadInput, EngineError, InvalidName, NotFound
from vcs.gitwords import Author
from vcs.model import CommitId
from vcs.store import Store


def resolve_base(store: Store, reference: str, author: Author | None = None, *, tls_verify: bool = True) -> CommitId:
    """The commit that a reference names: a revision of that name, else the branch of an image that was pulled, else, if
    there is an `author`, the image itself, pulled now.

    NotFound, with what to do about it. `tls_verify`: the registry must have a valid certificate.
    """
    names = [reference, reference.removesuffix(":latest")]
    with suppress(InvalidName):  # no image is called so
        names.append(branch_of(reference))
    for name in names:
        if "@" not in name and ".." not in name:
            with suppress(NotFound):
                return store.history.resolve(name)
    why = ""
    if author is not None:
        try:
            return _pulled(store, reference, author, Registry(tls_verify))
        except (BadInput, EngineError, InvalidName, NotFound) as error:
            why = f", and no such image can be pulled: {error}"
    raise NotFound(
        f"there is no branch, tag or commit {reference!r}{why}", base=reference,
        advice=f"`treering pull {reference}` fetches an image, `treering import DIRECTORY --branch NAME` takes a "
        "root filesystem, and `treering branch` lists what there is",
    )  # fmt: skip


def _pulled(store: Store, reference: str, author: Author, registry: Registry) -> CommitId:
    with store.writing() as lease, Pull(store, lease, reference, Wish(), registry) as image:
        commit = import_image(store, image.image).commit
        image.wait()
        move_branch(store, branch_of(reference), commit, f"pull: {reference}", author)
    return commit
