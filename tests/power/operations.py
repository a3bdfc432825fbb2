"""The commands that the power is cut of: those of tests/torture, `pull`, and what needs a container that runs."""

from __future__ import annotations

from tests.support.busybox_root import make_busybox_root
from tests.torture.operations import OPERATIONS as _OF_TORTURE
from tests.torture.operations import Operation
from tests.torture.remotes import OPERATIONS as _OF_REGISTRIES
from tests.torture.stores import Place

_WRITE = "seq 5000 > /etc/new; cp /etc/passwd /etc/old; rm /etc/hostname"


def _busybox(place: Place) -> None:
    if not (place.directory / "busybox").exists():
        make_busybox_root(place.directory / "busybox")


def _running(place: Place) -> None:
    place.must(
        "run", "-d", "--network", "none", "--name", "web", "main", "sh", "-c", f"{_WRITE}; touch /tmp/is; sleep 600"
    )
    place.must("exec", "web", "sh", "-c", "until [ -e /tmp/is ]; do sleep 0.01; done")


_LIVE = Operation(
    "commit-live",
    (_busybox, "init", "import busybox -m first", _running),
    "commit web -m live -b web",
    is_stepwise=True,
)
AFTERWARDS = {"commit-live": "stop -t 0 web"}
"""What has to end before the disk can be unmounted."""
_PULL = _OF_REGISTRIES["pull"]
REMOTE = (_PULL.name,)
"""What needs a registry."""
OPERATIONS = _OF_TORTURE | {one.name: one for one in (_LIVE, _PULL)}
