"""Commands that start, end or read containers which run: the promise is the same, and more.

A container whose command, supervisor or monitor was killed goes on, or has ended; no lock and no state of it needs
anybody's help; it stands still for nobody who is dead; and when it is removed nothing of it is left on the machine: no
process, mount, cgroup or state of the engine's.

What runs is no part of a store that can be set back. So each time the store is set back a container is started anew
(Operation.live). Its process, /bin/ticker, writes a line to a file of the machine every now and then, and nothing
to its root: so the root is the same each time, and its ticks tell whether it goes on.

What is killed:

    kill        the command and all that it has started: service, monitor, supervisor, engine. Not what runs in the
                container, and not what was there before: that of `live` has a service and a monitor already
    kill-one    the process alone whose call it is; all others go on
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

from tests.support.busybox_root import make_busybox_root
from tests.torture.leftovers import left
from tests.torture.operations import Operation, Step, new_file
from tests.torture.processes import Traced
from tests.torture.stores import Place
from tests.torture.tracer import KILL, Strike

_TICKER = """#!/bin/sh
trap 'exit 0' TERM
while :; do echo >> /ticks/ticks; sleep 0.05; done
"""
_AT_ONCE = 1.0
"""Where somebody was killed, a container that goes on has ticked by then, as a rule; if not, it is looked at once more
after the next command."""
_SECONDS = 20.0
_STILL = 4.0
"""One that has not ticked for so long after that stands still."""


def _busybox(place: Place) -> None:
    root = place.directory / "busybox"
    if not root.exists():
        make_busybox_root(root)
        (root / "ticks").mkdir()
        (root / "bin/ticker").write_text(_TICKER)
        (root / "bin/ticker").chmod(0o755)
        (place.directory / "ticks").mkdir()


def _ticking(place: Place) -> None:
    assert ticks(place, 0), "the container does not tick"


def ticks(place: Place, before: int, seconds: float = _SECONDS) -> bool:
    """Whether a container has ticked more than `before` within some seconds."""
    deadline = time.monotonic() + seconds
    while told(place) <= before:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def told(place: Place) -> int:
    """How often it has."""
    file = place.directory / "ticks/ticks"
    return file.stat().st_size if file.exists() else 0


def _forget(place: Place) -> None:
    (place.directory / "ticks/ticks").unlink(missing_ok=True)


_OPTIONS = "--network none --name web -v ./ticks:/ticks"
_BUSYBOX: tuple[Step, ...] = (_busybox, new_file, "init", "import busybox -m first")
_CREATED: tuple[Step, ...] = (*_BUSYBOX, f"create {_OPTIONS} main /bin/ticker", "cp etc-new web:/etc/new")
_LIVE: tuple[Step, ...] = (_forget, "start -d web", _ticking)
_RUN = f"run -d {_OPTIONS} main /bin/ticker"
_RUN_ONCE = "run --rm --network none --name once main true"


def _running(name: str, command: str, again: tuple[str, ...] = (), *, is_stepwise: bool = True) -> Operation:
    return Operation(name, _CREATED, command, again, is_stepwise, live=_LIVE, stays=True)


OPERATIONS = {
    one.name: one
    for one in (
        Operation("run", _BUSYBOX, _RUN, ("!rm -f --discard web", _RUN), is_stepwise=True, stays=True),
        Operation("run-rm", _BUSYBOX, _RUN_ONCE, ("!rm -f --discard once", _RUN_ONCE), is_stepwise=True, stays=True),
        Operation("start", _CREATED, "start -d web", is_stepwise=True, live=(_forget,), stays=True),
        _running("run-beside", _RUN_ONCE, ("!rm -f --discard once", _RUN_ONCE)),
        _running("commit-live", "commit web -m live -b web"),
        _running("exec", "exec web ln -s motd /etc/done"),
        _running("fork-live", "fork web --count 2"),
        _running("fork-start", "fork web --count 2 --start"),
        _running("stop", "stop web"),
        _running("rm-live", "rm -f web"),
    )
}


def looked_after(place: Place, operation: Operation, strike: Strike) -> Iterator[str]:
    """What is wrong with what runs after a strike; at the latest after the next command, whatever that is."""
    had = told(place)
    goes_on = strike.errno == KILL and ticks(place, had, _AT_ONCE)
    listed = place.run("ps", "-a", "--format", "json")
    if listed.code:
        yield f"ps ends with {listed.code}: {listed.err.strip()[-600:]}"
        return
    has_service = _ticking in operation.live or strike.errno != KILL or strike.alone
    is_still = not goes_on and has_service and _runs(listed) and not ticks(place, had, _STILL)
    if is_still and _runs(place.run("ps", "-a", "--format", "json")):  # else it was about to end
        yield "the container runs, and stands still for ever"


def _runs(listed: Traced) -> bool:
    """Whether `ps` says that the container does."""
    return any(one["name"] == "web" and one["state"] in ("running", "paused") for one in json.loads(listed.out))


def removed(place: Place) -> Iterator[str]:
    """What is wrong when all containers are removed."""
    done = place.run("rm", "-f", "--all", "--discard")
    if done.code:
        yield f"rm -f --all ends with {done.code}: {done.err.strip()[-600:]}"
    assert place.spared is not None
    yield from left(place.store, place.containers(), place.spared | place.tracers)
