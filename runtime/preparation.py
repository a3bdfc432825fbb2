"""What must be there before an engine can start a container: its root, mounted, and its bundle, written.

Called in the container's own mount namespace, which the mount ends with.
"""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runtime import bundle, command, overlay, seccomp, stubs
from runtime.identity import resolve_user
from runtime.namespace import in_user_namespace
from runtime.namespace.mapping import last_ids
from runtime.network import Connection
from runtime.rootaccess import Root
from runtime.state import RunPaths
from vcs.errors import EngineError


def prepare(
    paths: RunPaths,
    spec: bundle.LaunchSpec,
    image: Mapping[str, Any],
    lower: Path,
    terminal_size: tuple[int, int] | None,
    connection: Connection | None = None,
) -> None:
    """Mount the root and write the bundle. `connection` is the container's place in a network, if it has one.
    EngineError if the root, the image or what is asked for does not allow it; OSError."""
    overlay.prepare_upper(lower, paths.upper, paths.work)
    mounted = overlay.mount_overlay(lower, paths.upper, paths.work, paths.rootfs)
    try:
        root = Root(mounted.root)
        who = resolve_user(bundle.user(spec, image), root.read)
        cwd = bundle.working_directory(spec, image)
        placed, missing = stubs.place(root, bundle.mount_targets(cwd))
        environment = bundle.environment(spec, image, who.home)
        command.check_command(root, bundle.command(spec, image)[0], environment, cwd)
        stubs.make_stubs(root, missing, paths.stubs)
    finally:
        os.close(mounted.root)
    resolv_conf = connection.resolv_conf if connection else None
    resolv_conf = _host_resolv_conf() if resolv_conf is None else resolv_conf
    lines = connection.hosts if connection else ()
    for name, content in bundle.etc_files(spec.hostname, resolv_conf, lines).items():
        (paths.etc / name).write_bytes(content)
    host = _host(paths, terminal_size, connection)
    _write_config(paths.bundle, bundle.config(spec, image, who, placed, host))


def _host(paths: RunPaths, terminal_size: tuple[int, int] | None, connection: Connection | None) -> bundle.Host:
    granted = bundle.grantable(bundle.DEFAULT_CAPABILITIES, _bounding_set())
    return bundle.Host(
        etc=paths.etc,
        rootfs=paths.rootfs,
        seccomp=seccomp.to_oci(seccomp.load_profile(), granted),
        capabilities=granted,
        open_files=resource.getrlimit(resource.RLIMIT_NOFILE),
        terminal_size=terminal_size,
        last_ids=last_ids() if in_user_namespace() else None,
        network_namespace=connection.namespace if connection else None,
    )


def _host_resolv_conf() -> bytes:
    try:
        return Path("/etc/resolv.conf").read_bytes()
    except OSError:
        return b""


def _bounding_set() -> int:
    for line in Path("/proc/self/status").read_bytes().splitlines():
        if line.startswith(b"CapBnd:"):
            return int(line[7:], 16)
    return 0


def _write_config(directory: Path, config: dict[str, Any]) -> None:
    try:
        data = json.dumps(config, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise EngineError(f"the OCI runtime only takes UTF-8, not {error.object[error.start :][:20]!r}") from error
    (directory / "config.json").write_bytes(data)
