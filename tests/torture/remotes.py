"""Commands that speak to a registry: a real one on loopback, which lives for all of a run and whose storage is set back
with the store. It keeps nothing in memory.

A `push` is told apart by what is then pulled: another branch gets what the registry has.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.registry import plain_registry
from tests.torture.operations import Operation, Step, new_file
from tests.torture.stores import Place

_IMAGE, _OTHER = "{registry}/app:1 --tls-verify=false", "{registry}/new:1 --tls-verify=false"
_TWO: tuple[Step, ...] = (new_file, "init", "import root -m first", "import other -m second")
_PUSH = f"push main {_OTHER}"


def _filled(place: Place) -> None:
    """Have the registry hold an image."""
    shutil.rmtree(place.remote, ignore_errors=True)
    subprocess.run(
        ["skopeo", "copy", "--quiet", "--dest-tls-verify=false", f"oci:{place.directory / 'layout'}:app:1",
         f"docker://{place.registry}/app:1"],
        stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=True,
    )  # fmt: skip


def _cleared(place: Place) -> None:
    shutil.rmtree(place.remote, ignore_errors=True)


OPERATIONS = {
    one.name: one
    for one in (
        Operation("pull", (_filled, "init"), f"pull {_IMAGE} -b app", is_stepwise=True),
        Operation("push", (_cleared, *_TWO), _PUSH, (_PUSH, f"pull {_OTHER} -b back"), is_stepwise=True),
    )
}


@contextmanager
def beside(place: Place) -> Iterator[None]:
    """A registry that commands of this place can reach."""
    with plain_registry(place.directory / "registry", storage=place.remote) as (port, pid):
        place.registry = f"127.0.0.1:{port}"
        if place.spared is not None:
            place.spared |= {pid}
        yield
