"""What must be there before an engine can start a container: its root, mounted, and its bundle, written.

Called in the container's own mount namespace, which the mount ends with.
"""

from __future__ import annotations

import json
import os
import resource
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from runtime import bundle, command, devices, filters, idmapping, imageconfig, overlay, seccomp, stubs
from runtime.bundle.config import network_sysctls
from runtime.bundle.resources import check_limits
from runtime.bundle.spec import Source
from runtime.engine import CONFIG, find_engine
from runtime.identity import resolve_user
from runtime.lowers import with_data
from runtime.namespace import in_user_namespace
from runtime.namespace.mapping import last_ids
from runtime.state import RunPaths
from runtime.system import mounts
from runtime.system.rootaccess import Root
from vcs.errors import EngineError

_DEEP_READ_ONLY = (5, 12)
"""The kernel that has mount_setattr(2)."""


def prepare(
    paths: RunPaths,
    spec: bundle.LaunchSpec,
    image: Mapping[str, Any],
    lower: Path,
    terminal_size: tuple[int, int] | None,
    connection: bundle.Connection | None = None,
) -> filters.Filter | None:
    """Mount the root and write the bundle. `connection` is the container's place in a network, if it has one. Returns
    the filter that is to be kept once the container runs, if it is new.

    EngineError if the root, the image or what is asked for does not allow it; Conflict; OSError.
    """
    check_limits(spec.limits, confined=in_user_namespace())
    sources = _sources(spec)
    rootfs, etc = _rootfs(paths, spec), paths.etc
    lower, data = with_data(lower)
    if spec.ids is not None:
        idmapping.make_stage()
        lower = idmapping.map_lower(lower, spec.ids)
        sources = idmapping.show(sources)
        etc = idmapping.show_etc(etc)
    overlay.prepare_upper(lower, paths.upper, paths.work)
    merged = overlay.mount_overlay(lower, paths.upper, paths.work, rootfs, data=data, volatile=spec.volatile)
    try:
        root = Root(merged.root)
        who = resolve_user(imageconfig.user(spec, image), root.read)
        cwd = imageconfig.working_directory(spec, image)
        placed, missing = stubs.place(root, bundle.mount_targets(spec, cwd, sources))
        environment = imageconfig.environment(spec, image, spec.hostname, who.home)
        mounted = [placed[os.fsencode(mount.target)] for mount in spec.mounts]
        command.check_command(root, imageconfig.command(spec, image)[0], environment, cwd, mounted)
        stubs.make_stubs(root, missing, paths.stubs, owner=spec.ids or 0, durable=not spec.volatile)
    finally:
        os.close(merged.root)
    _write_etc(etc, spec, connection)
    host = _host(spec, rootfs, etc, sources, terminal_size, connection)
    if spec.ids is not None and host.network_namespace:
        idmapping.show_network(host.network_namespace, host.sysfs, network_sysctls(spec, host))
    config = bundle.config(spec, image, who, placed, host)
    found = filters.insert(config, find_engine(paths.engine_state, spec.engine), paths)
    _write_config(paths.bundle, config)
    return found


def take_down(paths: RunPaths, spec: bundle.LaunchSpec) -> None:
    """Unmount what prepare() has mounted, as far as it has."""
    with suppress(OSError):
        mounts.umount(os.fsencode(_rootfs(paths, spec)), mounts.UMOUNT_NOFOLLOW)
    if spec.ids is not None:
        idmapping.remove_stage()


def _rootfs(paths: RunPaths, spec: bundle.LaunchSpec) -> Path:
    return paths.rootfs if spec.ids is None else idmapping.STAGE / "rootfs"


def _sources(spec: bundle.LaunchSpec) -> dict[str, Source]:
    """What is bound, by target. EngineError if it is not there."""
    found = {}
    for mount in spec.mounts:
        if mount.kind == "bind":
            try:
                is_dir = stat.S_ISDIR(os.stat(mount.source).st_mode)
            except OSError as error:
                raise EngineError(
                    f"{mount.source}, to be mounted at {mount.target}, cannot be had: {error.strerror}",
                    path=mount.source,
                ) from error
            found[mount.target] = Source(mount.source, is_dir)
    return found


def _write_etc(etc: Path, spec: bundle.LaunchSpec, connection: bundle.Connection | None) -> None:
    lines = (*spec.hosts, *(connection.hosts if connection else ()))
    resolv_conf = connection.resolv_conf if connection else None
    resolv_conf = _host_resolv_conf() if resolv_conf is None else resolv_conf
    for name, content in bundle.etc_files(spec.hostname, resolv_conf, lines).items():
        (etc / name).write_bytes(content)
        if spec.ids is not None:
            os.chown(etc / name, spec.ids, spec.ids)


def _host(
    spec: bundle.LaunchSpec,
    rootfs: Path,
    etc: Path,
    sources: Mapping[str, Source],
    terminal_size: tuple[int, int] | None,
    connection: bundle.Connection | None,
) -> bundle.Host:
    security = spec.security
    confined = in_user_namespace()
    namespace = connection.namespace if connection else None
    granted = bundle.granted(security, bounding_set())
    return bundle.Host(
        etc=etc,
        rootfs=rootfs,
        seccomp=_filter(spec, granted),
        capabilities=granted,
        open_files=resource.getrlimit(resource.RLIMIT_NOFILE),
        terminal_size=terminal_size,
        last_ids=last_ids() if confined else None,
        sources=sources,
        devices=devices.devices() if security.privileged and not confined else (),
        network_namespace=namespace,
        sysfs=str(idmapping.STAGE / "sys") if namespace and spec.ids is not None else "/sys",
        deep_read_only=seccomp.kernel_version(os.uname().release) >= _DEEP_READ_ONLY,
    )


def _filter(spec: bundle.LaunchSpec, granted: list[str]) -> dict[str, Any] | None:
    """linux.seccomp; None for no filter."""
    asked = spec.security.seccomp
    if asked == seccomp.UNCONFINED or (spec.security.privileged and asked is None):
        return None
    return seccomp.to_oci(seccomp.load_profile(Path(asked) if asked else None), granted)


def _host_resolv_conf() -> bytes:
    try:
        return Path("/etc/resolv.conf").read_bytes()
    except FileNotFoundError:
        return b""


def bounding_set() -> int:
    """The capabilities that this process could give (CapBnd of /proc/self/status): bit by bit."""
    for line in Path("/proc/self/status").read_bytes().splitlines():
        if line.startswith(b"CapBnd:"):
            return int(line[7:], 16)
    return 0


def _write_config(directory: Path, config: dict[str, Any]) -> None:
    try:
        data = json.dumps(config, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise EngineError(f"the OCI runtime only takes UTF-8, not {error.object[error.start :][:20]!r}") from error
    (directory / CONFIG).write_bytes(data)
