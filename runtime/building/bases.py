"""What FROM and --from name: a branch, a tag or another revision of the store, else an image that can be pulled."""

from __future__ import annotations

from vcs.errors import NotFound
from vcs.model import CommitId
from vcs.store import Store


def resolve_base(store: Store, reference: str) -> CommitId:
    """The commit that a reference names. `name:latest` is the branch `name` too, if there is no other.

    NotFound, with what to do about it.
    """
    for name in (reference, reference.removesuffix(":latest"), reference.replace(":", "/")):
        try:
            if "@" not in name and ".." not in name:
                return store.history.resolve(name)
        except NotFound:
            continue
    raise NotFound(
        f"there is no branch, tag or commit {reference!r}", base=reference,
        advice=f"`treering import DIRECTORY --branch NAME` makes one of a root filesystem, "
        f"`treering pull {reference}` of an image",
    )  # fmt: skip


__all__ = ["resolve_base"]
