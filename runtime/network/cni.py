"""Calling CNI plugins: programs that put a container on a network (Container Network Interface specification 1.0).

A network is a list of plugins. ADD calls them in their order, and each is told the result of the one before it; DEL
calls them the other way round with the last result of ADD. A plugin reads its configuration from standard input, and
the rest from its environment; it writes a result, or an error, as JSON.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.engine import SEARCH_PATH
from vcs.errors import EngineError

VERSION = "1.0.0"
FOLDERS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"), Path("/usr/libexec/cni"))
"""Debian's, upstream's and Fedora's."""
_SECONDS = 60
"""What a plugin may take. They wait for one another, and for whoever else changes the machine's rules."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A container and the interface that it is to have."""

    container: str
    namespace: str
    """A path; empty for DEL where the namespace is gone, or goes by itself."""
    interface: str = "eth0"


Plugin = Mapping[str, Any]
"""A plugin's configuration, without what is the same for all of a list."""


def add(network: str, plugins: Sequence[Plugin], to: Attachment) -> dict[str, Any]:
    """Put a container on a network; returns the result of the last plugin. EngineError; the caller then calls
    `delete`."""
    result: dict[str, Any] | None = None
    for plugin in plugins:
        result = _call("ADD", network, plugin, to, result)
    return result or {}


def delete(network: str, plugins: Sequence[Plugin], to: Attachment, result: Mapping[str, Any] | None) -> None:
    """Take a container off a network. May be repeated, and called where ADD did not come to its end. EngineError if a
    plugin fails; those before it in the list are called all the same."""
    failed: EngineError | None = None
    for plugin in reversed(plugins):
        try:
            _call("DEL", network, plugin, to, result)
        except EngineError as error:
            failed = error
    if failed:
        raise failed


def find(name: str) -> Path:
    """A plugin's path. EngineError if it is not installed."""
    for folder in FOLDERS:
        path = folder / name
        if os.access(path, os.X_OK):
            return path
    raise EngineError(
        f"the CNI plugin {name} is not installed, which a bridge network needs",
        plugin=name,
        advice="install it: apt-get install containernetworking-plugins; or use --network host or none",
    )


def _call(
    command: str, network: str, plugin: Plugin, to: Attachment, previous: Mapping[str, Any] | None
) -> dict[str, Any] | None:
    import subprocess

    kind = plugin["type"]
    config = {"cniVersion": VERSION, "name": network, **plugin}
    if previous is not None:
        config["prevResult"] = previous
    environment = {
        "PATH": SEARCH_PATH,
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": to.container,
        "CNI_NETNS": to.namespace,
        "CNI_IFNAME": to.interface,
        "CNI_PATH": ":".join(map(str, FOLDERS)),
    }
    try:
        done = subprocess.run(
            [find(kind)], input=json.dumps(config).encode(), env=environment,
            capture_output=True, timeout=_SECONDS, check=False, cwd="/",
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise EngineError(f"the CNI plugin {kind} did not end within {_SECONDS} s", plugin=kind) from None
    answer = _parse(done.stdout)
    if done.returncode:
        said = (answer or {}).get("msg") or done.stderr.decode(errors="replace").strip() or "it said nothing"
        details = (answer or {}).get("details")
        words = f"{said}: {details}".split() if details else str(said).split()
        raise EngineError(f"the CNI plugin {kind} failed: {' '.join(words)}", plugin=kind)
    return answer


def _parse(output: bytes) -> dict[str, Any] | None:
    try:
        answer = json.loads(output)
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None
